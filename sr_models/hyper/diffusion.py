"""What diffusion declares before torch is imported: its networks' sizes, the noise process, how one samples.

The schedules are those of DDPM (https://arxiv.org/abs/2006.11239), SR3 (https://arxiv.org/abs/2104.07636), latent
diffusion (https://arxiv.org/abs/2112.10752) and improved DDPM (https://arxiv.org/abs/2102.09672, Eq. 17); the rescaling
to zero terminal SNR is Algorithm 1 of https://arxiv.org/abs/2305.08891. β becomes ᾱ here and nowhere else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from sr_models.errors import InputError
from sr_models.hyper.base import NetworkHyper
from sr_models.params import Params, SearchRange, searchable

if TYPE_CHECKING:
    import numpy as np

MOST_SIGNAL = 0.02
"""ᾱ_T above which a chain is refused: sampling starts from pure noise, which training has then never seen."""

REDUCTION, LATENT = 4, 3
"""Of ResShift's latent space: a picture's sides over a latent's, and channels."""

SOLVERS = ("dpm_solver", "unipc")
"""Samplers that diffusers computes."""

Canvas = Literal["ccsr"]
ColourFix = Literal["adain", "wavelet"]
"""What a drawn picture takes of its LR's colours: each channel's mean and spread, or all but details."""

_SEARCHED_START, _SEARCHED_END = SearchRange(low=1e-6, high=1e-4, log=True), SearchRange(low=5e-3, high=4e-2, log=True)


