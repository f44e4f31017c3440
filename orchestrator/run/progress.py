"""What a sweep says while it runs: bars and lines on standard error, which leave standard output to the board.

A bar is one line of text, without colours or any other codes: on a terminal it is written over itself, elsewhere (a
log, a notebook) each state is a line.
"""

from __future__ import annotations

import functools
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from orchestrator.run import events
from sr_models import command
from sr_models.command import printable

LOG_SECONDS = 15.0
"""Least time between two states of a bar in a log."""
TERMINAL_SECONDS = 0.5
"""And on a terminal."""
WIDTH = 80
"""Columns of a log."""

_quiet = False
_live: list[Bar] = []
"""Bars that stand on the terminal, the innermost last."""


def be_quiet(quiet: bool = True) -> None:
    """Leave out, from now on, all that this module says."""
    global _quiet
    _quiet = quiet


class Bar:
    """How far something has come; see `bar`."""

    def __init__(self, name: str, total: int, unit: str, cost: Callable[[], str] | None) -> None:
        self.name, self.total, self.unit, self.cost = name, total, unit, cost
        self.n = self._first = 0
        self.counts: Mapping[str, int] = {}
        """What stands beside the position, e.g. {"done": 3, "failed": 0}."""
        self.note = ""
        self._began, self._said, self._shown = time.monotonic(), -LOG_SECONDS, ""
        self.on_terminal = sys.stderr is not None and sys.stderr.isatty()

    def start_at(self, n: int) -> None:
        """What an earlier invocation has done: it says nothing of how fast this one is."""
        self.n = self._first = n
        self._began = time.monotonic()
        self.show()

    def update(self, more: int = 1) -> None:
        """Move on (or back) by so many units."""
        self.n += more
        if time.monotonic() - self._said >= (TERMINAL_SECONDS if self.on_terminal else LOG_SECONDS):
            self.show()

    def show(self) -> None:
        """Say how far it is, if that is not what was last said."""
        self._said = time.monotonic()
        width = shutil.get_terminal_size((WIDTH, 24)).columns - 1 if self.on_terminal else WIDTH
        now = self.text(width)
        if _quiet or now == self._shown:
            return
        if self.on_terminal:
            print(f"\r{now:<{len(self._shown)}}", end="", file=sys.stderr, flush=True)
        else:
            print(now, file=sys.stderr, flush=True)
        self._shown = now

    def text(self, width: int) -> str:
        """It as one line of at most `width` columns: what matters least is left out first."""
        done, left = self.n - self._first, self.total - self.n
        head = f"{self.name} {100 * self.n // self.total}% " if self.total else f"{self.name} "
        head += f"{_short(self.n)}/{_short(self.total)}"
        parts = [f"{head} {self.note or self.unit}"]
        if done > 0 and left > 0:
            parts.append(f"{duration((time.monotonic() - self._began) * left / done)} left")
        if self.counts:
            parts.append(" ".join(f"{count} {what}" for what, count in self.counts.items()))
        if self.cost is not None:
            parts.append(self.cost())
        if len(", ".join(parts)) > width:
            parts[0] = head
        while len(", ".join(parts)) > width and len(parts) > 1:
            parts.pop()
        return printable(", ".join(parts))[:width]

    def clear(self) -> None:
        """Take it off the terminal, for a line in its place; it comes back with its next state."""
        if self.on_terminal and self._shown:
            print(f"\r{'':<{len(self._shown)}}\r", end="", file=sys.stderr)
            self._shown = ""

    def close(self) -> None:
        """Let its last state stand, unless nothing was to be done."""
        if self.n or self.total:
            self.show()
        if self.on_terminal and self._shown:
            print(file=sys.stderr, flush=True)


@contextmanager
def bar(
    name: str, total: int, unit: str = "image", *, cost: Callable[[], str] | None = None, left: float | None = None
) -> Iterator[Bar]:
    """A progress bar for the length of a `with` block, which is told as a stage too (`events.Stage`).

    Args:
        total: 0: not known yet.
        cost: says what the trials have cost so far, in a few characters.
        left: seconds of training of the whole sweep, about, as the stage begins; None: not known.
    """
    events.emit(events.Stage(stage=name, total=total, unit=unit, sweep_seconds_left=left))
    made = Bar(name, total, unit, cost)
    _live.append(made)
    try:
        if total:
            made.show()
        yield made
    finally:
        made.close()
        _live.remove(made)


def moves(made: Bar) -> Callable[[int], None]:
    """A callback that moves a bar to an absolute position; the first says where an earlier invocation left off."""
    begun = False

    def move(done: int) -> None:
        nonlocal begun
        if begun:
            made.update(done - made.n)
        else:
            made.start_at(done)
        begun = True

    return move


def say(text: str) -> None:
    """A line above the bars."""
    if _quiet:
        return
    for made in _live:
        made.clear()
    print(printable(text), file=sys.stderr, flush=True)


@functools.cache
def say_once(text: str) -> None:
    """A line that a process says a first time only."""
    say(text)


def tell(text: str) -> None:
    """What was asked for, on standard output, or on standard error where that is the events'."""
    if events.are_told():
        say(text)
    elif not _quiet:
        command.tell(text)


def duration(seconds: float) -> str:
    """[D d ]H:MM:SS, or M:SS below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _short(count: int) -> str:
    """A count in at most five characters."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 10 * size:
            return f"{count / size:.1f}{unit}" if count < 100 * size else f"{count // size}{unit}"
    return str(count)
