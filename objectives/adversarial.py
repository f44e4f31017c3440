"""A discriminator beside a network that gives pictures: the decoder of latent diffusion, as CCSR's stage 2 tunes it.

Losses and weights are those of latent diffusion's autoencoders (https://arxiv.org/abs/2012.09841, Eq. 6 and 7), as in
https://github.com/csslc/CCSR, commit 15778ed, contperceptual.py; the discriminator is PatchGAN's
(https://arxiv.org/abs/1611.07004, App. 6.1.2). Pictures are (B, 3, H, W), in [-1, 1] here and in [0, 1] in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from objectives.batch import Batch
from objectives.compose import LossTerms, Objective, Update, trainable
from objectives.losses import AdversarialBranch
from objectives.spec import ObjectiveSpec
from sr_models.diffusion.process import Process, add_noise
from sr_models.diffusion.samplers import Noise, Predict, sample_state
from sr_models.errors import InputError
from sr_models.hyper.sampling import Sampling
from sr_models.rng import SampleRng

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""A frozen distance of two batches of pictures in [-1, 1]: (B,)."""

_FLOOR, _MOST = 1e-4, 1e4
_GROUPS = 32


class Discriminator(nn.Module):
    """PatchGAN: whether each patch of a picture looks real, (B, 3, H, W) to logits (B, 1, H/8 - 2, W/8 - 2).

    Args:
        channels: of the first layer; the next ones have 2, 4 and 8 times as many.
        norm: "batch", or "group" for one that does not look at its batch.
    """

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for times in (1, 2, 4):
            wide, stride = 2 * times * channels, 1 if times == 4 else 2
            layers.append(nn.Conv2d(times * channels, wide, 4, stride=stride, padding=1, bias=False))
            layers.append(nn.BatchNorm2d(wide) if norm == "batch" else nn.GroupNorm(math.gcd(_GROUPS, wide), wide))
            layers.append(nn.LeakyReLU(0.2))
        self.main = nn.Sequential(*layers, nn.Conv2d(8 * channels, 1, 4, padding=1))
        for layer in self.main:
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm):
                nn.init.normal_(layer.weight, 0.0 if isinstance(layer, nn.Conv2d) else 1.0, 0.02)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.main(x_BCHW)
        return logits


class GeneratorTerms(NamedTuple):
    """What a generator minimises, (B,), and the parts of it: detached scalars."""

    per_sample: Tensor
    reconstruction: Tensor
    adversarial: Tensor
    weight: Tensor


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """What a discriminator minimises of its logits on real and on made pictures: (B,)."""
    return (functional.relu(1 - real).flatten(1).mean(1) + functional.relu(1 + fake).flatten(1).mean(1)) / 2


def generator_terms(
    branch: AdversarialBranch, miss_B: Tensor, logits: Tensor, last_layer: Tensor, *, on: bool
) -> GeneratorTerms:
    """The miss of a picture, and that the discriminator sees through it, weighed by how both pull the last layer.

    Args:
        miss_B: of pixels and what is perceived.
        logits: the discriminator's on the pictures.
        last_layer: the weight that the gradients of both are compared at.
        on: whether the discriminator counts yet.
    """
    if branch.divide_by_batch:
        miss_B = miss_B / len(miss_B)
    adversarial_B = -logits.flatten(1).mean(1)
    weight = adaptive_weight(miss_B.mean(), adversarial_B.mean(), last_layer, branch.weight)
    total = miss_B + weight * adversarial_B if on else miss_B
    return GeneratorTerms(total, miss_B.detach().mean(), adversarial_B.detach().mean(), weight)


def adaptive_weight(miss: Tensor, adversarial: Tensor, last_layer: Tensor, share: float) -> Tensor:
    """`share` of how many times steeper the miss is at the last layer than the adversarial loss; without gradient."""
    [of_miss] = torch.autograd.grad(miss, last_layer, retain_graph=True)
    [of_adversarial] = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    return share * (of_miss.norm() / (of_adversarial.norm() + _FLOOR)).clamp(0, _MOST).detach()


