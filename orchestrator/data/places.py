"""What a batch's patches are drawn by, where they are cut out of training images, and how they are turned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from orchestrator.data.table import Images, ImageTable
from sr_models.images.degrade import Pair
from sr_models.images.operators import to_float
from sr_models.rng import Purpose, keyed


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


@dataclass(frozen=True)
class Draw:
    """What the patches of one batch are drawn by: each is a pure function of `seed`, `step` and its sample's number."""

    seed: int
    step: int
    sample_ids: np.ndarray
    """int64 (B,)."""
    patch: int
    """Side in LR pixels."""
    device: torch.device | str
    """Where the batch goes."""
    purpose: Purpose = "crop"
    """Which of a sample's pairs."""

    def rngs(self, purpose: Purpose, *further: int) -> Iterator[np.random.Generator]:
        """A generator a sample."""
        for sample_id in self.sample_ids:
            yield keyed(self.seed, self.step, int(sample_id), purpose, *further)

    def places(self, images: Images, side: int) -> list[Place]:
        """Where in which image each sample's patch of this side lies."""
        return [place(rng, images, side) for rng in self.rngs(self.purpose)]


def crops(tables: Mapping[str, tuple[ImageTable, int]], draw: Draw) -> dict[str, Tensor]:
    """For each sample one place and turn of one training image, out of every table.

    Args:
        tables: name -> the table, and its scale over that of "lr", which is among them.

    Returns:
        name -> float (B, 3, patch * scale, patch * scale) in [0, 1].
    """
    places, patch = draw.places(tables["lr"][0].images, draw.patch), draw.patch
    cut = {name: np.empty((len(places), patch * s, patch * s, 3), np.uint8) for name, (_, s) in tables.items()}
    for i, at in enumerate(places):
        for name, (table, s) in tables.items():
            rows, columns = slice(at.top * s, (at.top + patch) * s), slice(at.left * s, (at.left + patch) * s)
            cut[name][i] = table.images[at.image][rows, columns]
    codes = np.array([at.code for at in places])
    floats = {name: to_float(torch.from_numpy(images).to(draw.device)) for name, images in cut.items()}
    return {name: turn_each(x_BCHW, codes) for name, x_BCHW in floats.items()}


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
