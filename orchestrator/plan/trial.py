"""What one training run computes: frozen, typed, and known by its fingerprint.

A trial's fingerprint is the sha256 of everything that moves its numbers (data hash included) and of nothing else: not
workers, paths or tracking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

import sr_models
from objectives import LOSSES, ObjectiveSpec, check_process
from orchestrator.plan.train import MOST_COUNT, MOST_PATCH, TrainConfig
from sr_models.hashing import digest
from sr_models.hyper.crops import Crops
from sr_models.hyper.degradation import DEGRADATIONS
from sr_models.hyper.degradation import NUMERICS_VERSION as DEGRADATION_VERSION
from sr_models.hyper.process import AnyProcess, ProcessParams, ShiftParams
from sr_models.hyper.sampling import Sampling
from sr_models.params import Params
from sr_models.plugins import absent
from sr_models.version import NOISY_NUMERICS_VERSION, NUMERICS_VERSION, SIGMA_NUMERICS_VERSION

_OF_VALIDATIONS = ("protocol", "metrics", "tile", "tile_overlap", "tiles_version", "crops", "sampling", "measured")
"""Fields of a trial that move no weights."""

LATENTS_VERSION = 1
"""Raised when stored latents become others: how pictures are cut, tiled (`sr_models.diffusion.tiled`) and flipped."""

CANVAS_TILES_VERSION = 2
"""Raised when tiles on a canvas become others. 2: they are LR pixels, where they were the enlarged LR's."""

TILE_OVERLAP = 32
"""As in `sr_models.inference.super_resolve.Options`, which is behind torch."""


def tile_field(what: str) -> Any:
    """A side of tiles; left out of dumps where there are none, so that hashes are what they were before the choice."""
    return Field(default=None, ge=1, exclude_if=lambda tile: tile is None, description=what)


def overlap_field() -> Any:
    """What goes with a side of tiles, and is left out of dumps like it."""
    what = "LR pixels that a tile sees beyond its part, on each side"
    return Field(default=TILE_OVERLAP, ge=0, exclude_if=lambda overlap: overlap == TILE_OVERLAP, description=what)


def crops_field(what: str) -> Any:
    """A paper's tiles, likewise left out where there are none."""
    return Field(default=None, exclude_if=lambda crops: crops is None, description=what)


def check_tiles(tile: int | None, overlap: int) -> None:
    """Raises ValueError: an overlap of no tiles."""
    if tile is None and overlap != TILE_OVERLAP:
        raise ValueError(f"tile_overlap {overlap} has no effect without tile")


def numerics_version(spec: ObjectiveSpec) -> int:
    """The version of what a new trial of an objective computes."""
    if spec.loss.noisy:
        return NOISY_NUMERICS_VERSION
    return SIGMA_NUMERICS_VERSION if spec.sigma else NUMERICS_VERSION


def latents_of(model: str, hyper: Mapping[str, Any], spec: ObjectiveSpec, train: TrainConfig) -> str | None:
    """Names the latents in the store that a trial is trained on; None: each step encodes its patches, if anything."""
    found = sr_models.spec(model).hyper.parse(hyper, f"model {model!r}").latents
    autoencoder = sr_models.part_hashes(model, hyper).get("autoencoder")
    if found is None or autoencoder is None or train.encodes(spec):
        return None
    return digest([LATENTS_VERSION, autoencoder, *found.about])


def degradation_version(train: TrainConfig) -> int:
    """The version of what a new trial's degradation makes; 1 without one."""
    return 1 if train.degradation is None else DEGRADATION_VERSION


def tiles_version(tile: int | None, sampling: Sampling | None) -> int:
    """The version of the tiles that a new trial's validations compute; 1 without any, or without a canvas."""
    on_canvas = tile is not None and sampling is not None and sampling.canvas is not None
    return CANVAS_TILES_VERSION if on_canvas else 1


def plugins_of(model: str, spec: ObjectiveSpec, train: TrainConfig) -> dict[str, str]:
    """The plug-ins that a trial computes with: "model NAME" -> "distribution version"."""
    degraded = DEGRADATIONS.stamp(train.degradation.set) if train.degradation else {}
    return sr_models.MODELS.stamp(model) | LOSSES.stamp(spec.loss.kind) | degraded


