"""The report's table from reports made by hand: columns, spreads below their means, and why a metric is missing."""

from typing import Any

from eval.report_text import INFINITE, table


def report(**over: Any) -> dict[str, Any]:
    """Of a deterministic network on two images."""
    values: dict[str, Any] = {
        "model": "edsr", "scale": 2, "kernel": "files", "protocol": "classical-y-b2", "parameters": 1_369_859,
        "seconds_per_image": 0.01234, "deterministic": True, "draws": 1, "noise_seed": None,
        "images": [
            {"name": "a", "psnr_y": 30.0, "ssim_y": 0.91234},
            {"name": "sub/b", "psnr_y": 34.0, "ssim_y": 0.9},
        ],
        "means": {"psnr_y": 32.0, "ssim_y": 0.90617}, "not_computed": {}, "set": {}, "refused": [],
    }  # fmt: skip
    return values | over


def lines(made: dict[str, Any], *, per_image: bool = False) -> list[str]:
    """The table's lines with single spaces."""
    return [" ".join(line.split()) for line in table(made, per_image=per_image).splitlines()]


def test_a_line_on_what_was_scored_and_the_means() -> None:
    assert lines(report()) == [
        "edsr x2, protocol classical-y-b2, 1,369,859 parameters, 0.0123 s an image, deterministic: one draw, G-STD and "
        "L-STD are exactly 0",
        "",
        "image psnr_y (dB) ssim_y",
        "mean of 2 32.00 0.9062",
    ]


def test_a_line_an_image_where_asked_for() -> None:
    _, _, header, a, b, mean = table(report(), per_image=True).splitlines()
    assert [" ".join(line.split()) for line in (a, b)] == ["a 30.00 0.9123", "sub/b 34.00 0.9000"]
    assert {len(header), len(a), len(b), len(mean)} == {len(header)}, "numbers stand right of each other"
    assert [line.index(name) for line, name in ((a, "a"), (b, "sub/b"), (mean, "mean"))] == [0, 0, 0]


def test_pictures_have_no_network_to_speak_of() -> None:
    made = report(model=None, parameters=None, seconds_per_image=None)
    assert lines(made)[0] == "pictures x2, protocol classical-y-b2"


def test_spreads_stand_below_their_means() -> None:
    made = report(
        deterministic=False, draws=3, noise_seed=5,
        means={"psnr_y": 32.0, "ssim_y": 0.9, "g_std.psnr_y": 0.125, "l_std": 0.01},
        images=[{"name": "a", "psnr_y": 32.0}],
    )  # fmt: skip
    head, _, header, mean, spread = lines(made)
    assert head.endswith("means over 3 draws, noise seed 5")
    assert header == "image psnr_y (dB) ssim_y l_std" and mean == "mean of 1 32.00 0.9000 0.0100"
    assert spread == "G-STD 0.1250"


def test_a_spread_without_its_mean_has_a_column() -> None:
    made = report(means={"g_std.psnr_y": 0.125}, images=[{"name": "a"}])
    assert lines(made)[2:] == ["image g_std.psnr_y (dB)", "mean of 1 0.1250"]


def test_what_was_not_computed_is_a_reason_and_no_column() -> None:
    missing = dict.fromkeys(("fid", "kid"), "no weights") | {"lpips_alex": "other weights"}
    made = report(not_computed=missing | {"g_std.lpips_alex": "other weights", "g_std.ssim_y": "its own reason"})
    assert lines(made)[2] == "image psnr_y (dB) ssim_y"
    assert lines(made)[4:] == [
        "fid, kid: no weights", "lpips_alex: other weights", "g_std.ssim_y: its own reason",
    ], "a spread for the same reason as its metric is not said twice"  # fmt: skip


def test_an_image_equal_to_hr_is_infinite_and_keeps_its_column() -> None:
    reason = f"{INFINITE}a, equal to HR"
    images = [{"name": "a", "psnr_y": None, "ssim_y": 1.0}, {"name": "b", "psnr_y": 30.0, "ssim_y": 0.9}]
    made = report(images=images, means={"ssim_y": 0.95}, not_computed={"psnr_y": reason})
    assert lines(made, per_image=True)[2:] == [
        "image psnr_y (dB) ssim_y", "a inf 1.0000", "b 30.00 0.9000", "mean of 2 inf 0.9500", f"psnr_y: {reason}",
    ]  # fmt: skip


def test_an_image_without_a_value_is_a_dash() -> None:
    made = report(images=[{"name": "a", "psnr_y": 30.0}, {"name": "b", "psnr_y": 30.0, "ssim_y": 0.9}])
    assert lines(made, per_image=True)[3] == "a 30.00 -"


def test_what_set_metrics_rest_on_and_what_was_refused_come_last() -> None:
    made = report(
        set={"fid": {"text": "95% of redrawn sets in 1.0 to 2.0"}}, refused=["'c.png': too small", "'d.png': cut"]
    )
    assert lines(made)[4:] == [
        "fid: 95% of redrawn sets in 1.0 to 2.0", "refused: 'c.png': too small", "refused: 'd.png': cut",
        "2 refused, 2 scored",
    ]  # fmt: skip
