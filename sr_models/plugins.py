"""Rows that installed packages add to our tables, by entry points (https://packaging.python.org/specifications/entry-points/).

A package that is installed names its rows in the groups `sr_sweep.models`, `.objectives`, `.metrics` and
`.degradations`; docs/extending.md is for its author. Names are read from metadata; a package is imported when a row of
it is looked up. A row that cannot be used is refused where its name is used, and listed with the reason by commands
that list; nobody else sees it.
"""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any, TypeVar

from sr_models.errors import InputError
from sr_models.params import Params

T = TypeVar("T")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")


class Table(Mapping[str, T]):
    """A literal table of ours and, behind its rows, those of plug-ins.

    To iterate gives the names that may be used, ours first. A name that a plug-in gives wrongly is not among them, but
    `in` the table, so that who asks for it is told why. A name of ours means our row, whatever else claims it.

    Attributes:
        kind: what a row is, in words: the group of entry points is `sr_sweep.<kind>s`.
        own: the rows of ours.

    Args:
        check: (name, what its entry point leads to, distribution) -> the row. Raises ValueError: what is wrong.
        taken: names beside those of `own` that no plug-in may have.
    """

    def __init__(
        self, kind: str, own: Mapping[str, T], check: Callable[[str, Any, str], T], taken: Collection[str] = ()
    ) -> None:
        self.kind, self.own, self._check, self._taken = kind, own, check, taken
        self._rows: dict[str, T] = {}

    @property
    def added(self) -> dict[str, str]:
        """Name -> "distribution version" of every row that a plug-in adds, or means to; imports nothing."""
        ours = {*self.own, *self._taken}
        return {name: _stamp(points[0]) for name, points in self._points.items() if name not in ours}

    def stamp(self, name: str) -> dict[str, str]:
        """{"model NAME": "distribution version"}; {} of a row of ours, and of what is no row."""
        return {f"{self.kind} {name}": stamp} if (stamp := self.added.get(name)) else {}

    def sound(self) -> tuple[dict[str, T], list[str]]:
        """The rows that can be used, all plug-ins imported, and a line on each that cannot."""
        rows, lines = dict(self.own), []
        for name in self._points:
            try:
                rows[name] = self._plugin(name)
            except InputError as error:
                lines.append(str(error))
        return rows, lines

    def __getitem__(self, name: str) -> T:
        """The row called `name`.

        Raises:
            InputError: a plug-in's, which cannot be used; it names distribution and reason. KeyError: there is none.
        """
        return self.own[name] if name in self.own or name not in self._points else self._plugin(name)

    def _plugin(self, name: str) -> T:
        """The row that a plug-in gives. Raises InputError: it cannot be used."""
        if name not in self._rows:
            points = self._points[name]
            where = f"plug-in {_stamp(points[0])}: {self.kind} {name!r}"
            if fault := self._fault(name, points):
                raise InputError(f"{where} {fault}")
            try:
                found = points[0].load()
            except Exception as error:  # a package may raise anything as it is imported
                said = " ".join(str(error).split())
                raise InputError(f"{where} cannot be imported ({type(error).__name__}: {said})") from error
            try:
                self._rows[name] = self._check(name, found, _stamp(points[0]).rpartition(" ")[0])
            except ValueError as error:
                raise InputError(f"{where} {error}") from error
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from (name for name, points in self._points.items() if not self._fault(name, points))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._points

    @property
    def _points(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        return _found(f"sr_sweep.{self.kind}s")

    def _fault(self, name: str, points: Collection[EntryPoint]) -> str:
        """What is wrong with a name, "" if nothing."""
        if not _NAME.fullmatch(name):
            return "must be named by at most 50 lower case letters, digits and _"
        if name in self.own or name in self._taken:
            return "has a name that is taken here; give it another one"
        others = ", ".join(_stamp(point) for point in points)
        return f"is given by several distributions ({others}); uninstall all but one" if len(points) > 1 else ""


@functools.cache
def _found(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Name -> the entry points of a group that give it."""
    points = sorted(entry_points(group=group), key=lambda point: (point.name, _stamp(point)))
    return {point.name: tuple(p for p in points if p.name == point.name) for point in points}


def _stamp(point: EntryPoint) -> str:
    assert point.dist is not None, "entry_points() gives them with their distribution"
    return f"{point.dist.name} {point.dist.version}"


def absent(stamps: Mapping[str, str], *, exact: bool = True) -> list[str]:
    """A line on each plug-in that this machine lacks.

    Args:
        stamps: as of `Table.stamp`.
        exact: whether it must have that version.
    """
    lines = []
    for row, stamp in stamps.items():
        name, _, wanted = stamp.rpartition(" ")
        if not name:
            lines.append(f"plug-in {stamp!r} ({row}): expected `DISTRIBUTION VERSION`")
            continue
        try:
            here = version(name)
        except PackageNotFoundError:
            lines.append(f"plug-in {stamp} ({row}) is not installed on {platform.node()}")
            continue
        if exact and here != wanted:
            lines.append(f"plug-in {stamp} ({row}): {platform.node()} has version {here}")
    return lines


def require(stamps: Mapping[str, str], *, exact: bool = True) -> None:
    """Raises InputError: this machine lacks a plug-in, as of `absent`."""
    if lines := absent(stamps, exact=exact):
        raise InputError(f"{lines[0]} (docs/extending.md)")


def plugins_text(stamps: Mapping[str, str]) -> str:
    """`model NAME, objective NAME (distribution version)`, for each distribution."""
    by_stamp: dict[str, list[str]] = {}
    for row, stamp in stamps.items():
        by_stamp.setdefault(stamp, []).append(row)
    return ", ".join(f"{', '.join(rows)} ({stamp})" for stamp, rows in by_stamp.items())


def check_params(cls: type[Params]) -> None:
    """Hold that a plug-in's hyperparameters have defaults, and that a search stays within their bounds.

    Raises:
        InputError: they do not.
    """
    cls.parse({}, "without values")
    for name, found in cls.search_ranges().items():
        for value in found.choices or (found.low, found.high):
            cls.parse({name: value}, "at an end of its search range")