class Measured(Params):
    """What of the validation images a validation looks at."""

    images: int | None = Field(
        default=None, ge=1, le=MOST_COUNT, description="how many validation images, the first ones; null: all"
    )
    crop: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PATCH,
        description="side, in HR pixels, of the middle that is looked at, a multiple of the scales; null: whole images",
    )
    draws: int = Field(
        default=1, ge=1, le=MOST_COUNT, description="pictures that a diffusion network draws of each; scores are means"
    )


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
    latents: str | None = Field(
        default=None,
        exclude_if=lambda latents: latents is None,
        description="name of the latents in the store that it is trained on (`latents_of`)",
    )
    tile: int | None = tile_field("side, in LR pixels, of the tiles that validations compute; null: whole images")
    tile_overlap: int = overlap_field()
    tiles_version: int = Field(
        default=1,
        exclude_if=lambda version: version == 1,  # as of `degradation_version`
        description="of tiles on a canvas; 1 without one",
    )
    crops: Crops | None = crops_field("a paper's tiles that validations of a diffusion network compute; null: none")
    process: AnyProcess | None = Field(
        default=None, exclude_if=lambda process: process is None, description="the noise, of a diffusion network"
    )
    sampling: Sampling | None = Field(
        default=None,
        exclude_if=lambda sampling: sampling is None,
        description="how validations of a diffusion network draw pictures",
    )
    measured: Measured = Field(
        default=Measured(),
        exclude_if=lambda measured: measured == Measured(),
        description="what validations look at",
    )
    numerics_version: int = Field(default_factory=lambda fields: numerics_version(fields["objective"]))
    degradation_version: int = Field(
        default=1,
        exclude_if=lambda version: version == 1,  # so that fingerprints are what they were before there was a second
        description="of what `train.degradation` makes; 1 without one",
    )
    plugins: dict[str, str] = Field(
        default_factory=lambda fields: plugins_of(fields["model"], fields["objective"], fields["train"]),
        exclude_if=lambda stamps: not stamps,  # as of `latents`
        description="of whose plug-ins it is: model, objective or degradation NAME -> distribution and version",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_its_plugins(cls, given: Any) -> Any:
        stamps = given.get("plugins") if isinstance(given, Mapping) else None
        if isinstance(stamps, Mapping) and (lines := absent(stamps, exact=False)):
            raise ValueError(f"{lines[0]} (docs/extending.md)")
        return given

    @model_validator(mode="after")
    def _trains_its_objective(self) -> TrialConfig:
        self.train.check_groups(self.objective, "train")
        self.train.check_inputs(self.objective, "train")
        if self.train.hr_patch is not None:
            raise ValueError(f"a trial has its patch in LR pixels (TrainConfig.at), got hr_patch {self.train.hr_patch}")
        noisy = self.objective.timesteps is not None
        for name in ("process", "sampling"):
            if (getattr(self, name) is not None) != noisy:
                has = "needs" if noisy else "has no"
                raise ValueError(f"loss {self.objective.loss.kind} {has} {name} (got {getattr(self, name)!r})")
        if isinstance(self.process, ProcessParams):
            check_process(self.objective, self.process, "process")
        if self.process is not None and self.objective.shifting not in (None, self.process):
            raise ValueError(f"loss {self.objective.loss.kind} has a process of its own (got {self.process!r})")
        if isinstance(self.process, ShiftParams) and self.objective.shifting is None:
            raise ValueError(f"loss {self.objective.loss.kind} needs a noise process (got {self.process!r})")
        if self.crops is not None and (self.sampling is None or self.tile is not None):
            raise ValueError(f"crops {self.crops} is for drawn pictures without a tile (got tile {self.tile})")
        return self

    @property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON of all fields that move weights: not of what validations measure, or when."""
        beside: dict[str, Any] = dict.fromkeys(_OF_VALIDATIONS, True)
        beside["train"] = {"checkpoint_every", "validate_every", "snapshots", "checkpointing"}
        fields = self.model_dump(mode="json", exclude=beside)
        if self.init is None:
            del fields["init"]  # so that runs from scratch keep the fingerprints they had before there was a choice
        return digest(fields)

    @property
    def gives_sr(self) -> bool:
        """Whether what it trains is validated and scored: neither a part of other networks, nor what guesses noise."""
        return self.objective.target.output == "sr" and sr_models.spec(self.model).sr

    @property
    def scored_by(self) -> tuple[Any, ...]:
        """What makes validations comparable: all about them but which metrics."""
        return tuple(getattr(self, name) for name in _OF_VALIDATIONS if name != "metrics")

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
        return self.model_copy(update={"train": train, **{name: getattr(other, name) for name in _OF_VALIDATIONS}})

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
