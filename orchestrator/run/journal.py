"""A trial's own record: one JSON object a line, appended and flushed, read by the search, the tracker and the board.

An append-only file survives what a database connection does not; a line cut in half by a crash is dropped by the next
writer and ignored by readers.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sr_models.files import write_text

JOURNAL = "journal.jsonl"


def read(path: Path) -> list[dict[str, Any]]:
    """All complete entries of a journal, [] if there is none yet."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def steps(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries that hold metrics, in order."""
    return [entry for entry in entries if entry["kind"] == "step"]


def end(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The entry that says how the trial ended; None while it is under way, or again after it was stopped."""
    return entries[-1] if entries and entries[-1]["kind"] == "end" else None


def begin_anew(path: Path) -> None:
    """Let a trial's record begin again: what it held is dropped, and a line says so."""
    if path.exists():
        write_text(path, json.dumps({"kind": "anew", "time": time.time()}) + "\n")


class Journal:
    """Writer of one trial's journal; there is never more than one (the trial holds its folder's lock).

    Args:
        kept: called after each entry is on disk; None only remembers entries and writes nothing, for the further
            workers of a trial.
    """

    def __init__(self, path: Path, kept: Callable[[], None] | None = lambda: None) -> None:
        self.path, self.kept = path, kept
        self.entries = read(path)
        if kept and path.exists():  # drop a half line that a crash left, so that the next one starts clean
            data = path.read_bytes()
            if not data.endswith(b"\n") and data:
                os.truncate(path, data.rfind(b"\n") + 1)

    @property
    def last_step(self) -> int:
        """The highest step that has an entry, 0 if none."""
        return max((entry["step"] for entry in steps(self.entries)), default=0)

    def step(self, step: int, of: int, metrics: dict[str, float]) -> None:
        """Record the metrics of a finished step."""
        self._append({"kind": "step", "step": step, "of": of, "time": time.time(), "metrics": metrics})

    def end(self, status: str, step: int, cause: str | None = None) -> None:
        """Record how the trial ended: complete, stopped or failed."""
        self._append({"kind": "end", "status": status, "step": step, "cause": cause, "time": time.time()})

    def _append(self, entry: dict[str, Any]) -> None:
        self.entries.append(entry)
        if self.kept is None:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.kept()


Status = Literal["complete", "stopped", "failed"]


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended, after which step, with the metrics of its last validation; `cause` says why it failed."""

    status: Status
    step: int
    metrics: dict[str, float]
    cause: str | None = None


def outcome(entries: list[dict[str, Any]]) -> TrialResult | None:
    """How a journal says its trial ended; None while there is something left to run."""

    done, validated = end(entries), steps(entries)
    if done is None:
        return None
    return TrialResult(done["status"], done["step"], validated[-1]["metrics"] if validated else {}, done["cause"])
