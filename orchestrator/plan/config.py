"""What a sweep is and what a trial is: frozen, typed, fingerprinted; read from YAML, presets and `key=value` overrides.

Unknown keys are refused with the nearest valid one before anything starts. A trial's fingerprint is the sha256 of
everything that moves its numbers (data hash included) and of nothing else: not workers, paths or tracking.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

import sr_models
from eval.protocol import FIDELITY, get_metric, get_protocol, plain_metric
from objectives import ObjectiveSpec, resolve
from orchestrator.plan.sources import ImageSource
from sr_models.errors import InputError
from sr_models.hashing import digest
from sr_models.params import Params, SearchRange, nearest, searchable

LABEL = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}"
"""What names a sweep, a model, an objective or a benchmark: they become ids, folders and file names (255 bytes)."""

MOST_STEPS, MOST_BATCH, MOST_PATCH, MOST_COUNT, MOST_RATE = 10**9, 2**16, 2**12, 10**4, 1e6
"""Beyond any run that a machine could finish or hold, or any rate that trains: more is a slip of the keyboard."""

Fraction = Annotated[float, Field(gt=0, lt=1)]

NUMERICS_VERSION = 1
"""Raised when a fixed defect changes what a trial computes: every fingerprint it touched changes with it."""

LAYOUT = 2
"""Of run folders; in their names, so that no run goes on in a folder that an earlier version has laid out otherwise.

2: what runs have in common lies beside them, in `shared`.
"""

SIGMA_NUMERICS_VERSION = 2
"""The same of objectives with a sigma branch, whose head starts and reads features otherwise since 2."""


def each_once(names: Sequence[str]) -> None:
    """Raises InputError: a name comes twice."""
    for i, name in enumerate(names):
        if name in names[:i]:
            raise InputError(f"{name!r} is named twice")


TILE_OVERLAP = 32
"""As in `sr_models.inference.super_resolve.Options`, which is behind torch."""


def _tile(what: str) -> Any:
    """A side of tiles; left out of dumps where there are none, so that hashes are what they were before the choice."""
    return Field(default=None, ge=1, exclude_if=lambda tile: tile is None, description=what)


def _tile_overlap() -> Any:
    what = "LR pixels that a tile sees beyond its part, on each side"
    return Field(default=TILE_OVERLAP, ge=0, exclude_if=lambda overlap: overlap == TILE_OVERLAP, description=what)


def _check_tiles(tile: int | None, overlap: int) -> None:
    if tile is None and overlap != TILE_OVERLAP:
        raise ValueError(f"tile_overlap {overlap} has no effect without tile")


class GroupConfig(Params):
    """What one update of an objective does otherwise than `train` says; null: as there."""

    optimizer: Literal["adam", "adamw"] | None = Field(default=None, description="update rule")
    lr: float | None = Field(default=None, gt=0, le=MOST_RATE, description="peak learning rate")
    weight_decay: float | None = Field(
        default=None, ge=0, le=MOST_RATE, description="L2 (adam) or decoupled (adamw) weight decay"
    )
    schedule: Literal["constant", "cosine", "step"] | None = Field(
        default=None, description="learning rate after the warm-up"
    )
    lr_floor: float | None = Field(default=None, ge=0, le=1, description="cosine ends at this fraction of lr")
    decay_at: tuple[Fraction, ...] | None = Field(default=None, description="step schedule: where lr decays")
    decay: float | None = Field(default=None, gt=0, le=1, description="step schedule: factor at each of decay_at")
    warmup: float | None = Field(default=None, ge=0, lt=1, description="fraction of the run over which lr rises")
    clip_norm: float | None = Field(default=None, gt=0, description="largest norm of this update's gradient")


class TrainConfig(Params):
    """How one network is trained; every length is in optimiser steps or a fraction of the whole run."""

    steps: int = Field(default=1000, ge=2, le=MOST_STEPS, description="optimiser steps of a full run")
    batch_size: int = Field(
        default=16, ge=1, le=MOST_BATCH, description="LR patches per step, over all workers together"
    )
    patch: int = Field(
        default=48, ge=4, le=MOST_PATCH, description="side of an LR patch in pixels; the HR patch is scale times larger"
    )
    optimizer: Literal["adam", "adamw"] = Field(default="adam", description="update rule; betas 0.9, 0.999, eps 1e-8")
    lr: float = searchable(2e-4, SearchRange(low=5e-5, high=5e-3, log=True), "peak learning rate", gt=0, le=MOST_RATE)
    weight_decay: float = Field(
        default=0.0, ge=0, le=MOST_RATE, description="L2 (adam) or decoupled (adamw) weight decay"
    )
    schedule: Literal["constant", "cosine", "step"] = Field(
        default="cosine", description="learning rate after the warm-up"
    )
    lr_floor: float = Field(default=0.0, ge=0, le=1, description="cosine ends at this fraction of lr")
    decay_at: tuple[Fraction, ...] = Field(
        default=(0.5,), description="step schedule: fractions of the run at which lr decays"
    )
    decay: float = Field(default=0.5, gt=0, le=1, description="step schedule: factor applied at each of decay_at")
    warmup: float = Field(
        default=0.0, ge=0, lt=1, description="fraction of the run over which lr rises linearly from 0"
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest gradient norm of an update, or null for no clipping"
    )
    ema: float | None = Field(
        default=None, gt=0, lt=1, description="decay of the weight average per step, or null for none"
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="autocast type of the forward pass; losses are fp32"
    )
    validate_every: int = Field(
        default=100, ge=1, le=MOST_STEPS, description="steps between validations; each one is journalled and reported"
    )
    checkpoint_every: int = Field(
        default=100, ge=1, le=MOST_STEPS, description="steps between checkpoints (not a part of the fingerprint)"
    )
    snapshots: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(),
        exclude_if=lambda fractions: not fractions,
        description="fractions of a full run after which weights, raw and averaged, are kept for good, in runs that "
        "are scored and not in the search's (not a part of the fingerprint)",
    )
    groups: dict[str, GroupConfig] = Field(
        default={},
        exclude_if=lambda groups: not groups,  # so that runs keep the fingerprints they had before there was a choice
        description="name of an update -> what is its own, where an objective has several (one alone is `model`)",
    )

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """The steps, before the last, after which weights are kept."""
        return tuple(sorted({min(max(round(part * self.steps), 1), self.steps - 1) for part in self.snapshots}))

    def group(self, name: str) -> TrainConfig:
        """How the update of that name is trained: `groups` laid over the rest."""
        own = self.groups.get(name, GroupConfig())
        return self.model_copy(update=own.model_dump(exclude_none=True) | {"groups": {}})

    def check_groups(self, spec: ObjectiveSpec, where: str) -> None:
        """Raises InputError: `groups` names an update that the objective does not have; it starts with `where`."""
        for name in self.groups:
            if name not in spec.update_names:
                raise InputError(f"{where}.groups: no update {name!r}{nearest(name, spec.update_names)}")

    def changed(self, values: Mapping[str, Any], where: str) -> TrainConfig:
        """The same training with some fields replaced.

        Raises:
            InputError: an unknown field or an illegal value; the message starts with `where`.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"{where}: expected a mapping of keys to values, got {values!r}")
        return TrainConfig.parse({**self.model_dump(), **values}, where)


