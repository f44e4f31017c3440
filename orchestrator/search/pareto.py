"""Searches that several metrics steer: what their trials reported, the front of those that none beats, its hypervolume.

Optuna's trials take no intermediate values where a study has several directions, so each validation is an attribute of
its trial there: written at once and whole, and read again by whoever opens the study next.
A trial dominates another one if it is as good by every metric and better by one; the front is all that none dominates.
Hypervolume (Zitzler and Thiele 1999, https://doi.org/10.1109/4235.797969): what a front dominates, down to a reference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, Trial, TrialState

from orchestrator.plan.plan import higher_is_better
from orchestrator.run.records import MetricRecord
from orchestrator.run.winners import FrontRecord, PointRecord, WinnerRecord

Values = tuple[float, ...]
"""One of each metric that steers, in their order."""

_AT = "values@"
"""What the name of a trial's attribute starts with that holds the values after so many steps."""

# ---- what trials reported --------------------------------------------------------------------------------------------


def report(trial: Trial, step: int, values: Values) -> None:
    """Keep what a validation measured where the study does."""
    if len(values) == 1:
        trial.report(values[0], step)
    else:
        trial.set_user_attr(f"{_AT}{step}", list(values))


def reported(trial: FrozenTrial) -> dict[int, Values]:
    """Finished steps -> what a trial has reported, by rising step."""
    plain = {step: (value,) for step, value in trial.intermediate_values.items()}
    several = {
        int(name.removeprefix(_AT)): tuple(values) for name, values in trial.user_attrs.items() if name.startswith(_AT)
    }
    return dict(sorted({**plain, **several}.items()))


def as_reported(values: Mapping[int, Values]) -> tuple[dict[int, float], dict[str, Any]]:
    """The intermediate values and attributes of a trial that has reported these."""
    plain = {step: found[0] for step, found in values.items() if len(found) == 1}
    return plain, {f"{_AT}{step}": list(found) for step, found in values.items() if len(found) > 1}


def last_step(trial: FrozenTrial) -> int:
    """The step that a trial has come to; 0 before its first report."""
    return max(reported(trial), default=0)


# ---- fronts ----------------------------------------------------------------------------------------------------------


def lifted(values: Values, metrics: Sequence[str]) -> Values:
    """Values of which more is better by every metric."""
    return tuple(value if higher_is_better(name) else -value for value, name in zip(values, metrics, strict=True))


def dominates(a: Values, b: Values) -> bool:
    """Whether `a` is as good as `b` by all metrics and better by one; more is better."""
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))


def best(points: Sequence[Values]) -> int:
    """Which is best by the first metric, then by the next, then came first; it is of the front. More is better."""
    return max(range(len(points)), key=lambda i: points[i])


def hypervolume(points: Sequence[Values], reference: Values) -> float:
    """The volume between a reference and what points dominate, in the product of the metrics' units; more is better.

    By slices along the last metric, each as deep as the step to the next point and as wide as all points above it.
    """
    inside = [point for point in points if all(x > low for x, low in zip(point, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return max(point[0] for point in inside) - reference[0]
    inside.sort(key=lambda point: point[-1], reverse=True)
    ends = [point[-1] for point in inside[1:]] + [reference[-1]]
    return sum(
        (point[-1] - end) * hypervolume([above[:-1] for above in inside[: i + 1]], reference[:-1])
        for i, (point, end) in enumerate(zip(inside, ends, strict=True))
        if point[-1] > end
    )


def front_of(trials: Sequence[FrozenTrial], metrics: Sequence[str]) -> FrontRecord:
    """The front among a search's trials that ran in full, of which there is one at least."""
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    values = [tuple(trial.values) for trial in ended]
    points = [lifted(each, metrics) for each in values]
    found = FrontRecord(
        metrics=tuple(MetricRecord(name=name, higher_is_better=higher_is_better(name)) for name in metrics),
        points=tuple(
            PointRecord(
                number=trial.number,
                params=trial.params,
                values=own,
                on_front=not any(dominates(other, point) for other in points),
            )
            for trial, own, point in zip(ended, values, points, strict=True)
        ),
        reference=values[0],
        chosen=ended[best(points)].number,
        hypervolume=0.0,
    )
    return _measured([found])[0]


def against_one_reference(winners: Mapping[str, WinnerRecord]) -> dict[str, WinnerRecord]:
    """The winners with hypervolumes that compare: those of a scale against the worst of all its searches' values.

    Args:
        winners: of all combinations, by their ids, which begin with the scale.
    """
    scales: dict[str, dict[str, FrontRecord]] = defaultdict(dict)
    for name, winner in winners.items():
        if winner.front is not None:
            scales[name.partition("/")[0]][name] = winner.front
    changed: dict[str, FrontRecord] = {}
    for fronts in scales.values():
        changed |= dict(zip(fronts, _measured(list(fronts.values())), strict=True))
    return {name: winner.model_copy(update={"front": changed.get(name)}) for name, winner in winners.items()}


def _measured(fronts: Sequence[FrontRecord]) -> list[FrontRecord]:
    """The fronts with their hypervolumes against the worst value, by each metric, of all their trials."""
    metrics = [metric.name for metric in fronts[0].metrics]
    every = [lifted(point.values, metrics) for front in fronts for point in front.points]
    worst = tuple(map(min, zip(*every, strict=True)))
    found = []
    for front in fronts:
        volume = hypervolume([lifted(point.values, metrics) for point in front.points], worst)
        found.append(front.model_copy(update={"reference": lifted(worst, metrics), "hypervolume": volume}))
    return found
