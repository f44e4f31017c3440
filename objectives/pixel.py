"""Pixel losses, and the auxiliary loss of the sigma branch (He & Cheng 2022, https://arxiv.org/abs/2201.10084).

mu is the network's prediction, y the target, both BCHW in [0, 1] (mu unclamped); z is standard normal noise of y's
shape, for the losses that are `noisy`; sigma_hat is what a sigma branch returned. Every loss returns its mean over
C, H, W for each sample: (B,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from objectives.losses import L1, L2, Charbonnier, ConstantSigma, Expectation, NoLoss, SampledSigma
from objectives.named import OwnLoss
from objectives.spec import Loss, SigmaBranch

Maybe = Tensor | None


def loss(params: Loss, mu: Tensor, y: Tensor, z: Maybe, sigma_hat: Maybe = None) -> Tensor:
    """That of any kind of regression, a plug-in's too."""
    if isinstance(params, OwnLoss):
        missed = params.per_sample(mu, y, z, sigma_hat)
        assert missed.shape == y.shape[:1], f"loss {params.kind} gives {tuple(missed.shape)} for {tuple(y.shape)}"
        return missed
    return BY_KIND[params.kind](params, mu, y, z, sigma_hat)


def l1(params: L1, mu: Tensor, y: Tensor, z: Maybe, sigma_hat: Maybe = None) -> Tensor:
    """|y - mu|."""
    return _per_sample((y - mu).abs())


def l2(params: L2, mu: Tensor, y: Tensor, z: Maybe, sigma_hat: Maybe = None) -> Tensor:
    """(y - mu)^2."""
    return _per_sample((y - mu).square())


def charbonnier(params: Charbonnier, mu: Tensor, y: Tensor, z: Maybe, sigma_hat: Maybe = None) -> Tensor:
    """sqrt((y - mu)^2 + eps^2)."""
    return _per_sample(((y - mu).square() + params.eps**2).sqrt())


def constant_sigma(params: ConstantSigma, mu: Tensor, y: Tensor, z: Maybe, sigma_hat: Maybe = None) -> Tensor:
    """|y + k z - mu| (Eq. 7)."""
    assert z is not None
    return _per_sample((y + params.k * z - mu).abs())


def sampled_sigma(params: SampledSigma, mu: Tensor, y: Tensor, z: Maybe, sigma_hat: Maybe = None) -> Tensor:
    """|y - (mu + sigma_hat z)| (Eq. 6); smallest, in the mean over z, where sigma_hat is 0."""
    assert z is not None and sigma_hat is not None
    return _per_sample((y - (mu + sigma_hat * z)).abs())


def expectation(params: Expectation, mu: Tensor, y: Tensor, z: Maybe, sigma_hat: Maybe = None) -> Tensor:
    """|y - (mu + sigma z)| with sigma = |y - mu| (Eq. 8).

    The gradient passes through sigma, which makes this L1 with the positive random weight |sgn(y - mu) - z| on each
    element. With sigma detached, 15.9 % of the elements (z beyond one standard deviation) would be pushed away from y.
    """
    assert z is not None
    sigma = (y - mu).abs()
    if params.zero_below_average:
        sigma = sigma * above_average(sigma)
    return _per_sample((y - (mu + sigma * z)).abs())


def none(params: NoLoss, mu: Tensor, y: Tensor, z: Maybe, sigma_hat: Maybe = None) -> Tensor:
    """Zero."""
    return mu.new_zeros(len(mu))


def auxiliary(params: SigmaBranch, mu: Tensor, sigma_hat: Tensor, y: Tensor) -> Tensor:
    """|r - sigma_hat| with r = |y - mu|, or y - mu if `signed` (Eq. 10), before the weight beta.

    Nothing is detached here; the caller decides whether mu learns from it.
    """
    residual = y - mu
    size = residual.abs()
    r = residual if params.signed else size
    if params.zero_below_average:
        r = r * above_average(size)
    return _per_sample((r - sigma_hat).abs())


def above_average(size_BCHW: Tensor) -> Tensor:
    """Boolean mask of the elements that are not below their own sample's mean."""
    return size_BCHW >= size_BCHW.mean(dim=(1, 2, 3), keepdim=True)


def _per_sample(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.mean(dim=(1, 2, 3))


BY_KIND: dict[str, Callable[[Any, Tensor, Tensor, Maybe, Maybe], Tensor]] = {
    "l1": l1,
    "l2": l2,
    "charbonnier": charbonnier,
    "constant_sigma": constant_sigma,
    "sampled_sigma": sampled_sigma,
    "expectation": expectation,
    "none": none,
}
