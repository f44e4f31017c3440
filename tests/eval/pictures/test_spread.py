"""Pictures of what varies show what they claim: the right draw, one scale for all maps, and σ against the error."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from eval.pictures import spread as pictures
from sr_models.errors import InputError

RANDOM = np.random.default_rng(0)
HR = RANDOM.integers(0, 256, (96, 120, 3)).astype(np.uint8)
LONG = "edsr_baseline × expectation_only (averaged weights)"


def damaged(top: int, left: int) -> np.ndarray:
    image = HR.copy()
    image[top : top + 24, left : left + 24] = 0
    return image


def best_and_worst(path: Path, methods: int, label: str) -> None:
    given = {
        f"{label} {i}": ([HR, damaged(3, 4)], {"psnr_y": [30.1, 29.2], "ssim_y": [0.9, 0.8]}) for i in range(methods)
    }
    pictures.best_and_worst(path, title="t", methods=given, hr=HR, protocol="classical-y-b2")


def l_std(path: Path, methods: int, top: float) -> None:
    maps = [(LONG, RANDOM.random(HR.shape) * top, 0.0231)] * methods
    pictures.l_std_map(path, title="t", image=("HR", HR), maps=maps, draws=10, protocol="classical-y-b2")


def sigma(path: Path, values: np.ndarray) -> None:
    error = np.abs(RANDOM.normal(0, 0.03, values.shape))
    scores = {"psnr_y": 36.2}
    pictures.sigma_against_error(path, title="t", sigma=values, error=error, scores=scores, protocol="p-y-b2")


@pytest.mark.parametrize(
    "draw",
    [
        lambda p: best_and_worst(p, 1, "m"),
        lambda p: best_and_worst(p, 3, LONG),
        lambda p: l_std(p, 1, 0.1),
        lambda p: l_std(p, 5, 0.001),
        lambda p: l_std(p, 2, 0.0),
        lambda p: sigma(p, RANDOM.random((96, 120, 3)) * 0.1),
        lambda p: sigma(p, np.full((200, 60, 3), 0.02)),
        lambda p: sigma(p, RANDOM.random((50, 300, 3)) * 0.001),
    ],
)
def test_a_picture_is_readable_at_page_width(tmp_path, drawn, check_readable, draw):
    draw(tmp_path / "new" / "x.png")
    check_readable(drawn[0])
    assert Image.open(tmp_path / "new" / "x.png").width == 1500


@pytest.mark.parametrize(("metric", "expected"), [("psnr_y", (2, 1)), ("lpips_alex", (1, 2))])
def test_best_and_worst_follow_the_metric(metric: str, expected: tuple[int, int]) -> None:
    assert pictures.extremes([0.5, 0.1, 0.9, 0.9], metric) == expected


def test_best_and_worst_draw_are_shown_with_their_scores(tmp_path: Path, drawn: list[Figure]) -> None:
    draws = [damaged(0, 0), damaged(60, 70), HR]
    scores = {"psnr_y": [28.0, 27.0, 31.0], "ssim_y": [0.7, 0.9, 0.8]}
    box = pictures.best_and_worst(tmp_path / "x.png", title="t", methods={"m": (draws, scores)}, hr=HR)
    assert box == (60, 70, 24, 24)
    titles = [axes.get_title().replace("\u00a0", " ") for axes in drawn[0].axes]
    best, worst = "m\nbest of 3 (draw 2)\n31.00 dB / 0.8000", "m\nworst of 3 (draw 1)\n27.00 dB / 0.9000"
    assert titles == ["HR, whole image", best, worst, "HR"]
    assert drawn[0].axes[2].images[0].get_array().max() == 0


def test_heat_maps_share_one_scale_from_zero(tmp_path: Path, drawn: list[Figure]) -> None:
    maps = [("calm", np.full(HR.shape, 0.02), 0.02), ("wild", np.full(HR.shape, 0.08), 0.08)]
    pictures.l_std_map(tmp_path / "x.png", title="t", image=("HR", HR), maps=maps, draws=10)
    images = [axes.images[0] for axes in drawn[0].axes[1:3]]
    assert [image.get_clim() for image in images] == [(0, pytest.approx(0.08))] * 2
    assert [axes.get_title() for axes in drawn[0].axes[1:3]] == ["calm\nL-STD 0.0200", "wild\nL-STD 0.0800"]


def test_means_along_sigma_lie_on_the_line_where_sigma_is_right() -> None:
    values = RANDOM.random(16_000)
    x, y = pictures.binned_means(values, 2 * values)
    assert len(x) == 16
    np.testing.assert_allclose(y, 2 * x)
    np.testing.assert_allclose(x, (np.arange(16) + 0.5) / 16, atol=0.02)


def test_a_constant_sigma_is_one_group() -> None:
    x, y = pictures.binned_means(np.full(100, 0.25), np.arange(100.0))
    assert (x.tolist(), y.tolist()) == ([0.25], [49.5])


def test_sigma_caption_counts_what_lies_beyond_the_axes(tmp_path: Path, drawn: list[Figure]) -> None:
    error = np.full((100, 100, 3), 0.01)
    error[0, :10] = 0.9
    options = {"title": "t", "sigma": np.full_like(error, 0.02), "error": error, "protocol": "p"}
    pictures.sigma_against_error(tmp_path / "x.png", scores={"psnr_y": 36.2}, **options)
    caption = drawn[0].get_supxlabel().replace("\u00a0", " ")
    assert caption == "psnr_y 36.20 dB (PSNR of the luma Y); 0.1% beyond the axes; protocol p"


def test_a_constant_sigma_is_called_so_before_any_score(tmp_path: Path, drawn: list[Figure]) -> None:
    error = np.abs(RANDOM.normal(0, 0.03, (60, 60, 3)))
    options = {"title": "t", "sigma": np.full_like(error, 0.02), "error": error, "scores": {"psnr_constant": 31.25}}
    pictures.sigma_against_error(tmp_path / "x.png", constant=0.015, flat=True, **options)
    caption = drawn[0].get_supxlabel().replace("\u00a0", " ").replace("\n", " ")
    assert caption.startswith("σ is constant: it does not say where the error is; psnr_constant 31.25 dB (")
    labels = [text.get_text() for axes in drawn[0].axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    assert "best constant of the training images" in labels


def choose(draws: list[np.ndarray], scores: dict[str, list[float]]) -> Callable[[Path], object]:
    return lambda path: pictures.best_and_worst(path, title="t", methods={"m": (draws, scores)}, hr=HR)


def heat(*maps: tuple[str, np.ndarray, float]) -> Callable[[Path], object]:
    return lambda path: pictures.l_std_map(path, title="t", image=("HR", HR), maps=maps, draws=2)


@pytest.mark.parametrize(
    ("message", "draw"),
    [
        ("at least one method", lambda p: pictures.best_and_worst(p, title="t", methods={}, hr=HR)),
        ("'m' has 2 draws, but so many scores: {'psnr_y': 1}", choose([HR, HR], {"psnr_y": [1.0]})),
        ("'m' has 0 draws", choose([], {"psnr_y": []})),
        ("'m' has no psnr_y to choose by, only ssim_y", choose([HR], {"ssim_y": [1.0]})),
        (r"draw 0: \(48, 60\) px, but HR has \(96, 120\) px", choose([HR[::2, ::2]], {"psnr_y": [1.0]})),
        ("at least one map", heat()),
        (r"L-STD of 'm': shape \(2, 2, 3\), must be", heat(("m", np.ones((2, 2, 3)), 1.0))),
        ("sigma: values must be finite and not negative", lambda path: sigma(path, np.full(HR.shape, -0.1))),
        ("sigma: values must be finite and not negative", lambda path: sigma(path, np.full(HR.shape, np.nan))),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, message: str, draw: Callable[[Path], object]) -> None:
    with pytest.raises(InputError, match=message):
        draw(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
