"""What one training run computes: frozen, typed, and known by its fingerprint.

A trial's fingerprint is the sha256 of everything that moves its numbers (data hash included) and of nothing else: not
workers, paths or tracking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

import sr_models
from objectives import ObjectiveSpec, check_process
from sr_models.errors import InputError
from sr_models.hashing import digest
from sr_models.hyper.degradation import NUMERICS_VERSION as DEGRADATION_VERSION
from sr_models.hyper.degradation import AnyDegradation, cut_side
from sr_models.hyper.process import AnyProcess, ProcessParams, ShiftParams
from sr_models.hyper.sampling import Sampling
from sr_models.params import Params, SearchRange, nearest, searchable
from sr_models.scales import ScaleRange

MOST_STEPS, MOST_BATCH, MOST_PATCH, MOST_COUNT, MOST_RATE = 10**9, 2**16, 2**12, 10**4, 1e6
"""Beyond any run that a machine could finish or hold, or any rate that trains: more is a slip of the keyboard."""

Fraction = Annotated[float, Field(gt=0, lt=1)]

Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]

BETAS = (0.9, 0.999)
"""Adam's, as published."""

Rule = Literal["adam", "adamw", "lamb"]

_OF_VALIDATIONS = ("protocol", "metrics", "tile", "tile_overlap", "sampling", "measured")
"""Fields of a trial that move no weights."""

_PATCHES = {"patch": "hr_patch", "hr_patch": "patch"}
"""Either of them takes the other's place."""

NUMERICS_VERSION = 1
"""Raised when a fixed defect changes what a trial computes: every fingerprint it touched changes with it."""

SIGMA_NUMERICS_VERSION = 2
"""The same of objectives with a sigma branch, whose head starts and reads features otherwise since 2."""

NOISY_NUMERICS_VERSION = 3
"""The same of objectives whose loss draws noise, which is drawn by torch on the trial's device since 3."""

LATENTS_VERSION = 1
"""Raised when stored latents become others: how pictures are cut, tiled (`sr_models.diffusion.tiled`) and flipped."""

TILE_OVERLAP = 32
"""As in `sr_models.inference.super_resolve.Options`, which is behind torch."""


def tile_field(what: str) -> Any:
    """A side of tiles; left out of dumps where there are none, so that hashes are what they were before the choice."""
    return Field(default=None, ge=1, exclude_if=lambda tile: tile is None, description=what)


def overlap_field() -> Any:
    """What goes with a side of tiles, and is left out of dumps like it."""
    what = "LR pixels that a tile sees beyond its part, on each side"
    return Field(default=TILE_OVERLAP, ge=0, exclude_if=lambda overlap: overlap == TILE_OVERLAP, description=what)


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


class GroupConfig(Params):
    """What one update of an objective does otherwise than `train` says; null: as there."""

    optimizer: Rule | None = Field(default=None, description="update rule")
    lr: float | None = Field(default=None, gt=0, le=MOST_RATE, description="peak learning rate")
    weight_decay: float | None = Field(default=None, ge=0, le=MOST_RATE, description="as `train.weight_decay`")
    schedule: Literal["constant", "cosine", "step"] | None = Field(
        default=None, description="learning rate after the warm-up"
    )
    lr_floor: float | None = Field(default=None, ge=0, le=1, description="cosine ends at this fraction of lr")
    decay_at: tuple[Fraction, ...] | None = Field(default=None, description="step schedule: where lr decays")
    decay: float | None = Field(default=None, gt=0, le=1, description="step schedule: factor at each of decay_at")
    warmup: float | None = Field(default=None, ge=0, lt=1, description="fraction of the run over which lr rises")
    clip_norm: float | None = Field(default=None, gt=0, description="largest norm of this update's gradient")
    betas: Betas | None = Field(
        default=None, exclude_if=lambda betas: betas is None, description="as `train.betas`"
    )  # left out so that trials keep the fingerprints they had before there was a choice


