"""A probe from the trials it looks at to what it leaves: units of work, then numbers, figures and a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from eval.pictures.style import attempt
from orchestrator.probe import (
    along_t,
    curves,
    figures,
    gap,
    gradients,
    kept,
    sampling_steps,
    signs,
    size_quality,
    targets,
    uncertainty,
)
from orchestrator.probe.folders import Probed
from orchestrator.probe.kept import Row, Unit
from orchestrator.probe.kinds import Asked
from orchestrator.probe.trials import Looked
from sr_models.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Work:
    """How one kind is done."""

    units: Callable[[Looked], list[Unit]]
    draw: Callable[[Looked, Sequence[Row], figures.PlaceOf], list[Path]]
    table: Callable[[Sequence[Row]], list[tuple[str, ...]]]
    """What the terminal shows; its first line is the head."""


WORK: dict[str, Work] = {
    "spectrum": Work(units=gradients.spectrum_units, draw=figures.spectrum, table=figures.spectrum_table),
    "landscape": Work(units=gradients.landscape_units, draw=figures.landscape, table=figures.landscape_table),
    "uncertainty": Work(units=uncertainty.units, draw=uncertainty.draw, table=uncertainty.table),
    "targets": Work(units=targets.units, draw=targets.draw, table=targets.table),
    "curves": Work(units=curves.units, draw=curves.draw, table=curves.table),
    "gap": Work(units=gap.units, draw=gap.draw, table=gap.table),
    "along_t": Work(units=along_t.units, draw=along_t.draw, table=along_t.table),
    "sampling_steps": Work(units=sampling_steps.units, draw=sampling_steps.draw, table=sampling_steps.table),
    "batch_size": Work(units=curves.batch_size_units, draw=curves.draw_batch_sizes, table=curves.table),
    "size_quality": Work(units=size_quality.units, draw=size_quality.draw, table=size_quality.table),
    "gradient_sign": Work(units=signs.units, draw=signs.draw, table=signs.table),
}


@dataclass(frozen=True)
class Found:
    """What a probe came to."""

    table: list[tuple[str, ...]]
    files: list[Path]


def run(kind: str, runs: Sequence[Probed], asked: Asked, folder: Path) -> Found:
    """Do one kind of probe, and leave what it finds in `folder`; parts that are there are not computed again.

    Raises:
        InputError: nothing to look at.
    """
    work, looked = WORK[kind], Looked(runs, asked)
    rows = kept.rows_of(kind, work.units(looked), folder)
    if not rows:
        raise InputError(f"--kind {kind}: there is nothing to show" + (f" of {asked.metric}" if asked.metric else ""))
    files = kept.write(kind, folder, asdict(asked) | {"runs": [probed.run.name for probed in runs]}, rows)
    drawn: list[Path] = []
    attempt(f"figure of {kind}", lambda: drawn.extend(work.draw(looked, rows, lambda name: folder / f"{name}.png")))
    return Found(work.table(rows), files + drawn)
