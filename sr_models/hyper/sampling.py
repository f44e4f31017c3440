"""How pictures are drawn from diffusion networks, declared before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from sr_models.errors import InputError
from sr_models.hyper.process import AnyProcess, ShiftParams
from sr_models.params import Params

if TYPE_CHECKING:
    import numpy as np

SOLVERS = ("dpm_solver", "unipc")
"""Samplers that diffusers computes."""

Canvas = Literal["ccsr"]
ColourFix = Literal["adain", "wavelet"]
"""What a drawn picture takes of its LR's colours: each channel's mean and spread, or all but details."""


class Sampling(Params):
    """How a picture is drawn from a diffusion network: by which steps from noise."""

    sampler: Literal["ancestral", "ddim", "idm_ddim", "truncated", "dpm_solver", "unipc", "resshift"] = Field(
        default="ancestral",
        description="DDPM's own steps; DDIM; DDIM as IDM ships it (every (T // steps)-th step, with 200; without clamp "
        "or noise, to step 1); CCSR's from a jump at t_max to a guess at t_min; DPM-Solver++ and UniPC (both need "
        "the extra [diffusion]); resshift: all steps of residual shifting, which networks trained by it always take",
    )
    steps: int | None = Field(
        default=None, ge=1, description="steps that the chain is cut to; null: all that the process has"
    )
    eta: float | None = Field(
        default=None, ge=0, le=1, description="noise of ddim's steps: 0 none (its default), 1 as much as ancestral"
    )
    eps: Literal["from_x0", "predicted"] | None = Field(
        default=None,
        description="what ddim goes on with after clamping: the noise that fits the clamped guess, or the network's",
    )
    t_max: float | None = Field(
        default=None, gt=0, le=1, description="where truncated jumps to from pure noise, of T (default 2/3)"
    )
    t_min: float | None = Field(
        default=None, ge=0, lt=1, description="where truncated ends, of T: its last guess is the result (default 1/3)"
    )
    jump: Literal["first_used", "released"] | None = Field(
        default=None,
        description="noise level of truncated's jump: that of the next call, or the released code's, which may differ",
    )
    canvas: Canvas | None = Field(
        default=None,
        exclude_if=lambda canvas: canvas is None,  # so that rows and trials keep the names they had before
        description="the size that a picture is drawn at: ccsr, 512 at least on its shorter side, and multiples of 64, "
        "from an LR that Pillow has enlarged to it, where tiles are then cut, the scale times as large; null: its own",
    )
    colour_fix: ColourFix | None = Field(
        default=None,
        exclude_if=lambda fix: fix is None,
        description="what the whole picture then takes of the enlarged LR: adain, each channel's mean and spread; "
        "wavelet, all but details; null: nothing",
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """What belongs to a sampler has a value under it, and under no other."""
        if not isinstance(values, Mapping):
            return values
        sampler = values.get("sampler", "ancestral")
        for owner, defaults in _OWN.items():
            for name, default in defaults.items():
                if sampler == owner and values.get(name) is None:
                    values = {**values, name: default}
                if sampler != owner and values.get(name) is not None:
                    raise ValueError(f"{name} goes with the sampler {owner}, not with {sampler} (got {values[name]!r})")
        return values

    @model_validator(mode="after")
    def _some_steps(self) -> Self:
        if self.t_max is not None and self.t_min is not None and self.t_min >= self.t_max:
            raise ValueError(f"t_min must be below t_max, got {self.t_min:g} and {self.t_max:g}")
        return self

    @property
    def mark(self) -> str:
        """What a score's protocol id says of it: `ddim50eta0.5`, `truncated45t0.666667-0.333333`."""
        text = f"{self.sampler}{self.steps or ''}"
        if self.eta:
            text += f"eta{self.eta:g}"
        if self.eps == "predicted":
            text += "eps"
        if self.t_max is not None:
            text += f"t{self.t_max:g}-{self.t_min:g}"
        return text + "jump" * (self.jump == "released") + (self.canvas or "") + (self.colour_fix or "")

    @property
    def on_levels(self) -> tuple[Any, ...]:
        """By which sampler, on which part of the noise levels."""
        return self.sampler, self.t_max, self.t_min, self.jump


_OWN: dict[str, dict[str, Any]] = {
    "ddim": {"eta": 0.0, "eps": "from_x0"},
    "truncated": {"t_max": 2 / 3, "t_min": 1 / 3, "jump": "first_used"},
}


def as_asked(own: Sampling | None, asked: Mapping[str, Any]) -> Sampling:
    """A network's own sampling with fields of `Sampling` that were asked for; another sampler has its own defaults.

    Raises:
        InputError: a value that is wrong.
    """
    kept = {} if own is None or asked.get("sampler", own.sampler) != own.sampler else own.model_dump()
    return Sampling.parse({**kept, **asked}, "sampling")


def off_its_levels(weights: object, practised: Sampling | None, drawn: Sampling) -> str | None:
    """A line on weights that have practised some noise levels alone and are drawn on others; None: there is no need.

    Args:
        practised: as their folder says it (`CheckpointInfo.sampling`).
    """
    if practised is None or practised.on_levels == drawn.on_levels:
        return None
    return f"{weights} has practised the noise levels of {practised.mark} alone; drawn by {drawn.mark}, as asked"


def check_sampler(params: AnyProcess, sampling: Sampling) -> None:
    """Refuse to draw by residual shifting's steps from a network of another process, or by others from its.

    Raises:
        InputError: says which.
    """
    shifts = isinstance(params, ShiftParams)
    if shifts != (sampling.sampler == "resshift"):
        which = "was trained by residual shifting, and is drawn by sampler resshift" if shifts else "has no such steps"
        raise InputError(f"sampling: sampler {sampling.sampler}: this network {which}")
    if shifts and sampling.steps not in (None, params.steps):
        raise InputError(
            f"sampling: residual shifting has {params.steps} steps, and all are taken, not {sampling.steps}"
        )


def check_solvers(alpha_bar: np.ndarray) -> None:
    """Refuse `SOLVERS` where diffusers is not installed, or they cannot start from the end of `alpha_bar`, (T + 1,).

    Raises:
        InputError: says which.
    """
    if find_spec("diffusers") is None:
        raise InputError(
            "samplers dpm_solver and unipc need diffusers, which is not installed: pip install 'sr-sweep[diffusion]'"
        )
    if alpha_bar[-1] == 0:
        raise InputError("samplers dpm_solver and unipc start from a last step with signal; zero_terminal_snr has none")
