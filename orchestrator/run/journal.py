"""A trial's own record: one JSON object a line, appended and flushed, read by the search, the tracker and the board.

An append-only file survives what a database connection does not; a line cut in half by a crash is dropped by the next
writer and ignored by readers. Each line ends with a checksum of itself and all lines before it, so that one that was
changed, lost or moved is known: readers take in what stands before it, and the next writer drops the rest, whose steps
are then computed again. A journal of an earlier format, which has no checksums, is kept without any.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator.run.progress import say, say_once
from sr_models.files import replacing

JOURNAL = "journal.jsonl"

_SEAL = b', "crc32": "%08x"}'
"""How a line ends: with the CRC-32 of its entry's JSON, begun with that of the line before."""

_EARLIER = (
    {"kind", "step", "of", "time", "metrics"},
    {"kind", "status", "step", "cause", "time"},
    {"kind", "status", "step", "cause", "why", "time"},
    {"kind", "step", "text", "time"},
)
"""The keys of entries without a checksum."""


def read(path: Path) -> list[dict[str, Any]]:
    """All complete entries of a journal up to the first damaged line, which is named; [] if there is none yet."""
    found = _read(path)
    if found.damage:
        say_once(f"{found.damage}; it and what follows are left out")
    return found.entries


def steps(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries that hold metrics, in order."""
    return [entry for entry in entries if entry["kind"] == "step"]


def last_step(entries: list[dict[str, Any]]) -> int:
    """The highest step that has an entry, 0 if none."""
    return max((entry["step"] for entry in steps(entries)), default=0)


def end(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The entry that says how the trial ended; None while it is under way, or again after it was stopped."""
    return entries[-1] if entries and entries[-1]["kind"] == "end" else None


def begin_anew(path: Path) -> None:
    """Let a trial's record begin again: what it held is dropped, and a line says so."""
    if path.exists():
        with replacing(path) as part:
            part.write_bytes(_seal({"kind": "anew", "time": time.time()}, 0)[0])


@dataclass(frozen=True)
class _Contents:
    """What of a journal can be relied on."""

    entries: list[dict[str, Any]]
    size: int
    """Of the file up to the end of their lines (bytes)."""
    crc: int | None
    """Checksum of the last line; None in a journal of the earlier format."""
    damage: str | None
    """Names the first line that is not as it was written; half a last line is no damage."""


def _read(path: Path) -> _Contents:
    data = path.read_bytes() if path.exists() else b""
    lines = data.split(b"\n")[:-1]  # half a last line is dropped
    sealed = not lines or _SEAL[:11] in data or _earlier(lines[0]) is None
    if not sealed:
        say_once("journals of an earlier format, without checksums, are read as they are")
    entries: list[dict[str, Any]] = []
    size = crc = 0
    for number, line in enumerate(lines, 1):
        entry, crc = _sealed(line, crc) if sealed else (_earlier(line), crc)
        if entry is None:
            return _Contents(entries, size, crc if sealed else None, f"{path}, line {number}, is damaged")
        entries.append(entry)
        size += len(line) + 1
    return _Contents(entries, size, crc if sealed else None, None)


def _seal(entry: dict[str, Any], before: int) -> tuple[bytes, int]:
    """An entry's line and its checksum; `before`: that of the line before it, 0 for the first one."""
    text = json.dumps(entry).encode()
    crc = zlib.crc32(text, before)
    return text[:-1] + _SEAL % crc + b"\n", crc


def _sealed(line: bytes, before: int) -> tuple[dict[str, Any] | None, int]:
    """The entry of a line and its checksum; no entry, and `before`, if it is not as it was written."""
    text = line[: -len(_SEAL % 0)] + b"}"
    crc = zlib.crc32(text, before)
    return (json.loads(text), crc) if line == text[:-1] + _SEAL % crc else (None, before)


def _earlier(line: bytes) -> dict[str, Any] | None:
    """The entry of a line without a checksum, None if it is not one."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and entry.keys() in _EARLIER else None


def notes(entries: list[dict[str, Any]]) -> list[str]:
    """What befell the trial's files, a line each."""
    return [entry["text"] for entry in entries if entry["kind"] == "note"]


class Journal:
    """Writer of one trial's journal; there is never more than one (the trial holds its folder's lock).

    Args:
        kept: called after each entry is on disk; None only remembers entries and writes nothing, for the further
            workers of a trial.
    """

    def __init__(self, path: Path, kept: Callable[[], None] | None = lambda: None) -> None:
        self.path, self.kept = path, kept
        found = _read(path)
        self.entries, self._crc = found.entries, found.crc
        if kept and path.exists() and path.stat().st_size > found.size:  # half a line of a crash, or damage
            os.truncate(path, found.size)
        if kept and found.damage:
            self.note(f"{found.damage}: dropped with what follows, whose steps are computed again")

    @property
    def last_step(self) -> int:
        """The highest step that has an entry, 0 if none."""
        return last_step(self.entries)

    def step(self, step: int, of: int, metrics: dict[str, float]) -> None:
        """Record the metrics of a finished step."""
        self._append({"kind": "step", "step": step, "of": of, "time": time.time(), "metrics": metrics})

    def end(self, status: str, step: int, cause: str | None = None, why: Why | None = None) -> None:
        """Record how the trial ended: complete, stopped or failed, which has a cause and its kind."""
        kind = {"why": why} if why else {}
        self._append({"kind": "end", "status": status, "step": step, "cause": cause, **kind, "time": time.time()})

    def reopen(self, text: str = "tried again") -> None:
        """Let the trial go on after an end that is none of its own; `text` says how that came."""
        self._append({"kind": "again", "step": self.last_step, "text": text, "time": time.time()})

    def note(self, text: str) -> None:
        """Record, and say, what befell the trial's files: what a worker says may be heard by nobody."""
        say(text)
        self._append({"kind": "note", "step": self.last_step, "text": text, "time": time.time()})

    def _append(self, entry: dict[str, Any]) -> None:
        self.entries.append(entry)
        if self.kept is None:
            return
        if self._crc is None:
            line = json.dumps(entry).encode() + b"\n"
        else:
            line, self._crc = _seal(entry, self._crc)
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.kept()


Status = Literal["complete", "stopped", "failed"]

Why = Literal["numbers", "environment"]
"""Why a trial failed. What its numbers did (a loss that is not finite) it would do again: that is final. What its
environment did (no memory, lost workers, a storage, damaged files) holds until the next invocation of a sweep."""


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended, after which step, with the metrics of its last validation; `cause` says why it failed."""

    status: Status
    step: int
    metrics: dict[str, float]
    cause: str | None = None
    why: Why | None = None
    """Of a failed one alone."""

    @property
    def is_final(self) -> bool:
        """Whether it would end so again."""
        return self.why != "environment"


def outcome(entries: list[dict[str, Any]]) -> TrialResult | None:
    """How a journal says its trial ended; None while there is something left to run.

    The failures in journals of earlier versions, which do not say why, are final as they were.
    """
    done, validated = end(entries), steps(entries)
    if done is None:
        return None
    why = done.get("why", "numbers") if done["status"] == "failed" else None
    return TrialResult(done["status"], done["step"], validated[-1]["metrics"] if validated else {}, done["cause"], why)
