"""The size that a picture is drawn at where a paper has a rule for it, and the ways there and back.

CCSR draws what is neither small nor of any size: https://github.com/csslc/CCSR, commit 15778ed, inference_ccsr.py. Its
steps are Pillow's, on 8-bit pictures.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sr_models.images.operators import to_float, to_uint8
from sr_models.scales import sr_side

LEAST, MULTIPLE = 512, 64
"""The shorter side of CCSR's canvas is at least the one, and both are multiples of the other."""


def canvas_sides(height: int, width: int) -> tuple[int, int]:
    """Height and width that a picture of these sides is drawn at."""
    return _floored(*_large(height, width))


def on_canvas(lr_BCHW: Tensor, scale: float) -> Tensor:
    """LR pictures in [0, 1] enlarged to their canvas: to `scale` times their size, to a large one, to one that fits.

    Returns:
        (B, 3, H', W') of `canvas_sides`, on 8-bit levels, where the input lies.
    """
    whole = sr_side(lr_BCHW.shape[2], scale), sr_side(lr_BCHW.shape[3], scale)
    large = _large(*whole)
    x = lr_BCHW
    for size, kind in (
        (whole, Image.Resampling.BICUBIC),
        (large, Image.Resampling.BICUBIC),
        (_floored(*large), Image.Resampling.LANCZOS),
    ):
        x = _resized(x, size, kind)
    return x


def off_canvas(sr_BCHW: Tensor, height: int, width: int) -> Tensor:
    """Pictures in [0, 1] back at their own size in pixels, by Lanczos; untouched if they have it."""
    return _resized(sr_BCHW, (height, width), Image.Resampling.LANCZOS)


def _large(height: int, width: int) -> tuple[int, int]:
    factor = max(LEAST / min(height, width), 1.0)
    return math.ceil(height * factor), math.ceil(width * factor)


def _floored(height: int, width: int) -> tuple[int, int]:
    return height // MULTIPLE * MULTIPLE, width // MULTIPLE * MULTIPLE


def _resized(x_BCHW: Tensor, size: tuple[int, int], kind: Image.Resampling) -> Tensor:
    """By Pillow on the host, if it is of another size."""
    if tuple(x_BCHW.shape[2:]) == size:
        return x_BCHW
    made = [np.asarray(Image.fromarray(picture).resize(size[::-1], kind)) for picture in to_uint8(x_BCHW)]
    return to_float(torch.from_numpy(np.stack(made))).to(x_BCHW)
