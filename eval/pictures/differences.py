"""Differences with their intervals, a row a method: which of them leave zero out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.pictures import style
from eval.pictures.style import COLOURS, SMALL_PT
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
    axes.axvline(0, color=COLOURS[6], lw=1.2)
    place, places, labels = 0.0, [], []
    for gaps in groups:
        for gap in gaps:
            colour = styled[gap.label][1] if styled and gap.label in styled else COLOURS[0]
            sure = gap.low > 0 or gap.high < 0
            axes.plot([gap.low, gap.high], [place, place], color=colour, lw=3.2 if sure else 1.2)
            axes.plot(gap.value, place, "o", color=colour, ms=7, markerfacecolor=colour if sure else "white")
            text = f"{gap.value:+.{decimals}f} [{gap.low:+.{decimals}f}, {gap.high:+.{decimals}f}]"
            axes.annotate(text, (1, place), (6, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                          va="center", fontsize=SMALL_PT)  # fmt: skip
            places.append(place)
            labels.append(gap.label)
            place += 1
        if len(groups) > 1:
            axes.axhline(place - 0.25, color="#DDDDDD", lw=0.8)
        place += 0.5
    axes.set_yticks(places, labels)
    axes.set_ylim(place - 0.75, -0.75)
    axes.grid(axis="x", color="#DDDDDD", lw=0.6)
    axes.set_axisbelow(True)
    axes.ticklabel_format(axis="x", useOffset=False)
    style.dress(axes, xlabel, "")
    style.save(figure, path)
