"""How well a predicted spread σ tells where SR is wrong: PLL, PSNR and correlation of σ.

"Revisiting l1 loss in super-resolution" (https://arxiv.org/abs/2201.10084), Eq. 11, Table 7. The paper prints neither
a floor of σ nor how channels are joined: ours are `SIGMA_FLOOR`, the mean over R, G and B for PLL, and for PSNR the
weights that EDSR-PyTorch (https://github.com/sanghyun-son/EDSR-PyTorch) sums a difference of RGB with, which alone fit
the printed constants. Where errors are small the PSNR of any constant is high, though it tells nothing of where: so σ
is held beside the best constant, and `is_constant` says where it is one itself.

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eval.metrics.fidelity import inside
from sr_models.errors import InputError
from sr_models.images.operators import check_images

SIGMA_FLOOR = 1e-3
"""A smaller σ counts as this much, in [0, 1]: a quarter of an 8-bit level."""

CONSTANT_BELOW = 0.01
"""σ is called constant where its standard deviation is below this fraction of its mean."""

_LUMA = (65.738 / 256, 129.057 / 256, 25.064 / 256)


def pll(sr_BCHW: Tensor, hr_BCHW: Tensor, sigma_BCHW: Tensor, *, shave: int) -> Tensor:
    """Predictive log likelihood: the mean over pixels and channels of log N(HR; SR, σ²), natural logarithm.

    Args:
        sr_BCHW, hr_BCHW: float RGB in [0, 1], SR not rounded. In [0, 255] the value would be 5.54 lower.
        sigma_BCHW: predicted spread in the same units and shape.
        shave: pixels left out on each side.

    Returns:
        (B,) float64, in nats; -0.5 ln(2 pi) - 0.5 - ln σ where HR is SR plus Gaussian noise of spread σ.

    Raises:
        InputError: shapes differ, or nothing is left after shaving.
        ValueError: not RGB images.
    """
    error, sigma = _error_and_sigma(sr_BCHW, hr_BCHW, sigma_BCHW, shave)
    sigma = sigma.clamp(min=SIGMA_FLOOR)
    return (-0.5 * math.log(2 * math.pi) - sigma.log() - (error / sigma).square() / 2).mean((1, 2, 3))


def psnr_sigma(sr_BCHW: Tensor, hr_BCHW: Tensor, sigma_BCHW: Tensor, *, shave: int) -> Tensor:
    """PSNR of σ as a prediction of |HR - SR|, on the weighted sum of their difference in R, G and B; peak 1.

    Arguments and errors as in `pll`.

    Returns:
        (B,) float64, in dB; infinity where σ equals the error everywhere.
    """
    error, sigma = _error_and_sigma(sr_BCHW, hr_BCHW, sigma_BCHW, shave)
    miss_BHW = torch.einsum("bchw,c->bhw", sigma - error, sigma.new_tensor(_LUMA))
    return -10 * torch.log10(miss_BHW.square().mean((1, 2)))


def sigma_r(sr_BCHW: Tensor, hr_BCHW: Tensor, sigma_BCHW: Tensor, *, shave: int) -> Tensor:
    """Pearson's correlation of σ with |HR - SR|, over pixels and channels.

    Arguments and errors as in `pll`.

    Returns:
        (B,) float64, in [-1, 1]; 0 where σ, or the error, is the same everywhere.
    """
    error, sigma = (x.flatten(1) for x in _error_and_sigma(sr_BCHW, hr_BCHW, sigma_BCHW, shave))
    error, sigma = error - error.mean(1, keepdim=True), sigma - sigma.mean(1, keepdim=True)
    spreads = (error.square().sum(1) * sigma.square().sum(1)).sqrt()
    return torch.where(spreads > 0, (error * sigma).sum(1) / spreads, 0.0)


def is_constant(sigma_BCHW: Tensor, *, shave: int) -> Tensor:
    """Where σ, with its floor, is the same over an image up to `CONSTANT_BELOW`: (B,) bool."""
    sigma = inside(sigma_BCHW, shave).double().clamp(min=SIGMA_FLOOR).flatten(1)
    return sigma.std(1, correction=0) < CONSTANT_BELOW * sigma.mean(1)


def _error_and_sigma(sr: Tensor, hr: Tensor, sigma: Tensor, shave: int) -> tuple[Tensor, Tensor]:
    """|HR - SR| and σ in float64, shaved."""
    for image, what in ((sr, "SR"), (hr, "HR"), (sigma, "sigma")):
        check_images(image, what)
    if not sr.shape == hr.shape == sigma.shape:
        raise InputError(
            f"SR, HR and sigma must have one shape, got {tuple(sr.shape)}, {tuple(hr.shape)} and {tuple(sigma.shape)}"
        )
    sr, hr, sigma = (inside(image, shave).double() for image in (sr, hr, sigma))
    return (hr - sr).abs(), sigma
