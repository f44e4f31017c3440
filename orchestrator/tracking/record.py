"""`tracking.json`, typed: what was delivered to one tracking store."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict, Field

from orchestrator.run.records import Record
from sr_models.files import write_json
from sr_models.params import Params


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
    """Name -> (name, bytes, mtime in ns) as it was sent."""
    scores: str | None = None
    """Stamp of the board and rows that were sent; not in the file before there are any."""
    refused: dict[str, str] = Field(default_factory=dict)
    """What the store does not take, a run that somebody deleted for one -> why; not in the file while it takes all."""

    def write(self, path: Path) -> None:
        without = set() if self.refused else {"refused"}
        write_json(path, self.model_dump(mode="json", exclude_none=True, exclude=without))
