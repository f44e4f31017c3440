"""What a board consists of: values in the columns of its rows, and where seeds place each of them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.leaderboard.statistics import Standing
from orchestrator.plan.paper import PaperConfig
from orchestrator.run.winners import FrontRecord

BICUBIC = "bicubic"
"""The model whose rows every gain is measured from."""

Column = tuple[str, str]
"""(benchmark, first digits of the hash of its LR images): scores under different inputs are different columns."""


@dataclass(frozen=True)
class Value:
    """One metric of one row in one column."""

    mean: float
    std: float | None
    """Sample standard deviation over seeds; None with one seed or values that are not finite."""
    gain: float | None
    """Mean minus bicubic's in the same column; None where bicubic was not scored."""
    by_seed: dict[int, float]
    by_image: dict[str, float] = field(default_factory=dict)
    """Image -> mean over seeds; {} for the mean of several columns and for metrics of whole sets."""
    standing: Standing | None = None
    """Among the column's rows with the same kind of weights; None for what no training made."""
    paper: float | None = None
    """What a paper prints for it; None where it prints nothing."""

    @property
    def over_paper(self) -> float | None:
        """Mean minus what the paper prints."""
        return None if self.paper is None else self.mean - self.paper

    @property
    def numbers(self) -> dict[str, Any]:
        """What files and MLflow say of it; None for what there is not."""
        stands, ranks, over = self.standing, None, None
        if stands:
            ranks, over = stands.ranks, stands.over_baseline
        low, high = (stands and stands.interval) or (None, None)
        first, last = ranks or (None, None)
        return {
            "mean": self.mean, "std": self.std, "gain": self.gain, "low": low, "high": high,
            "rank_first": first, "rank_last": last, "may_be_best": stands.may_be_best if stands and ranks else None,
            "unranked": stands.unranked if stands else "", "over_baseline": over and over.value,
            "over_baseline_low": over and over.low, "over_baseline_high": over and over.high,
            "paper": self.paper, "over_paper": self.over_paper, "by_seed": self.by_seed,
        }  # fmt: skip


@dataclass(frozen=True)
class Training:
    """What a row's network cost; nothing of bicubic, and of a search's winner nothing before there is one."""

    parameters: int | None = None
    """Of the network that is deployed."""
    paper_parameters: int | None = None
    """That a paper prints for it."""
    picture_seconds: float | None = None
    """That one picture took, where a paper prints it, and what it prints."""
    paper_seconds: float | None = None
    trained_parameters: int | None = None
    """Those and the σ head's, which inference drops; None in run folders of earlier versions."""
    searched: list[str] = field(default_factory=list)
    """Names of the hyperparameters that vary within its combination."""
    number: int | None = None
    """Of the search's best trial, and what the search chose."""
    params: dict[str, Any] = field(default_factory=dict)
    trials: int | None = None
    """How many the search had, and of these how many were stopped early and how many failed."""
    pruned: int | None = None
    failed: int | None = None
    search_steps: int | None = None
    """Optimiser steps of all the search's trials together."""
    search_value: float | None = None
    """The steering metric at the end of the search's best run, which is in no mean."""
    run_images: int | None = None
    """LR patches that one full run saw: steps × batch size."""
    teacher_images: int | None = None
    """Those that its teacher saw, if it needs one that the sweep trained; and how long that took, alone."""
    teacher_seconds: float | None = None
    centroid_seconds: float | None = None
    """That the teacher's outputs on the training images took, if the row needs them."""
    train_seconds: float | None = None
    """Of the run that winners.json names."""
    seconds_per_step: float | None = None
    """Of full runs; None where trials shared cores, and where the run folder does not know."""
    trials_at_a_time: int | None = None


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
    seconds: float | None = None
    """That one of them took: the median, which a first one that warms up does not move."""
    fingerprints: dict[int, str] = field(default_factory=dict)
    """Of the trial behind each seed; "" where there is none."""
    training: Training = field(default_factory=Training)
    lead: Value | None = None
    """Mean of the leading metric over the board's leading columns; None if the row lacks one of them."""
    trial: str = ""
    """Fingerprint, with "@" and its step while it trains, of a trial that is scored before there are winners."""
    drawn: str = ""
    """How its pictures were drawn, as protocol ids say it; "" of a network that gives them."""
    twin_of: str = ""
    """Id of an earlier row whose weights these are, too."""
    run: str = ""
    """Whose row it is, on a board of several runs."""
    network: str = ""
    """Rows of one start from the same weights at each seed; within a run its model's label says which."""
    folder: str = ""
    """Of the weights of its first seed, as `RunDir.at` finds it; "" of what no trial made."""
    plugins: str = ""
    """What its trials have of plug-ins, each with distribution and version; "" where that is nothing."""

    @property
    def id(self) -> str:
        return "/".join([self.combination, self.weights, self.precision, *filter(None, [self.trial, self.run])])

    @property
    def title(self) -> str:
        return self.model if self.objective == "-" else f"{self.model} × {self.objective}"

    @property
    def trained(self) -> bool:
        """Whether a trial made it; what else there is, such as bicubic, is a reference and gets no rank."""
        return any(self.fingerprints.values())

    @property
    def method(self) -> Hashable:
        """What made its numbers: rows that have it in common are twins."""
        return tuple(sorted(self.fingerprints.items())), self.weights, self.precision, self.drawn

    @property
    def seeds(self) -> int:
        """The fewest seeds that any of its cells is a mean of."""
        return min((len(value.by_seed) for cell in self.cells.values() for value in cell.values()), default=0)


@dataclass
class Board:
    """All rows of one scale, trained at one, under one protocol, best mean of `metric` over `lead` columns first."""

    scale: float
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
    baseline: str | None = None
    """Label of the objective that each network's rows are compared with."""
    steering: str = ""
    """The validation metric of the search."""
    fronts: dict[str, FrontRecord] = field(default_factory=dict)
    """Combination -> what its search came to, where several metrics steered it."""
    paper: PaperConfig | None = None
    """Whose printed numbers stand beside the rows; None: none, or the protocol is not the config's."""
    trained_scale: int | None = None
    """That all its weights were trained at, where it is another one than `scale`."""
    data: str = ""
    """First digits of the hash of the training and validation images, on a board of several runs."""
    runs: dict[str, str] = field(default_factory=dict)
    """`Entry.run` -> the run folder's name, of all runs that were compared; {} of one that stands alone."""
    folders: dict[str, Path] = field(default_factory=dict)
    """`Entry.run` -> the run's folder; {} of a board of no run folder."""

    @property
    def at(self) -> str:
        """Its scale in words: `×5 (trained ×4)`, `×4`."""
        return f"×{self.scale}" + (f" (trained ×{self.trained_scale})" if self.trained_scale else "")

    def name(self, entry: Entry) -> str:
        """`model × objective`, with weights, precision or run where the board holds several for the combination."""
        own = [e for e in self.entries if e.combination == entry.combination]
        keys = ("weights", "precision", "run")
        extra = [getattr(entry, key) for key in keys if len({getattr(e, key) for e in own}) > 1]
        if "@" in entry.trial or len({e.trial for e in own}) > 1:
            extra.append(entry.trial[:8] + entry.trial[64:])
        return f"{entry.title} ({', '.join(extra)})" if extra else entry.title

    def title(self, column: Column) -> str:
        """The benchmark's name, with the inputs' hash where the board holds it with several, and what is missing."""
        name = column[0] if sum(c[0] == column[0] for c in self.columns) == 1 else f"{column[0]}@{column[1]}"
        return f"{name} ({self.missing[column][0]} of {self.missing[column][1]})" if column in self.missing else name
