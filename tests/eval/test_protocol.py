"""Protocol ids, ranges and unknown names; the tables import without torch."""

import subprocess
import sys

import pytest

from eval import METRICS, PROTOCOLS, Protocol, get_metric, get_protocol
from eval.protocol import UNCERTAINTY, all_metrics
from sr_models.errors import InputError


@pytest.mark.parametrize(
    ("protocol", "scale", "expected"),
    [
        (PROTOCOLS["classical"], 4, "classical-y-b4"),
        (PROTOCOLS["classical"], 2, "classical-y-b2"),
        (PROTOCOLS["uncropped"], 4, "uncropped-y-b0"),
        (Protocol(name="mine", border=6, luma="y8", uint8=False), 4, "mine-y8-b6-float"),
        (PROTOCOLS["ccsr-real"], 2, "ccsr-real-y-b4-ssim.y8-floor.1e-08"),
        (PROTOCOLS["dream-face"], 8, "dream-face-y-b0-lpips.unit-consistency.pil-n1"),
        (PROTOCOLS["dream-div2k"], 4, "dream-div2k-y-b0-n1"),
        (PROTOCOLS["srflow-div2k"], 4, "srflow-div2k-y-b0-ssim.uniform7-n1"),
        (PROTOCOLS["imdn-realsr"], 4, "imdn-realsr-y-b0"),
        (PROTOCOLS["patches"], 4, "patches-y-b4-fid.256s128"),
        (Protocol(name="p", steps=50, draws=3), 2, "p-y-b2-n3-steps50"),
        (Protocol(name="p", lr_noise=0.01), 2, "p-y-b2-noise0.01"),
    ],
)
def test_id_spells_out_the_recipe(protocol: Protocol, scale: int, expected: str) -> None:
    assert protocol.id(scale) == expected


def test_every_field_changes_the_id() -> None:
    base = Protocol(name="p")
    changes = {
        "name": "q", "border": 3, "luma": "y8", "uint8": False, "ssim": "uniform7", "mse_floor": 1e-8,
        "lpips_range": "unit", "consistency": "pil", "draws": 1, "steps": 9, "lr_noise": 0.01,
    }  # fmt: skip
    ids = {base.model_copy(update={name: value}).id(4) for name, value in changes.items()}
    ids |= {base.model_copy(update={"fid_patch": 64, "fid_stride": stride}).id(4) for stride in (32, 64)}
    assert len(ids | {base.id(4)}) == 1 + len(changes) + 2
    assert set(Protocol.model_fields) - set(changes) == {"fid_patch", "fid_stride", "metrics", "traps"}
    assert base.model_copy(update={"metrics": ("fid",), "traps": "none"}).id(4) == base.id(4)


def test_the_default_protocol_reports_what_it_always_did() -> None:
    assert PROTOCOLS["classical"].metrics == ("psnr_y", "ssim_y")
    assert PROTOCOLS["ccsr-real"].draws == PROTOCOLS["classical"].draws == 10


def test_protocols_of_papers_warn_and_report_known_metrics() -> None:
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())
    for name, protocol in PROTOCOLS.items():
        assert set(protocol.metrics) <= set(all_metrics())
        assert protocol.traps or name == "uncropped"
        assert ("fid" in protocol.metrics) <= ("kid" in protocol.metrics)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "p", "border": -1}, r"p\.border: border must be 'scale' or a number of pixels >= 0 \(got -1\)"),
        ({"name": "p", "lumma": "y"}, "unknown key 'lumma'; did you mean 'luma'"),
        ({"name": "A b"}, r"p\.name: .*\(got 'A b'\)"),
        ({"name": "p-"}, r"p\.name: .*\(got 'p-'\)"),
        ({"name": "p", "metrics": ["psnr"]}, "unknown metric 'psnr'; did you mean 'psnr_y'"),
        ({"name": "p", "fid_patch": 64}, "p: fid_patch and fid_stride go together, got 64 and None"),
        ({"name": "p", "draws": 0}, r"p\.draws: .*greater than or equal to 1 \(got 0\)"),
    ],
)
def test_bad_protocols_are_refused(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Protocol.parse(values, "p")


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(InputError, match=r"^unknown metric 'psnr'; did you mean 'psnr_y'\? \(valid: clipiqa, consist"):
        get_metric("psnr")
    with pytest.raises(InputError, match=r"^--metrics: unknown metric 'g_std\.fid'; .*valid: g_std\.clipiqa, "):
        get_metric("g_std.fid", "--metrics")
    with pytest.raises(InputError, match=r"unknown protocol 'clasical'; did you mean 'classical'\?"):
        get_protocol("clasical")


def test_better_follows_the_direction_of_the_metric() -> None:
    assert METRICS["psnr_y"].better(30.0, 29.0)
    assert not METRICS["psnr_y"].better(29.0, 29.0)


def test_the_table_is_the_one_agreed_on() -> None:
    assert list(METRICS) == [
        "psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb", "consistency", "lpips_alex", "lpips_vgg", "dists", "niqe", "musiq",
        "clipiqa", "fid", "kid", "l_std", "pll", "psnr_sigma", "psnr_constant", "sigma_r",
    ]  # fmt: skip
    assert [name for name, metric in METRICS.items() if metric.level != "image"] == ["fid", "kid", "l_std"]
    higher = {name for name, metric in METRICS.items() if metric.higher_is_better}
    assert higher == {"psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb", "musiq", "clipiqa", *UNCERTAINTY}
    for name, metric in METRICS.items():
        assert "\n" not in metric.description and metric.reads, name
        assert ("PolyForm Noncommercial" in metric.description) == (metric.cost == "extra")


def test_each_metric_of_an_image_has_a_spread_over_draws() -> None:
    names = all_metrics()
    assert names[: len(METRICS)] == list(METRICS)
    assert names[len(METRICS) :] == [f"g_std.{name}" for name, metric in METRICS.items() if metric.level == "image"]
    spread = get_metric("g_std.psnr_y")
    assert (spread.unit, spread.decimals, spread.level, spread.cost) == ("dB", 4, "draws", "light")
    assert spread.reads == ("sr", "hr", "draws")
    assert spread.better(0.1, 0.2) and not spread.higher_is_better
    assert get_metric("g_std.lpips_vgg").cost == "backbone"


def test_tables_import_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from eval import METRICS, PROTOCOLS; print(*METRICS, *PROTOCOLS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, [*METRICS, *PROTOCOLS]), done.stderr
