"""The exceptions that a command answers with one line: what a user can cause (exit 2), what was lost (exit 3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message says what was wrong, what was given and what is allowed, in one line. Commands print it without
    a traceback; everything else that escapes is a defect of ours and keeps its traceback.
    """


class DiskFullError(InputError):
    """A disk is full; the message names a folder on it."""


class LostError(Exception):
    """The connection to what a command works with, a cluster or a storage, was lost and did not come back.

    The message is one line that says what, and since when. What was written before stays; the same command goes on.
    """


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from: libraries wrap what callbacks and other processes raise."""
    link: BaseException | None = error
    while isinstance(link, BaseException):
        yield link
        link = getattr(link, "cause", None) or link.__cause__ or link.__context__  # `cause`: of a task of Ray's


def innermost(error: BaseException, kind: type[E]) -> E | None:
    """The error of a kind from which another one came, None if there is none."""
    return next((link for link in reversed([*chain(error)]) if isinstance(link, kind)), None)
