"""Pictures of what varies: best and worst draw, where draws differ, and predicted spread against the error made.

Best and worst draw side by side and L-STD are CCSR's (https://arxiv.org/abs/2401.00877), σ that stands for |y − μ| is
He and Cheng's (https://arxiv.org/abs/2201.10084).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from eval.pictures import style
from eval.pictures.style import COLOURS, GAP_IN, HEAT, SMALL_PT, WIDTH_IN, Box, Cell
from eval.protocol import get_metric
from sr_models.errors import InputError

_SHOWN = 99.5  # percentile where a colour scale ends, so that a few pixels do not blacken the rest
_LEVEL = 1 / 255
_FEWEST_LEVELS = 20  # on the error's axis
_BAR_IN, _BAR_ROOM_IN = 0.18, 0.95  # width of a colour bar, alone and with its numbers and label
_AXIS_ROOM_IN, _LEAST_IN = 0.8, 3.6  # beside the histogram for its labels; the least height with those below
_BINS, _MEANS = 120, 16  # cells a side of the histogram; groups of equal size along σ


def best_and_worst(
    path: Path,
    *,
    title: str,
    methods: Mapping[str, tuple[Sequence[np.ndarray], Mapping[str, Sequence[float]]]],
    hr: np.ndarray,
    protocol: str = "",
    by: str = "psnr_y",
    crop: Literal["disagree"] | Box = "disagree",
) -> Box:
    """The best and the worst draw of each method beside HR, one row a method, zoomed to a box.

    Args:
        path: the PNG to write.
        title: what is shown, such as "Set14 baboon, x4".
        methods: label -> (draws, scores): uint8 HWC images of HR's size, and metric -> one score a draw. Of the draws
            only the two that are shown are read.
        protocol: id of the protocol behind the scores, printed in the caption.
        by: the metric that says which is best; among the scores of every method.
        crop: (top, left, height, width), or "disagree": the square where best and worst differ most.

    Returns:
        The box that was shown.

    Raises:
        InputError: no methods, an unknown metric, scores that do not go with the draws, sizes that differ, a box
            outside the image.
    """
    if not methods:
        raise InputError("best and worst draw need at least one method, got none")
    rows: list[list[style.Cell]] = []
    for label, (draws, scores) in methods.items():
        if not len(draws) or {len(values) for values in scores.values()} != {len(draws)}:
            counts = {metric: len(values) for metric, values in scores.items()}
            raise InputError(f"{label!r} has {len(draws)} draws, but so many scores: {counts}")
        if by not in scores:
            raise InputError(f"{label!r} has no {by} to choose by, only {', '.join(scores)}")
        row = []
        for what, i in zip(("best", "worst"), extremes(scores[by], by), strict=True):
            if draws[i].shape != hr.shape:
                raise InputError(f"{label!r}, draw {i}: {draws[i].shape[:2]} px, but HR has {hr.shape[:2]} px")
            text = style.scores_text({metric: values[i] for metric, values in scores.items()})
            row.append((f"{label}\n{what} of {len(draws)} (draw\u00a0{i})\n{text}", draws[i]))
        rows.append(row)
    apart = [style.disagreement([image for _, image in row]) for row in rows]
    box = style.busiest(np.sum(apart, axis=0)) if crop == "disagree" else crop
    metrics = next(iter(methods.values()))[1]
    caption = style.scores_caption(metrics, protocol) + f"; best and worst by {by}"
    style.zoomed(
        path,
        title=title,
        whole=("HR, whole image", hr),
        rows=[[*row, ("HR", hr)] for row in rows],
        box=box,
        caption=caption,
    )
    return box


def extremes(values: Sequence[float], metric: str) -> tuple[int, int]:
    """Where in `values` the best and the worst stand, by the metric's direction; the first of equal ones."""
    worst, best = int(np.argmin(values)), int(np.argmax(values))
    return (best, worst) if get_metric(metric).higher_is_better else (worst, best)


