"""How ResShift is trained: the clean state guessed from one that has moved towards LR's (https://arxiv.org/abs/2307.12348).

Its noise process is the loss's own (`sr_models.diffusion.shifting`, where symbols are). What the network is told of LR
may be y or something else: `Denoiser.start` has y.
"""

from __future__ import annotations

import torch
from torch import nn

from objectives.batch import Batch
from objectives.compose import LossTerms
from objectives.diffusion import FIRST, StateObjective
from objectives.spec import ObjectiveSpec
from sr_models.diffusion.base import Denoiser
from sr_models.diffusion.shifting import Shifting
from sr_models.rng import SampleRng


class ShiftObjective(StateObjective):
    """The training step of loss `resshift`, for networks that are `Denoiser`s; arguments as of `Objective`."""

    def __init__(self, spec: ObjectiveSpec, lr_noise: float | None) -> None:
        super().__init__(spec, lr_noise)
        assert spec.shifting is not None
        self.shifting = Shifting.of(spec.shifting)

    def loss(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> LossTerms:
        """Mean (guess of x0 - x0)^2 at a step that is drawn for each sample, each as likely as another (Eq. 8)."""
        condition, x0 = self.states(model, batch, progress, rng)
        assert isinstance(model, Denoiser)  # `states` says it
        y = model.start(condition, self.noisy(batch.lr, rng, 0), (batch.hr.shape[2], batch.hr.shape[3]))
        eps = rng.noise("diffusion_noise", tuple(x0.shape[1:]), x0.device, draw=FIRST)
        step = torch.from_numpy(rng.integers("timestep", 1, self.shifting.steps + 1)).to(x0.device)
        x_t = self.shifting.shift(x0, y, eps, step)
        guess = model(condition, self.shifting.scaled(x_t, step), self.shifting.level(step)).float()
        return LossTerms((guess - x0).square().flatten(1).mean(1), {})