class SearchConfig(Params):
    """How schedules are searched: Optuna proposes within a combination, asynchronous halving stops the worse ones."""

    trials: int = Field(
        default=8,
        ge=1,
        le=MOST_COUNT,
        description="proposals per combination, the configured values first; 1 searches nothing",
    )
    common: tuple[str, ...] = Field(
        default=(), description="searched in every combination, from a quarter to four times its own value: [train.lr]"
    )
    metric: str = Field(default="psnr_y", description="validation metric that steers the search and picks the winner")
    sampler: Literal["tpe", "random"] = Field(default="tpe", description="how Optuna proposes")
    startup_trials: int = Field(
        default=4, ge=1, le=MOST_COUNT, description="random proposals before TPE starts to model"
    )
    first_rung: float = Field(
        default=0.25, gt=0, le=1, description="fraction of a full run before a trial may be stopped"
    )
    reduction: int = Field(
        default=2, ge=2, le=MOST_COUNT, description="halving factor: one in this many trials goes on at each rung"
    )
    audit: int = Field(
        default=0,
        ge=0,
        le=MOST_COUNT,
        description="stopped trials of each search that are run on to the end, to judge the rungs",
    )

    @field_validator("metric")
    @classmethod
    def _known(cls, name: str) -> str:
        get_metric(plain := plain_metric(name))
        if plain not in FIDELITY:
            raise ValueError(f"a validation measures {', '.join(FIDELITY)}; got {name!r}, which is for evaluation")
        return name


