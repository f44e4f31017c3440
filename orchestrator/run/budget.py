"""What an invocation of a sweep may cost at most, and what it has cost so far.

A budget is looked at where the driver looks at its trials anyway. Once it is reached nothing more begins, each trial
under way ends at its next validation, whose checkpoint it goes on from, and `BudgetReached` leaves the stages.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from orchestrator.run import events
from sr_models.errors import InputError
from sr_models.text_table import counted

HOUR = 3600.0
"""Seconds."""


class BudgetReached(Exception):
    """A budget leaves no room for what is left of a sweep; the text names it, as it was given."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What an invocation has cost so far."""

    seconds: float
    """Since it began."""
    trials: int
    """Networks whose training it began or went on with: of the search, in full, audited, teachers."""
    trial_seconds: float
    """Of these together, from being handed out to their ends; those under way count up to now."""
    gpus: float
    """That a trial holds."""

    @property
    def trial_hours(self) -> float:
        return self.trial_seconds / HOUR

    @property
    def gpu_hours(self) -> float:
        return self.trial_hours * self.gpus

    @property
    def rate(self) -> str:
        """What counts on a bill, in a few characters."""
        return f"{self.gpu_hours:.2f} GPU-h" if self.gpus else f"{self.trial_hours:.2f} trial-h"

    @property
    def text(self) -> str:
        """All of it, in words."""
        gpus = f", {self.gpu_hours:.3f} GPU-hours" if self.gpus else ""
        begun = counted(self.trials, "trial")
        return f"{self.seconds / HOUR:.3f} hours, {begun} begun, {self.trial_hours:.3f} trial-hours{gpus}"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that one invocation may cost; None: no bound."""

    max_hours: float | None = None
    """Wall time since it began."""
    max_trials: int | None = None
    """Networks whose training begins or goes on."""
    max_gpu_hours: float | None = None
    """Sum over trials of the time they run x the GPUs they hold."""

    @classmethod
    def of(cls, arguments: Namespace) -> Budget:
        """What the command line says."""
        return cls(**{field.name: getattr(arguments, field.name) for field in fields(cls)})

    @property
    def given(self) -> Mapping[str, float]:
        """Option of the command line -> its value, of those that bound something."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {f"--{name.replace('_', '-')}": value for name, value in found.items() if value is not None}

    def check(self, gpus: float) -> None:
        """Hold that it can be reached by trials that hold so many GPUs each.

        Raises:
            InputError: GPU-hours of trials that hold no GPU.
        """
        if self.max_gpu_hours is not None and not gpus:
            raise InputError(
                "--max-gpu-hours: the trials of this config hold no GPU (resources.gpus_per_worker is 0); "
                "give --max-hours or --max-trials"
            )

    def used_up(self, spent: Spent) -> str | None:
        """The bound, as it was given, that lets nothing go on; None: there is none."""
        if self.max_hours is not None and spent.seconds >= self.max_hours * HOUR:
            return f"--max-hours {self.max_hours:g}"
        if self.max_gpu_hours is not None and spent.gpu_hours >= self.max_gpu_hours:
            return f"--max-gpu-hours {self.max_gpu_hours:g}"
        return None

    def forbids(self, spent: Spent) -> str | None:
        """The bound, as it was given, that lets no trial begin; None: there is none."""
        if self.max_trials is not None and spent.trials >= self.max_trials:
            return f"--max-trials {self.max_trials}"
        return self.used_up(spent)


UNBOUND = Budget()


class Meter:
    """What an invocation costs, as it runs, against its budget.

    Args:
        gpus: that a trial holds.
        clock: says the time in seconds.
        began: when the invocation did, by that clock; None: now.
    """

    def __init__(
        self, budget: Budget, gpus: float, clock: Callable[[], float] = time.monotonic, began: float | None = None
    ) -> None:
        self.budget, self.gpus, self._clock = budget, gpus, clock
        self._began, self._trials, self._ended = clock() if began is None else began, 0, 0.0
        self._running: dict[str, float] = {}

    @property
    def spent(self) -> Spent:
        now = self._clock()
        running = sum(now - began for began in self._running.values())
        return Spent(
            seconds=now - self._began, trials=self._trials, trial_seconds=self._ended + running, gpus=self.gpus
        )

    @property
    def used_up(self) -> str | None:
        """As of its budget, by now."""
        return self.budget.used_up(self.spent)

    @property
    def forbids(self) -> str | None:
        """As of its budget, by now."""
        return self.budget.forbids(self.spent)

    def check(self) -> None:
        """Raises BudgetReached: nothing may go on."""
        if bound := self.used_up:
            raise BudgetReached(bound)

    def begin(self, fingerprint: str, step: int, of: int) -> None:
        """A trial was handed out, to train from `step` on."""
        self._running[fingerprint] = self._clock()
        self._trials += 1
        events.emit(events.TrialBegin(fingerprint=fingerprint, step=step, of=of))

    def end(self, fingerprint: str, status: events.Ended, step: int, cause: str | None = None) -> None:
        """A trial ended, or was left to a later invocation; one that did not run here costs nothing."""
        if (began := self._running.pop(fingerprint, None)) is not None:
            self._ended += self._clock() - began
            events.emit(events.TrialEnd(fingerprint=fingerprint, status=status, step=step, cause=cause))

    def costs(self) -> dict[str, Any]:
        """What it has cost, as events say it."""
        spent = self.spent
        return {
            "seconds": spent.seconds, "trials": spent.trials, "trial_hours": spent.trial_hours,
            "gpu_hours": spent.gpu_hours,
        }  # fmt: skip
