"""The noise processes that networks are trained on, declared before torch is imported.

The schedules are those of DDPM (https://arxiv.org/abs/2006.11239), SR3 (https://arxiv.org/abs/2104.07636), latent
diffusion (https://arxiv.org/abs/2112.10752) and improved DDPM (https://arxiv.org/abs/2102.09672, Eq. 17); the rescaling
to zero terminal SNR is Algorithm 1 of https://arxiv.org/abs/2305.08891. β becomes ᾱ here and nowhere else.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from sr_models.params import Params, SearchRange, searchable

if TYPE_CHECKING:
    import numpy as np

MOST_SIGNAL = 0.02
"""ᾱ_T above which a chain is refused: sampling starts from pure noise, which training has then never seen."""

_SEARCHED_START, _SEARCHED_END = SearchRange(low=1e-6, high=1e-4, log=True), SearchRange(low=5e-3, high=4e-2, log=True)


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

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.T

    def eta(self) -> np.ndarray:
        """η of steps 0 to T, (T + 1,) float64; η_0 is 0."""
        import numpy as np

        first = self.min_noise_level / self.kappa
        way = (np.arange(self.T) / (self.T - 1)) ** self.power
        return np.concatenate([[0.0], (first * (self.root_end / first) ** way) ** 2])


AnyProcess = ProcessParams | ShiftParams
"""What a network's weights were trained on."""


def spread(total: int, count: int) -> list[int]:
    """`count` steps of 1 to `total`, evenly, with the last among them, and the first if there are several."""
    import numpy as np

    return [total] if count == 1 else [int(step) for step in np.round(np.linspace(1, total, count))]
