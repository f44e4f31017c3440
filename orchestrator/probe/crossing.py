"""When a row is as good as its baseline in the end: the step, and how many times sooner that is.

DREAM (https://arxiv.org/abs/2312.00210), Fig. 1, 7 and 10 to 12, claims twice as soon; it does not say how a noisy
curve is read. Here a row is there from the step on after which it is never worse, so that one lucky validation does not
count, on the straight line between validations. Each seed is read alone, against the mean of the baseline's seeds at
their end.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.protocol import get_metric, plain_metric
from orchestrator.probe.figures import groups
from orchestrator.probe.kept import Row

SAME = ("run", "scale", "set", "metric")
"""What a row and its baseline have in common, beside the network."""


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """How a row of a run fares against its baseline on one set and metric.

    of: the baseline's label. value: its score, in the end. until: the step at which it has it.
    at: of each seed that gets there, the step. seeds: how many there are.
    """

    of: str
    value: float
    until: int
    at: Sequence[float]
    seeds: int

    @property
    def text(self) -> tuple[str, str]:
        """The step and the speed-up, as tables have them: means, and from the least to the largest of several seeds."""
        if not self.at:
            return "never", "-"
        steps = _span(self.at, ",.0f")
        if len(self.at) < self.seeds:
            return f"never in {self.seeds - len(self.at)} of {self.seeds} seeds, else {steps}", "-"
        return steps, _span([self.until / step for step in self.at], ".2f", self.until / statistics.fmean(self.at))


def _span(values: Sequence[float], digits: str, mean: float | None = None) -> str:
    shown = f"{statistics.fmean(values) if mean is None else mean:{digits}}"
    if len(values) == 1:
        return shown
    return f"{shown} ({min(values):{digits}} to {max(values):{digits}})"


def reached(steps: Sequence[int], values: Sequence[float], bar: float, *, higher: bool) -> float | None:
    """From which step on a curve is never worse than `bar`; its first step if it always is as good, None if never.

    Args:
        steps: rising.
        higher: whether more is better.
    """
    over = [(value - bar) * (1 if higher else -1) for value in values]
    if not over or over[-1] < 0:
        return None
    below = [i for i, margin in enumerate(over) if margin < 0]
    if not below:
        return float(steps[0])
    last = below[-1]
    share = -over[last] / (over[last + 1] - over[last])
    return steps[last] + share * (steps[last + 1] - steps[last])


def crossings(rows: Sequence[Row]) -> dict[tuple[Any, ...], Crossing]:
    """`key_of` a row -> how it fares; of all but baselines, where that of their network is among `rows`."""
    found = {}
    for where, own in groups(rows, *SAME, "network").items():
        bars = [row for row in own if row["is_baseline"]]
        if not bars:
            continue
        ends = [of[-1] for of in groups(bars, "fingerprint").values()]
        value, until = statistics.fmean(row["value"] for row in ends), max(row["step"] for row in ends)
        higher = get_metric(plain_metric(where[3])).higher_is_better
        for (combination,), of in groups([row for row in own if not row["is_baseline"]], "combination").items():
            seeds = groups(of, "fingerprint").values()
            steps = [
                reached([row["step"] for row in seed], [row["value"] for row in seed], value, higher=higher)
                for seed in seeds
            ]
            found[(*where[:4], combination)] = Crossing(
                of=bars[0]["label"],
                value=value,
                until=until,
                at=[step for step in steps if step is not None],
                seeds=len(steps),
            )
    return found


def key_of(row: Row) -> tuple[Any, ...]:
    """What `crossings` calls it."""
    return (*(row[key] for key in SAME), row["combination"])
