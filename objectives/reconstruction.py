"""How an autoencoder is trained: a picture against what its own latent gives back (`diffusion.reconstruction`).

VQGAN (https://arxiv.org/abs/2012.09841) and latent diffusion (https://arxiv.org/abs/2112.10752), with L1 alone for what
is missed.
"""

from __future__ import annotations

from torch import nn

from objectives.batch import Batch
from objectives.compose import LossTerms, Objective
from objectives.losses import Reconstruction
from objectives.spec import ObjectiveSpec
from sr_models.diffusion.reconstruction import Autoencoder
from sr_models.rng import SampleRng


class ReconstructionObjective(Objective):
    """The training steps of a spec whose loss is `reconstruction`, for networks that are `Autoencoder`s."""

    def __init__(self, spec: ObjectiveSpec) -> None:
        super().__init__(spec)

    def loss(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> LossTerms:
        """`logs`: "loss_main", what the picture misses, and "loss_bounds", what its latents do, before the weight."""
        loss = self.spec.loss
        assert isinstance(model, Autoencoder) and isinstance(loss, Reconstruction)
        height, width = batch.hr.shape[2:]
        z = rng.noise("loss_noise", model.latent_shape((height, width)), batch.hr.device)
        picture, bounds_B = model(batch.hr, z)
        miss_B = (picture.float() - batch.hr).abs().flatten(1).mean(1)
        logs = {"loss_main": miss_B.detach().mean(), "loss_bounds": bounds_B.detach().mean()}
        return LossTerms(miss_B + loss.weight * bounds_B, logs)
