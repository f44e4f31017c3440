"""How latents of a store's images lie over their pixels, and batches that are cut from both.

A cell of a latent is `reduction` HR pixels a side; an image is cut, at its right and lower end, to whole cells that are
whole LR pixels, and so are the patches. Of each image there are two rows of latents (`orchestrator.data.latents`).
A crop of a whole picture's latent is the latent of the crop only away from its border: there the encoder has seen what
lies beyond.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple, Self

import torch
from torch import Tensor

from orchestrator.data.places import Draw
from orchestrator.data.table import ImageTable
from sr_models.images.operators import to_float

ROWS = 2
"""Of an image: as it is, and flipped."""


FIELDS = ("latent", "latent_lr")
"""Of a batch, that hold latents of HR and of LR."""


class Grid(NamedTuple):
    """How cells lie over pixels: the least square that is whole cells and whole LR pixels."""

    scale: int
    unit: int
    """Its side in LR pixels."""
    cells: int
    """Its side in cells."""

    @classmethod
    def of(cls, scale: int, reduction: int) -> Self:
        """Of cells of so many HR pixels."""
        unit = reduction // math.gcd(reduction, scale)
        return cls(scale, unit, unit * scale // reduction)


def names(scale: int, latents: str) -> tuple[str, str]:
    """Of the tables of the latents of HR and of LR."""
    if not re.fullmatch("[0-9a-f]{16,}", latents):
        raise ValueError(f"latents are named by at least 16 hexadecimal digits, got {latents!r}")
    return f"z_x{scale}_{latents[:16]}", f"z_lr_x{scale}_{latents[:16]}"


def crops(tables: Mapping[str, ImageTable], grid: Grid, draw: Draw) -> dict[str, Tensor]:
    """For each sample one place of one training image, maybe flipped, out of every table: a function of its number.

    Args:
        tables: "lr", "hr", "latent" and "latent_lr".

    Raises:
        ValueError: a patch that is no whole number of units.
    """
    if draw.patch % grid.unit:
        raise ValueError(f"a patch of latents must be a multiple of {grid.unit} LR pixels, got {draw.patch}")
    lr, cut = tables["lr"].images, {name: list[Tensor]() for name in tables}
    sides = {"lr": grid.unit, "hr": grid.unit * grid.scale, "latent": grid.cells, "latent_lr": grid.cells}
    side = draw.patch // grid.unit
    for rng in draw.rngs(draw.purpose):
        number = int(rng.integers(len(lr)))
        rows, columns = (int(length) // grid.unit for length in lr.sizes[number])
        top, left, flipped = (int(rng.integers(most)) for most in (rows - side + 1, columns - side + 1, 2))
        for name, table in tables.items():
            is_latent = name in FIELDS
            image = table.images[ROWS * number + flipped if is_latent else number]
            # where it is flipped, places are counted in the flipped picture
            begin = columns - left - side if flipped and not is_latent else left
            unit = sides[name]
            part = image[top * unit : (top + side) * unit, begin * unit : (begin + side) * unit]
            cut[name].append(torch.from_numpy(part[:, ::-1].copy() if flipped and not is_latent else part.copy()))
    stacked = {name: torch.stack(parts).to(draw.device) for name, parts in cut.items()}
    return {
        name: parts.movedim(-1, 1).float() if name in FIELDS else to_float(parts) for name, parts in stacked.items()
    }
