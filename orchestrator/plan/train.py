"""How one network is trained: what a config's `train` says, and what one update of several does otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from objectives import ObjectiveSpec
from sr_models.errors import InputError
from sr_models.hyper.degradation import AnyDegradation, cut_side
from sr_models.params import Params, SearchRange, nearest, searchable
from sr_models.scales import ScaleRange

MOST_STEPS, MOST_BATCH, MOST_PATCH, MOST_COUNT, MOST_RATE = 10**9, 2**16, 2**12, 10**4, 1e6
"""Beyond any run that a machine could finish or hold, or any rate that trains: more is a slip of the keyboard."""

Fraction = Annotated[float, Field(gt=0, lt=1)]

Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]

BETAS = (0.9, 0.999)
"""Adam's, as published."""

Rule = Literal["adam", "adamw", "lamb"]

_PATCHES = {"patch": "hr_patch", "hr_patch": "patch"}
"""Either of them takes the other's place."""


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
                        f"(`train: {{{name}: null}}` under the model)"
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
