"""ResShift's residual shifting (https://arxiv.org/abs/2307.12348): from the clean state to LR's, in few steps.

Numbers and the scaling of the network's input are those of https://github.com/zsyOAOA/ResShift, commit 3ce1d81,
models/gaussian_diffusion.py; the network gives the clean state. Tables are float64.

x0 is the clean state, y that of the enlarged LR, eps standard normal noise; x_t = x0 + η (y - x0) + κ √η eps (Eq. 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sr_models.diffusion.process import Level
from sr_models.hyper.process import ShiftParams


@dataclass(frozen=True, eq=False)
class Shifting:
    """A chain from a clean state (step 0) to LR's with noise (the last step).

    Attributes:
        eta: (steps + 1,) float64, rising from 0: how far each step has gone.
        kappa: standard deviation of the noise where eta is 1.
    """

    eta: np.ndarray
    kappa: float

    @classmethod
    def of(cls, params: ShiftParams) -> Self:
        """The whole chain."""
        return cls(params.eta(), params.kappa)

    @property
    def steps(self) -> int:
        """How many steps there are beside the clean state."""
        return len(self.eta) - 1

    def level(self, step_B: Tensor) -> Level:
        """Those of (B,) steps from 1 to `steps`; γ stands for 1 - η, the clean state's share."""
        return Level(1 - self._eta(step_B), step_B)

    def shift(self, x0: Tensor, y: Tensor, eps: Tensor, step_B: Tensor) -> Tensor:
        """x_t."""
        eta = self._eta(step_B).view(-1, *[1] * (x0.ndim - 1))
        return x0 + eta.to(x0) * (y - x0) + (self.kappa * eta.sqrt()).to(x0) * eps

    def scaled(self, x_t: Tensor, step_B: Tensor) -> Tensor:
        """What a network is given of x_t, whose standard deviation it about divides by: that of a unit picture's."""
        eta = self._eta(step_B).view(-1, *[1] * (x_t.ndim - 1))
        return x_t / (1 + self.kappa**2 * eta).sqrt().to(x_t)

    def posterior(self, step: int) -> tuple[float, float, float]:
        """q(x_{t-1} | x_t, x0, y): its mean is the first number times x0 plus the second times x_t, then its variance.

        Eq. 6; y has no part in it beside x_t's.
        """
        here, before = float(self.eta[step]), float(self.eta[step - 1])
        of_x_t = before / here
        return 1 - of_x_t, of_x_t, self.kappa**2 * of_x_t * (here - before)

    def sample(self, predict: Callable[[Tensor, Level], Tensor], y: Tensor, noise: Callable[[int], Tensor]) -> Tensor:
        """Draw a clean state, through all steps.

        Args:
            predict: a network on a scaled state, which gives the clean one; nothing is clamped.
            noise: standard normal noise of y's shape: 0 is what sampling starts from, then one for each step but the
                last, which adds none.
        """
        state = self.shift(y, y, noise(0), self._all(self.steps, y))
        for step in range(self.steps, 0, -1):
            at = self._all(step, y)
            of_x0, of_state, variance = self.posterior(step)
            state = of_x0 * predict(self.scaled(state, at), self.level(at)) + of_state * state
            if variance > 0:
                state = state + math.sqrt(variance) * noise(self.steps - step + 1)
        return state

    def _all(self, step: int, like: Tensor) -> Tensor:
        return torch.full((len(like),), step, device=like.device)

    def _eta(self, step_B: Tensor) -> Tensor:
        return torch.from_numpy(self.eta).to(step_B.device)[step_B]
