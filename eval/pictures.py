"""Pictures of results: zoomed comparisons, training curves, leaderboard bars (matplotlib's Agg canvas, no display).

Colours are Okabe and Ito's eight (https://jfly.uni-koeln.de/color/), told apart with any colour vision; lines differ in
style as well. Text stays readable when a picture is shrunk to the width of a page.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from eval.protocol import METRICS
from sr_models.errors import InputError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_LINES = ("-", "--", "-.", ":")
_BACKDROP = "#999999"
_TEXT_PT, _SMALL_PT, _DPI, _WIDTH_IN = 10, 9, 150, 10.0

Panel = tuple[str, np.ndarray, Mapping[str, float] | None]
Box = tuple[int, int, int, int]  # top, left, height, width in HR pixels


def comparison(
    path: Path, *, title: str, panels: Sequence[Panel], protocol: str = "", crop: Literal["disagree"] | Box = "disagree"
) -> Box:
    """One image by several methods: the whole last panel (HR) with a box, then that box from every panel, enlarged.

    Args:
        path: the PNG to write.
        title: what is shown, such as "Set5 img_003, x4".
        panels: (label, uint8 HWC image, scores or None), HR last. An image smaller by a whole factor (LR) is magnified.
        protocol: id of the protocol behind the scores, printed in the caption.
        crop: (top, left, height, width), or "disagree": the square where the full-size panels differ most.

    Returns:
        The box that was shown.

    Raises:
        InputError: no panels, sizes that do not fit together, a box outside the image.
    """
    if not panels:
        raise InputError("a comparison needs at least one panel, got none")
    whole = panels[-1][1]
    images = [_magnify(image, whole, label) for label, image, _ in panels]
    full_size = [image for _, image, _ in panels if image.shape == whole.shape]
    top, left, height, width = box = most_different(full_size) if crop == "disagree" else crop
    if min(top, left) < 0 or min(height, width) < 1 or top + height > whole.shape[0] or left + width > whole.shape[1]:
        size = f"{whole.shape[0]}x{whole.shape[1]} px (height x width)"
        raise InputError(f"crop (top, left, height, width) = {box} leaves the image of {size}")

    rows = 1 if len(panels) <= 3 else 2
    columns = math.ceil(len(panels) / rows)
    share = 0.5 + 0.5 * rows  # width of the whole image, in columns
    cell_in = _WIDTH_IN / (columns + share)
    figure = Figure(figsize=(_WIDTH_IN, rows * (cell_in * height / width + 0.3) + 0.75), dpi=_DPI, layout="constrained")
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[share] + [1.0] * columns)
    overview = figure.add_subplot(grid[:, 0])
    _show(overview, whole, f"{panels[-1][0]}, whole image")
    for colour, line_pt in (("white", 3.5), (COLOURS[1], 1.8)):
        overview.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=colour, lw=line_pt))
    for i, (image, (label, _, scores)) in enumerate(zip(images, panels, strict=True)):
        axes = figure.add_subplot(grid[i // columns, 1 + i % columns])
        _show(axes, image[top : top + height, left : left + width], f"{label}\n{_scores_text(scores)}")
    figure.suptitle(title, fontsize=_TEXT_PT + 2)
    figure.supxlabel(_scores_caption(panels, protocol), fontsize=_SMALL_PT)
    _save(figure, path)
    return box


def curves(
    path: Path,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    caption: str = "",
) -> None:
    """Lines over a common axis; labels carry their unit, such as "validation PSNR-Y (dB)".

    Args:
        path: the PNG to write.
        series: label -> (x values, y values), drawn and listed in the order given.
    """
    figure = Figure(figsize=(_WIDTH_IN, 5.0), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    styles = itertools.cycle(itertools.product(_LINES, COLOURS[:7]))  # yellow is too pale for a line
    for (label, (x, y)), (line, colour) in zip(series.items(), styles, strict=False):
        axes.plot(x, y, line, color=colour, label=label, lw=1.8, marker="o" if len(x) < 2 else None)
    if len(series) > 1:
        axes.legend(fontsize=_SMALL_PT, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _dress(axes, xlabel, ylabel)
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.set_title(title, fontsize=_TEXT_PT + 2)
    figure.supxlabel(caption, fontsize=_SMALL_PT)
    _save(figure, path)


def bars(
    path: Path,
    rows: Sequence[tuple[str, float, float]],
    *,
    xlabel: str,
    title: str,
    baseline: tuple[str, float],
    decimals: int = 2,
    caption: str = "",
) -> None:
    """A leaderboard: one bar a row, growing from the baseline, so that length is the gain and nothing else.

    Args:
        path: the PNG to write.
        rows: (label, mean, spread over seeds), best first; a spread of 0 draws no whisker.
        xlabel: the metric with its unit, such as "PSNR-Y (dB)".
        baseline: (label, value) where bars start, such as ("bicubic", 33.68).
    """
    name, start = baseline
    figure = Figure(figsize=(_WIDTH_IN, 1.5 + 0.34 * max(len(rows), 2)), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    for place, (_, mean, spread) in enumerate(rows):
        axes.barh(place, mean - start, left=start, height=0.66, color=COLOURS[0] if mean >= start else COLOURS[1])
        if spread > 0:
            axes.errorbar(mean, place, xerr=spread, color=COLOURS[6], capsize=3, lw=1.4)
        text = f"{mean:.{decimals}f}" + (f" ± {spread:.{decimals}f}" if spread > 0 else "")
        side, align = (1, "left") if mean >= start else (-1, "right")
        tip, gap_pt = (mean + side * spread, place), (6 * side, 0)
        axes.annotate(text, tip, gap_pt, textcoords="offset points", ha=align, va="center", size=_SMALL_PT)
    axes.axvline(start, color=COLOURS[6], lw=1.2)
    label = f"{name} {start:.{decimals}f}"
    axes.text(start, 1.01, label, transform=axes.get_xaxis_transform(), ha="center", va="bottom", size=_SMALL_PT)
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.set_ylim(max(len(rows), 2) - 0.4, -0.6)
    axes.use_sticky_edges = False
    axes.margins(x=0.16)
    _dress(axes, xlabel, "")
    axes.set_title(title, fontsize=_TEXT_PT + 2, pad=20)
    figure.supxlabel(caption, fontsize=_SMALL_PT)
    _save(figure, path)


def most_different(images: Sequence[np.ndarray]) -> Box:
    """The square, a quarter of the shorter side (at least 24 px), where images of one size differ most."""
    height, width = images[0].shape[:2]
    side = min(max(min(height, width) // 4, 24), height, width)
    spread = np.stack(images).astype(np.float64).var(axis=0).sum(axis=-1)
    sums = np.pad(spread, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(top), int(left), side, side


def _magnify(image: np.ndarray, whole: np.ndarray, label: str) -> np.ndarray:
    """Repeat pixels until `image` has the size of `whole`."""
    factor = whole.shape[0] // image.shape[0]
    if (image.shape[0] * factor, image.shape[1] * factor) != whole.shape[:2]:
        raise InputError(f"panel {label!r} of {image.shape[:2]} px is no whole fraction of HR, {whole.shape[:2]} px")
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _show(axes: Axes, image: np.ndarray, label: str) -> None:
    axes.imshow(image, interpolation="nearest")
    axes.set_title(label, fontsize=_SMALL_PT)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(_BACKDROP)


def _scores_text(scores: Mapping[str, float] | None) -> str:
    return " / ".join(f"{v:.{METRICS[m].decimals}f} {METRICS[m].unit}".strip() for m, v in (scores or {}).items())


def _scores_caption(panels: Sequence[Panel], protocol: str) -> str:
    names = next((list(scores) for _, _, scores in panels if scores), [])
    parts = [METRICS[name].description for name in names]
    return " / ".join(parts) + (f", protocol {protocol}" if protocol and parts else "")


def _dress(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set_xlabel(xlabel, fontsize=_TEXT_PT)
    axes.set_ylabel(ylabel, fontsize=_TEXT_PT)
    axes.tick_params(labelsize=_SMALL_PT)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
