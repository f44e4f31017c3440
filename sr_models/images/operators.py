"""Image operators that three packages share: MATLAB's bicubic resize, BT.601 luma, 8-bit rounding, shape checks.

The resize is that of `sr_models.images.matlab`, here on tensors too; luma is MATLAB's `rgb2ycbcr` (ITU-R BT.601).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sr_models.images.matlab import Border, beyond, matrix, sides_of


@torch.compiler.disable  # numpy makes the taps: traced, they cost graph breaks and the last digits
def resize_float(
    x_BCHW: Tensor, scale: float, *, out_shape: tuple[int, int] | None = None, border: Border = "replicate"
) -> Tensor:
    """The same bicubic on float images, differentiable: no rounding and no clipping anywhere.

    Arguments as in `resize`; any range, any number of channels; computed in the input's own precision. Scale 1 gives
    the input itself.
    """
    if x_BCHW.ndim != 4 or not x_BCHW.is_floating_point():
        raise ValueError(f"resize_float expects float BCHW, got shape {tuple(x_BCHW.shape)}, dtype {x_BCHW.dtype}")
    if scale == 1 and out_shape is None:
        return x_BCHW
    if torch.compiler.is_exporting():
        return _in_graph(x_BCHW, int(scale))
    sides = sides_of((x_BCHW.shape[2], x_BCHW.shape[3]), scale, out_shape)
    rows, columns = (torch.from_numpy(matrix(*side, border)).to(x_BCHW) for side in sides)
    with torch.autocast(x_BCHW.device.type, enabled=False):
        return rows @ x_BCHW @ columns.T


def _in_graph(x_BCHW: Tensor, scale: int) -> Tensor:
    """Enlargement by a whole factor as one convolution, for graphs whose sides are open: `resize_float` to rounding.

    All pixels of the result that lie at the same place of an LR pixel have the same weights, within two LR pixels.
    """
    middle, reach = 8, 2
    taps = matrix(2 * middle, 2 * middle * scale, scale, "replicate")
    taps = taps[middle * scale : (middle + 1) * scale, middle - reach : middle + reach + 1]
    kernel = torch.from_numpy(np.einsum("ri,cj->rcij", taps, taps)).to(x_BCHW).flatten(0, 1)[:, None]
    padded = functional.pad(x_BCHW, (reach,) * 4, mode="replicate")
    planes = [functional.conv2d(plane, kernel) for plane in padded.split(1, dim=1)]
    return torch.cat([functional.pixel_shuffle(plane, scale) for plane in planes], dim=1)


def rgb_to_y(x_BCHW: Tensor, *, data_range: float | None = None) -> Tensor:
    """MATLAB luma of RGB in [0, 1]: (B, 1, H, W) in [16/255, 235/255], not rounded.

    Args:
        data_range: for metrics, the peak of images in another range; Y is then float64, in that range, and exact to
            its last digits however the image was stored.
    """
    check_images(x_BCHW, "rgb_to_y input")
    peak, dtype = (1.0, x_BCHW.dtype) if data_range is None else (data_range, torch.float64)
    red, green, blue = (weight / 255 for weight in (65.481, 128.553, 24.966))
    y = x_BCHW[:, 0:1].to(dtype) * red
    return y.add_(x_BCHW[:, 1:2], alpha=green).add_(x_BCHW[:, 2:3], alpha=blue).add_(16 / 255 * peak)


def levels(x: Tensor) -> Tensor:
    """Clamp to [0, 1] and round half up to the nearest of the 256 levels: whole numbers 0..255 in x's own type."""
    return x.clamp(0, 1).mul_(255).add_(0.5).floor_()


def quantize(x: Tensor) -> Tensor:
    """`levels` back in [0, 1], same shape."""
    return levels(x) / 255


def to_uint8(x_BCHW: Tensor) -> np.ndarray:
    """Float images in [0, 1] to a (B, H, W, C) uint8 array on the host: clamped, rounded half up; undoes `to_float`.

    Raises:
        ValueError: a value is not finite, which no picture can show.
    """
    if not torch.isfinite(x_BCHW).all():
        raise ValueError("images hold NaN or infinite values and cannot be stored in 8 bits")
    levels = quantize(x_BCHW.detach().float()).mul_(255).round_().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def to_float(images: np.ndarray | Tensor) -> Tensor:
    """uint8 (H, W, C) or (B, H, W, C) to float32 (B, C, H, W) in [0, 1], on the device where a tensor lies."""
    x = torch.from_numpy(np.array(images)) if isinstance(images, np.ndarray) else images
    if x.dtype != torch.uint8 or x.ndim not in (3, 4):
        raise ValueError(f"to_float expects uint8 (H, W, C) or (B, H, W, C), got {tuple(x.shape)}, dtype {x.dtype}")
    x_BHWC = x if x.ndim == 4 else x[None]
    return x_BHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def check_images(x: Tensor, name: str) -> None:
    """Hold the public boundary: float RGB (B, 3, H, W), no side empty. The range [0, 1] is the caller's promise.

    Raises:
        ValueError: anything else.
    """
    if x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape or not x.is_floating_point():
        raise ValueError(f"{name} must be float RGB of shape (B, 3, H, W), got shape {tuple(x.shape)}, dtype {x.dtype}")


def pad_to(x_BCHW: Tensor, height: int, width: int) -> Tensor:
    """Extend the bottom and the right by the mirror image, edge repeated, to at least these sides."""
    for axis, wanted in ((2, height), (3, width)):
        if wanted > (size := x_BCHW.shape[axis]):
            index = beyond(np.arange(wanted), size, "symmetric")
            x_BCHW = x_BCHW.index_select(axis, torch.from_numpy(index).to(x_BCHW.device))
    return x_BCHW


def pad_to_window(x_BCHW: Tensor, window: int, *, always: bool = False) -> Tensor:
    """Extend the bottom and the right by the mirror image, edge repeated, to the next multiples of `window`.

    A side that is a multiple already stays, or gets one window more where `always`.
    """
    sides = ((size // window + (always or size % window > 0)) * window for size in x_BCHW.shape[2:])
    return pad_to(x_BCHW, *sides)
