"""Differences, a row a method: with their intervals, which leave zero out or not, and image by image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from eval.pictures import style
from eval.pictures.style import COLOURS, LEAST_FOR_A_SHAPE, SMALL_PT
from sr_models.errors import InputError

_ROW_IN, _AROUND_IN = 0.34, 0.95  # height of a row, and of what is above and below them all


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far a method is from what it is measured from."""

    label: str
    value: float
    low: float
    high: float


def differences(
    path: Path,
    groups: Sequence[Sequence[Gap]],
    *,
    xlabel: str,
    title: str,
    caption: str = "",
    decimals: int = 2,
    styled: style.Styles | None = None,
) -> None:
    """Draw groups one below another on a common axis, each method's difference as a point in its interval.

    An interval without zero is drawn thick, and its point filled.

    Args:
        path: the PNG to write.
        groups: methods that belong together, from top to bottom, such as the rows of a network.
        xlabel: what differs, with its unit.
        styled: the colours of labels; others are blue.

    Raises:
        InputError: nothing to draw, or an end that is not finite.
    """
    lines = [gap for gaps in groups for gap in gaps]
    if not lines:
        raise InputError("differences need at least one method, got none")
    if not all(math.isfinite(end) for gap in lines for end in (gap.value, gap.low, gap.high)):
        raise InputError("differences need finite values and ends")
    figure = style.page(title, caption, _AROUND_IN + _ROW_IN * (len(lines) + len(groups) - 1))
    axes = figure.add_subplot()
    rows = _rows(axes, [[gap.label for gap in gaps] for gaps in groups])
    for gap, place in zip(lines, rows, strict=True):
        colour = styled[gap.label][1] if styled and gap.label in styled else COLOURS[0]
        sure = gap.low > 0 or gap.high < 0
        axes.plot([gap.low, gap.high], [place, place], color=colour, lw=3.2 if sure else 1.2)
        axes.plot(gap.value, place, "o", color=colour, ms=7, markerfacecolor=colour if sure else "white")
        _beside(axes, place, f"{gap.value:+.{decimals}f} [{gap.low:+.{decimals}f}, {gap.high:+.{decimals}f}]")
    style.dress(axes, xlabel, "")
    style.save(figure, path)


def per_image(
    path: Path,
    groups: Sequence[Mapping[str, Sequence[float]]],
    *,
    higher_is_better: bool,
    xlabel: str,
    title: str,
    caption: str = "",
    decimals: int = 2,
    styled: style.Styles | None = None,
) -> None:
    """Draw groups one below another on a common axis: a mark an image, a bar at their mean, and how many are better.

    From 20 images on their density stands around the marks; of fewer it would be a shape that is not there.

    Args:
        path: the PNG to write.
        groups: method -> its difference on each image; methods that belong together from top to bottom.
        xlabel: what differs, with its unit.
        styled: the colours of labels; others are blue.

    Raises:
        InputError: nothing to draw, a method without images, or a value that is not finite.
    """
    lines = [(label, np.sort(values)) for found in groups for label, values in found.items()]
    if not lines or not all(len(values) and np.isfinite(values).all() for _, values in lines):
        raise InputError("differences need finite values of at least one image for each method")
    figure = style.page(title, caption, _AROUND_IN + 1.3 * _ROW_IN * (len(lines) + len(groups) - 1))
    axes = figure.add_subplot()
    for (label, values), place in zip(lines, _rows(axes, [list(found) for found in groups]), strict=True):
        colour = styled[label][1] if styled and label in styled else COLOURS[0]
        if len(values) >= LEAST_FOR_A_SHAPE and np.ptp(values) > 0:
            bodies = axes.violinplot(values, [place], orientation="horizontal", widths=0.9, showextrema=False)["bodies"]
            for body in cast("list[PolyCollection]", bodies):  # matplotlib's annotation allows what has no colour
                body.set(facecolor=colour, edgecolor=colour, alpha=0.35)
        beside = place + np.resize([0.0, 0.14, -0.14], len(values))  # neighbours in value stand side by side
        axes.plot(values, beside, "o", color=colour, ms=5, alpha=0.8, lw=0, markeredgewidth=0)
        axes.vlines(values.mean(), place - 0.34, place + 0.34, color=COLOURS[6], lw=2)
        better = int((values > 0).sum() if higher_is_better else (values < 0).sum())
        _beside(axes, place, f"{values.mean():+.{decimals}f}, better on {better} of {len(values)}")
    style.dress(axes, xlabel, "")
    style.save(figure, path)


def _rows(axes: Axes, groups: Sequence[Sequence[str]]) -> list[float]:
    """Set up a row a label, with a line between groups and one at zero; returns where the rows are."""
    places, place = [], 0.0
    for labels in groups:
        places += [place + i for i in range(len(labels))]
        place += len(labels)
        if len(groups) > 1:
            axes.axhline(place - 0.25, color="#DDDDDD", lw=0.8)
        place += 0.5
    axes.axvline(0, color=COLOURS[6], lw=1.2)
    axes.set_yticks(places, [label for labels in groups for label in labels])
    axes.set_ylim(place - 0.75, -0.75)
    axes.grid(axis="x", color="#DDDDDD", lw=0.6)
    axes.set_axisbelow(True)
    axes.ticklabel_format(axis="x", useOffset=False)
    return places


def _beside(axes: Axes, place: float, text: str) -> None:
    """What a row's numbers are, at its right end."""
    axes.annotate(text, (1, place), (6, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                  va="center", fontsize=SMALL_PT)  # fmt: skip
