"""A training pair whose LR is made anew from a crop of HR, by a degradation: where it is cut, and how it is turned.

Where the patch is small, more than it is cut (`cut_side`), turned and degraded, and the patch taken out of that: its
border is then none of what was blurred and coded. It is turned first: a codec's blocks and tables have a direction, and
at test time pictures come unturned.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from orchestrator.data.places import Draw, Place, stacked
from orchestrator.data.table import Images
from sr_models.hyper.degradation import Degradation, cut_side
from sr_models.images.degrade import Pair, degrade


def degraded_pair(
    hr: np.ndarray, place: Place, patch: int, scale: int, how: Degradation, rng: np.random.Generator
) -> Pair:
    """The pair at a place, turned: uint8 HR (patch * scale, patch * scale, 3) and LR (patch, patch, 3).

    Args:
        hr: the whole image, uint8 (H, W, 3), at least `cut_side(patch, scale)` LR pixels a side.
        place: its top left is an LR pixel.
        patch: side in LR pixels.
        rng: of the degradation, which the place does not depend on.
    """
    side = cut_side(patch, scale)
    top, left = (
        min(max(at - (side - patch) // 2, 0), whole // scale - side)
        for at, whole in zip((place.top, place.left), hr.shape[:2], strict=True)
    )
    crop = hr[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
    row, column = place.top - top, place.left - left
    if place.code & 1:
        crop, column = crop[:, ::-1], side - patch - column
    if place.code & 2:
        crop, row = crop[::-1], side - patch - row
    if place.code & 4:
        crop, row, column = crop.transpose(1, 0, 2), column, row
    whole_hr, whole_lr = degrade(np.ascontiguousarray(crop), scale, how, rng)
    rows, columns = slice(row * scale, (row + patch) * scale), slice(column * scale, (column + patch) * scale)
    return Pair(whole_hr[rows, columns], whole_lr[row : row + patch, column : column + patch])


def degraded_crops(lr: Images, hr: Images, scale: int, how: Degradation, draw: Draw) -> dict[str, Tensor]:
    """ "hr" and "lr" of a batch, float (B, 3, patch * scale, patch * scale) and (B, 3, patch, patch) in [0, 1].

    HR is cut and turned where `orchestrator.data.places.crops` does; each sample's degradation draws its own.

    Args:
        lr: the store's own, of which only the sizes are asked.
        hr: whole training images.
    """
    rngs = draw.rngs("degrade", int(draw.purpose == "partner"))
    pairs = [
        degraded_pair(hr[at.image], at, draw.patch, scale, how, rng)
        for at, rng in zip(draw.places(lr, draw.patch), rngs, strict=True)
    ]
    return stacked(pairs, draw.device)
