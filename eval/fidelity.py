"""How close SR is to HR: PSNR and SSIM under an explicit protocol.

SSIM is Wang et al. 2004 (https://doi.org/10.1109/TIP.2003.819861): 11x11 Gaussian window, sigma 1.5, K1 0.01, K2 0.03,
biased local moments, the valid region only, no downsampling. Everything is float64.
Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eval.protocol import Luma, Protocol, get_metric
from sr_models.errors import InputError
from sr_models.imaging import check_images, levels, rgb_to_y

_RADIUS, _SIGMA, _K1, _K2 = 5, 1.5, 0.01, 0.03
_STRIP_PX = 32768  # SSIM works through strips of rows about this large, which stay in a CPU's cache


def psnr(sr_BCHW: Tensor, hr_BCHW: Tensor, *, data_range: float, shave: int, luma: Luma | None) -> Tensor:
    """Peak signal-to-noise ratio in dB, one number an image.

    Args:
        sr_BCHW, hr_BCHW: RGB with values in [0, data_range], of one shape.
        data_range: the peak value (1.0 or 255.0).
        shave: pixels left out on each side.
        luma: compare only Y ("y" in float, "y8" rounded to 8 bits); None compares R, G and B together.

    Returns:
        (B,) float64; infinity where the two are equal.

    Raises:
        InputError: shapes differ, or nothing is left after shaving.
    """
    return _psnr(*_prepare(sr_BCHW, hr_BCHW, data_range, shave, luma), data_range)


def _psnr(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    return 10 * torch.log10(data_range**2 / (x - y).square_().mean((1, 2, 3)))


def ssim(sr_BCHW: Tensor, hr_BCHW: Tensor, *, data_range: float, shave: int, luma: Luma | None) -> Tensor:
    """Structural similarity, one number an image; arguments and errors as in `psnr`.

    Returns:
        (B,) float64 in [-1, 1]; for RGB the mean over the channels. At least 11x11 pixels must be left.
    """
    return _ssim(*_prepare(sr_BCHW, hr_BCHW, data_range, shave, luma), data_range)


def _ssim(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    smallest, size = 2 * _RADIUS + 1, min(x.shape[-2:])
    if size < smallest:
        raise InputError(f"image is too small: SSIM's window is {smallest} px, {size} are left inside the border")
    channels, height, width = x.shape[1], x.shape[2] - 2 * _RADIUS, x.shape[3] - 2 * _RADIUS
    rows = max(_STRIP_PX // x.shape[3], 2 * _RADIUS)
    total = x.new_zeros(len(x))
    for top in range(0, height, rows):
        strip = slice(top, top + rows + 2 * _RADIUS)
        total += _similarity(x[:, :, strip], y[:, :, strip], data_range).sum((1, 2, 3))
    return total / (channels * height * width)


def _similarity(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    """The SSIM map of two float64 images, smaller by the window's radius on each side."""
    # The formula needs the two local energies only as their sum, so four maps are blurred, not five.
    mean_x, mean_y, energy, product = _blur(_blur(torch.stack([x, y, torch.addcmul(x * x, y, y), x * y]), -2), -1)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    mean_product, mean_energy = mean_x * mean_y, mean_x.square_().add_(mean_y.square_())
    covariance, variances = product.sub_(mean_product), energy.sub_(mean_energy)  # in place: the strip stays in cache
    above = mean_product.mul_(2).add_(c1).mul_(covariance.mul_(2).add_(c2))
    return above.div_(mean_energy.add_(c1).mul_(variances.add_(c2)))


_MEASURES = {"psnr_y": (_psnr, True), "psnr_rgb": (_psnr, False), "ssim_y": (_ssim, True), "ssim_rgb": (_ssim, False)}


def score(
    sr_BCHW: Tensor, hr_BCHW: Tensor, *, scale: int, protocol: Protocol, metrics: Sequence[str]
) -> dict[str, list[float]]:
    """Compare float RGB images in [0, 1] as `protocol` says.

    Returns:
        metric -> one number an image, in the order of `metrics`; an infinite PSNR means equal images.

    Raises:
        InputError: unknown metric, shapes that differ, images too small for the protocol.
        ValueError: not RGB images, or values that are not finite (rounding would hide them).
    """
    for name in metrics:
        get_metric(name)
    for image, what in ((sr_BCHW, "SR"), (hr_BCHW, "HR")):
        check_images(image, what)
        if not math.isfinite(image.sum(dtype=torch.float64)):  # NaN and infinity survive a sum, and no mask is made
            raise ValueError(f"{what} holds values that are not finite")
    # A PNG's levels are whole numbers that float32 holds exactly, at half the memory traffic of float64.
    data_range = 255.0 if protocol.uint8 else 1.0
    sr, hr = (levels(image.float()) if protocol.uint8 else image.clamp(0, 1) for image in (sr_BCHW, hr_BCHW))
    ready: dict[Luma | None, tuple[Tensor, Tensor]] = {}
    scores = {}
    for name in metrics:
        measure, on_luma = _MEASURES[name]
        luma = protocol.luma if on_luma else None
        if luma not in ready:
            ready[luma] = _prepare(sr, hr, data_range, protocol.shave(scale), luma)
        scores[name] = measure(*ready[luma], data_range).tolist()
    return scores


def _prepare(sr: Tensor, hr: Tensor, data_range: float, shave: int, luma: Luma | None) -> tuple[Tensor, Tensor]:
    """Both images in float64, shaved, as Y where asked."""
    if sr.shape != hr.shape:
        raise InputError(f"SR and HR must have one shape, got {tuple(sr.shape)} and {tuple(hr.shape)}")
    height, width = (size - 2 * shave for size in sr.shape[-2:])
    if min(height, width) < 1:
        raise InputError(f"image of {sr.shape[-1]}x{sr.shape[-2]} px is too small for a border of {shave} px")

    def one(image: Tensor) -> Tensor:
        image = image[..., shave : shave + height, shave : shave + width]
        if luma is None:
            return image.double()
        y = rgb_to_y(image, data_range=data_range)
        return y if luma == "y" else torch.floor(255 / data_range * y + 0.5) * (data_range / 255)

    return one(sr), one(hr)


def _gaussian() -> list[float]:
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float64)
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    return (weights / weights.sum()).tolist()


_WINDOW = _gaussian()


def _blur(maps: Tensor, dim: int) -> Tensor:
    """Gaussian along one dimension, valid region only: a weighted sum of shifted views (far faster than conv2d)."""
    length = maps.shape[dim] - 2 * _RADIUS
    total = maps.narrow(dim, 0, length) * _WINDOW[0]
    for shift, weight in enumerate(_WINDOW[1:], start=1):
        total.add_(maps.narrow(dim, shift, length), alpha=weight)
    return total
