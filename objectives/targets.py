"""Targets map a batch to the pairs of input and target that the network trains on (ECO, https://arxiv.org/abs/2312.17526).

x = batch.lr, y = batch.hr, mu = batch.mu (the teacher's SR of x), D(mu) = batch.mu_lr; all are data, without gradient.
`progress` in [0, 1] is the run's clock; `rng` draws by sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from objectives.batch import Batch
from objectives.ramps import alpha
from objectives.spec import HR, CentroidMixup, CentroidTarget, Distillation, ImageMixup, LossMixup, NoiseRegression
from sr_models.rng import SampleRng


class Term(NamedTuple):
    """A pair to train on, and its share of the loss."""

    x: Tensor
    y: Tensor
    weight: float = 1.0


def hr(params: HR, batch: Batch, progress: float, rng: SampleRng) -> list[Term]:
    """x -> y."""
    return [Term(batch.lr, batch.hr)]


def distillation(params: Distillation, batch: Batch, progress: float, rng: SampleRng) -> list[Term]:
    """x -> mu (Eq. 9)."""
    assert batch.mu is not None, "this target needs mu"
    return [Term(batch.lr, batch.mu)]


def centroid(params: CentroidTarget, batch: Batch, progress: float, rng: SampleRng) -> list[Term]:
    """D(mu) -> mu (Eq. 11)."""
    assert batch.mu is not None and batch.mu_lr is not None, "this target needs mu and mu_lr"
    return [Term(batch.mu_lr, batch.mu)]


def centroid_mixup(params: CentroidMixup, batch: Batch, progress: float, rng: SampleRng) -> list[Term]:
    """(1 - alpha) D(mu) + alpha x -> (1 - alpha) mu + alpha y (Eq. 14), one alpha for the batch."""
    assert batch.mu is not None and batch.mu_lr is not None, "this target needs mu and mu_lr"
    a = alpha(params, progress)
    return [Term((1 - a) * batch.mu_lr + a * batch.lr, (1 - a) * batch.mu + a * batch.hr)]


def loss_mixup(params: LossMixup, batch: Batch, progress: float, rng: SampleRng) -> list[Term]:
    """D(mu) -> mu with weight 1 - alpha and x -> y with weight alpha (Fig. 5); what weighs nothing is left out."""
    assert batch.mu is not None and batch.mu_lr is not None, "this target needs mu and mu_lr"
    a = alpha(params, progress)
    terms = [Term(batch.mu_lr, batch.mu, 1 - a), Term(batch.lr, batch.hr, a)]
    return [term for term in terms if term.weight > 0]


def image_mixup(params: ImageMixup, batch: Batch, progress: float, rng: SampleRng) -> list[Term]:
    """lambda x + (1 - lambda) x' -> lambda y + (1 - lambda) y', a lambda for each sample."""
    assert batch.partner_lr is not None and batch.partner_hr is not None, "this target needs a partner"
    share_B111 = torch.from_numpy(rng.beta("mixup", params.a)).to(batch.lr).view(-1, 1, 1, 1)
    x, y = (torch.lerp(a, b, share_B111) for a, b in ((batch.partner_lr, batch.lr), (batch.partner_hr, batch.hr)))
    return [Term(x, y)]


def noise_regression(params: NoiseRegression, batch: Batch, progress: float, rng: SampleRng) -> list[Term]:
    """x -> y - mu (Fig. 8), of either sign."""
    assert batch.mu is not None, "this target needs mu"
    return [Term(batch.lr, batch.hr - batch.mu)]


BY_KIND: dict[str, Callable[[Any, Batch, float, SampleRng], list[Term]]] = {
    "hr": hr,
    "kd": distillation,
    "noise_free": centroid,
    "mixup": centroid_mixup,
    "loss_mixup": loss_mixup,
    "image_mixup": image_mixup,
    "noise_regression": noise_regression,
}
