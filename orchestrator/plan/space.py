"""What varies: the points of a grid, and within one combination where a search looks; and its Optuna form.

A grid point is a combination of its own. A search starts from the configured values, so its ranges always hold them.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from objectives import ObjectiveSpec, search_ranges, with_values
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.train import TrainConfig
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.params import SearchRange, nearest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TRAIN = "train."
"""Prefix of the training hyperparameters that may vary beside those of the objective."""

PROCESS = "process."
"""Prefix of the noise process's, which may vary where there is one."""

STEPS = "sampling.steps"
"""The number of steps that pictures are drawn in, by validations and evaluation alike, where rows or trials differ."""

COMMON_SPAN = 4.0
"""An axis of `search.common` reaches from the configured value over this to the configured value times this."""


@dataclass(frozen=True)
class Setting:
    """Where the hyperparameters stand that may vary: what trains a network, and draws its pictures."""

    spec: ObjectiveSpec
    train: TrainConfig
    process: ProcessParams | None = None
    """Of diffusion networks; None of others."""
    steps: int | None = None
    """`STEPS`; None: what `evaluation.sampling.steps` and `validation.steps` say."""


@dataclass(frozen=True)
class Varied:
    """What an entry of `objectives` and `search.common` vary, by dotted names, before it is known of which network."""

    search: dict[str, SearchRange | None]
    """Where to look; None: around the configured value."""
    grid: dict[str, tuple[Any, ...]]
    """Values that are all tried, as the components hold them."""

    @property
    def points(self) -> list[dict[str, Any]]:
        """Every point of the grid; one empty point where there is no grid."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


@dataclass(frozen=True)
class Axes:
    """Where the search of one combination looks, by dotted names."""

    ranges: dict[str, SearchRange]
    configured: dict[str, Any]
    """What the config says without a search, which is the first proposal."""

    @property
    def size(self) -> float:
        """How many different points there are: 1 without axes, infinity with an interval."""
        return math.prod(math.inf if span.choices is None else len(span.choices) for span in self.ranges.values())

    def values(self, name: str) -> list[Any]:
        """The choices of a name, or the ends of its interval; none where it is not searched."""
        span = self.ranges.get(name)
        return [] if span is None else [*(span.choices or (span.low, span.high))]

    @property
    def points(self) -> list[dict[str, Any]]:
        """Every point of a finite space."""
        choices = [span.choices or () for span in self.ranges.values()]
        return [dict(zip(self.ranges, values, strict=True)) for values in itertools.product(*choices)]

    def distributions(self) -> dict[str, BaseDistribution]:
        """The same axes as Optuna distributions."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        found: dict[str, BaseDistribution] = {}
        for name, span in self.ranges.items():
            if span.choices is not None:
                found[name] = CategoricalDistribution(span.choices)
            else:
                assert span.low is not None and span.high is not None  # SearchRange holds an interval or choices
                found[name] = FloatDistribution(span.low, span.high, log=span.log)
        return found


def varied(config: SweepConfig, label: str) -> Varied:
    """What one objective varies.

    That is its `search:` (null takes all it declares; a list of names, or name -> range), its `grid:`, and the names of
    `search.common` that it has on neither.

    Raises:
        InputError: a name that cannot vary, a malformed range, an empty grid, a grid value that its hyperparameter does
            not allow, a name on both axes.
    """
    where = f"objectives.{label}"
    entry, spec = config.objectives[label], config.objective(label)
    declared = search_ranges(spec)
    rates = {f"{TRAIN}{name}": found for name, found in TrainConfig.search_ranges().items()}
    betas = {f"{PROCESS}{name}": found for name, found in ProcessParams.search_ranges().items()}
    known = declared | rates | (betas if spec.takes_process else {})
    grid = entry.get("grid", {})
    if not isinstance(grid, Mapping):
        raise InputError(f"{where}.grid: expected a mapping of names to lists of values, got {grid!r}")
    search = entry.get("search")
    if search is None:
        search = [name for name in declared if name not in grid]
    if isinstance(search, str) or not isinstance(search, Sequence | Mapping):
        raise InputError(f"{where}.search: expected a list of names or a mapping of names to ranges, got {search!r}")
    for name in [*search, *grid]:
        if not spec.takes_process and str(name).startswith((PROCESS, STEPS)):
            why = "has a process of its own" if spec.timesteps else "trains none"
            raise InputError(f"{where}: {name!r} is of diffusion networks, and loss {spec.loss.kind} {why}")
    ranges: dict[str, SearchRange | None] = {}
    for name in search:
        if not isinstance(name, str) or (name not in known and name != STEPS):
            raise InputError(f"{where}.search: {name!r} cannot be searched{nearest(name, list(known))}")
        span = _range(search[name], f"{where}.search.{name}") if isinstance(search, Mapping) else known.get(name)
        if name == STEPS and (span is None or span.choices is None):
            raise InputError(f"{where}.search: {STEPS} needs a list of choices, as {STEPS}: [10, 100]")
        ranges[name] = span
    for name, values in grid.items():
        if not isinstance(name, str):
            raise InputError(f"{where}.grid: expected names of hyperparameters, got {name!r}")
        if name in ranges:
            raise InputError(f"{where}: {name!r} is in both search and grid")
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}.grid.{name}: expected a list of values, got {values!r}")
    for name in config.search.common:
        if name not in rates:
            raise InputError(f"search.common: {name!r} cannot be searched everywhere{nearest(name, list(rates))}")
        if name not in grid:
            ranges.setdefault(name, None)
    # of no network yet: what a process refuses together is refused where there is one
    process = ProcessParams(prediction="x0", allow_terminal_signal=True) if spec.takes_process else None
    setting = Setting(spec, config.train, process)
    return Varied(ranges, {name: _different(setting, name, values, where) for name, values in grid.items()})


