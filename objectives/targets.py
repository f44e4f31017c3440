"""Targets map a batch to the (input, target) pair that the network trains on (ECO, https://arxiv.org/abs/2312.17526).

x = batch.lr, y = batch.hr, mu = batch.mu (the teacher's SR of x), D(mu) = batch.mu_lr; all are data, without gradient.
`progress` in [0, 1] is the run's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from objectives.batch import Batch
from objectives.ramps import alpha
from objectives.spec import HR, CentroidMixup, CentroidTarget, Distillation

Pair = tuple[Tensor, Tensor]


def hr(params: HR, batch: Batch, progress: float) -> Pair:
    """x -> y."""
    return batch.lr, batch.hr


def distillation(params: Distillation, batch: Batch, progress: float) -> Pair:
    """x -> mu (Eq. 9)."""
    assert batch.mu is not None, "this target needs mu"
    return batch.lr, batch.mu


def centroid(params: CentroidTarget, batch: Batch, progress: float) -> Pair:
    """D(mu) -> mu (Eq. 11)."""
    assert batch.mu is not None and batch.mu_lr is not None, "this target needs mu and mu_lr"
    return batch.mu_lr, batch.mu


def centroid_mixup(params: CentroidMixup, batch: Batch, progress: float) -> Pair:
    """(1 - alpha) D(mu) + alpha x -> (1 - alpha) mu + alpha y (Eq. 14), one alpha for the batch."""
    assert batch.mu is not None and batch.mu_lr is not None, "this target needs mu and mu_lr"
    a = alpha(params, progress)
    return (1 - a) * batch.mu_lr + a * batch.lr, (1 - a) * batch.mu + a * batch.hr


BY_KIND: dict[str, Callable[[Any, Batch, float], Pair]] = {
    "hr": hr,
    "kd": distillation,
    "noise_free": centroid,
    "mixup": centroid_mixup,
}
