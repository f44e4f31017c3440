"""An objective at work: what one optimiser step minimises, for any target, loss and sigma branch.

The composition is ours; the parts come from ECO (https://arxiv.org/abs/2312.17526) and He & Cheng
(https://arxiv.org/abs/2201.10084).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from objectives import pixel, targets
from objectives.batch import Batch
from objectives.ramps import alpha
from objectives.spec import ObjectiveSpec, RampedTarget
from objectives.targets import Term
from sr_models.rng import SampleRng


@dataclass(frozen=True)
class LossTerms:
    """What a step minimises, one value a sample; the trial does the one reduction.

    `logs` are detached scalars, means over the batch: "alpha" where a ramp exists, "loss_zero" where noise is learned
    (the main loss of giving 0), and with a sigma branch "loss_main" and "loss_aux" (before its weight beta; where sigma
    learns from the main loss alone, it says how far off that is).
    """

    per_sample: Tensor
    logs: dict[str, Tensor]


@dataclass(frozen=True)
class Update:
    """One of the updates that a batch makes: a loss, and the parameters that step down its gradient.

    Each has an optimiser, a learning rate, a clip norm and logs of its own, also where two share parameters. Gradients
    that its loss leaves elsewhere count for nothing.
    """

    name: str
    """What logs, checkpoints and `train.groups` call it; one of the spec's `update_names`."""
    parameters: Callable[[nn.Module], Iterable[nn.Parameter]]
    """model -> what it steps: parameters of the model, of the objective's own module, or of both."""
    loss: Callable[[nn.Module, Batch, float, SampleRng], LossTerms]
    """(model, batch, progress, rng) -> what it minimises; all updates of a step are given the same rng."""
    look: Callable[[nn.Module, Sequence[Batch], float, Callable[[Tensor], Tensor]], None] | None = None
    """(model, parts, progress, sum) -> nothing: called before the losses of the parts of a batch that one worker has,
    for what depends on the whole batch; `sum` adds up a tensor over all workers."""


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of `model` that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


class Objective:
    """The training steps that a spec describes.

    Args:
        lr_noise: standard deviation, in image units, of Gaussian noise that is added to every input, after all mixing
            and in each channel by itself; None for none (ECO's real-world variant has 0.01).
    """

    module: nn.Module | None = None
    """What the objective trains beside the model (a discriminator): in the trial's checkpoint, and never exported."""

    def __init__(self, spec: ObjectiveSpec, lr_noise: float | None = None) -> None:
        self.spec, self.lr_noise = spec, lr_noise

    def updates(self) -> list[Update]:
        """What a step does with its batch, in order, as the spec's `update_names` says: one, on all of the model."""
        return [Update("model", trainable, self.loss)]

    def loss(self, model: nn.Module, batch: Batch, progress: float, rng: SampleRng) -> LossTerms:
        """The loss of `model` on `batch`, computed in float32 whatever the model's precision.

        Args:
            model: input (B, C, h, w) -> SR, or (SR, sigma_hat) if the spec has a sigma branch; each (B, C, s h, s w).
            batch: holds mu, mu_lr and a partner where `spec.needs` says so.
            progress: finished optimiser steps / (full budget - 1), in [0, 1].
            rng: draws z and the inputs' noise; row i depends on sample_ids[i] alone.
        """
        spec = self.spec
        terms = targets.BY_KIND[spec.target.kind](spec.target, batch, progress, rng)
        misses = [self._miss(model, term, rng, draw) for draw, term in enumerate(terms)]
        loss, *aux = (_weighted(terms, column) for column in zip(*misses, strict=True))
        logs = self.ramp(progress, loss.device)
        if spec.target.output == "noise":
            zero = torch.zeros_like(terms[0].y)
            logs["loss_zero"] = self._miss(lambda _: (zero, zero) if spec.sigma else zero, terms[0], rng, 0)[0].mean()
        if spec.sigma:
            logs["loss_main"], logs["loss_aux"] = loss.detach().mean(), aux[0].detach().mean()
            if spec.loss.auxiliary:
                loss = loss + spec.sigma.beta * aux[0]
        return LossTerms(loss, logs)

    def ramp(self, progress: float, device: torch.device) -> dict[str, Tensor]:
        """The log "alpha", where a ramp exists."""
        if not isinstance(self.spec.target, RampedTarget):
            return {}
        return {"alpha": torch.tensor(alpha(self.spec.target, progress), device=device)}

    def noisy(self, x: Tensor, rng: SampleRng, draw: int) -> Tensor:
        """An input with `lr_noise`, if there is any."""
        if self.lr_noise is None:
            return x
        return x + self.lr_noise * rng.noise("input_noise", tuple(x.shape[1:]), x.device, draw=draw)

    def _miss(self, model: Callable[[Tensor], Any], term: Term, rng: SampleRng, draw: int) -> list[Tensor]:
        """The loss of one pair, and with a sigma branch its auxiliary loss; each (B,)."""
        spec, y = self.spec, term.y
        output = model(self.noisy(term.x, rng, draw))
        mu = output[0] if spec.sigma else output
        assert mu.shape == y.shape, f"the network returned {tuple(mu.shape)} for a target of {tuple(y.shape)}"
        mu = mu.float()

        sigma_hat = output[1].float() if spec.sigma else None
        z = rng.noise("loss_noise", tuple(y.shape[1:]), y.device, draw=draw) if spec.loss.noisy else None
        loss = pixel.loss(spec.loss, mu, y, z, sigma_hat)
        if spec.sigma is None or sigma_hat is None:
            return [loss]
        assert sigma_hat.shape == y.shape, f"sigma is {tuple(sigma_hat.shape)} for a target of {tuple(y.shape)}"
        # mu is the auxiliary loss's target, so it is detached; alone, that loss must train the network too.
        aux_mu = mu if spec.loss.kind == "none" else mu.detach()
        return [loss, pixel.auxiliary(spec.sigma, aux_mu, sigma_hat, y)]


def _weighted(terms: Sequence[Term], misses: Sequence[Tensor]) -> Tensor:
    """The sum of what each term misses, by its weight; of one term, bit for bit what it misses."""
    return torch.stack([term.weight * miss for term, miss in zip(terms, misses, strict=True)]).sum(dim=0)