class TeacherConfig(Params):
    """Where mu = g(x) comes from: a network trained first by the same loop, or weights that exist."""

    weights: str | None = Field(
        default=None, description="a released file of `model`, or a checkpoint folder of ours, one per {scale}"
    )
    model: str = Field(default="edsr_baseline", description="network of a teacher that the sweep trains")
    hyper: dict[str, Any] = Field(default={}, description="the network's hyperparameters")
    train: dict[str, Any] = Field(default={}, description="what differs from the sweep's `train` (steps, lr, ...)")
    tile: int | None = _tile("side, in LR pixels, of the tiles that mu is computed in; null: whole images")
    tile_overlap: int = _tile_overlap()

    @model_validator(mode="after")
    def _tiles(self) -> TeacherConfig:
        _check_tiles(self.tile, self.tile_overlap)
        return self

    def centroids(self, network: str, weights_sha256: str) -> str:
        """What names mu and D(mu) of a teacher: its weights, and tiles if they make another mu of `network`."""
        if self.tile is None or sr_models.spec(network).tile_exact:
            return weights_sha256
        return digest([weights_sha256, self.tile, self.tile_overlap])


class BenchmarkSource(Params):
    """A test set: HR images, with LR files where they exist. `{scale}` in a path stands for the scale."""

    hr: str = Field(description="folder of HR images, or skimage:")
    lr: str | None = Field(
        default=None, description="folder of LR images; null makes LR with the MATLAB bicubic kernel"
    )
    include: tuple[str, ...] = Field((), description="file name patterns to take; none takes all")
    exclude: tuple[str, ...] = Field((), description="file name patterns to leave out")


class DataConfig(Params):
    """Images to train on, to steer the search by, and to score winners on; no image may be in two of them."""

    train: tuple[ImageSource, ...] = Field(min_length=1, description="training images")
    validation: tuple[ImageSource, ...] = Field(min_length=1, description="images that steer the search")
    test: dict[Annotated[str, Field(pattern=f"^{LABEL}$")], BenchmarkSource] = Field(
        min_length=1, description="benchmarks: name -> images"
    )
    on_bad: Literal["fail", "skip"] = Field(default="fail", description="what an unreadable training image does")


class EvaluationConfig(Params):
    """How winners are scored."""

    protocol: str = Field(default="classical", description="named protocol, stamped on every score")
    metrics: tuple[str, ...] = Field(
        default=("psnr_y", "ssim_y"), min_length=1, description="the first one leads the board"
    )
    draws: int | None = Field(
        default=None,
        ge=1,
        le=MOST_COUNT,
        description="samples of a stochastic network; null: as many as the protocol says",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="of the noise of stochastic networks")
    weights_dir: str | None = Field(
        default=None, description="folder of what LPIPS, DISTS, FID and KID need; null: $SR_WEIGHTS_DIR, torch's cache"
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=MOST_COUNT,
        description="processes that run networks; null: as many as the search had workers",
    )
    tile: int | None = _tile(
        "side, in LR pixels, of the tiles that SR is computed in, by validations too; in the protocol's id; null: whole"
    )
    tile_overlap: int = _tile_overlap()

    @model_validator(mode="after")
    def _known(self) -> EvaluationConfig:
        _check_tiles(self.tile, self.tile_overlap)
        get_protocol(self.protocol)
        for name in self.metrics:
            get_metric(name)
        each_once(self.metrics)
        return self


class BoardConfig(Params):
    """How rows are compared; moves no trial and no score, so it is in no run's name."""

    baseline: str | None = Field(
        default=None, description="objective that each network's other rows are compared with, by its label; or null"
    )


class ResourceConfig(Params):
    """What one trial holds; in no fingerprint, though bit-equality needs the same machine, cores and workers."""

    workers_per_trial: int = Field(
        default=1,
        ge=1,
        le=MOST_COUNT,
        description="processes of one trial, over as many nodes as it takes; they share each batch",
    )
    min_workers: int | None = Field(
        default=None,
        ge=1,
        le=MOST_COUNT,
        description="go on with this many while nodes are missing; null waits for all of them",
    )
    cpus_per_worker: int = Field(default=1, ge=1, le=MOST_COUNT, description="CPU cores and threads of one worker")
    gpus_per_worker: float = Field(
        default=0, ge=0, le=MOST_COUNT, description="GPUs of one worker; a fraction shares a GPU"
    )
    placement: Literal["pack", "spread"] = Field(
        default="pack", description="workers of a trial on few nodes (fast exchange) or on many (one loss costs less)"
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        le=MOST_BATCH,
        description="most patches in one forward pass of a worker; the rest of its share follows",
    )
    max_concurrent: int | None = Field(
        default=None, ge=1, le=MOST_COUNT, description="trials at a time; null lets the cluster's size decide"
    )
    max_restarts: int = Field(
        default=3, ge=0, le=MOST_COUNT, description="restarts of a trial whose worker or node was lost"
    )
    max_bytes: Literal["auto"] | Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="memory that one picture may take in a worker; larger ones are computed in tiles where these "
        "change nothing, refused before training elsewhere; auto: a worker's share of its node or GPU; null: any",
    )

    @property
    def bound(self) -> int | None:
        """`max_bytes`, once `orchestrator.session` has replaced auto by a number."""
        assert self.max_bytes != "auto"
        return self.max_bytes

    @model_validator(mode="after")
    def _possible(self) -> ResourceConfig:
        if self.min_workers is not None and self.min_workers > self.workers_per_trial:
            raise ValueError(f"min_workers {self.min_workers} is more than workers_per_trial {self.workers_per_trial}")
        if self.gpus_per_worker % 1 and (self.gpus_per_worker > 1 or self.workers_per_trial > 1):
            raise ValueError(
                f"gpus_per_worker must be whole, or below 1 where a trial has one worker, got {self.gpus_per_worker:g}"
            )
        return self


