"""`pictures/bicubic.json` of a run: bicubic's scores on the validation images, a line beside curves."""

from __future__ import annotations

from pathlib import Path

from orchestrator.run.folder import RunDir
from orchestrator.run.records import Record


class BicubicRecord(Record):
    """Of each scale that has been validated."""

    scales: dict[str, dict[str, float]]
    """`x2` -> metric -> mean over the validation images."""


def bicubic_path(run: RunDir) -> Path:
    """Where it lies."""
    return run.pictures / "bicubic.json"


def read_bicubic(run: RunDir) -> dict[str, dict[str, float]]:
    """`x2` -> metric -> mean; {} of runs of earlier versions.

    Raises:
        InputError: the file is damaged.
    """
    path = bicubic_path(run)
    return BicubicRecord.read(path).scales if path.exists() else {}
