"""Where patches are cut out of training images, how they are turned, and a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from orchestrator.data.table import Images
from sr_models.images.degrade import Pair
from sr_models.images.operators import to_float


class Place(NamedTuple):
    """One patch: which image, its top left pixel there, and how it is turned (`dihedral`)."""

    image: int
    top: int
    left: int
    code: int


def place(rng: np.random.Generator, images: Images, side: int) -> Place:
    """One of the images, and where in it and how turned a patch of this side lies."""
    number = int(rng.integers(len(images)))
    height, width, _ = images[number].shape
    top, left, code = rng.integers(height - side + 1), rng.integers(width - side + 1), rng.integers(8)
    return Place(number, int(top), int(left), int(code))


def stacked(pairs: Sequence[Pair], device: torch.device | str) -> dict[str, Tensor]:
    """ "lr" and "hr" of pairs of one size, float (B, 3, H, W) in [0, 1]."""
    crops = {name: np.stack([getattr(pair, name) for pair in pairs]) for name in ("lr", "hr")}
    return {name: to_float(torch.from_numpy(images).to(device)) for name, images in crops.items()}


def dihedral(x: Tensor, code: int) -> Tensor:
    """One of 8 flips and rotations of (..., H, W): code = flip left-right + 2 flip up-down + 4 transpose, in turn."""
    flips = [axis for bit, axis in ((1, -1), (2, -2)) if code & bit]
    x = x.flip(flips) if flips else x
    return x.transpose(-1, -2) if code & 4 else x


def turn_each(x_BCHW: Tensor, codes: np.ndarray) -> Tensor:
    """`dihedral` of every image by its own code, one call a code."""
    turned = torch.empty_like(x_BCHW)
    for code in np.unique(codes):
        rows = torch.from_numpy(np.flatnonzero(codes == code)).to(x_BCHW.device)
        turned[rows] = dihedral(x_BCHW[rows], int(code))
    return turned
