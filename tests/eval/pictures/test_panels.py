"""Pictures show what they claim: the right crop, the right values, text of readable size that nothing covers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from eval.pictures import panels as pictures
from eval.pictures import style
from sr_models.errors import InputError

RANDOM = np.random.default_rng(0)
HR = RANDOM.integers(0, 256, (96, 120, 3)).astype(np.uint8)
SCORES = {"psnr_y": 33.1251, "ssim_y": 0.91234}
LONG = "edsr_baseline × expectation_only (averaged weights)"


def damaged(top: int, left: int) -> np.ndarray:
    image = HR.copy()
    image[top : top + 24, left : left + 24] = 0
    return image


def comparison(path: Path, methods: int, label: str, hr: np.ndarray, errors: bool = False) -> None:
    panels = [("LR", hr[::2, ::2], None), *[(label, 255 - hr, SCORES)] * methods, ("HR", hr, None)]
    pictures.comparison(path, title=f"Set5 ×2: {label}", panels=panels, protocol="classical-y-b2", errors=errors)


def training(path: Path, metrics: tuple[str, ...], labels: int) -> None:
    panels = {m: {f"{LONG} {i}": ([0, 10, 20], [i + 1.0, float("nan"), 3.0]) for i in range(labels)} for m in metrics}
    pictures.training_curves(path, panels, xlabel="optimiser steps", title="t", protocol="classical-y-b2")


def curves(path: Path) -> None:
    series = {"a": ([0, 1, 2], [1.0, 2.0, 3.0]), "b": ([0], [1.5])}
    pictures.curves(path, series, xlabel="step", ylabel="PSNR-Y (dB)", title="t", caption="classical-y-b2")


def bars(path: Path) -> None:
    rows = [("a", 34.0, (33.9, 34.1)), ("b", 33.0, None)]
    fixed = {"xlabel": "PSNR-Y (dB)", "title": "t", "baseline": ("bicubic", 33.5), "caption": "classical-y-b2"}
    pictures.bars(path, rows, printed=(None, 36.0), **fixed)


def violins(path: Path, sets: int, methods: int) -> None:
    scores = {f"Set{i}": {f"m{j}": RANDOM.normal(30, 2, 14).tolist() for j in range(methods)} for i in range(sets)}
    pictures.violins(path, scores, metric="psnr_y", title="t", protocol="classical-y-b2")


@pytest.mark.parametrize(
    "draw",
    [
        *[lambda p, n=n: comparison(p, n, "m", HR) for n in (0, 1, 3, 8)],
        lambda p: comparison(p, 5, LONG, HR),
        *[lambda p, n=n: comparison(p, n, "m", HR, errors=True) for n in (1, 7)],
        lambda p: comparison(p, 2, LONG, RANDOM.integers(0, 256, (400, 80, 3)).astype(np.uint8)),
        lambda p: comparison(p, 4, "m", RANDOM.integers(0, 256, (60, 600, 3)).astype(np.uint8)),
        lambda p: training(p, ("psnr_y",), 1),
        lambda p: training(p, ("psnr_y", "ssim_y", "psnr_rgb"), 3),
        lambda p: violins(p, 1, 1),
        lambda p: violins(p, 5, 8),
        curves,
        bars,
    ],
)
def test_a_picture_is_readable_at_page_width(tmp_path, drawn, check_readable, draw):
    draw(tmp_path / "new" / "x.png")
    check_readable(drawn[0])
    assert Image.open(tmp_path / "new" / "x.png").width == 1500


def test_comparison_shows_the_same_box_of_every_panel(tmp_path: Path, drawn: list[Figure]) -> None:
    panels = [("LR", HR[::2, ::2], None), ("m", damaged(20, 30), SCORES), ("HR", HR, None)]
    box = pictures.comparison(tmp_path / "x.png", title="t", panels=panels, protocol="classical-y-b2")
    assert box == (20, 30, 24, 24)
    shown = [image.get_array() for axes in drawn[0].axes for image in axes.findobj(AxesImage)]
    expected = [HR, HR[20:44:2, 30:54:2].repeat(2, 0).repeat(2, 1), np.zeros((24, 24, 3)), HR[20:44, 30:54]]
    for image, other in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(image, other)


def test_the_best_is_marked_and_errors_are_on_one_scale(tmp_path: Path, drawn: list[Figure]) -> None:
    near = np.clip(HR.astype(int) + 10, 0, 255).astype(np.uint8)
    panels = [("a", near, {"psnr_y": 30.0}), ("b", damaged(20, 30), {"psnr_y": 31.0}), ("HR", HR, None)]
    pictures.comparison(tmp_path / "x.png", title="t", panels=panels, crop=(20, 30, 24, 24), errors=True)
    titles = [axes.get_title() for axes in drawn[0].axes]
    assert titles[1].startswith("a\n30.00") and titles[2].startswith("★ b\n31.00")
    assert [title.split()[0] for title in titles[4:]] == ["error", "error"], "none of HR"
    errors = [float(title.split()[1]) for title in titles[4:]]
    assert 9 < errors[0] <= 10 and errors[1] == pytest.approx(HR[20:44, 30:54].mean(), abs=0.1)
    first, second = (axes.findobj(AxesImage)[0].get_array().astype(int).sum() for axes in drawn[0].axes[4:])
    assert first < second and "8-bit levels" in drawn[0].get_supxlabel() and "★ the best" in drawn[0].get_supxlabel()


def test_the_end_that_decides_has_an_axis_of_its_own(tmp_path: Path, drawn: list[Figure]) -> None:
    steep = {"a": ([1, 2, 3, 4], [10.0, 20.0, 30.0, 30.5]), "b": ([1, 2, 3, 4], [12.0, 21.0, 30.2, 30.4])}
    flat = {"a": ([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0])}
    pictures.training_curves(tmp_path / "x.png", {"psnr_y": steep, "ssim_y": flat}, xlabel="step", title="t")
    above, below = drawn[0].axes
    assert above.get_ylim() == pytest.approx((29.96, 30.54)) and "beyond the axis" in above.get_title(loc="right")
    assert below.get_ylim()[0] < 1 and "beyond" not in below.get_title(loc="right")


def test_a_method_has_its_colour_in_every_picture(tmp_path: Path, drawn: list[Figure]) -> None:
    styled = style.method_styles(["a", "b"])
    pictures.training_curves(
        tmp_path / "x", {"psnr_y": {"b": ([0, 1], [1.0, 2.0])}}, xlabel="", title="", styled=styled
    )
    pictures.violins(tmp_path / "y", {"A": {"b": [1.0], "bicubic": [2.0]}}, metric="psnr_y", title="", styled=styled)
    pictures.bars(tmp_path / "z", [("b", 2.0, None)], xlabel="", title="", baseline=("bicubic", 1.0), styled=styled)
    first, second, third = (figure.axes[0] for figure in drawn)
    colour = styled["b"][1]
    assert first.lines[0].get_color() == second.lines[0].get_color() == colour
    assert second.lines[1].get_color() == styled["bicubic"][1] == "#000000"
    assert to_hex(third.patches[0].get_facecolor()).upper() == colour


def test_a_density_needs_twenty_images(tmp_path: Path, drawn: list[Figure]) -> None:
    for many in (19, 20):
        pictures.violins(tmp_path / "x", {"A": {"m": list(np.linspace(20, 30, many))}}, metric="psnr_y", title="")
    few, enough = (len(figure.axes[0].findobj(PolyCollection)) for figure in drawn)
    assert enough == few + 1


def test_low_resolution_is_magnified_pixel_by_pixel() -> None:
    large = pictures.magnified(HR[::2, ::2], HR, "LR")
    assert large.shape == HR.shape
    for corner in (large[::2, ::2], large[1::2, ::2], large[::2, 1::2], large[1::2, 1::2]):
        np.testing.assert_array_equal(corner, HR[::2, ::2])


def test_a_label_looks_the_same_in_every_panel(tmp_path: Path, drawn: list[Figure]) -> None:
    panels = {"psnr_y": {"a": ([0, 1], [1.0, 2.0]), "b": ([0, 1], [2.0, 3.0])}, "ssim_y": {"b": ([0, 1], [0.2, 0.3])}}
    pictures.training_curves(tmp_path / "x.png", panels, xlabel="step", title="t")
    above, below = drawn[0].axes
    styles = [(line.get_label(), line.get_color(), line.get_linestyle()) for line in above.lines]
    assert styles[1] == (below.lines[0].get_label(), below.lines[0].get_color(), below.lines[0].get_linestyle())
    assert styles[0][1:] != styles[1][1:]
    assert above.get_xlim() == below.get_xlim()


def test_violins_show_each_image_and_count_what_is_not_finite(tmp_path: Path, drawn: list[Figure]) -> None:
    scores = {"A": {"m": [30.0, float("inf"), 20.0]}, "B": {"m": [25.0]}}
    pictures.violins(tmp_path / "x.png", scores, metric="psnr_y", title="t", protocol="classical-y-b2")
    marks = [line.get_ydata().tolist() for line in drawn[0].axes[0].lines]
    assert marks == [[20.0, 30.0], [25.0]]
    assert [text.get_text() for text in drawn[0].axes[0].get_xticklabels()] == ["A\nn = 3", "B\nn = 1"]
    assert drawn[0].get_supxlabel().endswith("; 1 not finite, not drawn")


def compare(panels: list, crop: style.Box | None = None) -> Callable[[Path], object]:
    return lambda path: pictures.comparison(path, title="t", panels=panels, crop=crop or "disagree")


def violin(scores: dict, metric: str = "psnr_y") -> Callable[[Path], object]:
    return lambda path: pictures.violins(path, scores, metric=metric, title="t")


@pytest.mark.parametrize(
    ("message", "draw"),
    [
        ("at least one panel", compare([])),
        ("panel 'LR'", compare([("LR", HR[:50, :60], None), ("HR", HR, None)])),
        ("leaves the image of 96x120 px", compare([("HR", HR, None)], (90, 0, 10, 10))),
        ("leaves the image", compare([("HR", HR, None)], (-1, 0, 10, 10))),
        ("at least one metric", lambda path: pictures.training_curves(path, {}, xlabel="step", title="t")),
        ("at least one image set", violin({})),
        ("unknown metric 'psnr'", violin({"A": {"m": [1.0]}}, "psnr")),
        ("'m' on 'A' has no finite psnr_y among 1 images", violin({"A": {"m": [float("inf")]}})),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, message: str, draw: Callable[[Path], object]) -> None:
    with pytest.raises(InputError, match=message):
        draw(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_bicubic_is_a_line_or_said_to_lie_beyond_the_axis(tmp_path: Path, drawn, check_readable) -> None:
    steps, values = [10, 20, 30, 40], [20.0, 29.0, 30.0, 30.5]
    panels = {name: {"a": (steps, values), "b": (steps, values[::-1])} for name in ("psnr_y", "psnr_rgb")}
    flat = {"psnr_y": {"a": (steps, values)}}
    pictures.training_curves(tmp_path / "x.png", panels, xlabel="step", title="t", bicubic={"psnr_y": 25.0})
    pictures.training_curves(tmp_path / "y.png", flat, xlabel="step", title="t", bicubic={"psnr_y": 21.0})
    first, second = drawn[0].axes
    assert [line.get_ydata() for line in first.lines if line.get_linestyle() == ":"] == [[25.0, 25.0]]
    assert first.texts[0].get_text() == "bicubic 25.00" and not second.texts
    assert drawn[1].axes[0].texts[0].get_text() == "bicubic 21.00, below the axis"
    for figure in drawn:
        check_readable(figure)
