"""What a sweep uses of plug-ins: named, and tried out on random numbers before anything is trained.

Ours are held to this by tests; rows of plug-ins (docs/extending.md) are held to it here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import sr_models
from eval.protocol import METRICS, STABILITY
from objectives import LOSSES, OwnLoss
from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import plugins_of
from sr_models.errors import InputError
from sr_models.hyper.degradation import DEGRADATIONS, OwnDegradation

if TYPE_CHECKING:
    from torch import Tensor

_SIDE = 24
"""LR pixels of what is tried out, or a multiple of a network's windows."""


def used(plan: Plan) -> dict[str, str]:
    """Every plug-in of a sweep: "model NAME", "metric NAME", ... -> "distribution version"."""
    stamps: dict[str, str] = {}
    for one in plan.combinations:
        stamps |= plugins_of(one.network, one.spec, one.train)
    if plan.teacher_scales and plan.config.teacher is not None:
        stamps |= sr_models.MODELS.stamp(plan.config.teacher.model)
    for name in plan.config.evaluation.metrics:
        stamps |= METRICS.stamp(name.removeprefix(STABILITY))
    return stamps


def try_out(plan: Plan) -> None:
    """Run once what plug-ins give.

    Raises:
        InputError: it fails, or gives another shape than it must, what is not finite, or LR that its generator does not
            decide; it names the distribution, what was expected and what it gives.
    """
    stamps, parts = used(plan), dict[tuple[str, str], Callable[[], str]]()

    def add(row: Mapping[str, str], try_: Callable[..., str], *given: Any) -> None:
        parts.update({(name, repr(given)): partial(try_, *given) for name in row})

    for one in plan.combinations:
        add(sr_models.MODELS.stamp(one.network), _network, one.network, one.scale, one.hyper)
        if isinstance(loss := one.spec.loss, OwnLoss):
            add(LOSSES.stamp(loss.kind), _loss, loss)
        if isinstance(how := one.train.degradation, OwnDegradation):
            add(DEGRADATIONS.stamp(how.set), _degradation, how, one.scale)
    if (teacher := plan.config.teacher) is not None:
        for scale in plan.teacher_scales:
            add(sr_models.MODELS.stamp(teacher.model), _network, teacher.model, scale, teacher.hyper)
    for name in plan.config.evaluation.metrics:
        add(METRICS.stamp(name.removeprefix(STABILITY)), _metric, name)
    for (row, _), tried in parts.items():
        try:
            fault = tried()
        except Exception as error:  # a plug-in may raise anything
            fault = f"fails as it is tried out ({type(error).__name__}: {' '.join(str(error).split())})"
        if fault:
            raise InputError(f"plug-in {stamps[row]}: {row} {fault} (docs/extending.md)")


def _fault(what: str, given: Tensor, shape: tuple[int, ...]) -> str:
    """What is wrong with a tensor, which must be finite and have that shape; "" if nothing."""
    if given.shape != shape:
        return f"gives {what} of shape {tuple(given.shape)}, expected {shape}"
    odd = given[~given.isfinite()]
    return f"gives {what} that is not finite ({odd[0]:g}, {len(odd)} of {given.numel()} numbers)" if len(odd) else ""


def _network(name: str, scale: int, hyper: Mapping[str, Any]) -> str:
    """What is wrong with its features and SR of two LR pictures."""
    import torch

    from sr_models.networks.base import SRNetwork

    window = math.lcm(sr_models.spec(name).window, sr_models.check(name, scale, hyper).window(scale))
    height = math.ceil(_SIDE / window) * window
    width = height + window
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # the weights are drawn and thrown away
        net = sr_models.build(name, scale, **hyper)
        assert isinstance(net, SRNetwork), "build sees to it"
        lr = torch.rand(2, 3, height, width)
        features, sr = net.features(lr), net(lr)
    to_go = net.feature_scale_to_go
    of_features = (2, net.feature_channels, height * scale // to_go, width * scale // to_go)
    given, of_sr = f"two {height}x{width} LR", (2, 3, height * scale, width * scale)
    return _fault(f"features of {given}", features, of_features) or _fault(f"SR of {given}", sr, of_sr)


def _loss(loss: OwnLoss) -> str:
    """What is wrong with its values of two samples, and with their gradient."""
    import torch

    y, mu, z, sigma = torch.rand(4, 2, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0))
    mu.requires_grad_()
    missed = loss.per_sample(mu, y, z if loss.noisy else None, sigma if "sigma" in loss.needs else None)
    [gradient] = torch.autograd.grad(missed.sum(), mu)
    return _fault("a loss of two samples", missed, (2,)) or _fault("a gradient of mu", gradient, tuple(mu.shape))


def _metric(name: str) -> str:
    """What is wrong with its values of two pictures."""
    import torch

    metric = METRICS[name.removeprefix(STABILITY)]
    assert metric.compute is not None, "the table sees to it"
    pictures = torch.rand(2, 2, 3, 2 * _SIDE, 2 * _SIDE, generator=torch.Generator().manual_seed(0))
    values = metric.compute(*pictures[: len(metric.reads)])
    return _fault("scores of two pictures", values, (2,))


def _degradation(how: OwnDegradation, scale: int) -> str:
    """What is wrong with the LR of a picture, made twice from one state of the generator."""
    import numpy as np

    from sr_models.images.degrade import degrade
    from sr_models.rng import keyed

    hr = keyed(0, 0, 1, "degrade").integers(0, 256, (_SIDE * scale, _SIDE * scale, 3), np.uint8)
    first, again = (degrade(hr, scale, how, keyed(0, 0, 0, "degrade")).lr for _ in range(2))
    apart = (first != again).any(axis=-1)
    return f"gives other LR from the same rng ({apart.sum()} of {apart.size} pixels)" if apart.any() else ""
