"""What varies within a combination, read off the fields that declare themselves searchable; and its Optuna form."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from objectives import ObjectiveSpec, search_ranges, with_values
from orchestrator.plan.config import SweepConfig, TrainConfig
from sr_models.errors import InputError
from sr_models.params import SearchRange, nearest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TRAIN = "train."
"""Prefix of the training hyperparameters that may vary beside those of the objective."""


@dataclass(frozen=True)
class Axes:
    """`search`: name -> where Optuna proposes; `grid`: name -> values that are all tried. Names are dotted."""

    search: dict[str, SearchRange]
    grid: dict[str, tuple[Any, ...]]

    @property
    def points(self) -> list[dict[str, Any]]:
        """Every point of the grid; one empty point where there is no grid."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]

    def distributions(self) -> dict[str, BaseDistribution]:
        """The same axes as Optuna distributions."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        found: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(values) for name, values in self.grid.items()
        }
        for name, span in self.search.items():
            if span.choices is not None:
                found[name] = CategoricalDistribution(span.choices)
            else:
                assert span.low is not None and span.high is not None  # SearchRange holds an interval or choices
                found[name] = FloatDistribution(span.low, span.high, log=span.log)
        return found


def axes(config: SweepConfig, label: str) -> Axes:
    """The axes of one objective: `search:` (null takes all it declares; a list of names, or name -> range) and `grid:`.

    Raises:
        InputError: a name that cannot vary, a malformed or illegal range, an empty grid, a name on both axes.
    """
    where = f"objectives.{label}"
    entry, spec = config.objectives[label], config.objective(label)
    declared = search_ranges(spec)
    known = declared | {f"{TRAIN}{name}": found for name, found in TrainConfig.search_ranges().items()}
    grid = entry.get("grid", {})
    if not isinstance(grid, Mapping):
        raise InputError(f"{where}.grid: expected a mapping of names to lists of values, got {grid!r}")
    search = entry.get("search")
    if search is None:
        search = [name for name in declared if name not in grid]
    if isinstance(search, str) or not isinstance(search, Sequence | Mapping):
        raise InputError(f"{where}.search: expected a list of names or a mapping of names to ranges, got {search!r}")
    ranges: dict[str, SearchRange] = {}
    for name in search:
        if not isinstance(name, str) or name not in known:
            raise InputError(f"{where}.search: {name!r} cannot be searched{nearest(name, list(known))}")
        ranges[name] = _range(search[name], f"{where}.search.{name}") if isinstance(search, Mapping) else known[name]
    for name, values in grid.items():
        if not isinstance(name, str):
            raise InputError(f"{where}.grid: expected names of hyperparameters, got {name!r}")
        if name in ranges:
            raise InputError(f"{where}: {name!r} is in both search and grid")
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}.grid.{name}: expected a list of values, got {values!r}")
    found = Axes(ranges, {name: tuple(values) for name, values in grid.items()})
    ends = {name: span.choices if span.choices is not None else (span.low, span.high) for name, span in ranges.items()}
    for name, values in (ends | found.grid).items():
        for value in values:
            apply(spec, config.train, {name: value}, where)
    return found


def apply(
    spec: ObjectiveSpec, train: TrainConfig, values: Mapping[str, Any], where: str
) -> tuple[ObjectiveSpec, TrainConfig]:
    """The objective and training with some dotted hyperparameters replaced.

    Raises:
        InputError: a name that neither has, or a value that it does not allow.
    """
    own = {name: value for name, value in values.items() if not name.startswith(TRAIN)}
    rest = {name.removeprefix(TRAIN): value for name, value in values.items() if name.startswith(TRAIN)}
    return with_values(spec, own, where), train.changed(rest, f"{where}.train")


def _range(given: Any, where: str) -> SearchRange:
    if isinstance(given, list):
        given = {"choices": given}
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: expected low and high, or a list of choices, got {given!r}")
    return SearchRange.parse(given, where)
