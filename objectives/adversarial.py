"""A discriminator beside a network that gives pictures: the decoder of latent diffusion, as CCSR's stage 2 tunes it.

Losses and weights are those of latent diffusion's autoencoders (https://arxiv.org/abs/2012.09841, Eq. 6 and 7), as in
https://github.com/csslc/CCSR, commit 15778ed, contperceptual.py; the discriminator is PatchGAN's
(https://arxiv.org/abs/1611.07004, App. 6.1.2). Pictures are (B, 3, H, W), in [-1, 1] here and in [0, 1] in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from objectives.batch import Batch
from objectives.compose import LossTerms, Objective, Update, trainable
from objectives.diffusion import DiffusionObjective
from objectives.losses import AdversarialBranch, CCSRDecoder
from objectives.spec import ObjectiveSpec
from sr_models.diffusion.ccsr import CCSR
from sr_models.diffusion.process import Process, add_noise
from sr_models.diffusion.samplers import Noise, Predict, sample_state
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
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


class Judged(NamedTuple):
    """What is missed of each sample before anything adversarial, and how real it does not look: (B,) each."""

    miss: Tensor
    adversarial: Tensor


class Whole(NamedTuple):
    """What a step's batch says as a whole: the adversarial loss's weight, and how many samples there are."""

    step: int
    weight: Tensor
    samples: float


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """What a discriminator minimises of its logits on real and on made pictures: (B,)."""
    return (functional.relu(1 - real).flatten(1).mean(1) + functional.relu(1 + fake).flatten(1).mean(1)) / 2


def adaptive_weight(of_miss: Tensor, of_adversarial: Tensor, share: float) -> Tensor:
    """`share` of how many times steeper the miss is at the last layer than the adversarial loss, by the gradients."""
    return share * (of_miss.norm() / (of_adversarial.norm() + _FLOOR)).clamp(0, _MOST)


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
    """The training steps of a spec with a discriminator beside it: two updates a batch.

    The adaptive weight is the whole batch's, whatever its parts and workers: before the generator's losses each part's
    two gradients at the last layer are added up. A batch in one part costs nothing more for it; of several the pictures
    are made twice.

    Args:
        spec: its target is one pair of pictures.
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
        self._whole: Whole | None = None
        self._judged: Judged | None = None
        """Of the one part that `look` has seen, with its graph, until the loss takes it."""

    def updates(self) -> list[Update]:
        return [
            Update("generator", trainable, self.loss, self.look),
            Update("discriminator", lambda _model: self.module.parameters(), self.discriminator_loss),
        ]

    def look(
        self, model: nn.Module, parts: Sequence[Batch], progress: float, add_up: Callable[[Tensor], Tensor]
    ) -> None:
        """The weight of a batch of which one worker has `parts`."""
        last, of_both, samples = self.last_layer(model), None, sum(map(len, parts))
        for part in parts:
            judged = self._judge(model, part, progress, SampleRng(part.seed, part.step, part.sample_ids))
            own = [torch.autograd.grad(each.sum(), last, retain_graph=True)[0].flatten() for each in judged]
            of_both = torch.cat(own) if of_both is None else of_both + torch.cat(own)
            self._judged = judged if len(parts) == 1 else None
        assert of_both is not None, "a worker has a part of every batch"
        *gradients, count = add_up(torch.cat([of_both, of_both.new_tensor([samples])])).split([last.numel()] * 2 + [1])
        of_miss, of_adversarial = (gradient / count for gradient in gradients)
        of_miss = of_miss / count if self.branch.divide_by_batch else of_miss
        weight = adaptive_weight(of_miss, of_adversarial, self.branch.weight)
        self._whole = Whole(parts[0].step, weight, float(count))

    def loss(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> LossTerms:
        """`logs`: "loss_main" before anything adversarial, "loss_adversarial" before its weight, and that weight.

        Without `look` before it, the batch is a whole one.
        """
        if self._whole is None or self._whole.step != batch.step:
            self.look(model, [batch], progress, lambda own: own)
        assert self._whole is not None
        judged, self._judged = self._judged, None
        miss_B, adversarial_B = judged or self._judge(model, batch, progress, rng)
        if self.branch.divide_by_batch:
            miss_B = miss_B / self._whole.samples
        weight, on = self._whole.weight, batch.step >= self.branch.start
        parts = {"loss_main": miss_B, "loss_adversarial": adversarial_B}
        logs = {name: value.detach().mean() for name, value in parts.items()} | {"weight": weight}
        return LossTerms(miss_B + weight * adversarial_B if on else miss_B, logs)

    def discriminator_loss(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> LossTerms:
        """Zero before the branch's first step."""
        with torch.no_grad():
            made, real = self._pair(model, batch, progress, rng)
        with torch.autocast(made.device.type, enabled=False):
            miss_B = hinge(self.module(real), self.module(made))
        return LossTerms(miss_B if batch.step >= self.branch.start else 0 * miss_B, {})

    def _judge(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> Judged:
        made, real = self._pair(model, batch, progress, rng)
        with torch.autocast(made.device.type, enabled=False):
            miss_B = (made - real).abs().flatten(1).mean(1)
            if self.perceptual is not None and self.branch.perceptual_weight:
                miss_B = miss_B + self.branch.perceptual_weight * self.perceptual(made, real)
            return Judged(miss_B, -self.module(made).flatten(1).mean(1))

    def _pair(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> tuple[Tensor, Tensor]:
        """What the model makes and what it should, float32 in [-1, 1]."""
        return 2 * model(self.noisy(batch.lr, rng, 0)).float() - 1, 2 * batch.hr - 1


class DecoderObjective(AdversarialObjective):
    """CCSR's stage 2: what a network's tuned decoder makes of `decoder_input`, whose chain is computed once a step.

    Args:
        spec: of loss `ccsr_decoder`.
        lr_noise, perceptual: as in `AdversarialObjective`.
        process: the noise.
    """

    def __init__(
        self, spec: ObjectiveSpec, lr_noise: float | None, process: ProcessParams, perceptual: Perceptual | None = None
    ) -> None:
        assert isinstance(spec.loss, CCSRDecoder)
        super().__init__(spec, lr_noise, spec.loss, lambda model: cast(CCSR, model).last_layer, perceptual)
        self.diffusion = DiffusionObjective(spec, lr_noise, process)
        self._guesses: tuple[int, dict[bytes, Tensor]] = (-1, {})

    def _pair(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> tuple[Tensor, Tensor]:
        assert isinstance(model, CCSR), f"{type(model).__name__} has no decoder to tune"
        return 2 * model.decode(self._guess(model, batch, progress, rng)) - 1, 2 * batch.hr - 1

    def _guess(self, model: CCSR, batch: Batch, progress: float, rng: SampleRng) -> Tensor:
        """The chain's guess, of both updates and of `look`: nothing that they step has a part in it."""
        if self._guesses[0] != batch.step:
            self._guesses = batch.step, {}
        known, samples = self._guesses[1], batch.sample_ids.tobytes()
        if samples not in known:
            sampling = self.spec.chain
            assert sampling is not None
            with torch.no_grad():
                _, predict, x0 = self.diffusion.seen(model, batch, progress, rng)

            def noise(draw: int) -> Tensor:
                return rng.noise("diffusion_noise", tuple(x0.shape[1:]), x0.device, draw=draw)

            known[samples] = decoder_input(predict, self.diffusion.process, x0, noise, sampling)
        return known[samples]