@torch.no_grad()
def decoder_input(predict: Predict, process: Process, x0: Tensor, noise: Noise, sampling: Sampling) -> Tensor:
    """What stage 2's decoder is tuned on: a truncated sample of a clean state, begun from it made noisy at T.

    So it begins with what is left of x0 there, as stage 1's jump was trained, and not with pure noise as drawing does;
    and the jump to t_max adds the noise of T again, as the released code's does, where drawing takes other noise.
    Everything before the decoder is frozen: no gradient goes through the chain.

    Args:
        predict: the frozen network, under the condition of its batch.
        x0: (B, C, H, W), as the network's process has it.
        noise: 0 is that at T and of the jump, then one for each step that adds some.
        sampling: truncated.
    """

    def seen(draw: int) -> Tensor:
        return add_noise(x0, noise(0), process.gamma(process.steps)) if draw == 0 else noise(draw - 1)

    return sample_state(predict, process, seen, sampling)


class AdversarialObjective(Objective):
    """The training steps of a spec of regression with a discriminator beside it: two updates a batch.

    The adaptive weight looks at a batch as a whole, as BatchNorm does: one worker, and no parts of a batch. No recipe
    names it yet, since it wants a decoder's latents for its input.

    Args:
        spec: its target and loss; a sigma branch or a target of noise has no place here.
        lr_noise: as in `Objective`.
        branch: the discriminator, and how its word counts.
        last_layer: model -> the weight of its last convolution.
        perceptual: what `branch.perceptual_weight` weighs.

    Raises:
        InputError: a perceptual weight without a perceptual distance.
    """

    module: Discriminator

    def __init__(
        self, spec: ObjectiveSpec, lr_noise: float | None, branch: AdversarialBranch,
        last_layer: Callable[[nn.Module], Tensor], perceptual: Perceptual | None = None,
    ) -> None:  # fmt: skip
        super().__init__(spec, lr_noise)
        if branch.perceptual_weight and perceptual is None:
            raise InputError(
                f"perceptual_weight {branch.perceptual_weight:g} needs the weights of a perceptual network, and there "
                "are none: give perceptual_weight: 0"
            )
        self.branch, self.last_layer, self.perceptual = branch, last_layer, perceptual
        self.module = Discriminator(branch.channels, branch.norm)

    def updates(self) -> list[Update]:
        return [
            Update("generator", trainable, self.loss),
            Update("discriminator", lambda _model: self.module.parameters(), self.discriminator_loss),
        ]

    def loss(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> LossTerms:
        """`logs`: "loss_main" before anything adversarial, "loss_adversarial" before its weight, and that weight."""
        made, real = self._pair(model, batch, rng)
        miss_B = (made - real).abs().flatten(1).mean(1)
        if self.perceptual is not None and self.branch.perceptual_weight:
            miss_B = miss_B + self.branch.perceptual_weight * self.perceptual(made, real)
        on = batch.step >= self.branch.start
        found = generator_terms(self.branch, miss_B, self.module(made), self.last_layer(model), on=on)
        logs = {"loss_main": found.reconstruction, "loss_adversarial": found.adversarial, "weight": found.weight}
        return LossTerms(found.per_sample, logs)

    def discriminator_loss(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> LossTerms:
        """Zero before the branch's first step."""
        with torch.no_grad():
            made, real = self._pair(model, batch, rng)
        miss_B = hinge(self.module(real), self.module(made))
        return LossTerms(miss_B if batch.step >= self.branch.start else 0 * miss_B, {})

    def _pair(self, model: nn.Module, batch: Batch, rng: SampleRng) -> tuple[Tensor, Tensor]:
        """What the model makes and what it should, in [-1, 1]."""
        return 2 * model(self.noisy(batch.lr, rng, 0)).float() - 1, 2 * batch.hr - 1