class SweepConfig(Params):
    """A table of model x objective x scale, with the data, budget and search that every cell shares."""

    name: str = Field(pattern=f"^{LABEL}$", description="first part of the run folder's name")
    scales: tuple[int, ...] = Field(default=(2,), min_length=1, description="upscaling factors")
    models: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="label -> hyperparameters; `model:` names the network if the label does not, `train:` what "
        "differs, `init:` weights to start from (a released file, a folder of ours; x2 ones start x3, x4, x8)",
    )
    objectives: dict[str, dict[str, Any]] = Field(
        min_length=1, description="label -> changes to a recipe, plus `search:` and `grid:`, whose points are rows"
    )
    data: DataConfig
    train: TrainConfig = TrainConfig()
    teacher: TeacherConfig | None = Field(default=None, description="needed by kd, eco_noise_free and eco")
    search: SearchConfig = SearchConfig()
    seeds: int = Field(
        default=1,
        ge=1,
        le=MOST_COUNT,
        description="full runs of each winner, with seeds that the search never saw; they are scored",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="base of every random draw")
    evaluation: EvaluationConfig = EvaluationConfig()
    board: BoardConfig = BoardConfig()
    resources: ResourceConfig = ResourceConfig()

    @field_validator("models", "objectives", mode="before")
    @classmethod
    def _list_to_mapping(cls, value: Any) -> Any:
        return as_mapping(value)

    @field_validator("models", "objectives")
    @classmethod
    def _labels(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for label, entry in value.items():
            if not re.fullmatch(LABEL, label):
                raise ValueError(f"a label is at most 100 letters, digits and _ . + -, got {label[:100]!r}")
            if label == "bicubic" and entry.get("model", label) != label:
                raise ValueError("the label 'bicubic' belongs to the row that every gain is measured from")
            if not isinstance(entry.get("model", label), str):
                raise ValueError(f"{label}.model names a network, got {entry['model']!r}")
            if not isinstance(entry.get("init"), str | None):
                raise ValueError(f"{label}.init is a path, got {entry['init']!r}")
        return value

    @field_validator("scales")
    @classmethod
    def _scales(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value) or min(value) < 1:
            raise ValueError("scales must be different whole numbers >= 1")
        return value

    @model_validator(mode="after")
    def _baseline_is_an_objective(self) -> SweepConfig:
        if (name := self.board.baseline) is None:
            return self
        if self.objectives.get(name, {}).get("grid"):
            raise ValueError(f"board.baseline: {name!r} is a grid of rows, none of which is named so; null: none")
        if name not in self.objectives:
            raise ValueError(
                f"board.baseline: no objective {name!r} in this sweep{nearest(name, list(self.objectives))}; null: none"
            )
        return self

    @property
    def hash(self) -> str:
        """sha256 of everything but where and by how many it is done: the same hash resumes the same run folder.

        Neither an audit of the search nor the board's baseline is in it: they move no score, and may come later.
        """
        beside: dict[str, Any] = {"train": {"checkpoint_every", "snapshots"}, "evaluation": {"weights_dir", "workers"}}
        beside["search"] = {"audit"}
        fields = self.model_dump(mode="json", exclude={"resources": True, "board": True, **beside})
        return digest([LAYOUT, fields])

    @property
    def run_name(self) -> str:
        return f"{self.name}-{self.hash[:8]}"

    def network(self, label: str) -> tuple[str, dict[str, Any], TrainConfig]:
        """One entry of `models`: the network's name, the hyperparameters given for it, and how it is trained.

        Raises:
            InputError: a `train:` of its own that does not fit TrainConfig.
        """
        hyper = dict(self.models[label])
        name, own = hyper.pop("model", label), hyper.pop("train", {})
        hyper.pop("init", None)
        return name, hyper, self.train.changed(own, f"models.{label}.train")

    def init(self, label: str) -> str | None:
        """Where one entry of `models` starts: a released file or a checkpoint folder of ours; None: from scratch."""
        return self.models[label].get("init")

    def objective(self, label: str) -> ObjectiveSpec:
        """The objective of one entry of `objectives`; an entry that names neither recipe nor target is called like one.

        Raises:
            InputError: unknown recipe, component or key, or a value out of range.
        """
        changes = {key: value for key, value in self.objectives[label].items() if key not in ("search", "grid")}
        if "recipe" not in changes and "target" not in changes:
            changes["recipe"] = label
        return resolve(changes, f"objectives.{label}")


class TrialConfig(Params):
    """Everything that decides what one training run computes."""

    model: str
    scale: int
    hyper: dict[str, Any]
    objective: ObjectiveSpec
    train: TrainConfig
    seed: int
    protocol: str
    metrics: tuple[str, ...]
    data_hash: str
    teacher: str | None = Field(
        default=None, description="name of the teacher's centroids (`TeacherConfig.centroids`), where mu is needed"
    )
    init: str | None = Field(default=None, description="sha256 of the weights the run starts from")
    tile: int | None = _tile("side, in LR pixels, of the tiles that validations compute; null: whole images")
    tile_overlap: int = _tile_overlap()
    numerics_version: int = Field(
        default_factory=lambda fields: SIGMA_NUMERICS_VERSION if fields["objective"].sigma else NUMERICS_VERSION
    )

    @model_validator(mode="after")
    def _groups_of_the_objective(self) -> TrialConfig:
        self.train.check_groups(self.objective, "train")
        return self

    @property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON of all fields that move weights: not of what validations measure, or when."""
        beside: dict[str, Any] = dict.fromkeys(("protocol", "metrics", "tile", "tile_overlap"), True)
        beside["train"] = {"checkpoint_every", "validate_every", "snapshots"}
        fields = self.model_dump(mode="json", exclude=beside)
        if self.init is None:
            del fields["init"]  # so that runs from scratch keep the fingerprints they had before there was a choice
        return digest(fields)

    @property
    def scored_by(self) -> tuple[str, int | None, int]:
        """What makes validations comparable: protocol, tile and overlap."""
        return self.protocol, self.tile, self.tile_overlap

    def measures(self, other: TrialConfig) -> bool:
        """Whether the validations of this one hold all that those of another one of the same weights would."""
        often = other.train.validate_every % self.train.validate_every == 0
        return often and self.scored_by == other.scored_by and set(other.metrics) <= set(self.metrics)

    def keeps(self, other: TrialConfig) -> bool:
        """Whether this one keeps all the snapshots that another one of the same weights would."""
        return set(other.train.snapshot_steps) <= set(self.train.snapshot_steps)

    def measured_as(self, other: TrialConfig) -> TrialConfig:
        """The same weights, validated and kept as another one's are."""
        own = {name: getattr(other.train, name) for name in ("validate_every", "snapshots")}
        train = self.train.model_copy(update=own)
        names = ("protocol", "metrics", "tile", "tile_overlap")
        return self.model_copy(update={"train": train, **{name: getattr(other, name) for name in names}})

    def measured_too_as(self, other: TrialConfig) -> TrialConfig:
        """The same weights, validated so that it measures what another one does, and still what it did if it can be.

        It keeps the snapshots of both. What one protocol or tiles of one size measure is not what others do: if they
        differ, the other's alone.
        """
        snapshots = tuple(sorted({*self.train.snapshots, *other.train.snapshots}))
        every, metrics = other.train.validate_every, other.metrics
        if self.scored_by == other.scored_by:
            every = math.gcd(self.train.validate_every, every)
            metrics = tuple(dict.fromkeys([*metrics, *self.metrics]))
        train = self.train.model_copy(update={"validate_every": every, "snapshots": snapshots})
        return self.measured_as(other).model_copy(update={"train": train, "metrics": metrics})


def as_mapping(value: Any) -> Any:
    """A list of names as a mapping of names to nothing; `name:` with no value likewise.

    Raises:
        InputError: a name comes twice.
    """
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        each_once(value)
        return {item: {} for item in value}
    if isinstance(value, Mapping):
        return {key: {} if inner is None else inner for key, inner in value.items()}
    return value