class TrainConfig(Params):
    """How one network is trained; every length is in optimiser steps or a fraction of the whole run."""

    steps: int = Field(default=1000, ge=2, le=MOST_STEPS, description="optimiser steps of a full run")
    batch_size: int = Field(
        default=16, ge=1, le=MOST_BATCH, description="LR patches per step, over all workers together"
    )
    patch: int = Field(
        default=48, ge=4, le=MOST_PATCH, description="side of an LR patch in pixels; the HR patch is scale times larger"
    )
    hr_patch: int | None = Field(
        default=None,
        ge=4,
        le=MOST_PATCH,
        exclude_if=lambda side: side is None,
        description="in place of patch: side of an HR patch, one at all scales, which must divide it",
    )
    optimizer: Rule = Field(
        default="adam",
        description="update rule; eps 1e-8; lamb: timm's, eps 1e-6, a trust ratio, unclipped, for "
        "each tensor whatever weight_decay is; its gradient is clipped by clip_norm alone",
    )
    betas: Betas = Field(
        default=BETAS,
        exclude_if=lambda betas: betas == BETAS,  # as of `groups`
        description="decay, a step, of the means of gradients and of their squares",
    )
    lr: float = searchable(2e-4, SearchRange(low=5e-5, high=5e-3, log=True), "peak learning rate", gt=0, le=MOST_RATE)
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        le=MOST_RATE,
        description="L2 (adam), decoupled (adamw), or added to the step that the trust ratio scales (lamb)",
    )
    schedule: Literal["constant", "cosine", "step"] = Field(
        default="cosine", description="learning rate after the warm-up"
    )
    lr_floor: float = Field(default=0.0, ge=0, le=1, description="cosine ends at this fraction of lr")
    decay_at: tuple[Fraction, ...] = Field(
        default=(0.5,),
        description="step schedule: fractions of the run at which lr decays; halving each 200k of 1M steps: "
        "[0.2, 0.4, 0.6, 0.8]",
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
    ema_warmup: bool = Field(
        default=False,
        exclude_if=lambda warmup: not warmup,
        description="the average starts short: decay min(ema, (1 + k) / (10 + k)) in step k, from 0; it is then one of "
        "trained weights alone, beside the newest running statistics",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="autocast type of the forward pass; losses are fp32"
    )
    checkpointing: bool = Field(
        default=False,
        exclude_if=lambda checkpointing: not checkpointing,
        description="diffusion networks keep fewer activations and compute them again on the way back: less memory, a "
        "third more time, the same weights (not a part of the fingerprint)",
    )
    lr_noise: float | None = Field(
        default=None,
        gt=0,
        le=1,
        exclude_if=lambda sigma: sigma is None,  # as of `groups`
        description="standard deviation, in image units (1 = white), of Gaussian noise on each channel of the inputs, "
        "drawn anew each step, or null for none; validations are without",
    )
    degradation: AnyDegradation | None = Field(
        default=None,
        exclude_if=lambda degradation: degradation is None,  # as of `groups`
        description="LR is made anew from HR in each step, by the set of this name (realesrgan, ccsr, bsrgan, "
        "bsrgan_plus, additive) or {set: NAME, KEY: ...}, see train.degradation.KEY; null: the store's LR; validations "
        "are without",
    )
    stored_latents: bool = Field(
        default=True,
        exclude_if=lambda stored: stored,
        description="networks of a latent space are trained on latents that are made once, of whole pictures and of "
        "these flipped left to right; false: each step encodes its patches, which are turned in all ways",
    )
    scales: ScaleRange | None = Field(
        default=None,
        exclude_if=lambda scales: scales is None,  # as of `groups`
        description="{low: 1, high: 8}: each step has a scale of its own, uniform between the two, of networks that "
        "take fractions (idm); LR of `patch` pixels is made of HR as it is cut; null: the trial's scale, at which "
        "validations are",
    )
    validate_every: int = Field(
        default=100, ge=1, le=MOST_STEPS, description="steps between validations; each one is journalled and reported"
    )
    checkpoint_every: int = Field(
        default=100, ge=1, le=MOST_STEPS, description="steps between checkpoints (not a part of the fingerprint)"
    )
    snapshots: tuple[Fraction, ...] = Field(
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

    @model_validator(mode="before")
    @classmethod
    def _one_patch(cls, values: Any) -> Any:
        given = {name: values.get(name) for name in _PATCHES} if isinstance(values, Mapping) else {}
        if given and None not in given.values():
            sides = ", ".join(f"{name} {side!r}" for name, side in given.items())
            raise ValueError(f"patch (LR) and hr_patch (HR) are two words for one side; give one (got {sides})")
        return values

    @model_serializer(mode="wrap")
    def _without_what_hr_patch_replaces(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = dump(self)
        if self.hr_patch is not None:
            fields.pop("patch", None)
        return fields

    @model_validator(mode="after")
    def _warmup_of_an_average(self) -> TrainConfig:
        if self.ema_warmup and self.ema is None:
            raise ValueError("ema_warmup has no effect without ema")
        return self

    @model_validator(mode="after")
    def _lr_is_made_in_one_way(self) -> TrainConfig:
        if self.degradation is not None and self.scales is not None:
            raise ValueError("degradation makes LR of the trial's scale, and scales of others; give one")
        return self

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

    @property
    def makes_lr(self) -> str | None:
        """The field by which LR is made anew in each step; None: it is the store's."""
        return next((name for name in ("degradation", "scales") if getattr(self, name) is not None), None)

    def check_inputs(self, spec: ObjectiveSpec, where: str) -> None:
        """Raises InputError: LR is made otherwise, and the objective wants what a teacher makes of one that stays, or
        looks at none; it starts with `where`."""
        if self.makes_lr is not None and {"mu", "mu_lr"} & set(spec.needs):
            raise InputError(
                f"{where}.{self.makes_lr}: makes other inputs in each step, and target {spec.target.kind!r} needs a "
                "teacher's output of inputs that stay; leave one of them out"
            )
        if spec.loss.family == "autoencoder":
            for name in ("degradation", "scales", "lr_noise"):
                if getattr(self, name) is not None:
                    raise InputError(
                        f"{where}.{name}: loss {spec.loss.kind} looks at HR alone; leave it out of this training "
                        f"(`train: {{{name}: null}}` under the model or the objective)"
                    )

    def encodes(self, spec: ObjectiveSpec) -> str | None:
        """Why steps of a network of a latent space encode their patches; None: its latents are stored."""
        if spec.target.kind != "hr":
            return f"target {spec.target.kind}"
        if not self.stored_latents:
            return "train.stored_latents=false"
        changed = [name for name in ("degradation", "scales", "lr_noise") if getattr(self, name) is not None]
        return f"train.{changed[0]}" if changed else None

    def cut(self, scale: int) -> int:
        """Side, in LR pixels, of what is cut out of a training image for a patch, at most."""
        if self.scales is not None:
            return self.scales.cut_side(self.patch, scale)
        return self.patch if self.degradation is None else cut_side(self.patch, scale)

    def changed(self, values: Mapping[str, Any], where: str) -> TrainConfig:
        """The same training with some fields replaced.

        Raises:
            InputError: an unknown field or an illegal value; the message starts with `where`.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"{where}: expected a mapping of keys to values, got {values!r}")
        ours = {name: held for name, held in self.model_dump().items() if values.get(_PATCHES.get(name, name)) is None}
        return TrainConfig.parse({**ours, **values}, where)

    def at(self, scale: int, where: str) -> TrainConfig:
        """The same training at one scale, its patch in LR pixels.

        Raises:
            InputError: the scale does not divide `hr_patch`; the message starts with `where`.
        """
        if self.hr_patch is None:
            return self
        if self.hr_patch % scale:
            raise InputError(
                f"{where}.hr_patch: an HR patch of {self.hr_patch} is no whole number of LR pixels at x{scale}"
            )
        return self.changed({"hr_patch": None, "patch": self.hr_patch // scale}, where)


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
