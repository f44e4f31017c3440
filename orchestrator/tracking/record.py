"""`tracking.json`, typed: what was delivered to one tracking store.

While a tracker works, the file is what it was when that began, and below it a line for each entry that has changed
since: a large sweep delivers tens of thousands of points, and none of them costs a file of all trials. At the end it is
written whole again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field

from orchestrator.run.records import Record, way_out
from sr_models.errors import InputError
from sr_models.files import write_json
from sr_models.params import Params

Part = Literal["runs", "files", "refused"]
"""The fields of `TrackingRecord` whose entries change one by one."""


class DeliveredRun(Params):
    """What is remembered of a run in MLflow; kept up to date as its journal is delivered."""

    model_config = ConfigDict(frozen=False)

    id: str
    status: str
    step: int = -1
    """The last one delivered."""
    size: int = -1
    """The journal's when it was read (bytes)."""
    attempt: int = 0
    """Of the trial whose steps it holds; 0 in files of earlier versions."""


class TrackingRecord(Record):
    """`tracking.json`: what was delivered to one tracking store; the tracker's memory, so not frozen."""

    model_config = ConfigDict(frozen=False)

    uri: str
    """As it may be shown, without a password."""
    experiments: dict[str, str] = Field(default_factory=dict)
    """Name -> MLflow's id."""
    runs: dict[str, DeliveredRun] = Field(default_factory=dict)
    files: dict[str, tuple[str, int, int]] = Field(default_factory=dict)
    """Name -> (name, bytes, mtime in ns) as it was sent; "model NAME" -> (hash of its weights, 0, 0)."""
    scores: str | None = None
    """Stamp of the board and rows that were sent; not in the file before there are any."""
    view: str | None = None
    """Key of the view that the board's experiment is shared by; not in the file before there is one."""
    refused: dict[str, str] = Field(default_factory=dict)
    """What the store does not take, a run that somebody deleted for one -> why; not in the file while it takes all."""

    @classmethod
    @way_out()
    def read(cls, path: Path) -> Self:
        """As it was written whole, with what has changed since; half a last line, of a crash, is dropped."""
        try:
            text = path.read_text(encoding="utf-8")
            found, end = json.JSONDecoder().raw_decode(text)
            rest, *lines = text[end:].split("\n")
            if rest:
                raise ValueError(f"{rest[:20]!r} follows it")
        except ValueError as error:
            raise InputError(f"{path} is not JSON ({error})") from None
        for number, line in enumerate(lines[:-1], 1):
            try:
                part, key, value = json.loads(line)
                entries = found.setdefault(part, {})
                entries.pop(key, None) if value is None else entries.update({key: value})
            except (ValueError, TypeError, AttributeError):
                raise InputError(f"{path}: line {number} below the record, of what has changed, is damaged") from None
        return cls.parse(found, str(path))

    def append(self, path: Path, part: Part, key: str) -> None:
        """Add a line to the file that was written whole: an entry is now as it is here, or is no more."""
        value = getattr(self, part).get(key)
        entry = value.model_dump(mode="json") if isinstance(value, DeliveredRun) else value
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([part, key, entry]) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        without = set() if self.refused else {"refused"}
        write_json(path, self.model_dump(mode="json", exclude_none=True, exclude=without))


def stamp(path: Path) -> tuple[str, int, int]:
    """What a file is known by: name, bytes, mtime in ns."""
    found = path.stat()
    return path.name, found.st_size, found.st_mtime_ns
