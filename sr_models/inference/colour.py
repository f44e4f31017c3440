"""Colours of a drawn picture taken from the enlarged LR, which diffusion shifts: two ways that CCSR's code offers.

AdaIN: https://arxiv.org/abs/1703.06868, Eq. 8, on pictures. Wavelets: the stationary transform "à trous", as StableSR
(https://arxiv.org/abs/2305.07015, App. A) has it. Constants as in https://github.com/csslc/CCSR, commit 15778ed.

Pictures are (B, C, H, W) in any range; what comes out is not clamped.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from sr_models.hyper.sampling import ColourFix
from sr_models.images.operators import resize_float

_LEVELS = 5
_EPS = 1e-5
_TAPS = (1 / 4, 1 / 2, 1 / 4)


def fix_colour(fix: ColourFix, sr_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
    """A picture with the colours of the LR that it was drawn from.

    Args:
        sr_BCHW: not clamped, of any size.
        lr_BCHW: in [0, 1]; enlarged by the bicubic of `resize_float`, on the device where `sr_BCHW` lies.
    """
    size = sr_BCHW.shape[2], sr_BCHW.shape[3]
    enlarged = resize_float(lr_BCHW.to(sr_BCHW), 1.0, out_shape=size).clamp(0, 1)
    return COLOUR_FIXES[fix](sr_BCHW, enlarged)


def adain(content_BCHW: Tensor, style_BCHW: Tensor) -> Tensor:
    """`content` with the mean and the spread that each channel of `style` has."""
    (mean, spread), (wanted_mean, wanted_spread) = _moments(content_BCHW), _moments(style_BCHW)
    return (content_BCHW - mean) / spread * wanted_spread + wanted_mean


def wavelet(content_BCHW: Tensor, style_BCHW: Tensor) -> Tensor:
    """The details of `content` at five scales, on what `style` has left without its own."""
    return content_BCHW - _blurred(content_BCHW) + _blurred(style_BCHW)


COLOUR_FIXES: dict[ColourFix, Callable[[Tensor, Tensor], Tensor]] = {"adain": adain, "wavelet": wavelet}


def _moments(x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel."""
    variance, mean = torch.var_mean(x_BCHW, (2, 3), keepdim=True)
    return mean, (variance + _EPS).sqrt()


def _blurred(x_BCHW: Tensor) -> Tensor:
    """What is left after all levels: each blurs with holes twice as wide; beyond an edge lies the edge pixel."""
    taps = torch.tensor(_TAPS).to(x_BCHW)
    kernel = torch.outer(taps, taps).expand(x_BCHW.shape[1], 1, 3, 3)
    for level in range(_LEVELS):
        hole = 2**level
        padded = functional.pad(x_BCHW, (hole, hole, hole, hole), mode="replicate")
        x_BCHW = functional.conv2d(padded, kernel, dilation=hole, groups=x_BCHW.shape[1])
    return x_BCHW
