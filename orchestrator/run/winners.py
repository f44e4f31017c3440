"""winners.json: what a run's searches came to, typed; its reader beside its writer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from orchestrator.run.records import MetricRecord, read_sealed, way_out, write_sealed
from sr_models.errors import InputError
from sr_models.params import Params


class SearchCounts(Params):
    """How many of a combination's trials there were, were stopped early, and failed."""

    trials: int
    pruned: int
    failed: int
    steps: int | None = None
    """That the search took, of all its trials; None in files of earlier versions."""


class PointRecord(Params):
    """A trial of a search for a front that ran in full."""

    number: int
    params: dict[str, Any]
    values: tuple[float, ...]
    """Of its last validation, by each metric that steers."""
    on_front: bool
    """Whether none of the search's other trials is as good by every metric and better by one."""


class FrontRecord(Params):
    """What a search by several metrics came to; its values are those it has selected by, of one seed."""

    metrics: tuple[MetricRecord, ...]
    points: tuple[PointRecord, ...]
    """All trials that ran in full, in the order of their numbers."""
    reference: tuple[float, ...]
    """The worst value, by each metric, of the trials of all the run's searches at this scale."""
    chosen: int
    """Number of the best trial by the first metric, then by the next: it is run in full with other seeds."""
    hypervolume: float
    """What the front dominates, down to `reference`, in the product of the metrics' units."""

    @property
    def front(self) -> tuple[PointRecord, ...]:
        """The trials that no other one dominates."""
        return tuple(point for point in self.points if point.on_front)


class WinnerRecord(Params):
    """What a combination is scored by: full runs of the best trial of its search, with seeds that the search never saw.

    Files of an earlier version have no `search_run`: there the first fingerprint is of the search's own trial.
    """

    number: int | None
    """Of the trial in its study; None where nothing was searched."""
    params: dict[str, Any]
    """What the search chose."""
    fingerprints: tuple[str, ...]
    """Of the final runs that came to their end, in the order of their seeds."""
    search: SearchCounts
    train_seconds: float
    """Mean of the final runs."""
    search_run: str | None = None
    """Fingerprint of the search's own trial, which is in no mean."""
    front: FrontRecord | None = Field(default=None, exclude_if=lambda front: front is None)
    """Of a search by several metrics, of which the best by the first one is run in full; None of others."""


@way_out()
def read_winners(path: Path) -> dict[str, WinnerRecord]:
    """winners.json: combination -> its winner; {} while there is no such file.

    Raises:
        InputError: the file is not JSON, or not what `write_winners` wrote.
    """
    found = read_sealed(path) if path.exists() else {}
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a mapping of combinations to winners, got {type(found).__name__} {found!r}")
    return {name: WinnerRecord.parse(winner, f"{path}: {name}") for name, winner in found.items()}


def write_winners(path: Path, winners: Mapping[str, WinnerRecord]) -> None:
    """Write winners.json whole or not at all."""
    write_sealed(path, {name: winner.model_dump(mode="json") for name, winner in winners.items()})