def l_std_map(
    path: Path,
    *,
    title: str,
    image: Cell,
    maps: Sequence[tuple[str, np.ndarray, float]],
    draws: int,
    protocol: str = "",
) -> None:
    """Where draws of one input differ: an image, and beside it a heat map a method, on one scale.

    Args:
        path: the PNG to write.
        title: what is shown, such as "Set14 baboon, x4".
        image: (label, uint8 HWC image) of the maps' size, such as HR.
        maps: (label, std, l_std): std is (H, W, 3), the population standard deviation over draws of RGB in [0, 1],
            shown as its mean over the channels; l_std is the image's score, printed above.
        draws: how many draws are behind each map.
        protocol: id of the protocol behind the scores (it holds the border that they leave out).

    The scale ends at the 99.5th percentile of all maps, never below one 8-bit level.

    Raises:
        InputError: no maps, a map of another size, negative or not finite.
    """
    if not maps:
        raise InputError("an L-STD picture needs at least one map, got none")
    for label, std, _ in maps:
        _check_map(f"L-STD of {label!r}", std, image[1].shape)
    grey = [std.mean(axis=-1) for _, std, _ in maps]
    top = max(float(np.percentile(grey, _SHOWN)), _LEVEL)
    count = len(maps) + 1
    rows = 1 if count <= 4 else 2
    columns = math.ceil(count / rows)
    cell_in = (WIDTH_IN - _BAR_ROOM_IN - GAP_IN) / columns - GAP_IN
    height_in = cell_in * image[1].shape[0] / image[1].shape[1]
    digits = get_metric("l_std").decimals
    texts = [image[0], *(f"{label}\nL-STD {l_std:.{digits}f}" for label, _, l_std in maps)]
    labels = [style.wrap(text, cell_in) for text in texts]
    above_in = style.text_in(*labels)
    step_in = above_in + height_in + GAP_IN
    caption = f"Standard deviation over {draws} draw{'s' * (draws != 1)}, mean of R, G and B; "
    caption += "L-STD is its mean over the image" + (f", protocol {protocol}" if protocol else "")
    figure, top_in = style.sheet(title, caption, rows * step_in)
    top_in += above_in
    spots = []
    for i in range(count):
        left_in = GAP_IN + i % columns * (cell_in + GAP_IN)
        spots.append(style.spot(figure, left_in, top_in + i // columns * step_in, cell_in, height_in))
    style.draw_image(spots[0], image[1], labels[0], "auto")
    for axes, values, label in zip(spots[1:], grey, labels[1:], strict=True):
        shown = axes.imshow(values, cmap=HEAT, vmin=0, vmax=top, interpolation="auto")
        style.frame(axes, label)
    all_in = (rows - 1) * step_in + height_in
    _scale(figure, shown, WIDTH_IN - _BAR_ROOM_IN, top_in, all_in, "standard deviation, RGB in [0, 1]")
    style.save(figure, path)


def sigma_against_error(
    path: Path,
    *,
    title: str,
    sigma: np.ndarray,
    error: np.ndarray,
    scores: Mapping[str, float],
    constant: float | None = None,
    flat: bool = False,
    protocol: str = "",
) -> None:
    """Predicted spread σ against the error made |y − μ|: both as maps, and every pixel and channel in a histogram.

    Dots are means of sixteen groups of equal size along σ: on the dashed line, the error is on average what σ says.

    Args:
        path: the PNG to write.
        title: what is shown, such as "Set14 baboon, x4, edsr_baseline × expectation".
        sigma, error: (H, W, 3) in [0, 1] units, HR pixels.
        scores: such as {"psnr_sigma": 36.2, "psnr_constant": 34.9}, printed in the caption.
        constant: the best constant in σ's place on the training images, drawn as a line.
        flat: whether σ is constant: the caption says so first.
        protocol: id of the protocol behind the scores.

    Raises:
        InputError: sizes that differ, negative or not finite values.
    """
    _check_map("sigma", sigma, error.shape)
    _check_map("error", error, error.shape)
    parts = ["σ is constant: it does not say where the error is"] if flat else []
    parts += [f"{m} {style.score_text(m, value)} ({get_metric(m).description})" for m, value in scores.items()]
    x, y = sigma.ravel(), error.ravel()
    x_end = max(1.05 * float(np.percentile(x, _SHOWN)), _LEVEL)
    y_end = max(float(np.percentile(y, _SHOWN)), _FEWEST_LEVELS * _LEVEL)
    beyond = float(np.mean((x > x_end) | (y > y_end)))
    parts.append(f"{100 * beyond:.1f}% beyond the axes" + (f"; protocol {protocol}" if protocol else ""))

    height, width = error.shape[:2]
    map_in = min(3.4, 2.4 * width / height)
    map_height_in = map_in * height / width
    above_in = style.text_in("σ")
    figure, top_in = style.sheet(
        title, "; ".join(parts), max(2 * (above_in + map_height_in + GAP_IN), above_in + _LEAST_IN + GAP_IN)
    )
    top_in += above_in
    scale_end = max(float(np.percentile([sigma.mean(axis=-1), error.mean(axis=-1)], _SHOWN)), _LEVEL)
    for i, (values, label) in enumerate(((sigma, "predicted σ"), (error, "error |y − μ|"))):
        axes = style.spot(figure, GAP_IN, top_in + i * (map_height_in + GAP_IN + above_in), map_in, map_height_in)
        shown = axes.imshow(values.mean(axis=-1), cmap=HEAT, vmin=0, vmax=scale_end, interpolation="auto")
        style.frame(axes, label)
    both_in = 2 * map_height_in + GAP_IN + above_in
    _scale(figure, shown, map_in + 2 * GAP_IN, top_in, both_in, "mean of R, G and B in [0, 1]")

    left_in, bar_in = map_in + _BAR_ROOM_IN + _AXIS_ROOM_IN, WIDTH_IN - _BAR_ROOM_IN
    tall_in = max(both_in, _LEAST_IN) - 0.5  # less the labels of the horizontal axis
    axes = style.spot(figure, left_in, top_in, bar_in - GAP_IN - left_in, tall_in)
    edges = np.linspace(0, x_end, _BINS + 1), (np.arange(math.ceil(255 * y_end) + 2) - 0.5) * _LEVEL
    counts = axes.hist2d(x, y, bins=edges, norm=LogNorm(), cmap="cividis")[3]
    axes.axline((0, 0), slope=1, ls="--", color=COLOURS[6], lw=1.6, label="|y − μ| = σ")
    (means,) = axes.plot(*binned_means(x, y), "o", color=COLOURS[1], ms=7, label=f"mean of 1/{_MEANS} of the values")
    means.set(markeredgecolor="white", clip_on=False)
    if constant is not None and constant <= x_end:
        axes.axvline(constant, ls=":", color=COLOURS[6], lw=1.6, label="best constant of the training images")
    axes.set_xlim(0, x_end)
    axes.set_ylim(-_LEVEL / 2, y_end)
    axes.legend(fontsize=SMALL_PT, loc="upper left", framealpha=1.0)
    style.dress(axes, "predicted σ, RGB in [0, 1]", "error |y − μ|, RGB in [0, 1]")
    _scale(figure, counts, bar_in, top_in, tall_in, "values (pixel × channel)")
    style.save(figure, path)


def binned_means(sigma: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of σ and of the error in sixteen groups of equal size along σ; equal σ stay in one group. All 1-D."""
    inner = np.quantile(sigma, np.linspace(0, 1, _MEANS + 1)[1:-1])
    group = np.searchsorted(inner, sigma, side="right")
    counts = np.bincount(group, minlength=_MEANS)
    used = counts > 0
    sums = [np.bincount(group, weights=values, minlength=_MEANS) for values in (sigma, error)]
    return sums[0][used] / counts[used], sums[1][used] / counts[used]


def _scale(figure: Figure, shown: ScalarMappable, left_in: float, top_in: float, height_in: float, label: str) -> None:
    """A colour bar of the height of what it belongs to, its numbers and label at the right."""
    axes = style.spot(figure, left_in, top_in, _BAR_IN, height_in)
    bar = figure.colorbar(shown, cax=axes, extend="max" if shown.cmap.name == HEAT else "neither", extendfrac=0.03)
    bar.set_label(label, fontsize=SMALL_PT)
    axes.tick_params(labelsize=SMALL_PT)


def _check_map(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise InputError(f"{name}: shape {values.shape}, must be {shape}")
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise InputError(f"{name}: values must be finite and not negative")
