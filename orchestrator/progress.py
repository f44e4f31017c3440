"""What a sweep says while it runs: bars and lines on standard error, which leave standard output to the board."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


@contextmanager
def bar(name: str, total: int, unit: str = "image") -> Iterator[Any]:
    """A progress bar for the length of a `with` block."""
    with tqdm(total=total, desc=f"{name:<16}", unit=unit, file=sys.stderr, dynamic_ncols=True, mininterval=0.5) as made:
        yield made


def moves(made: Any) -> Callable[[int], None]:
    """A callback that moves a bar to an absolute position."""

    def move(done: int) -> None:
        made.n = done
        made.refresh()

    return move


def say(text: str) -> None:
    """A line above the bars."""
    tqdm.write(text, file=sys.stderr)
