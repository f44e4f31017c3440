"""The noise of a diffusion network: noisier step by step, guessed away again, and cut to fewer steps.

DDPM (https://arxiv.org/abs/2006.11239) as SR3 has it (https://arxiv.org/abs/2104.07636, code
https://github.com/Janspiry/Image-Super-Resolution-via-Iterative-Refinement, commit 01d27a7): the network is told a
continuous noise level γ = √ᾱ. v is that of https://arxiv.org/abs/2202.00512. Tables are float64.

x0 is a clean state, eps standard normal noise, x_t = γ x0 + √(1 - γ²) eps; shapes are (B, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from sr_models.hyper.process import ProcessParams

Gamma = Tensor | float
"""√ᾱ: (B,), one for each sample, or one for all."""


@dataclass(frozen=True)
class Level:
    """How noisy the samples of a batch are.

    gamma: (B,) float64 √ᾱ, in (0, 1). t: (B,) int64 step of the whole chain, 1 to its last, that gamma belongs to.
    """

    gamma: Tensor
    t: Tensor


@dataclass(frozen=True, eq=False)
class Process:
    """A chain of noise levels from a clean picture (step 0) to noise (the last step), and what its network gives.

    Attributes:
        alpha_bar: (steps + 1,) float64, falling from 1.
        t: (steps + 1,) int64: the step of the whole chain that each step is; other numbers once it is `respaced`. A
            chain that `ProcessParams.kept` has cut is a whole one.
        prediction, clamp: as in `ProcessParams`.
    """

    alpha_bar: np.ndarray
    t: np.ndarray
    prediction: Literal["eps", "x0", "v"]
    clamp: bool

    @classmethod
    def of(cls, params: ProcessParams) -> Self:
        """The whole chain."""
        return cls(params.alpha_bar(), np.arange(params.steps + 1), params.prediction, params.clamp)

    @property
    def steps(self) -> int:
        """How many steps there are beside the clean picture."""
        return len(self.alpha_bar) - 1

    def respaced(self, kept: Sequence[int]) -> Process:
        """The chain of some of its steps, with the noise levels that they have.

        Args:
            kept: steps, rising, from 1 to `steps`.
        """
        if not kept or list(kept) != sorted(set(kept)) or kept[0] < 1 or kept[-1] > self.steps:
            raise ValueError(f"kept steps must rise from 1 to {self.steps} at most, got {list(kept)}")
        chosen = [0, *kept]
        return Process(self.alpha_bar[chosen], self.t[chosen], self.prediction, self.clamp)

    def gamma(self, step: int) -> float:
        """√ᾱ of a step."""
        return math.sqrt(self.alpha_bar[step])

    def level(self, step: int, like: Tensor) -> Level:
        """One step for all samples of a batch, on its device."""
        batch, device = len(like), like.device
        gamma = torch.full((batch,), self.gamma(step), dtype=torch.float64, device=device)
        return Level(gamma, torch.full((batch,), int(self.t[step]), device=device))

    def between(self, step_B: Tensor, share_B: Tensor) -> Level:
        """Noise levels of training: uniform in γ between a step's and the one before it, as SR3 draws them.

        Args:
            step_B: (B,) int64 from 1 to `steps`.
            share_B: (B,) in [0, 1): 0 is the step's own γ.
        """
        roots = torch.from_numpy(np.sqrt(self.alpha_bar)).to(step_B.device)
        own, before = roots[step_B], roots[step_B - 1]
        t = torch.from_numpy(self.t).to(step_B.device)[step_B]
        return Level(own + share_B.double() * (before - own), t)

    def posterior(self, step: int) -> tuple[float, float, float]:
        """q(x_{t-1} | x_t, x0): its mean is the first number times x0 plus the second times x_t, then its variance."""
        here, before = float(self.alpha_bar[step]), float(self.alpha_bar[step - 1])
        beta = 1 - here / before
        of_x0, of_x_t = beta * math.sqrt(before), (1 - before) * math.sqrt(1 - beta)
        return of_x0 / (1 - here), of_x_t / (1 - here), beta * (1 - before) / (1 - here)

    def x0_hat(self, out: Tensor, x_t: Tensor, gamma: Gamma, *, clamp: bool | None = None) -> Tensor:
        """The clean state that a network's output stands for.

        Args:
            out: what the network gave for `x_t`.
            clamp: to [-1, 1]; None: as the process says.
        """
        root, rest = _factors(gamma, x_t)
        if self.prediction == "eps":
            x0 = (x_t - rest * out) / root
        else:
            x0 = out if self.prediction == "x0" else root * x_t - rest * out
        return x0.clamp(-1, 1) if (self.clamp if clamp is None else clamp) else x0

    def eps_hat(self, out: Tensor, x_t: Tensor, gamma: Gamma) -> Tensor:
        """The noise that a network's output stands for."""
        root, rest = _factors(gamma, x_t)
        if self.prediction == "v":
            return rest * x_t + root * out
        return out if self.prediction == "eps" else eps_between(out, x_t, gamma)

    def target(self, x0: Tensor, eps: Tensor, gamma: Gamma) -> Tensor:
        """What a network should give for `add_noise(x0, eps, gamma)`."""
        if self.prediction == "v":
            root, rest = _factors(gamma, x0)
            return root * eps - rest * x0
        return eps if self.prediction == "eps" else x0


def add_noise(x0: Tensor, eps: Tensor, gamma: Gamma) -> Tensor:
    """x_t at any noise level, in a step of a chain or between two."""
    root, rest = _factors(gamma, x0)
    return root * x0 + rest * eps


def eps_between(x0: Tensor, x_t: Tensor, gamma: Gamma) -> Tensor:
    """The noise that leads from x0 to x_t; gamma < 1."""
    root, rest = _factors(gamma, x_t)
    return (x_t - root * x0) / rest


def _factors(gamma: Gamma, like: Tensor) -> tuple[Gamma, Gamma]:
    """γ and √(1 - γ²), computed in float64, in the shape and type that multiply a batch."""
    if isinstance(gamma, float):
        return gamma, math.sqrt(1 - gamma**2)
    wide = gamma.double().reshape(-1, *[1] * (like.ndim - 1))
    return wide.to(like), (1 - wide**2).sqrt().to(like)
