"""What searches tried and what mattered: each trial a line across its hyperparameters, their importance beside.

Parallel coordinates are Inselberg's (https://doi.org/10.1007/BF01898350); importance is what an evaluator gave.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes

from eval.pictures import style
from eval.pictures.style import COLOURS, SMALL_PT, TEXT_PT
from eval.protocol import get_metric, plain_metric
from sr_models.errors import InputError

_ROW_IN = 2.6  # height of a search
_TRIES, _STOPPED = "viridis", "#BBBBBB"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A hyperparameter: its choices, or the ends of its interval, on a logarithmic scale or not."""

    name: str
    choices: Sequence[Any] | None = None
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    digits: int | None = None
    """Decimals that are worth writing; None: three digits in all."""

    def place(self, value: Any) -> float:
        """Where a value lies, from 0 at the lower end, or the first choice, to 1."""
        if self.choices is not None:
            return self.choices.index(value) / max(len(self.choices) - 1, 1)
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return (at - low) / (high - low) if high > low else 0.5

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places, and what is written there."""
        if self.choices is not None:
            return [(self.place(choice), str(choice)) for choice in self.choices]
        ends = dict.fromkeys((self.low, self.high))
        return [(self.place(end), f"{end:.3g}" if self.digits is None else f"{end:.{self.digits}f}") for end in ends]


@dataclass(frozen=True, kw_only=True)
class Search:
    """The trials of one search, and how much each hyperparameter matters."""

    title: str
    axes: Sequence[Axis]
    tried: Sequence[tuple[Mapping[str, Any], float | None]]
    """The hyperparameters of each trial, and what came out; None of one that did not run in full."""
    importance: Mapping[str, Mapping[str, float]]
    """Evaluator -> hyperparameter -> its share; {} where none is computed."""
    reason: str = ""
    """Why none is."""


def trials(path: Path, searches: Sequence[Search], *, metric: str, title: str, caption: str = "") -> None:
    """Draw each search in a row: the better a trial, the darker its line, the best one thick; stopped ones are grey.

    Args:
        path: the PNG to write.
        metric: what came out, with or without the prefix of averaged weights.

    Raises:
        InputError: an unknown metric, no search, or one of which no trial ran in full.
    """
    if not searches or not all(any(value is not None for _, value in search.tried) for search in searches):
        raise InputError("a search's picture needs at least one trial that ran in full")
    figure = style.page(title, caption, _ROW_IN * len(searches))
    grid = figure.subplots(len(searches), 2, squeeze=False, width_ratios=(2.6, 1))
    for (across, bars), search in zip(grid, searches, strict=True):
        _across(across, search, plain_metric(metric))
        _importance(bars, search)
    style.save(figure, path)


def _across(axes: Axes, search: Search, metric: str) -> None:
    values = [value for _, value in search.tried if value is not None]
    higher_is_better, digits = get_metric(metric).higher_is_better, get_metric(metric).decimals
    end = Axis(name=style.axis_label(metric), low=min(values), high=max(values), digits=digits)
    sign, every = (1 if higher_is_better else -1), [*search.axes, end]
    best = max(range(len(search.tried)), key=lambda i: -math.inf if (v := search.tried[i][1]) is None else sign * v)
    for i, (params, value) in enumerate(search.tried):
        heights = [axis.place(params[axis.name]) for axis in search.axes]
        if value is None:
            axes.plot(range(len(heights)), heights, color=_STOPPED, lw=1.0, ls=":", marker=".", zorder=1)
            continue
        place = end.place(value)
        good = place if higher_is_better else 1 - place
        colour = COLOURS[1] if i == best else colormaps[_TRIES](0.95 * (1 - good))
        axes.plot(
            range(len(every)), [*heights, place], color=colour, lw=3 if i == best else 1.3, zorder=2 + (i == best)
        )
    for at, axis in enumerate(every):
        axes.axvline(at, color=COLOURS[6], lw=0.8, zorder=0)
        for place, text in axis.ticks:
            axes.annotate(text, (at, place), (4, 2), textcoords="offset points", fontsize=SMALL_PT, zorder=4,
                          bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5})  # fmt: skip
    axes.set_xticks(range(len(every)), [style.wrap(axis.name, 6.4 / len(every)) for axis in every], fontsize=SMALL_PT)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(every) - 0.6)
    axes.set_ylim(-0.06, 1.14)
    axes.spines[:].set_visible(False)
    axes.set_title(search.title, fontsize=TEXT_PT, loc="left")


def _importance(axes: Axes, search: Search) -> None:
    if not search.importance:
        axes.set_axis_off()
        axes.text(0, 0.5, style.wrap(search.reason, 2.0), transform=axes.transAxes, va="center", fontsize=SMALL_PT)
        return
    axes.set_title("importance", fontsize=TEXT_PT)
    names = [axis.name for axis in search.axes]
    height = 0.8 / len(search.importance)
    for i, (evaluator, shares) in enumerate(search.importance.items()):
        places = [at + height * (i - (len(search.importance) - 1) / 2) for at in range(len(names))]
        axes.barh(places, [shares.get(name, 0.0) for name in names], height=0.9 * height, color=COLOURS[i],
                  label=evaluator)  # fmt: skip
    axes.set_yticks(range(len(names)), [style.wrap(name, 1.4) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.legend(fontsize=SMALL_PT, frameon=False, loc="lower right")
    style.dress(axes, "share", "")
