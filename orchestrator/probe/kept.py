"""What probes leave in RUN/probes: numbers, figures, and the parts by which an interrupted one goes on.

KIND.json holds what was asked and one row after another, KIND.parquet the same rows, KIND_x2.png what they look like at
that scale; in `parts` are the rows of a trial at a step, with which nothing but time is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.run.progress import bar
from sr_models.errors import InputError
from sr_models.files import read_json, replacing, write_json
from sr_models.hashing import digest

PROBES, PARTS = "probes", "parts"

VERSION = 1
"""Raised when a probe computes something else than before: parts of an earlier version are not used."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A part of a probe's work, the rows of which are kept as soon as they are there."""

    key: Mapping[str, Any] | None
    """Plain data that says all that its rows depend on; None: they are read, not computed, and no part is kept."""
    rows: Callable[[], list[Row]]


def rows_of(kind: str, units: Sequence[Unit], folder: Path) -> list[Row]:
    """All units' rows, computed as far as `folder`/parts has none."""
    found: list[Row] = []
    with bar(kind, len(units), "part") as done:
        for unit in units:
            found += unit.rows() if unit.key is None else _part(kind, unit, unit.key, folder)
            done.update()
    return found


def _part(kind: str, unit: Unit, key: Mapping[str, Any], folder: Path) -> list[Row]:
    """The rows of a unit, which are then kept."""
    name = digest({"kind": kind, "version": VERSION, **key})[:32]
    path = folder / PARTS / f"{kind}-{name}.json"
    rows = _read(path) if path.exists() else None
    if rows is None:
        rows = unit.rows()
        write_json(path, rows)
    return rows


def write(kind: str, folder: Path, asked: Mapping[str, Any], rows: Sequence[Row]) -> list[Path]:
    """Write the rows of a whole probe; returns the files."""
    paths = [folder / f"{kind}.json", folder / f"{kind}.parquet"]
    write_json(paths[0], {"kind": kind, "version": VERSION, "asked": asked, "rows": list(rows)})
    with replacing(paths[1]) as part:
        pq.write_table(pa.Table.from_pylist(list(rows)), part)
    return paths


def _read(path: Path) -> list[Row] | None:
    """The rows of a part, None if it is damaged: it is computed again."""
    try:
        rows = read_json(path)
    except InputError:
        return None
    return rows if isinstance(rows, list) else None
