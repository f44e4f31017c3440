"""A training pair at a scale of its own, a fraction too: LR is made of HR as it is cut, by MATLAB's kernel.

HR has `side` pixels for `patch` of LR, so side / patch is the scale, exactly. What the kernel reads beyond the cut is
the image's own: the border of LR is none of a picture, unless the cut lies there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from orchestrator.data.places import Draw, Place, stacked, turn_each
from orchestrator.data.table import Images
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


def scaled_crops(hr: Images, kernels: Sequence[str], side: int, draw: Draw) -> dict[str, Tensor]:
    """ "hr" and "lr" of a batch, float (B, 3, side, side) and (B, 3, patch, patch) in [0, 1].

    Args:
        hr: whole training images.
        kernels: by which LR is made of each.
        side: in HR pixels, the same for all samples of a step.
    """
    places = draw.places(hr, side)
    pairs = [scaled_pair(hr[at.image], at, side, draw.patch, kernels[at.image]) for at in places]
    codes = np.array([at.code for at in places])
    return {name: turn_each(x_BCHW, codes) for name, x_BCHW in stacked(pairs, draw.device).items()}
