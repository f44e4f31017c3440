"""How close SR is to HR, and its LR to the given one: PSNR, SSIM and consistency under an explicit protocol.

SSIM is Wang et al. 2004 (https://doi.org/10.1109/TIP.2003.819861): 11x11 Gaussian window, sigma 1.5, K1 0.01, K2 0.03,
biased local moments, the valid region only, no downsampling; its variants are those of `eval.protocol`. Consistency is
that of SR3 and DREAM (https://arxiv.org/abs/2312.00210, Table 2). Everything is float64.
Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eval.protocol import FIDELITY, Luma, Protocol, Ssim, get_metric
from sr_models.errors import InputError
from sr_models.images.matlab import KERNELS, resize
from sr_models.images.operators import check_images, levels, resize_float, rgb_to_y, to_float, to_uint8

_K1, _K2 = 0.01, 0.03
_STRIP_PX = 32768  # SSIM works through strips of rows about this large, which stay in a CPU's cache


@dataclass(frozen=True)
class _Window:
    """SSIM's weights along one axis, what its (co)variances are multiplied by, and whether they may be negative."""

    taps: tuple[float, ...]
    norm: float = 1.0
    clamp: bool = False

    @property
    def radius(self) -> int:
        return len(self.taps) // 2


def _gaussian(radius: int, sigma: float) -> tuple[float, ...]:
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-offsets.square() / (2 * sigma**2))
    return tuple((weights / weights.sum()).tolist())


_WANG = _gaussian(5, 1.5)
_WINDOWS: dict[Ssim, _Window] = {
    "gaussian": _Window(_WANG),
    "uniform7": _Window((1 / 7,) * 7, norm=49 / 48),  # a sample of 49 pixels, unbiased
    "y8": _Window(_WANG, clamp=True),
}


def psnr(
    sr_BCHW: Tensor, hr_BCHW: Tensor, *, data_range: float, shave: int, luma: Luma | None, mse_floor: float = 0.0
) -> Tensor:
    """Peak signal-to-noise ratio in dB, one number an image.

    Args:
        sr_BCHW, hr_BCHW: RGB with values in [0, data_range], of one shape.
        data_range: the peak value (1.0 or 255.0).
        shave: pixels left out on each side.
        luma: compare only Y ("y" in float, "y8" rounded to 8 bits); None compares R, G and B together.
        mse_floor: added to the MSE of the images divided by data_range.

    Returns:
        (B,) float64; infinity where the two are equal and there is no floor.

    Raises:
        InputError: shapes differ, or nothing is left after shaving.
    """
    return _psnr(*_prepare(sr_BCHW, hr_BCHW, data_range, shave, luma), data_range, mse_floor)


def _psnr(x: Tensor, y: Tensor, data_range: float, mse_floor: float) -> Tensor:
    return 10 * torch.log10(data_range**2 / ((x - y).square_().mean((1, 2, 3)) + mse_floor * data_range**2))


def ssim(
    sr_BCHW: Tensor, hr_BCHW: Tensor, *, data_range: float, shave: int, luma: Luma | None, variant: Ssim = "gaussian"
) -> Tensor:
    """Structural similarity, one number an image; arguments and errors as in `psnr`.

    Args:
        variant: the window, as in `eval.protocol`; "y8" rounds Y, whatever `luma` says of it.

    Returns:
        (B,) float64 in [-1, 1]; for RGB the mean over the channels. At least the window, 11x11 or 7x7 pixels, must be
        left.
    """
    luma = "y8" if luma and variant == "y8" else luma
    return _ssim(*_prepare(sr_BCHW, hr_BCHW, data_range, shave, luma), data_range, _WINDOWS[variant])


