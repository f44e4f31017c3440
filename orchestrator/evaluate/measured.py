"""What is measured: files of rows in what all runs of an output share, read once, and put together as jobs close.

Workers leave *measurements* in `shared/rows/<what>/`, named by content alone: another sweep of the same weights on the
same images finds them there, whatever it calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eval.protocol import all_metrics
from eval.rows import Subject, distinct, file_name, measurement, read_file, write_rows
from orchestrator.run.access import Access
from orchestrator.run.folder import SHARED
from orchestrator.run.progress import say
from sr_models.errors import InputError


def rows_folder(subject: Subject) -> str:
    """The name of the folder of all measurements of a subject's weights that were made as its are."""
    return f"{SHARED}/rows/{subject.content}"


def exchange(subject: Subject, access: Access) -> None:
    """Bring `rows_folder` here, and to where workers look what only this copy of an output knows."""
    folder = rows_folder(subject)
    access.pull(folder, ["*.parquet"])
    access.push(folder, ["*.safetensors", "*.parquet"])


class _Version(NamedTuple):
    """By what a file is known to be the one that was read."""

    mtime_ns: int
    name: str
    size: int


class Measured:
    """What is measured: each file is read once, however many jobs of the same weights ask, and asked often.

    Workers leave a file a unit. What they are of is put together as a job closes, so that whoever asks next reads one.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._files: dict[str, dict[_Version, list[dict[str, Any]]]] = {}

    def of(self, subject: Subject) -> dict[str, dict[str, Any]]:
        """Name -> row of each measurement in `rows_folder`, after those that others wrote have come here.

        Of two that measured the same the first keeps its numbers, and gains the metrics that only the other has.
        """
        self.access.pull(rows_folder(subject), ["*.parquet"])
        rows = distinct(row for found in self._read(subject).values() for row in found)
        return {measurement(row["key"]): row for row in rows}

    def compact(self, subject: Subject) -> None:
        """Put all files of `rows_folder` into one, named by the keys of its rows, and remove them.

        They go when it is there and has been read: a kill between leaves rows twice, which count once, and go with the
        next job that closes. Of rows with one key the first stays, and another that says otherwise is named.

        Raises:
            InputError: the new file cannot be read, or is damaged.
        """
        files, folder = self._read(subject), rows_folder(subject)
        if len(files) < 2:
            return
        kept: dict[str, dict[str, Any]] = {}
        for row in (row for found in files.values() for row in found):
            first = kept.setdefault(row["key"], row)
            if first is not row and (unequal := _unequal(first, row)):
                what = f"{row['benchmark']} {row['image']}"
                say(f"{folder}: {what} was measured twice, with unequal {', '.join(unequal)}; the first is kept")
        name = f"{file_name(list(kept))}.parquet"
        path = self.access.run.at(f"{folder}/{name}")
        write_rows(path, subject.unlabelled, list(kept.values()), versions="{}")  # a row knows its own
        try:
            whole, rows = _version(path), read_file(path)
            assert [row["key"] for row in rows] == [*kept]
            self.access.send(f"{folder}/{name}")
        except (FileNotFoundError, InputError):
            if path.exists():
                raise
            return  # another run has put it into a larger one
        for version in files:
            if version.name != name:
                self.access.discard(f"{folder}/{version.name}")
        self._files[folder] = {whole: rows}

    def forget(self, subject: Subject) -> None:
        """Let go of what no job needs any more."""
        self._files.pop(rows_folder(subject), None)

    def _read(self, subject: Subject) -> dict[_Version, list[dict[str, Any]]]:
        """The rows of each file, in the order of writing. Raises InputError: one cannot be read, or is damaged."""
        name = rows_folder(subject)
        folder, before = self.access.run.at(name), self._files.get(name, {})
        while True:
            listed = sorted(folder.glob("*.parquet"))
            try:
                versions = sorted(map(_version, listed))
                for version in versions:
                    if version not in before:
                        before[version] = read_file(folder / version.name)
            except (FileNotFoundError, InputError):
                if sorted(folder.glob("*.parquet")) == listed:
                    raise
                continue  # another run has put into one what we were about to read
            self._files[name] = {version: before[version] for version in versions}
            return self._files[name]


def _unequal(row: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The metrics of which two rows with one key have unequal values; NaN equals NaN."""
    return [name for name in all_metrics() if str(row.get(name)) != str(other.get(name))]


def _version(path: Path) -> _Version:
    seen = path.stat()
    return _Version(seen.st_mtime_ns, path.name, seen.st_size)
