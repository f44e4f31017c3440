"""MATLAB's bicubic resize of 8-bit images, in numpy: whoever lists or shrinks pictures waits for no torch.

The resize follows MATLAB's documented `imresize` (https://www.mathworks.com/help/images/ref/imresize.html) with Keys'
cubic, a = -0.5 (https://doi.org/10.1109/TASSP.1981.1163711).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from sr_models.errors import InputError
from sr_models.params import nearest
from sr_models.scales import hr_step

_STRIP = 2**18
"""Values that a resize works on at a time: they stay in a CPU's cache, and memory does not grow with a picture."""

Border = Literal["replicate", "symmetric"]

KERNEL = "matlab-bicubic-replicate-u8"
"""The kernel that made the standard LR files of Set5, Set14, ...: largest difference 0."""

KERNELS: dict[str, tuple[Border, bool]] = {  # id -> (border, rounded to uint8 between the two passes)
    KERNEL: ("replicate", True),
    "matlab-bicubic-symmetric-u8": ("symmetric", True),
    "matlab-bicubic-replicate-float": ("replicate", False),
    "matlab-bicubic-symmetric-float": ("symmetric", False),
}


def downscale(image: np.ndarray, scale: float, kernel: str = KERNEL) -> np.ndarray:
    """The LR image that belongs to an HR image: cropped by `modcrop`, then shrunk with a named kernel.

    Args:
        image: (H, W, C) uint8.
        kernel: a key of `KERNELS`.

    Raises:
        InputError: unknown kernel, or an image smaller than `scale`.
    """
    if kernel not in KERNELS:
        raise InputError(f"unknown kernel {kernel!r}{nearest(kernel, list(KERNELS))}")
    border, round_between = KERNELS[kernel]
    return resize(modcrop(image, scale), 1 / scale, border=border, round_between=round_between)


