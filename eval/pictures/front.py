"""What a search by several metrics found: all its trials on a plane of two of them, and the front that none beats.

Of a metric of distortion and one of perception this is the plane of Blau and Michaeli 2018
(https://arxiv.org/abs/1711.06077).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from eval.pictures import style
from eval.pictures.style import COLOURS, SMALL_PT, TEXT_PT
from eval.protocol import get_metric, plain_metric
from sr_models.errors import InputError

_ROW_IN = 3.6  # height of a row of planes


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial: its number, where it lies, whether it is on the front."""

    number: int
    x: float
    y: float
    on_front: bool


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The trials of one search by two of its metrics."""

    title: str
    x_metric: str
    y_metric: str
    trials: Sequence[Trial]
    chosen: int
    """Number of the trial that is run in full."""
    reference: tuple[float, float] | None
    """Down to where the front reaches; None: of more metrics than these two a plane shows no steps."""


def planes(path: Path, shown: Sequence[Plane], *, title: str, caption: str = "") -> None:
    """Draw some planes, two side by side: a step line along each front, a star for the chosen trial.

    Args:
        path: the PNG to write.

    Raises:
        InputError: nothing to draw.
    """
    if not shown:
        raise InputError("planes need at least one search, got none")
    columns = min(2, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = style.page(title, caption, rows * _ROW_IN)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, plane in zip(grid.flat, shown, strict=False):
        _draw(axes, plane)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    style.save(figure, path)


def steps(plane: Plane) -> list[tuple[float, float]]:
    """The corners of what the front dominates, by rising x, from the reference and back to it."""
    assert plane.reference is not None
    front = sorted({(trial.x, trial.y) for trial in plane.trials if trial.on_front})
    x_end, y_end = plane.reference
    if not get_metric(plain_metric(plane.x_metric)).higher_is_better:
        corners = [(later[0], one[1]) for one, later in itertools.pairwise(front)]
        whole = [(front[0][0], y_end), *_between(front, corners), (x_end, front[-1][1])]
    else:
        corners = [(one[0], later[1]) for one, later in itertools.pairwise(front)]
        whole = [(x_end, front[0][1]), *_between(front, corners), (front[-1][0], y_end)]
    return whole


def _between(front: Sequence[tuple[float, float]], corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A point of the front, the corner to the next one, that one, and so on."""
    return [place for pair in zip(front, corners, strict=False) for place in pair] + [front[-1]]


def _draw(axes: Axes, plane: Plane) -> None:
    for name, on_front, colour, size in (("dominated", False, COLOURS[5], 5), ("front", True, COLOURS[0], 7)):
        own = [trial for trial in plane.trials if trial.on_front is on_front and trial.number != plane.chosen]
        axes.plot([t.x for t in own], [t.y for t in own], "o", color=colour, ms=size, label=name if own else None)
    best = next(trial for trial in plane.trials if trial.number == plane.chosen)
    axes.plot([best.x], [best.y], "*", color=COLOURS[1], ms=14, label="front, run in full")
    if plane.reference is not None:
        x, y = zip(*steps(plane), strict=True)
        axes.plot(x, y, "-", color=COLOURS[0], lw=1.4, zorder=1)
        axes.plot(*plane.reference, "x", color=COLOURS[6], ms=7, label="reference")
    for trial in [trial for trial in plane.trials if trial.on_front]:
        axes.annotate(f"#{trial.number}", (trial.x, trial.y), (5, 4), textcoords="offset points", fontsize=SMALL_PT)
    axes.ticklabel_format(useOffset=False)
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.set_axisbelow(True)
    axes.margins(0.12)
    axes.set_title(plane.title, fontsize=TEXT_PT)
    axes.legend(fontsize=SMALL_PT, frameon=False)
    style.dress(axes, _label(plane.x_metric), _label(plane.y_metric))


def _label(metric: str) -> str:
    """A metric with its unit, and which end of it is the better one."""
    found = get_metric(plain_metric(metric))
    words = [*([found.unit] if found.unit else []), "more is better" if found.higher_is_better else "less is better"]
    return f"{metric} ({', '.join(words)})"
