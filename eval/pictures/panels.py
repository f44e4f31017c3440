"""Pictures of methods against each other: zoomed comparisons, training curves, leaderboard bars, violins of scores.

Their looks are in `style` beside this file; pictures of draws and predicted spread are in `spread`. Violins are Hintze
and Nelson's (https://doi.org/10.1080/00031305.1998.10480559), with a mark for every image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D

from eval.pictures import style
from eval.pictures.style import COLOURS, SMALL_PT, TEXT_PT, Box
from eval.protocol import get_metric
from sr_models.errors import InputError

Panel = tuple[str, np.ndarray, Mapping[str, float] | None]
Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # label -> (x values, y values)

_SHOWN = 99.5  # percentile where the scale of error maps ends
_SET_SHARE, _WIDEST = 0.8, 0.25  # room for the violins of a set, and for one, where sets stand 1 apart


def comparison(
    path: Path,
    *,
    title: str,
    panels: Sequence[Panel],
    protocol: str = "",
    crop: Literal["disagree"] | Box = "disagree",
    errors: bool = False,
) -> Box:
    """One image by several methods: the whole last panel (HR) with a box, then that box from every panel, enlarged.

    A star marks the best by the first score, where there are several.

    Args:
        path: the PNG to write.
        title: what is shown, such as "Set5 img_003, x4".
        panels: (label, uint8 HWC image, scores or None), HR last. An image smaller by a whole factor (LR) is magnified.
        protocol: id of the protocol behind the scores, printed in the caption.
        crop: (top, left, height, width), or "disagree": the square where the full-size panels differ most.
        errors: below every row of crops, how far each is from the last panel, as a map; dark is nothing.

    Returns:
        The box that was shown.

    Raises:
        InputError: no panels, sizes that do not fit together, a box outside the image.
    """
    if not panels:
        raise InputError("a comparison needs at least one panel, got none")
    whole, best = panels[-1][1], _best(panels)
    cells = [
        (f"{'★ ' * (i == best)}{label}\n{style.scores_text(scores)}", magnified(image, whole, label))
        for i, (label, image, scores) in enumerate(panels)
    ]
    full_size = [image for _, image, _ in panels if image.shape == whole.shape]
    box = style.busiest(style.disagreement(full_size)) if crop == "disagree" else crop
    columns = len(panels) if len(panels) <= 3 else math.ceil(len(panels) / 2)
    caption = style.scores_caption(next((scores for _, _, scores in panels if scores), {}), protocol)
    maps, said = _error_maps([image for _, image in cells[:-1]], whole, box) if errors else ([], "")
    rows = []
    for start in range(0, len(cells), columns):
        rows.append(cells[start : start + columns])
        if below := maps[start : start + columns]:
            rows.append(below)
    style.zoomed(
        path,
        title=title,
        whole=(f"{panels[-1][0]}, whole image", whole),
        rows=rows,
        box=box,
        caption="; ".join(filter(None, [caption, "★ the best" if best is not None else "", said])),
    )
    return box


def _best(panels: Sequence[Panel]) -> int | None:
    """The panel that is best by the first score, of several that have it."""
    metric = next((name for _, _, scores in panels for name in scores or ()), "")
    scored = {i: scores[metric] for i, (_, _, scores) in enumerate(panels) if scores and metric in scores}
    if len(scored) < 2:
        return None
    return (max if get_metric(metric).higher_is_better else min)(scored, key=lambda i: scored[i])


def _error_maps(images: Sequence[np.ndarray], whole: np.ndarray, box: Box) -> tuple[list[style.Cell], str]:
    """|image - whole|, mean of the channels, as pictures on one scale; and what the scale is."""
    top, left, height, width = box
    apart = [np.abs(image.astype(np.float64) - whole).mean(axis=-1) for image in images]
    inside = [error[top : top + height, left : left + width] for error in apart]
    end = max(float(np.percentile(inside, _SHOWN)), 1.0)
    maps = [(255 * colormaps[style.HEAT](np.minimum(error / end, 1.0))[..., :3]).astype(np.uint8) for error in apart]
    cells = [(f"error {error.mean():.1f}", shown) for error, shown in zip(inside, maps, strict=True)]
    return cells, f"maps: error in 8-bit levels, mean of R, G and B, black 0 to white {end:.0f}; above them its mean"


def curves(path: Path, series: Series, *, xlabel: str, ylabel: str, title: str, caption: str = "") -> None:
    """Lines over a common axis; labels carry their unit, such as "validation PSNR-Y (dB)".

    Args:
        path: the PNG to write.
        series: label -> (x values, y values), drawn and listed in the order given.
    """
    figure = style.page(title, caption, 4.4)
    axes = figure.add_subplot()
    style.draw_lines(axes, series, style.line_styles(series))
    if len(series) > 1:
        axes.legend(fontsize=SMALL_PT, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    style.dress(axes, xlabel, ylabel)
    style.save(figure, path)


def training_curves(
    path: Path,
    panels: Mapping[str, Series],
    *,
    xlabel: str,
    title: str,
    protocol: str = "",
    styled: style.Styles | None = None,
    bicubic: Mapping[str, float] | None = None,
) -> None:
    """Several metrics over training, one panel each above a common axis; a label looks the same in all of them.

    Where the second half, which decides, would have less than a quarter of an axis, the axis is that half's.

    Args:
        path: the PNG to write.
        panels: metric -> label -> (x values, y values), from top to bottom; a value that is not finite leaves a gap.
        xlabel: what training is counted in, such as "optimiser steps".
        protocol: id of the protocol behind the scores, printed in the caption.
        styled: of every label; None: in the order given.
        bicubic: metric -> what bicubic scores on the same images, a dotted line; where it lies beyond the axis, said.

    Raises:
        InputError: no panels, an unknown metric.
    """
    if not panels:
        raise InputError("training curves need at least one metric, got none")
    shown = dict.fromkeys(label for series in panels.values() for label in series)
    styled = {label: styled[label] for label in shown} if styled else style.line_styles(shown)
    figure = style.page(title, style.scores_caption(panels, protocol), max(1.9 * len(panels) + 0.5, 3.4))
    for axes, (metric, series) in zip(
        figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0], panels.items(), strict=True
    ):
        style.draw_lines(axes, series, styled)
        style.dress(axes, "", style.axis_label(metric))
        better = "higher is better" if get_metric(metric).higher_is_better else "lower is better"
        if ends := _deciding(series):
            axes.set_ylim(*ends)
            better += "; the first validations lie beyond the axis"
        axes.set_title(better, fontsize=SMALL_PT, loc="right")
        if bicubic and math.isfinite(level := bicubic.get(metric, math.nan)):
            _level(axes, level, f"bicubic {level:.{get_metric(metric).decimals}f}")
    axes.set_xlabel(xlabel, fontsize=TEXT_PT)
    if len(styled) > 1:
        handles = {
            label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            [handles[label] for label in styled],
            list(styled),
            fontsize=SMALL_PT,
            frameon=False,
            loc="outside right center",
        )
    style.save(figure, path)


def _level(axes: Axes, level: float, said: str) -> None:
    """A dotted line across, its name at its right end; the name alone, at the edge, if it lies beyond the axis."""
    low, high = axes.get_ylim()
    inside = low <= level <= high
    if inside:
        axes.axhline(level, color=COLOURS[6], ls=":", lw=1.2)
    at = (level - low) / (high - low) if inside else float(level > high)
    text = said if inside else f"{said}, {'above' if level > high else 'below'} the axis"
    axes.annotate(text, (1, at), (-4, -4 if at > 0.2 else 4), xycoords="axes fraction", textcoords="offset points",
                  ha="right", va="top" if at > 0.2 else "bottom", fontsize=SMALL_PT)  # fmt: skip


def _deciding(series: Series) -> tuple[float, float] | None:
    """Ends of an axis for the second half of the runs; None where the whole leaves that a quarter or more."""
    points = [(x, y) for xs, ys in series.values() for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    end = max((x for x, _ in points), default=0)
    late, every = [y for x, y in points if 2 * x > end], [y for _, y in points]
    if not late:
        return None
    low, high = min(late), max(late)
    room = 0.08 * (high - low)
    return (low - room, high + room) if 0 < 4 * (high - low) < max(every) - min(every) else None


def bars(
    path: Path,
    rows: Sequence[tuple[str, float, tuple[float, float] | None]],
    *,
    xlabel: str,
    title: str,
    baseline: tuple[str, float],
    decimals: int = 2,
    caption: str = "",
    printed: Sequence[float | None] = (),
    styled: style.Styles | None = None,
) -> None:
    """A leaderboard: one bar a row, growing from the baseline, so that length is the gain and nothing else.

    Args:
        path: the PNG to write.
        rows: (label, mean, interval), best first; without an interval there is no whisker.
        xlabel: the metric with its unit, such as "PSNR-Y (dB)".
        baseline: (label, value) where bars start, such as ("bicubic", 33.68).
        printed: for each row what a paper prints, marked by a diamond; None, or none: nothing.
        styled: the colours of labels; others, or None: one colour above the baseline and one below.
    """
    name, start = baseline
    figure = style.page(title, caption, 0.9 + 0.34 * max(len(rows), 2))
    axes = figure.add_subplot()
    papers = list(printed) or [None] * len(rows)
    for place, ((name_of, mean, interval), paper) in enumerate(zip(rows, papers, strict=True)):
        low, high = interval or (mean, mean)
        colour = COLOURS[0] if mean >= start else COLOURS[1]
        colour = styled[name_of][1] if styled and name_of in styled else colour
        axes.barh(place, mean - start, left=start, height=0.66, color=colour)
        if interval:
            axes.errorbar(mean, place, xerr=[[mean - low], [high - mean]], color=COLOURS[6], capsize=3, lw=1.4)
        text = f"{mean:.{decimals}f}" + (f" [{low:.{decimals}f}, {high:.{decimals}f}]" if interval else "")
        if paper is not None:
            axes.plot(paper, place, marker="D", markersize=6, markerfacecolor="none", color=COLOURS[6], zorder=3)
            text, low, high = f"{text}, paper {paper:.{decimals}f}", min(low, paper), max(high, paper)
        side, align = (1, "left") if mean >= start else (-1, "right")
        tip, gap_pt = (high if side > 0 else low, place), (6 * side, 0)
        axes.annotate(text, tip, gap_pt, textcoords="offset points", ha=align, va="center", size=SMALL_PT)
    axes.axvline(start, color=COLOURS[6], lw=1.2)
    label = f"{name} {start:.{decimals}f}"
    axes.text(start, 1.01, label, transform=axes.get_xaxis_transform(), ha="center", va="bottom", size=SMALL_PT)
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.set_ylim(max(len(rows), 2) - 0.4, -0.6)
    ends = [start, *(mean for _, mean, _ in rows), *(end for _, _, interval in rows for end in interval or ())]
    ends += [paper for paper in papers if paper is not None]
    worse, room = any(mean < start for _, mean, _ in rows), 0.36 if any(interval for _, _, interval in rows) else 0.16
    room += 0.2 * any(paper is not None for paper in papers)
    ends = [end for end in ends if math.isfinite(end)]
    span = max(ends) - min(ends) or 1.0  # beside it stands what is written at the tips
    axes.set_xlim(min(ends) - span * (room if worse else 0.1), max(ends) + span * room)
    axes.ticklabel_format(axis="x", useOffset=False)
    style.dress(axes, xlabel, "")
    style.save(figure, path)


def violins(
    path: Path,
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    metric: str,
    title: str,
    protocol: str = "",
    styled: style.Styles | None = None,
) -> None:
    """How one metric spreads over the images of each set: a violin a method, a mark an image, a bar at the mean.

    Args:
        path: the PNG to write.
        scores: image set -> method -> one score an image; the methods' order is that of the first set.
        protocol: id of the protocol behind the scores, printed in the caption.
        styled: of every method, whose colours they get; None: in the order given.

    Fewer than 20 images are their marks and mean alone. A score that is not finite (PSNR of an image without error) has
    no place on the axis: the caption counts them.

    Raises:
        InputError: no set, a set without methods, a method without a finite score, an unknown metric.
    """
    methods = list(dict.fromkeys(method for per_method in scores.values() for method in per_method))
    if not methods:
        raise InputError("violins need at least one image set with a method, got none")
    left_out = sum(not math.isfinite(v) for rows in scores.values() for values in rows.values() for v in values)
    caption = style.scores_caption([metric], protocol) + "; a mark is an image, the bar is the mean"
    figure = style.page(title, caption + (f"; {left_out} not finite, not drawn" if left_out else ""), 4.6)
    axes = figure.add_subplot()
    width = min(_SET_SHARE / len(methods), _WIDEST)
    handles, ticks = {}, []
    for place, (name, per_method) in enumerate(scores.items()):
        for method, values in per_method.items():
            finite = np.sort([value for value in values if math.isfinite(value)])
            if not len(finite):
                raise InputError(f"violins: {method!r} on {name!r} has no finite {metric} among {len(values)} images")
            number = methods.index(method)
            x = place + width * (number - (len(methods) - 1) / 2)
            colour = styled[method][1] if styled else COLOURS[number % 7]
            handles[method] = _violin(axes, x, width, finite, colour, style.MARKERS[number % 4])
        counts = sorted({len(values) for values in per_method.values()})
        ticks.append(f"{name}\nn = {' to '.join(map(str, counts[:: max(len(counts) - 1, 1)]))}")
    axes.set_xticks(range(len(scores)), ticks)
    axes.set_xlim(-0.5, len(scores) - 0.5)
    style.dress(axes, "", style.axis_label(metric))
    axes.grid(axis="y", color="#DDDDDD", lw=0.6)
    axes.set_axisbelow(True)
    shown = {method: handles[method] for method in methods}
    figure.legend(shown.values(), shown, fontsize=SMALL_PT, frameon=False, loc="outside right center")
    style.save(figure, path)


def _violin(axes: Axes, x: float, width: float, values: np.ndarray, colour: str, marker: str) -> Line2D:
    """One violin about `x` for sorted values, which end it, or a few marks alone; its marks, for the legend."""
    if len(values) >= style.LEAST_FOR_A_SHAPE:
        bodies = axes.violinplot(values, [x], widths=0.9 * width, showextrema=False)["bodies"]
        for body in cast("list[PolyCollection]", bodies):  # matplotlib's annotation allows what has no colour
            body.set(facecolor=colour, edgecolor=colour, alpha=0.35)
    beside = np.resize([0.0, 0.12, -0.12], len(values)) * width  # neighbours in value stand side by side
    axes.hlines(values.mean(), x - 0.3 * width, x + 0.3 * width, color=COLOURS[6], lw=1.8)
    (marks,) = axes.plot(x + beside, values, marker, color=colour, ms=3.5)
    return marks


def magnified(image: np.ndarray, whole: np.ndarray, label: str) -> np.ndarray:
    """Repeat pixels until `image` has the size of `whole`; at a fraction some more often than others.

    Both are (H, W, 3) of one type.

    Raises:
        InputError: its size is no fraction of that.
    """
    (height, width), (wanted_height, wanted_width) = image.shape[:2], whole.shape[:2]
    if height > wanted_height or height * wanted_width != width * wanted_height:
        raise InputError(f"panel {label!r} of {image.shape[:2]} px is no fraction of HR, {whole.shape[:2]} px")
    rows = np.arange(wanted_height) * height // wanted_height
    return image[rows][:, np.arange(wanted_width) * width // wanted_width]
