"""A training pair at a scale of its own, a fraction too: LR is made of HR as it is cut, by MATLAB's kernel.

HR has `side` pixels for `patch` of LR, so side / patch is the scale, exactly. What the kernel reads beyond the cut is
the image's own: the border of LR is none of a picture, unless the cut lies there.
"""

from __future__ import annotations

import numpy as np

from orchestrator.data.places import Place
from sr_models.images.degrade import Pair
from sr_models.images.matlab import KERNELS, resize


def scaled_pair(image: np.ndarray, place: Place, side: int, patch: int, kernel: str) -> Pair:
    """uint8 HR (side, side, 3) and LR (patch, patch, 3), not turned.

    Args:
        image: the whole one, uint8 (H, W, 3).
        place: its top left is an HR pixel.
        kernel: a key of `KERNELS`.
    """
    border, round_between = KERNELS[kernel]
    part = slice(place.top, place.top + side), slice(place.left, place.left + side)
    lr = resize(image, patch / side, out_shape=(patch, patch), border=border, round_between=round_between, part=part)
    return Pair(image[part], lr)