class SR3Hyper(NetworkHyper):
    """SR3's U-Net, as released for faces 16 to 128."""

    channels: int = Field(
        default=64, ge=2, multiple_of=2, description="feature channels at full size, a multiple of groups"
    )
    mults: tuple[int, ...] = Field(
        default=(1, 2, 4, 8, 8), min_length=1, max_length=8, description="channels of each level, in multiples"
    )
    attention: tuple[int, ...] = Field(
        default=(3,),
        description="levels, by halvings of the picture, that attend over all of it; the middle always does",
    )
    blocks: int = Field(default=2, ge=1, description="residual blocks of a level on the way down")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="of each block's second half, in training")
    groups: int = Field(default=32, ge=1, description="groups of channels that are normalised together")

    @model_validator(mode="after")
    def _whole_levels(self) -> Self:
        if self.channels % self.groups:
            raise ValueError(f"channels must be a multiple of groups, got {self.channels} and {self.groups}")
        if not all(1 <= mult <= 64 for mult in self.mults):
            raise ValueError(f"mults must be from 1 to 64, got {list(self.mults)}")
        if missing := set(self.attention) - set(range(len(self.mults))):
            raise ValueError(f"attention names levels 0 to {len(self.mults) - 1}, got {sorted(missing)}")
        return self

    def window(self, scale: int) -> int:
        """As in `NetworkHyper`: each level but the first halves the picture."""
        multiple = 2 ** (len(self.mults) - 1)
        return multiple // math.gcd(multiple, scale)

    @property
    def tile_exact(self) -> bool:
        """As in `NetworkHyper`: attention and normalisation see all of a picture, and each tile draws its own."""
        return False

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`, of one call; attention's two products, which grow with the picture, are left out."""
        here = c = self.channels
        left, total = [c], 54.0 * c

        def layer(before: int, after: int, attend: bool) -> float:
            shortcut = before * after if before != after else 0
            return 9 * before * after + 9 * after**2 + shortcut + 4 * after**2 * attend

        for level, mult in enumerate(self.mults):
            for _ in range(self.blocks):
                total += layer(here, c * mult, level in self.attention) / 4**level
                here = c * mult
                left.append(here)
            if level < len(self.mults) - 1:
                total += 9 * here**2 / 4 ** (level + 1)
                left.append(here)
        total += (layer(here, here, True) + layer(here, here, False)) / 4 ** (len(self.mults) - 1)
        for level, mult in reversed([*enumerate(self.mults)]):
            for _ in range(self.blocks + 1):
                total += layer(here + left.pop(), c * mult, level in self.attention) / 4**level
                here = c * mult
            if level:
                total += self._enlarging(here) / 4**level
        return (total + 27 * here) * scale**2

    def _enlarging(self, channels: int) -> float:
        """Multiply-adds of what doubles the sides of features, per pixel that they have before."""
        return 36.0 * channels**2


class IDMHyper(SR3Hyper):
    """IDM's U-Net and encoder, as released for faces 16 to 128."""

    features: int = Field(default=64, ge=1, description="channels of the encoder, an EDSR without upsampler")
    encoder_blocks: int = Field(default=16, ge=1, description="residual blocks of the encoder")
    highest_scale: float = Field(
        default=8.0,
        gt=1,
        description="the enlargement that the network knows as p = 1, as LR's own size is p = 0; it belongs to weights",
    )

    def window(self, scale: int) -> int:
        """As in `NetworkHyper`: any side goes."""
        return 1

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`, of one call and the encoder, which sampling runs once for all its calls."""
        f, c = self.features, self.channels
        encoder = 27 * f + 9 * f**2 * (2 * self.encoder_blocks + 1)
        levels = [c, *(c * mult for mult in self.mults[:-1])]
        style = 27 * f + 27 * c
        for level, (before, after) in enumerate(itertools.pairwise(levels), start=1):
            style += (9 * before * after + 9 * after * c * self.mults[level]) / 4**level
        return encoder + style * scale**2 + super().multiply_adds(scale)

    def _enlarging(self, channels: int) -> float:
        return 512.0 * channels


class ResShiftHyper(NetworkHyper):
    """ResShift's Swin U-Net, as released, and the latent space that it works in."""

    channels: int = Field(
        default=160, ge=2, multiple_of=2, description="feature channels at a latent's size, a multiple of groups"
    )
    mults: tuple[int, ...] = Field(
        default=(1, 2, 2, 4), min_length=1, max_length=8, description="channels of each level, in multiples"
    )
    blocks: int = Field(default=2, ge=1, description="residual blocks of a level on the way down")
    embed: int = Field(default=192, ge=1, description="channels of the Swin parts, a multiple of groups and heads")
    heads: int = Field(default=6, ge=1, description="of the Swin parts' attention")
    mlp_ratio: int = Field(default=4, ge=1, le=64, description="hidden channels of the Swin parts' MLPs, in multiples")
    attention_window: int = Field(default=8, ge=2, multiple_of=2, description="side of the Swin parts' windows")
    side: int = Field(
        default=64,
        ge=2,
        description="of the latents that it is trained on; levels where that is one window do not shift their windows",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of each residual block's second half, in training")
    groups: int = Field(default=32, ge=1, description="groups of channels that are normalised together")
    condition: Literal["latent", "lr"] = Field(
        default="latent",
        description="what it sees of LR: the latent of the enlarged one (DREAM does not say; advised), or at x4 LR "
        "as it is (the released code's)",
    )
    autoencoder: str | None = Field(
        default=None, description="safetensors file of the VQ autoencoder in whose latent space it works"
    )
    autoencoder_sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="what that file must have; null: not checked"
    )

    @model_validator(mode="after")
    def _whole_levels(self) -> Self:
        if self.channels % self.groups or self.embed % self.groups or self.embed % self.heads:
            raise ValueError(
                f"channels and embed must be multiples of groups, and embed of heads, got {self.channels}, "
                f"{self.embed}, {self.groups} and {self.heads}"
            )
        if not all(1 <= mult <= 64 for mult in self.mults):
            raise ValueError(f"mults must be from 1 to 64, got {list(self.mults)}")
        if self.side % (self.attention_window * 2 ** (len(self.mults) - 1)):
            raise ValueError(
                f"side must be whole windows at every level, a multiple of "
                f"{self.attention_window * 2 ** (len(self.mults) - 1)}, got {self.side}"
            )
        return self

    def check_scale(self, scale: int) -> None:
        """As in `NetworkHyper`: LR has a latent's size at x4 alone."""
        if self.condition == "lr" and scale != REDUCTION:
            raise InputError(f"resshift: condition lr is for x{REDUCTION}, not for x{scale}")

    def window(self, scale: int) -> int:
        """As in `NetworkHyper`: latents are whole windows at the last level."""
        multiple = REDUCTION * self.attention_window * 2 ** (len(self.mults) - 1)
        return multiple // math.gcd(multiple, scale)

    @property
    def tile_exact(self) -> bool:
        """As in `NetworkHyper`: normalisation and the autoencoder see all of a picture, and each tile draws its own."""
        return False

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`, of one call.

        Neither attention's two products nor the autoencoder, which a picture passes once, are in it.
        """
        c, e = self.channels, self.embed
        here, left, total = c * self.mults[0], [c * self.mults[0]], 2.0 * LATENT * 9 * c * self.mults[0]

        def block(before: int, after: int) -> int:
            return 9 * before * after + 9 * after**2 + (before * after if before != after else 0)

        def swin(width: int) -> int:
            return 2 * width * e + 2 * (4 + 2 * self.mlp_ratio) * e**2

        for level, mult in enumerate(self.mults):
            for i in range(self.blocks):
                total += (block(here, c * mult) + (swin(c * mult) if i == 0 else 0)) / 4**level
                here = c * mult
                left.append(here)
            if level < len(self.mults) - 1:
                total += 9 * here**2 / 4 ** (level + 1)
                left.append(here)
        total += (2 * block(here, here) + swin(here)) / 4 ** (len(self.mults) - 1)
        for level, mult in reversed([*enumerate(self.mults)]):
            for i in range(self.blocks + 1):
                total += (block(here + left.pop(), c * mult) + (swin(c * mult) if i == 0 else 0)) / 4**level
                here = c * mult
            if level:
                total += 9 * here**2 / 4 ** (level - 1)
        return (total + 9 * LATENT * here) * (scale / REDUCTION) ** 2


class ProcessParams(Params):
    """The process that turns a clean picture into noise in T steps, and what a network says of a noisy one."""

    T: int = Field(default=2000, ge=1, le=100_000, description="steps of the chain")
    schedule: Literal["linear", "scaled_linear", "cosine"] = Field(
        default="linear",
        description="of beta: linear, linear in its square root, or improved DDPM's cosine, which has no ends",
    )
    beta_start: float = searchable(1e-6, _SEARCHED_START, "beta of the first step", gt=0, lt=1)
    beta_end: float = searchable(1e-2, _SEARCHED_END, "beta of the last step", gt=0, lt=1)
    zero_terminal_snr: bool = Field(
        default=False, description="rescale alpha-bar so that the last step is pure noise; needs prediction x0 or v"
    )
    kept: int | None = Field(
        default=None,
        ge=1,
        exclude_if=lambda kept: kept is None,  # so that trials keep the fingerprints they had before there was a choice
        description="cut the chain to so many of its T steps, in training too; null: all",
    )
    kept_by: Literal["evenly", "resshift"] = Field(
        default="evenly",
        exclude_if=lambda rule: rule == "evenly",
        description="which steps: evenly with the first and the last among them, or ResShift's 1 + int(T / kept * i)",
    )
    prediction: Literal["eps", "x0", "v"] = Field(
        default="eps", description="what the network gives: the noise, the clean picture, or v between the two"
    )
    clamp: bool = Field(default=True, description="sampling clamps each guess of the clean picture to [-1, 1]")
    allow_terminal_signal: bool = Field(
        default=False, description=f"accept a chain that ends with alpha-bar above {MOST_SIGNAL:g}"
    )

    @model_validator(mode="after")
    def _cut(self) -> Self:
        if self.kept is not None and self.kept > self.T:
            raise ValueError(f"kept must be at most T, got {self.kept} and {self.T}")
        if self.kept is None and self.kept_by != "evenly":
            raise ValueError(f"kept_by goes with kept, got {self.kept_by} without it")
        return self

    @model_validator(mode="after")
    def _samplable(self) -> Self:
        if self.zero_terminal_snr and self.prediction == "eps":
            raise ValueError(
                "zero_terminal_snr needs prediction x0 or v (got eps: of pure noise it says nothing of the picture)"
            )
        left = float(self.alpha_bar()[-1])
        if left > MOST_SIGNAL and not self.allow_terminal_signal:
            raise ValueError(
                f"the chain ends with alpha-bar {left:.2g}, above {MOST_SIGNAL:g} (T={self.T}, beta "
                f"{self.beta_start:g} to {self.beta_end:g}), and sampling starts from pure noise: raise T or beta_end, "
                "or set allow_terminal_signal: true"
            )
        return self

    @property
    def steps(self) -> int:
        """How many steps there are: T, or those that are kept."""
        return self.T if self.kept is None else self.kept

    def alpha_bar(self) -> np.ndarray:
        """ᾱ of steps 0 to `steps`, (steps + 1,) float64; ᾱ_0 is 1."""
        found = self._whole()
        return found if self.kept is None else found[[0, *self._kept(self.kept)]]

    def _kept(self, count: int) -> list[int]:
        """The steps of 1 to T that are kept."""
        if self.kept_by == "resshift":
            return [1 + int(self.T / count * i) for i in range(count)]
        return spread(self.T, count)

    def _whole(self) -> np.ndarray:
        """ᾱ of steps 0 to T."""
        import numpy as np

        found = np.concatenate([[1.0], np.cumprod(1 - self._betas())])
        if not self.zero_terminal_snr:
            return found
        root = np.sqrt(found)
        root[1:] = (root[1:] - root[-1]) * root[1] / (root[1] - root[-1]) if self.T > 1 else 0.0
        return np.asarray(root**2)

    def _betas(self) -> np.ndarray:
        """β of steps 1 to T."""
        import numpy as np

        if self.schedule == "linear":
            return np.linspace(self.beta_start, self.beta_end, self.T)
        if self.schedule == "scaled_linear":
            return np.linspace(math.sqrt(self.beta_start), math.sqrt(self.beta_end), self.T) ** 2
        level = np.cos((np.arange(self.T + 1) / self.T + 0.008) / 1.008 * math.pi / 2) ** 2
        return np.minimum(1 - level[1:] / level[:-1], 0.999)


class ShiftParams(Params):
    """ResShift's process (https://arxiv.org/abs/2307.12348, Eq. 10): from a clean state to LR's, and little noise."""

    T: int = Field(default=15, ge=2, le=100_000, description="steps of the chain")
    kappa: float = Field(default=2.0, gt=0, le=100, description="standard deviation of the noise at the end, about")
    power: float = Field(default=0.3, gt=0, le=10, description="exponent of a step's share of the way, in logarithms")
    min_noise_level: float = Field(default=0.04, gt=0, description="standard deviation of the noise of the first step")
    root_end: float = Field(default=0.99, gt=0, lt=1, description="square root of eta of the last step")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.min_noise_level / self.kappa >= self.root_end:
            raise ValueError(
                f"min_noise_level / kappa must be below root_end, got {self.min_noise_level:g} / {self.kappa:g} and "
                f"{self.root_end:g}"
            )
        return self

    def eta(self) -> np.ndarray:
        """η of steps 0 to T, (T + 1,) float64; η_0 is 0."""
        import numpy as np

        first = self.min_noise_level / self.kappa
        way = (np.arange(self.T) / (self.T - 1)) ** self.power
        return np.concatenate([[0.0], (first * (self.root_end / first) ** way) ** 2])


class Sampling(Params):
    """How a picture is drawn from a diffusion network: by which steps from noise."""

    sampler: Literal["ancestral", "ddim", "idm_ddim", "truncated", "dpm_solver", "unipc"] = Field(
        default="ancestral",
        description="DDPM's own steps; DDIM; DDIM as IDM ships it (every (T // steps)-th step, with 200; without clamp "
        "or noise, to step 1); CCSR's from a jump at t_max to a guess at t_min; DPM-Solver++ and UniPC (both need "
        "the extra [diffusion])",
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
        "from an LR that Pillow has enlarged to it, where tiles are then cut; null: its own",
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


_OWN: dict[str, dict[str, Any]] = {
    "ddim": {"eta": 0.0, "eps": "from_x0"},
    "truncated": {"t_max": 2 / 3, "t_min": 1 / 3, "jump": "first_used"},
}


def spread(total: int, count: int) -> list[int]:
    """`count` steps of 1 to `total`, evenly, with the last among them, and the first if there are several."""
    import numpy as np

    return [total] if count == 1 else [int(step) for step in np.round(np.linspace(1, total, count))]


def check_solvers(alpha_bar: np.ndarray) -> None:
    """Refuse `SOLVERS` where diffusers is not installed, or they cannot start from this chain's end.

    Raises:
        InputError: says which.
    """
    if find_spec("diffusers") is None:
        raise InputError(
            "samplers dpm_solver and unipc need diffusers, which is not installed: pip install 'sr-sweep[diffusion]'"
        )
    if alpha_bar[-1] == 0:
        raise InputError("samplers dpm_solver and unipc start from a last step with signal; zero_terminal_snr has none")
