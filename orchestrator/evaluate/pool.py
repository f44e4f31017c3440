"""A queue of evaluation units over warm Ray actors: one unit in flight each, none lost with an actor, none for ever.

Actors are created at once, so that an autoscaler sees what is wanted, and take work as they become ready.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import ray

from orchestrator.evaluate.work import Unit
from sr_models.errors import InputError
from sr_models.text_table import counted

POLL_SECONDS = 0.5
"""Longest wait for an actor before Ctrl-C is looked at."""

_LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
)
"""How Ray says that a process is gone: the unit's own or, as a cause, the one that it sampled on."""


class Pool:
    """A context manager: its actors end with it.

    Args:
        start: makes the actor of a place in the pool; it has `ready()` and `score(unit)`, which return lines.
        size: places.
        max_restarts: losses after which a unit of one image has one more chance.
        unfinished: what of a unit is still to be done, or None; asked before a unit goes back into the queue.
    """

    def __init__(
        self, start: Callable[[int], Any], size: int, max_restarts: int, unfinished: Callable[[Unit], Unit | None]
    ) -> None:
        self.start, self.max_restarts, self.unfinished = start, max_restarts, unfinished
        self.actors = [start(place) for place in range(size)]
        self.busy: dict[Any, tuple[int, Unit | None]] = {
            actor.ready.remote(): (place, None) for place, actor in enumerate(self.actors)
        }
        self.idle: list[int] = []
        self.false_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in self.actors:
            ray.kill(actor)

    def run(self, units: Iterable[Unit], done: Callable[[Unit], None]) -> list[str]:
        """Work through units; `done` is called with each as it ends. Returns a line on each image that was refused.

        A unit whose process died goes back to the head of the queue, in halves, so that an image that kills is soon by
        itself. Its last chance comes when all else is done, with nothing beside it that could be to blame.

        Raises:
            InputError: something that no image is to blame for.
            RuntimeError: actors die before they are given anything.
        """
        queue, suspects = deque(units), deque[Unit]()
        refused: list[str] = []
        tried: Unit | None = None
        unit: Unit | None
        while queue or suspects or any(unit for _, unit in self.busy.values()):
            if not queue and suspects and not any(unit for _, unit in self.busy.values()):
                tried = suspects.popleft()
                queue.append(tried)
            while queue and self.idle:
                place, unit = self.idle.pop(), queue.popleft()
                self.busy[self.actors[place].score.remote(unit)] = (place, unit)
            finished, _ = ray.wait(list(self.busy), num_returns=1, timeout=POLL_SECONDS)
            for ref in finished:
                place, unit = self.busy.pop(ref)
                try:
                    refused += ray.get(ref)
                except (*_LOST, ray.exceptions.RayTaskError) as error:
                    self._replace(place, error)
                    again = self._again(unit, error)
                    if len(again) != 1 or again[0].losses < self.max_restarts:
                        queue.extendleft(reversed(again))
                    elif unit is not tried:
                        suspects.append(again[0])
                    else:
                        died = counted(again[0].losses, "time")
                        refused.append(f"{again[0].name}: its worker died {died} ({_cause(error)})")
                else:
                    self.idle.append(place)
                    if unit is not None:
                        done(unit)
        return refused

    def _replace(self, place: int, error: Exception) -> None:
        """Put another actor in the place of a lost one; raise an error that is no loss."""
        if not isinstance(error, ray.exceptions.RayTaskError):
            self.actors[place] = self.start(place)
            self.busy[self.actors[place].ready.remote()] = (place, None)
        elif isinstance(error.cause, _LOST):
            self.idle.append(place)  # it lives; what it sampled on is started again by Ray
        elif isinstance(error.cause, InputError):
            raise error.cause from None
        else:
            raise error

    def _again(self, unit: Unit | None, error: Exception) -> Sequence[Unit]:
        """What is left of a unit whose process died."""
        if unit is None:
            self.false_starts += 1
            if self.false_starts > self.max_restarts * len(self.actors):
                raise RuntimeError(f"evaluation workers die before they are given work: {error}") from error
            return ()
        left = self.unfinished(unit)
        return () if left is None else left.again


def _cause(error: Exception) -> str:
    text = str(error)
    if "running low on memory" in text:
        return "out of memory: Ray ended it because its node ran low"
    return "killed, or crashed outside Python"