def resize(
    image: np.ndarray,
    scale: float,
    *,
    out_shape: tuple[int, int] | None = None,
    border: Border = "replicate",
    round_between: bool = True,
    part: tuple[slice, slice] | None = None,
) -> np.ndarray:
    """MATLAB-compatible bicubic resize of an 8-bit image, antialiased when it shrinks.

    Args:
        image: (H, W, C) uint8.
        scale: factor on both sides, 1/2 halves. The result has ceil(side * scale) pixels a side.
        out_shape: (height, width) of the result instead; each side's factor is then its own ratio, as in MATLAB.
        border: what lies beyond the edge: the edge pixel, or the mirror image with the edge repeated.
        round_between: clip and round to uint8 after the first pass too, as MATLAB does.
        part: the rows and columns of the image to be resized, all where there is none; what lies beyond the edge of a
            part is the image's own.

    Returns:
        (H', W', C) uint8, rounded half up.
    """
    if image.ndim != 3 or image.dtype != np.uint8:
        raise ValueError(f"resize expects a (H, W, C) uint8 array, got shape {image.shape}, dtype {image.dtype}")
    whole = slice(0, image.shape[0]), slice(0, image.shape[1])
    height, width = (at.stop - at.start for at in part or whole)
    sides = sides_of((height, width), scale, out_shape)
    order = sorted((0, 1), key=lambda a: sides[a][2])  # the smaller factor first; rows before columns when equal
    rows, (column, column_weight) = (
        _taps(size, out, factor, border, at.start)
        for size, at, (_, out, factor) in zip(image.shape[:2], part or whole, sides, strict=True)
    )
    left, right = column.min(), column.max() + 1
    columns = column - left, column_weight
    resized = np.empty((sides[0][1], sides[1][1], image.shape[2]), np.uint8)
    at_once = max(_STRIP // (max(width, sides[1][1]) * image.shape[2]), 1)
    for top in range(0, len(resized), at_once):  # strips of the result, bit for bit what the whole would be
        index, weight = (taps[top : top + at_once] for taps in rows)
        first, end = index.min(), index.max() + 1
        values = image[first:end, left:right].astype(np.float64)
        for axis in order:
            values = _resize_axis(values, axis, *((index - first, weight) if axis == 0 else columns))
            if round_between:
                values = _round_u8(values)
        resized[top : top + at_once] = _round_u8(values)
    return resized


def modcrop(image: np.ndarray, scale: float) -> np.ndarray:
    """The top left part of a (H, W, C) image whose sides are multiples of `scale`; of p, where it is a fraction p / q.

    Raises:
        InputError: a side is smaller than that.
    """
    height, width = image.shape[:2]
    step = hr_step(scale)
    if min(height, width) < step:
        least = "" if step == scale else f": whole pixels of both sides begin with {step} of HR"
        raise InputError(f"image of {height}x{width} pixels (height x width) is smaller than the scale {scale}{least}")
    return image[: height - height % step, : width - width % step]


def sides_of(
    shape: tuple[int, int], scale: float, out_shape: tuple[int, int] | None
) -> tuple[tuple[int, int, float], tuple[int, int, float]]:
    """(size, size of the result, factor) of the rows and of the columns."""

    def side(size: int, wanted: int | None) -> tuple[int, int, float]:
        # 1e-9: 255 * (1 / 3) must not become 86 where the product rounds up
        return (size, math.ceil(size * scale - 1e-9), scale) if wanted is None else (size, wanted, wanted / size)

    if scale <= 0 or (out_shape and min(out_shape) < 1):
        raise ValueError(f"a resize needs a positive factor and size, got scale {scale}, out_shape {out_shape}")
    height, width = out_shape or (None, None)
    return side(shape[0], height), side(shape[1], width)


def beyond(index: np.ndarray, size: int, border: Border) -> np.ndarray:
    """Where an index outside [0, size) reads from: the edge pixel, or the mirror image with the edge repeated.

    `index` is of any shape, which the result has too.
    """
    folded = index % (2 * size)
    mirrored = np.minimum(folded, 2 * size - 1 - folded)
    return np.asarray(mirrored if border == "symmetric" else np.clip(index, 0, size - 1))


def matrix(size: int, out: int, factor: float, border: Border) -> np.ndarray:
    """The same taps as a dense (out, size) float64 matrix."""
    index, weight = _taps(size, out, factor, border)
    matrix = np.zeros((out, size))
    np.add.at(matrix, (np.arange(out)[:, None], index), weight)
    return matrix


def _taps(size: int, out: int, factor: float, border: Border, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Source pixels (out, P) int64 and their weights (out, P) float64 for each pixel of the result along one side.

    Args:
        size: pixels of the source.
        start: the source pixel that the result begins at.
    """
    stretch = min(factor, 1.0)  # < 1: the kernel is widened, which is the antialiasing
    width = 4 / stretch
    centre = (np.arange(1, out + 1) / factor + 0.5 * (1 - 1 / factor))[:, None]  # counted from 1, as MATLAB does
    position = np.floor(centre - width / 2) + np.arange(math.ceil(width) + 2)
    weight = _cubic(stretch * (centre - position))
    weight /= weight.sum(axis=1, keepdims=True)
    used = weight.any(axis=0)
    return beyond(position[:, used].astype(np.int64) - 1 + start, size, border), weight[:, used]


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' interpolation kernel with a = -0.5, support [-2, 2]."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _resize_axis(values: np.ndarray, axis: int, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted sum along one axis, tap by tap: a fixed order of additions, so the same bits on every machine."""
    source = np.moveaxis(values, axis, 0)
    total = np.zeros((len(index), *source.shape[1:]))
    for tap in range(index.shape[1]):
        total += weight[:, tap, None, None] * source[index[:, tap]]
    return np.moveaxis(total, 0, axis)


def _round_u8(values: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.floor(np.clip(values, 0, 255) + 0.5)
    return rounded
