"""Pictures show what they claim: the right crop, the right values, text of readable size that nothing covers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
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


def comparison(path: Path, methods: int, label: str, hr: np.ndarray) -> None:
    panels = [("LR", hr[::2, ::2], None), *[(label, 255 - hr, SCORES)] * methods, ("HR", hr, None)]
    pictures.comparison(path, title=f"Set5 ×2: {label}", panels=panels, protocol="classical-y-b2")


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


def test_low_resolution_is_magnified_pixel_by_pixel() -> None:
    large = pictures._magnify(HR[::2, ::2], HR, "LR")
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
