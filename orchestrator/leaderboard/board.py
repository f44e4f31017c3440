"""What a board consists of: values in the columns of ranked rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BICUBIC = "bicubic"
"""The model whose rows every gain is measured from."""

Column = tuple[str, str]
"""(benchmark, first digits of the hash of its LR images): scores under different inputs are different columns."""


@dataclass(frozen=True)
class Value:
    """One metric of one row in one column."""

    mean: float
    std: float | None
    """Sample standard deviation over seeds; None with one seed."""
    gain: float | None
    """Mean minus bicubic's in the same column; None where bicubic was not scored."""
    by_seed: dict[int, float]

    def ties(self, other: Value) -> bool:
        """Whether the seeds' spread is at least as large as the difference."""
        spread = [value.std for value in (self, other) if value.std is not None]
        return abs(self.mean - other.mean) <= max(spread, default=0.0)


@dataclass(frozen=True)
class Training:
    """What plan and winners say of a row's network; nothing of bicubic, and no winner's before there is one."""

    parameters: int | None = None
    searched: list[str] = field(default_factory=list)
    """Names of the hyperparameters that vary within its combination."""
    train_seconds: float | None = None
    number: int | None = None
    """Of the winning trial, and what the search chose for it."""
    params: dict[str, Any] = field(default_factory=dict)
    trials: int | None = None
    """How many the search had, and of these how many were stopped early and how many failed."""
    pruned: int | None = None
    failed: int | None = None


@dataclass
class Entry:
    """One row of a board: a combination with one kind of weights."""

    combination: str
    model: str
    objective: str
    target: str
    loss: str
    weights: str
    precision: str
    cells: dict[Column, dict[str, Value]] = field(default_factory=dict)
    images: dict[Column, int] = field(default_factory=dict)
    fingerprints: dict[int, str] = field(default_factory=dict)
    """Of the trial behind each seed; "" where there is none."""
    training: Training = field(default_factory=Training)
    lead: Value | None = None
    """Mean of the leading metric over the board's leading columns; None if the row lacks one of them."""
    rank: int | None = None
    tie: bool = False
    """Not told apart from the row above by the seeds' spread."""
    trial: str = ""
    """Fingerprint, with "@" and its step while it trains, of a trial that is scored before there are winners."""

    @property
    def seeds(self) -> int:
        """The fewest seeds that any of its cells is a mean of."""
        return min((len(value.by_seed) for cell in self.cells.values() for value in cell.values()), default=0)


@dataclass
class Board:
    """All rows of one scale under one protocol, best first by the mean of `metric` over the `lead` columns."""

    scale: int
    protocol: str
    metric: str
    columns: list[Column]
    lead: list[Column]
    entries: list[Entry]
    metrics: list[str]
    """What was scored, the leading one first."""
    asked: list[str]
    """Those that the run's config names."""
    missing: dict[Column, tuple[int, int]]
    """Column -> how many images its rows hold, and how many the benchmark has; only where some are missing."""
    notes: list[str]
    """Why metrics were not computed, and warnings."""

    def name(self, entry: Entry) -> str:
        """`model × objective`, with the weights or precision where the board holds several for the combination."""
        twins = [e for e in self.entries if e.combination == entry.combination]
        title = entry.model if entry.objective == "-" else f"{entry.model} × {entry.objective}"
        extra = [getattr(entry, key) for key in ("weights", "precision") if len({getattr(e, key) for e in twins}) > 1]
        if "@" in entry.trial or len({e.trial for e in twins}) > 1:
            extra.append(entry.trial[:8] + entry.trial[64:])
        return f"{title} ({', '.join(extra)})" if extra else title

    def title(self, column: Column) -> str:
        """The benchmark's name, with the inputs' hash where the board holds it with several, and what is missing."""
        name = column[0] if sum(c[0] == column[0] for c in self.columns) == 1 else f"{column[0]}@{column[1]}"
        return f"{name} ({self.missing[column][0]} of {self.missing[column][1]})" if column in self.missing else name