def axes(search: Mapping[str, SearchRange | None], setting: Setting, where: str) -> Axes:
    """Where the search of a combination looks, given what it is without one.

    A range that does not hold the configured value is widened to it: the first proposal is then a point of the space
    like any other, for the sampler too. `STEPS` has none, and begins with its first choice.

    Raises:
        InputError: an end or a choice that its hyperparameter does not allow.
    """
    configured = {name: _value(setting, name) for name in search}
    if STEPS in search and (span := search[STEPS]) and span.choices:
        configured[STEPS] = _different(setting, STEPS, span.choices, where)[0]
    ranges: dict[str, SearchRange] = {}
    for name, span in search.items():
        now = configured[name]
        if span is None:
            span = SearchRange(low=now / COMMON_SPAN, high=now * COMMON_SPAN, log=True)
        if span.choices is not None:
            choices = _different(setting, name, span.choices, where)
            ranges[name] = SearchRange(choices=choices if now in choices else (now, *choices))
        else:
            low, high = _different(setting, name, (span.low, span.high), where)
            ranges[name] = SearchRange(low=min(low, now), high=max(high, now), log=span.log)
    return Axes(ranges, configured)


def apply(setting: Setting, values: Mapping[str, Any], where: str) -> Setting:
    """The setting with some dotted hyperparameters replaced.

    Raises:
        InputError: a name that it does not have, or a value that it does not allow.
    """
    own = {name: value for name, value in values.items() if not name.startswith((TRAIN, PROCESS, STEPS))}
    spec = with_values(setting.spec, own, where)
    train = setting.train.changed(_below(TRAIN, values), f"{where}.train")
    found = replace(setting, spec=spec, train=train)
    if noise := _below(PROCESS, values):
        if setting.process is None:
            raise InputError(f"{where}: {', '.join(noise)} is of a noise process, and there is none")
        process = ProcessParams.parse({**setting.process.model_dump(), **noise}, f"{where}.process")
        found = replace(found, process=process)
    if STEPS in values:
        found = replace(found, steps=Sampling.parse({"steps": values[STEPS]}, f"{where}.sampling").steps)
    return found


def corners(setting: Setting, found: Axes, where: str) -> list[Setting]:
    """The setting at every corner of what is searched of its process.

    Raises:
        InputError: a chain that cannot be sampled, which no end of one range need show alone.
    """
    names = [name for name in found.ranges if name.startswith(PROCESS)]
    points = itertools.product(*(found.values(name) for name in names))
    return [apply(setting, dict(zip(names, point, strict=True)), where) for point in points]


def shown(value: Any) -> str:
    """A value of a hyperparameter as ids and boards show it; different ones of one hyperparameter look different."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _below(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _value(setting: Setting, name: str) -> Any:
    """What a component holds for a dotted name, as plain data."""
    if name == STEPS:
        return setting.steps
    seat, field = name.split(".")
    parts = {TRAIN: setting.train, PROCESS: setting.process}
    held = getattr(parts.get(f"{seat}.") or getattr(setting.spec, seat), field)
    return {key: part.model_dump(exclude_unset=True) for key, part in held.items()} if field == "groups" else held


def _different(setting: Setting, name: str, values: Sequence[Any], where: str) -> tuple[Any, ...]:
    """The values as the component would hold them: 16 and 16.0 are one, and YAML's `1e-3`, a text, is a number.

    Raises:
        InputError: a value that the hyperparameter does not allow, or one that comes twice.
    """
    held: list[Any] = []
    for given in values:
        value = _value(apply(setting, {name: given}, where), name)
        if not _same_kind(given, value):
            raise InputError(
                f"{where}.{name}: true and false are no numbers, nor numbers true or false (got {given!r})"
            )
        if value in held:
            raise InputError(f"{where}.{name}: {given!r} comes twice")
        held.append(value)
    return tuple(held)


def _same_kind(given: Any, held: Any) -> bool:
    """Whether no truth value was taken for a number or the other way round, which pydantic does."""
    if isinstance(given, Mapping) and isinstance(held, Mapping):
        return all(_same_kind(given[key], held[key]) for key in held if key in given)
    if isinstance(held, tuple):
        return all(map(_same_kind, given, held))
    return isinstance(given, bool) == isinstance(held, bool)


def _range(given: Any, where: str) -> SearchRange:
    if isinstance(given, list):
        given = {"choices": given}
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: expected low and high, or a list of choices, got {given!r}")
    for end in ("low", "high"):
        if isinstance(given.get(end), bool):
            raise InputError(f"{where}.{end}: expected a number, got {given[end]!r}")
    return SearchRange.parse(given, where)
