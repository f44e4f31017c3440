"""What a sweep says to programs: one JSON object a line, on standard output, where `--json` asks for it.

docs/progress.md lists them; a field is added there and here, and none changes its meaning.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, TextIO

from sr_models.command import printable

Ended = Literal["complete", "stopped", "failed", "left"]
"""How a trial ended; "left": it goes on from its checkpoint in a later invocation."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened; the line has `event` and `time` (seconds since 1970) before these fields."""

    event: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class SweepBegin(Event):
    """The first: what is asked for, and where it goes."""

    event: ClassVar[str] = "sweep_begin"
    run: str
    folder: str
    combinations: int
    trials: int
    """Of the search."""
    seeds: int
    """Full runs of each combination."""


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    """The only one of a dry run."""

    event: ClassVar[str] = "plan"
    run: str
    folder: str
    rows: tuple[str, ...]
    """Combinations that would be trained."""
    trials: int
    seeds: int
    """As of `SweepBegin`."""
    seconds: float
    """Estimated wall time on what is here, or on the cluster, if no trial is stopped early."""
    gpu_hours: float
    """Estimated, on the GPU that the plan's text names."""
    skipped: tuple[str, ...]
    """A line on each combination that cannot be trained."""
    left_out: tuple[str, ...]
    """A line on images, and on each setting that is ignored."""
    faults: tuple[str, ...]
    """For what a run would be refused; the exit code is 2 where there is one."""


@dataclass(frozen=True, kw_only=True)
class Stage(Event):
    """A stage begins; those whose result is there may be passed over."""

    event: ClassVar[str] = "stage"
    stage: str
    total: int
    """What there is of it, done or not, in units; 0: not known yet."""
    unit: str
    sweep_seconds_left: float | None = None
    """Of the training of the whole sweep, about, if no trial is stopped early; None: not known."""


@dataclass(frozen=True, kw_only=True)
class TrialRole(Event):
    """The run makes use of a trial, which may be there already."""

    event: ClassVar[str] = "trial_role"
    fingerprint: str
    combination: str | None
    """None: a teacher."""
    role: str
    """"search", "final" or "teacher"."""
    number: int | None
    """Of a search's proposal."""
    seed: int
    params: Mapping[str, Any]
    """What the search has chosen."""


@dataclass(frozen=True, kw_only=True)
class TrialBegin(Event):
    """A trial was handed out; it may have to wait for a node."""

    event: ClassVar[str] = "trial_begin"
    fingerprint: str
    step: int
    """Of its last validation in an earlier invocation, 0 if none."""
    of: int


@dataclass(frozen=True, kw_only=True)
class Validation(Event):
    """A trial under way was validated."""

    event: ClassVar[str] = "validation"
    fingerprint: str
    step: int
    of: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class TrialEnd(Event):
    """A trial that was handed out ended."""

    event: ClassVar[str] = "trial_end"
    fingerprint: str
    status: Ended
    step: int
    cause: str | None
    """Of a failed one alone."""


@dataclass(frozen=True, kw_only=True)
class BudgetEnd(Event):
    """The last of a sweep that a budget stopped (exit code 5)."""

    event: ClassVar[str] = "budget_reached"
    budget: str
    """The option, as it was given."""
    seconds: float
    trials: int
    trial_hours: float
    gpu_hours: float
    resume: str
    """The command that goes on."""


@dataclass(frozen=True, kw_only=True)
class Done(Event):
    """The last of a sweep that came to its end (exit code 0, or 4 if something has no score)."""

    event: ClassVar[str] = "done"
    folder: str
    boards: tuple[str, ...]
    """Files."""
    unscored: tuple[str, ...]
    """A line on each planned row without a score."""
    seconds: float
    trials: int
    trial_hours: float
    gpu_hours: float


_out: TextIO | None = None


def to(out: TextIO | None) -> None:
    """Where events go from now on; None: nowhere."""
    global _out
    _out = out


def are_told() -> bool:
    """Whether standard output is theirs."""
    return _out is not None


def emit(event: Event) -> None:
    """Tell an event."""
    if _out is not None:
        print(line(event, time.time()), file=_out, flush=True)


def validations(fingerprint: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """Tell what a trial's journal says of some validations."""
    for entry in entries:
        told = Validation(fingerprint=fingerprint, step=entry["step"], of=entry["of"], metrics=entry["metrics"])
        emit(told)


def line(event: Event, now: float) -> str:
    """An event as JSON; numbers that JSON has no word for are null."""
    return printable(json.dumps(_finite({"event": event.event, "time": now, **asdict(event)}), ensure_ascii=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
