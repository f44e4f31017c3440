"""Pictures show what they claim: the right crop, the right values, text of readable size that nothing covers."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image

from eval.pictures import panels as pictures
from eval.pictures import spread as spread_pictures
from eval.pictures import style as picture_style
from sr_models.errors import InputError

RANDOM = np.random.default_rng(0)
HR = RANDOM.integers(0, 256, (96, 120, 3)).astype(np.uint8)
SCORES = {"psnr_y": 33.1251, "ssim_y": 0.91234}
LONG = "edsr_baseline × expectation_only (averaged weights)"


def damaged(top: int, left: int) -> np.ndarray:
    image = HR.copy()
    image[top : top + 24, left : left + 24] = 0
    return image


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved, to be looked into."""
    figures, save = [], picture_style.save

    def keep(figure: Figure, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(picture_style, "save", keep)
    return figures


def shown_texts(figure: Figure) -> list[Text]:
    """What is written on a figure; ticks outside an axis' limits are not."""
    hidden = set()
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high or not tick.get_visible():
                    hidden |= {tick.label1, tick.label2}
    return [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in hidden]


def check_readable(figure: Figure) -> None:
    """All text is at least 9 pt at 10 in, inside the figure, and covers no other text; titles cover no axes."""
    assert figure.get_figwidth() == 10
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = {}
    for text in shown_texts(figure):
        assert text.get_fontsize() >= 9 or "mathdefault" in text.get_text(), text
        box = text.get_window_extent(canvas.get_renderer())
        assert box.x0 >= 0 and box.y0 >= 0, text
        assert box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, text
        boxes[text] = box.padded(-2)
    assert len(boxes) >= 3
    for (a, box_a), (b, box_b) in combinations(boxes.items(), 2):
        assert not box_a.overlaps(box_b), (a, b)
    outside = [figure._suptitle, figure._supxlabel, *(axes.title for axes in figure.axes)]
    for text in boxes.keys() & set(outside):
        assert not any(axes.get_window_extent().overlaps(boxes[text]) for axes in figure.axes), text


def comparison(path: Path, methods: int, label: str, hr: np.ndarray) -> None:
    panels = [("LR", hr[::2, ::2], None), *[(label, 255 - hr, SCORES)] * methods, ("HR", hr, None)]
    pictures.comparison(path, title=f"Set5 ×2: {label}", panels=panels, protocol="classical-y-b2")


def best_and_worst(path: Path, methods: int, label: str) -> None:
    given = {
        f"{label} {i}": ([HR, damaged(3, 4)], {"psnr_y": [30.1, 29.2], "ssim_y": [0.9, 0.8]}) for i in range(methods)
    }
    spread_pictures.best_and_worst(path, title="t", methods=given, hr=HR, protocol="classical-y-b2")


def l_std(path: Path, methods: int, top: float) -> None:
    maps = [(LONG, RANDOM.random(HR.shape) * top, 0.0231)] * methods
    spread_pictures.l_std_map(path, title="t", image=("HR", HR), maps=maps, draws=10, protocol="classical-y-b2")


def sigma(path: Path, values: np.ndarray) -> None:
    error = np.abs(RANDOM.normal(0, 0.03, values.shape))
    scores = {"psnr_y": 36.2}
    spread_pictures.sigma_against_error(path, title="t", sigma=values, error=error, scores=scores, protocol="p-y-b2")


def training(path: Path, metrics: tuple[str, ...], labels: int) -> None:
    panels = {m: {f"{LONG} {i}": ([0, 10, 20], [i + 1.0, float("nan"), 3.0]) for i in range(labels)} for m in metrics}
    pictures.training_curves(path, panels, xlabel="optimiser steps", title="t", protocol="classical-y-b2")


def curves(path: Path) -> None:
    series = {"a": ([0, 1, 2], [1.0, 2.0, 3.0]), "b": ([0], [1.5])}
    pictures.curves(path, series, xlabel="step", ylabel="PSNR-Y (dB)", title="t", caption="classical-y-b2")


def bars(path: Path) -> None:
    rows = [("a", 34.0, 0.1), ("b", 33.0, 0.0)]
    pictures.bars(path, rows, xlabel="PSNR-Y (dB)", title="t", baseline=("bicubic", 33.5), caption="classical-y-b2")


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
        lambda p: best_and_worst(p, 1, "m"),
        lambda p: best_and_worst(p, 3, LONG),
        lambda p: l_std(p, 1, 0.1),
        lambda p: l_std(p, 5, 0.001),
        lambda p: l_std(p, 2, 0.0),
        lambda p: sigma(p, RANDOM.random((96, 120, 3)) * 0.1),
        lambda p: sigma(p, np.full((200, 60, 3), 0.02)),
        lambda p: sigma(p, RANDOM.random((50, 300, 3)) * 0.001),
        lambda p: training(p, ("psnr_y",), 1),
        lambda p: training(p, ("psnr_y", "ssim_y", "psnr_rgb"), 3),
        lambda p: violins(p, 1, 1),
        lambda p: violins(p, 5, 8),
        curves,
        bars,
    ],
)
def test_a_picture_is_readable_at_page_width(tmp_path: Path, drawn: list[Figure], draw: Callable[[Path], None]) -> None:
    draw(tmp_path / "new" / "x.png")
    check_readable(drawn[0])
    assert Image.open(tmp_path / "new" / "x.png").width == 1500


