"""Targets map a batch to the (input, target) pair that the network trains on (ECO, https://arxiv.org/abs/2312.17526).

x = batch.lr, y = batch.hr, mu = batch.mu (the teacher's SR of x), D(mu) = batch.mu_lr; all are data, without gradient.
`progress` in [0, 1] is the run's clock; `rng` draws by sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from objectives.batch import Batch
from objectives.ramps import alpha
from objectives.spec import HR, CentroidMixup, CentroidTarget, Distillation, ImageMixup
from sr_models.rng import SampleRng

Pair = tuple[Tensor, Tensor]


def hr(params: HR, batch: Batch, progress: float, rng: SampleRng) -> Pair:
    """x -> y."""
    return batch.lr, batch.hr


def distillation(params: Distillation, batch: Batch, progress: float, rng: SampleRng) -> Pair:
    """x -> mu (Eq. 9)."""
    assert batch.mu is not None, "this target needs mu"
    return batch.lr, batch.mu


def centroid(params: CentroidTarget, batch: Batch, progress: float, rng: SampleRng) -> Pair:
    """D(mu) -> mu (Eq. 11)."""
    assert batch.mu is not None and batch.mu_lr is not None, "this target needs mu and mu_lr"
    return batch.mu_lr, batch.mu


def centroid_mixup(params: CentroidMixup, batch: Batch, progress: float, rng: SampleRng) -> Pair:
    """(1 - alpha) D(mu) + alpha x -> (1 - alpha) mu + alpha y (Eq. 14), one alpha for the batch."""
    assert batch.mu is not None and batch.mu_lr is not None, "this target needs mu and mu_lr"
    a = alpha(params, progress)
    return (1 - a) * batch.mu_lr + a * batch.lr, (1 - a) * batch.mu + a * batch.hr


def image_mixup(params: ImageMixup, batch: Batch, progress: float, rng: SampleRng) -> Pair:
    """lambda x + (1 - lambda) x' -> lambda y + (1 - lambda) y', a lambda for each sample."""
    assert batch.partner_lr is not None and batch.partner_hr is not None, "this target needs a partner"
    share_B111 = torch.from_numpy(rng.beta("mixup", params.a)).to(batch.lr).view(-1, 1, 1, 1)
    return torch.lerp(batch.partner_lr, batch.lr, share_B111), torch.lerp(batch.partner_hr, batch.hr, share_B111)


BY_KIND: dict[str, Callable[[Any, Batch, float, SampleRng], Pair]] = {
    "hr": hr,
    "kd": distillation,
    "noise_free": centroid,
    "mixup": centroid_mixup,
    "image_mixup": image_mixup,
}