def _ssim(x: Tensor, y: Tensor, data_range: float, window: _Window) -> Tensor:
    radius = window.radius
    _check_window(min(x.shape[-2:]), window)
    channels, height, width = x.shape[1], x.shape[2] - 2 * radius, x.shape[3] - 2 * radius
    rows = max(_STRIP_PX // x.shape[3], 2 * radius)
    total = x.new_zeros(len(x))
    for top in range(0, height, rows):
        strip = slice(top, top + rows + 2 * radius)
        total += _similarity(x[:, :, strip], y[:, :, strip], data_range, window).sum((1, 2, 3))
    return total / (channels * height * width)


def _similarity(x: Tensor, y: Tensor, data_range: float, window: _Window) -> Tensor:
    """The SSIM map of two float64 images, smaller by the window's radius on each side."""
    # The formula needs the two local energies only as their sum, so four maps are blurred, not five.
    maps = torch.stack([x, y, torch.addcmul(x * x, y, y), x * y])
    mean_x, mean_y, energy, product = _blur(_blur(maps, window.taps, -2), window.taps, -1)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    mean_product, mean_energy = mean_x * mean_y, mean_x.square_().add_(mean_y.square_())
    covariance, variances = product.sub_(mean_product), energy.sub_(mean_energy)  # in place: the strip stays in cache
    if window.norm != 1:
        covariance.mul_(window.norm)
        variances.mul_(window.norm)
    structure = covariance.mul_(2).add_(c2)
    if window.clamp:
        structure.clamp_(min=0)
    above = mean_product.mul_(2).add_(c1).mul_(structure)
    return above.div_(mean_energy.add_(c1).mul_(variances.add_(c2)))


def score(
    sr_BCHW: Tensor, hr_BCHW: Tensor, *, scale: float, protocol: Protocol, metrics: Sequence[str]
) -> dict[str, list[float]]:
    """Compare float RGB images in [0, 1] as `protocol` says.

    Returns:
        metric -> one number an image, in the order of `metrics`; an infinite PSNR means equal images.

    Raises:
        InputError: a metric that is not in `FIDELITY`, shapes that differ, images too small for the protocol.
        ValueError: not RGB images, or values that are not finite (rounding would hide them).
    """
    for name in metrics:
        get_metric(name)
        if name not in FIDELITY:
            raise InputError(f"metric {name!r} needs more than SR and HR; without it: {', '.join(FIDELITY)}")
    for image, what in ((sr_BCHW, "SR"), (hr_BCHW, "HR")):
        check_images(image, what)
        if not math.isfinite(image.sum(dtype=torch.float64)):  # NaN and infinity survive a sum, and no mask is made
            raise ValueError(f"{what} holds values that are not finite")
    data_range = 255.0 if protocol.uint8 else 1.0

    def seen(image: Tensor) -> Tensor:
        # A PNG's levels are whole numbers that float32 holds exactly, at half the memory traffic of float64.
        return levels(image.float()) if protocol.uint8 else image.clamp(0, 1)

    ready: dict[Luma | None, tuple[Tensor, Tensor]] = {}
    scores = {}
    for name in metrics:
        similarity, on_luma = name.startswith("ssim"), name.endswith("_y")
        luma = protocol.luma if on_luma else None
        if similarity and on_luma and protocol.ssim == "y8":
            luma = "y8"
        if luma not in ready:
            ready[luma] = _prepare(sr_BCHW, hr_BCHW, data_range, protocol.shave(scale), luma, seen)
        if similarity:
            values = _ssim(*ready[luma], data_range, _WINDOWS[protocol.ssim])
        else:
            values = _psnr(*ready[luma], data_range, protocol.mse_floor)
        scores[name] = values.tolist()
    return scores


def check_size(height: int, width: int, *, scale: float, protocol: Protocol, metrics: Sequence[str]) -> None:
    """Hold that images of a size can be compared as `protocol` says.

    Raises:
        InputError: as `score`, whatever the metrics; those that are not in `FIDELITY` only see the border.
    """
    shave = protocol.shave(scale)
    _check_border(height, width, shave)
    if any(name.startswith("ssim") for name in metrics):
        _check_window(min(height, width) - 2 * shave, _WINDOWS[protocol.ssim])


def consistency(sr_BCHW: Tensor, lr_BCHW: Tensor, *, kernel: str, uint8: bool) -> Tensor:
    """How far SR, shrunk again, is from the LR it was made from: MSE x 1e5 of images in [0, 1], over all channels.

    Args:
        sr_BCHW, lr_BCHW: float RGB in [0, 1]; a side of SR is LR's times the same factor both ways.
        kernel: what shrinks: a key of `sr_models.images.matlab.KERNELS`, or "pil" (Pillow's bicubic).
        uint8: round SR to 8 bits, before and after; otherwise shrink and compare it in float, which "pil" cannot.

    Returns:
        (B,) float64. HR scores 0 against LR that its own kernel made in 8 bits.

    Raises:
        InputError: sizes that do not go together, or "pil" without uint8.
    """
    height, width = lr_BCHW.shape[-2:]
    ratio = Fraction(sr_BCHW.shape[-1], width)
    if ratio < 1 or sr_BCHW.shape != (*lr_BCHW.shape[:2], height * ratio, width * ratio):
        raise InputError(
            f"SR must be a multiple of LR in size, got {tuple(sr_BCHW.shape)} and {tuple(lr_BCHW.shape)} (B, C, H, W)"
        )
    if kernel == "pil" and not uint8:
        raise InputError("consistency by Pillow's bicubic works on 8-bit pictures, and the protocol keeps SR in float")
    if uint8:
        shrunk = torch.cat([to_float(_shrink(sr, ratio, kernel)) for sr in to_uint8(sr_BCHW)]).to(lr_BCHW.device)
    else:
        shrunk = resize_float(sr_BCHW.clamp(0, 1).double(), float(1 / ratio), border=KERNELS[kernel][0])
    return (shrunk.double() - lr_BCHW.double()).square().mean((1, 2, 3)) * 1e5


def _shrink(image: np.ndarray, ratio: Fraction, kernel: str) -> np.ndarray:
    if kernel == "pil":
        size = int(image.shape[1] / ratio), int(image.shape[0] / ratio)
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    border, round_between = KERNELS[kernel]
    return resize(image, float(1 / ratio), border=border, round_between=round_between)


def inside(image_BCHW: Tensor, shave: int) -> Tensor:
    """What is left of images without `shave` pixels on each side. Raises InputError if that is nothing."""
    height, width = image_BCHW.shape[-2:]
    _check_border(height, width, shave)
    return image_BCHW[..., shave : height - shave, shave : width - shave]


def _check_border(height: int, width: int, shave: int) -> None:
    if min(height, width) <= 2 * shave:
        raise InputError(f"image of {width}x{height} px is too small for a border of {shave} px")


def _check_window(size: int, window: _Window) -> None:
    if size < (smallest := len(window.taps)):
        raise InputError(f"image is too small: SSIM's window is {smallest} px, {size} are left inside the border")


def _prepare(
    sr: Tensor,
    hr: Tensor,
    data_range: float,
    shave: int,
    luma: Luma | None,
    seen: Callable[[Tensor], Tensor] = lambda image: image,
) -> tuple[Tensor, Tensor]:
    """Both images in float64, shaved, as Y where asked; `seen` is applied to one, then the other, to save memory."""
    if sr.shape != hr.shape:
        raise InputError(f"SR and HR must have one shape, got {tuple(sr.shape)} and {tuple(hr.shape)}")

    def prepared(image: Tensor) -> Tensor:
        image = seen(inside(image, shave))
        if luma is None:
            return image.double()
        y = rgb_to_y(image, data_range=data_range)
        return y if luma == "y" else torch.floor(255 / data_range * y + 0.5) * (data_range / 255)

    return prepared(sr), prepared(hr)


def _blur(maps: Tensor, taps: Sequence[float], dim: int) -> Tensor:
    """Weighted mean along one dimension, valid region only: a sum of shifted views (far faster than conv2d)."""
    length = maps.shape[dim] - len(taps) + 1
    total = maps.narrow(dim, 0, length) * taps[0]
    for shift, weight in enumerate(taps[1:], start=1):
        total.add_(maps.narrow(dim, shift, length), alpha=weight)
    return total