def test_unreadable_pictures_are_noticed(tmp_path: Path, drawn: list[Figure]) -> None:
    curves(tmp_path / "x.png")
    drawn[0].text(0.5, 0.5, "one")
    drawn[0].text(0.5, 0.5, "two")
    with pytest.raises(AssertionError, match="two"):
        check_readable(drawn[0])


def test_the_crop_is_where_methods_differ_most() -> None:
    box = picture_style.busiest(picture_style.disagreement([HR, damaged(50, 77), HR]))
    assert box == (50, 77, 24, 24)


def test_disagreement_is_the_variance_over_images() -> None:
    images = [HR, damaged(1, 2), damaged(40, 50)]
    expected = 9 * np.stack(images).astype(float).var(axis=0).sum(axis=-1)
    np.testing.assert_allclose(picture_style.disagreement(images), expected, atol=1e-6)


@pytest.mark.parametrize(("shape", "side"), [((10, 14), 10), ((96, 120), 24), ((400, 300), 75), ((2000, 1400), 128)])
def test_the_crop_fits_the_image_and_is_magnified(shape: tuple[int, int], side: int) -> None:
    assert picture_style.busiest(np.ones(shape, np.int64)) == (0, 0, side, side)


def test_comparison_shows_the_same_box_of_every_panel(tmp_path: Path, drawn: list[Figure]) -> None:
    panels = [("LR", HR[::2, ::2], None), ("m", damaged(20, 30), SCORES), ("HR", HR, None)]
    box = pictures.comparison(tmp_path / "x.png", title="t", panels=panels, protocol="classical-y-b2")
    assert box == (20, 30, 24, 24)
    shown = [image.get_array() for axes in drawn[0].axes for image in axes.findobj(AxesImage)]
    expected = [HR, HR[20:44:2, 30:54:2].repeat(2, 0).repeat(2, 1), np.zeros((24, 24, 3)), HR[20:44, 30:54]]
    for image, other in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(image, other)


def test_scores_are_written_with_unit_and_protocol() -> None:
    assert picture_style.scores_text(SCORES).replace("\u00a0", " ") == "33.13 dB / 0.9123"
    assert picture_style.scores_text(None) == ""
    caption = picture_style.scores_caption(SCORES, "classical-y-b2")
    assert caption == "PSNR of the luma Y / SSIM of the luma Y, protocol classical-y-b2"
    assert picture_style.axis_label("psnr_y") == "psnr_y (dB)"
    assert picture_style.axis_label("ssim_y") == "ssim_y"


def test_low_resolution_is_magnified_pixel_by_pixel() -> None:
    large = pictures._magnify(HR[::2, ::2], HR, "LR")
    assert large.shape == HR.shape
    for corner in (large[::2, ::2], large[1::2, ::2], large[::2, 1::2], large[1::2, 1::2]):
        np.testing.assert_array_equal(corner, HR[::2, ::2])


