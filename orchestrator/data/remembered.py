"""What was computed of image files, kept in this node's cache for the next start.

A file is known by its absolute path, its size and its times. No score rests on that: who computes one reads the picture
itself, and refuses it if its pixels are not those that were planned with.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from orchestrator.storage.mirror import cache_folder, private
from sr_models.command import say
from sr_models.errors import InputError
from sr_models.files import locked, read_json, write_json
from sr_models.hashing import digest
from sr_models.params import Params

SETTLED_NS = 2 * 10**9
"""A file that was written less than this before it was looked at may be written again and look the same."""


Stamp = tuple[int, int, int]
"""A file's size in bytes, and when its content and its entry last changed, ns since 1970."""


class Look(NamedTuple):
    """A file as it was before it was read: what is written to it later gives it another stamp."""

    name: str
    """Its absolute path."""
    stamp: Stamp | None
    """None where there is none, which reading it will tell."""
    settled: bool
    """Whether that holds of what is written later: not of a file that was written just now."""

    @classmethod
    def at(cls, path: Path) -> Look:
        """A look at a file now; one that is not there, or cannot be looked at, has no facts."""
        now = time.time_ns()
        try:
            found = path.stat()
        except (OSError, ValueError):
            return cls(str(path.absolute()), None, False)
        times = (found.st_mtime_ns, found.st_ctime_ns)
        return cls(str(path.absolute()), (found.st_size, *times), now - max(times) >= SETTLED_NS)


class Known(Params):
    """A value that was computed of some files."""

    stamps: tuple[Stamp | None, ...]
    value: Any


class KnownFiles(Params):
    """`SR_CACHE/known/NAME.json`."""

    version: str
    """Of what computes the values."""
    files: dict[str, dict[str, Known]]
    """Absolute path -> what -> it."""


class Remembered:
    """What is known of files; a cache that cannot be used is said, and costs the time to compute all anew.

    Args:
        name: of the cache's file.
        computed_by: the modules whose code, and the libraries whose version, may change the values.
    """

    def __init__(self, name: str, computed_by: Sequence[ModuleType], libraries: Sequence[str]) -> None:
        self._version = digest([*map(inspect.getsource, computed_by), *map(version, libraries)])
        self._path = cache_folder() / "known" / f"{name}.json"
        self._kept, self._new = self._read(), dict[str, dict[str, Known]]()

    def of(self, looks: Sequence[Look], what: str, compute: Callable[[], Any]) -> Any:
        """What `compute` returns, which is JSON, computed of these files alone; several threads may ask.

        Args:
            looks: at the files, before any of what `compute` uses was read.
            what: names it among all that is computed of the first file.

        Raises:
            InputError: as `compute`; nothing of it is kept.
        """
        name, stamps = looks[0].name, tuple(look.stamp for look in looks)
        kept = self._kept.get(name, {}).get(what)
        if kept is not None and kept.stamps == stamps:
            return kept.value
        value = compute()
        if all(look.settled for look in looks):
            self._new.setdefault(name, {})[what] = Known(stamps=stamps, value=value)
        return value

    def save(self) -> None:
        """Keep what is new, beside what other processes have kept; nothing stays of files that are gone."""
        if not self._new:
            return
        try:
            with locked(private(self._path.parent)):
                kept = self._read()
                for name, values in self._new.items():
                    kept[name] = kept.get(name, {}) | values
                there = {name: values for name, values in kept.items() if Path(name).exists()}
                write_json(self._path, KnownFiles(version=self._version, files=there).model_dump(mode="json"))
        except (InputError, OSError) as error:
            say(f"{error}; so what is known of images is computed again at the next start")

    def _read(self) -> dict[str, dict[str, Known]]:
        try:
            if not self._path.exists():
                return {}
            private(self._path.parent)
            found = KnownFiles.parse(read_json(self._path), str(self._path))
        except (InputError, OSError) as error:
            say(f"{error}; passed over")
            return {}
        return found.files if found.version == self._version else {}
