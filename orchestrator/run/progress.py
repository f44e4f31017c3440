"""What a sweep says while it runs: bars and lines on standard error, which leave standard output to the board."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from sr_models.command import printable

LOG_SECONDS = 15.0
"""Least time between two states of a bar in a log."""


@contextmanager
def bar(name: str, total: int, unit: str = "image", *, large: bool = False) -> Iterator[Any]:
    """A progress bar for the length of a `with` block; in a log, where each state is a line, it moves seldom.

    Args:
        large: numbers are said in thousands or millions.
    """
    pause = 0.5 if sys.stderr.isatty() else LOG_SECONDS
    with tqdm(
        total=total, desc=f"{name:<16}", unit=unit, unit_scale=large, file=sys.stderr, dynamic_ncols=True,
        mininterval=pause, miniters=0,
    ) as made:  # fmt: skip
        yield made


def moves(made: Any) -> Callable[[int], None]:
    """A callback that moves a bar to an absolute position."""

    def move(done: int) -> None:
        made.update(done - made.n)

    return move


def say(text: str) -> None:
    """A line above the bars."""
    tqdm.write(printable(text), file=sys.stderr)


@functools.cache
def say_once(text: str) -> None:
    """A line that a process says a first time only."""
    say(text)
