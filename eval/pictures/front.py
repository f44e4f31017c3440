"""Trials of a search, or the methods of a board, on a plane of two metrics, and the front that none beats.

Of a metric of distortion and one of perception this is the plane of Blau and Michaeli 2018
(https://arxiv.org/abs/1711.06077).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.axes import Axes

from eval.pictures import style
from eval.pictures.style import COLOURS, MARKERS, SMALL_PT, TEXT_PT, Styles
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


def methods(
    path: Path,
    sets: Mapping[str, Mapping[str, tuple[float, float]]],
    metrics: tuple[str, str],
    *,
    title: str,
    caption: str = "",
    styled: Styles,
) -> None:
    """Draw the methods of some test sets, two sets side by side: what is on the front filled, steps along it.

    Where a front begins, and its hypervolume with it, are the worst values of the set's methods.

    Args:
        path: the PNG to write.
        sets: test set -> method -> its values by the two metrics.
        styled: the colours of all methods.

    Raises:
        InputError: no set, a set without methods, a value that is not finite.
    """
    if not sets or not all(sets.values()):
        raise InputError("a plane needs at least one method of each test set")
    if not all(math.isfinite(value) for places in sets.values() for place in places.values() for value in place):
        raise InputError("a plane needs finite values")
    columns = min(2, len(sets))
    rows = math.ceil(len(sets) / columns)
    figure = style.page(title, caption, rows * _ROW_IN)
    grid = figure.subplots(rows, columns, squeeze=False)
    names = {name: place for place, name in enumerate(dict.fromkeys(n for found in sets.values() for n in found))}
    handles = {}
    for axes, (test_set, places) in zip(grid.flat, sets.items(), strict=False):
        plane = plane_of(test_set, list(places.values()), metrics)
        for trial, name in zip(plane.trials, places, strict=True):
            colour = styled[name][1]
            [handles[name]] = axes.plot(
                [trial.x], [trial.y], MARKERS[names[name] % 4], color=colour, ms=8,
                markerfacecolor=colour if trial.on_front else "none", label=name,
            )  # fmt: skip
        axes.plot(*zip(*steps(plane), strict=True), "-", color="#777777", lw=1.2, zorder=1)
        _finish(axes, plane)
    for axes in list(grid.flat)[len(sets) :]:
        axes.set_visible(False)
    shown = {name: handles[name] for name in names}
    figure.legend(shown.values(), shown, fontsize=SMALL_PT, frameon=False, loc="outside right center")
    style.save(figure, path)


def plane_of(title: str, places: Sequence[tuple[float, float]], metrics: tuple[str, str]) -> Plane:
    """Values by two metrics as a plane, numbered in their order; the title says the hypervolume down to the worst."""
    signs = [1 if get_metric(plain_metric(name)).higher_is_better else -1 for name in metrics]
    lifted = [tuple(sign * value for sign, value in zip(signs, place, strict=True)) for place in places]
    beaten = [any(a != b and a[0] >= b[0] and a[1] >= b[1] for a in lifted) for b in lifted]
    worst = [sign * min(values) for sign, values in zip(signs, zip(*lifted, strict=True), strict=True)]
    trials = [Trial(number=i, x=x, y=y, on_front=not beaten[i]) for i, (x, y) in enumerate(places)]
    chosen = max(range(len(lifted)), key=lambda i: lifted[i])
    plane = Plane(
        title=title, x_metric=metrics[0], y_metric=metrics[1], trials=trials, chosen=chosen,
        reference=(worst[0], worst[1]),
    )  # fmt: skip
    return replace(plane, title=f"{title}: hypervolume {area(plane):.4g}")


def area(plane: Plane) -> float:
    """What the front dominates, down to the reference, in the product of the metrics' units."""
    assert plane.reference is not None
    corners = [*steps(plane), plane.reference]
    turns = zip(corners, corners[1:] + corners[:1], strict=True)
    return abs(sum(x * later_y - later_x * y for (x, y), (later_x, later_y) in turns)) / 2


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
    axes.legend(fontsize=SMALL_PT, frameon=False)
    _finish(axes, plane)


def _finish(axes: Axes, plane: Plane) -> None:
    axes.ticklabel_format(useOffset=False)
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.set_axisbelow(True)
    axes.margins(0.12)
    axes.set_title(plane.title, fontsize=TEXT_PT)
    style.dress(axes, _label(plane.x_metric), _label(plane.y_metric))


def _label(metric: str) -> str:
    """A metric with its unit, and which end of it is the better one."""
    found = get_metric(plain_metric(metric))
    words = [*([found.unit] if found.unit else []), "more is better" if found.higher_is_better else "less is better"]
    return f"{metric} ({', '.join(words)})"