@pytest.mark.parametrize(("metric", "expected"), [("psnr_y", (2, 1)), ("lpips_alex", (1, 2))])
def test_best_and_worst_follow_the_metric(metric: str, expected: tuple[int, int]) -> None:
    assert spread_pictures.extremes([0.5, 0.1, 0.9, 0.9], metric) == expected


def test_best_and_worst_draw_are_shown_with_their_scores(tmp_path: Path, drawn: list[Figure]) -> None:
    draws = [damaged(0, 0), damaged(60, 70), HR]
    scores = {"psnr_y": [28.0, 27.0, 31.0], "ssim_y": [0.7, 0.9, 0.8]}
    box = spread_pictures.best_and_worst(tmp_path / "x.png", title="t", methods={"m": (draws, scores)}, hr=HR)
    assert box == (60, 70, 24, 24)
    titles = [axes.get_title().replace("\u00a0", " ") for axes in drawn[0].axes]
    best, worst = "m\nbest of 3 (draw 2)\n31.00 dB / 0.8000", "m\nworst of 3 (draw 1)\n27.00 dB / 0.9000"
    assert titles == ["HR, whole image", best, worst, "HR"]
    assert drawn[0].axes[2].images[0].get_array().max() == 0


def test_heat_maps_share_one_scale_from_zero(tmp_path: Path, drawn: list[Figure]) -> None:
    maps = [("calm", np.full(HR.shape, 0.02), 0.02), ("wild", np.full(HR.shape, 0.08), 0.08)]
    spread_pictures.l_std_map(tmp_path / "x.png", title="t", image=("HR", HR), maps=maps, draws=10)
    images = [axes.images[0] for axes in drawn[0].axes[1:3]]
    assert [image.get_clim() for image in images] == [(0, pytest.approx(0.08))] * 2
    assert [axes.get_title() for axes in drawn[0].axes[1:3]] == ["calm\nL-STD 0.0200", "wild\nL-STD 0.0800"]


def test_means_along_sigma_lie_on_the_line_where_sigma_is_right() -> None:
    values = RANDOM.random(16_000)
    x, y = spread_pictures.binned_means(values, 2 * values)
    assert len(x) == 16
    np.testing.assert_allclose(y, 2 * x)
    np.testing.assert_allclose(x, (np.arange(16) + 0.5) / 16, atol=0.02)


def test_a_constant_sigma_is_one_group() -> None:
    x, y = spread_pictures.binned_means(np.full(100, 0.25), np.arange(100.0))
    assert (x.tolist(), y.tolist()) == ([0.25], [49.5])


def test_sigma_caption_counts_what_lies_beyond_the_axes(tmp_path: Path, drawn: list[Figure]) -> None:
    error = np.full((100, 100, 3), 0.01)
    error[0, :10] = 0.9
    options = {"title": "t", "sigma": np.full_like(error, 0.02), "error": error, "protocol": "p"}
    spread_pictures.sigma_against_error(tmp_path / "x.png", scores={"psnr_y": 36.2}, **options)
    caption = drawn[0].get_supxlabel().replace("\u00a0", " ")
    assert caption == "psnr_y 36.20 dB (PSNR of the luma Y); 0.1% beyond the axes; protocol p"


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


def compare(panels: list, crop: picture_style.Box | None = None) -> Callable[[Path], object]:
    return lambda path: pictures.comparison(path, title="t", panels=panels, crop=crop or "disagree")


def choose(draws: list[np.ndarray], scores: dict[str, list[float]]) -> Callable[[Path], object]:
    return lambda path: spread_pictures.best_and_worst(path, title="t", methods={"m": (draws, scores)}, hr=HR)


def heat(*maps: tuple[str, np.ndarray, float]) -> Callable[[Path], object]:
    return lambda path: spread_pictures.l_std_map(path, title="t", image=("HR", HR), maps=maps, draws=2)


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
        ("at least one method", lambda p: spread_pictures.best_and_worst(p, title="t", methods={}, hr=HR)),
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
