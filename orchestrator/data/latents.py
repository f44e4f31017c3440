"""Latents of a store's training images: made once for an autoencoder, so that no training step pays for it.

Of each image there are two rows, since an encoder does not turn with its picture: as it is, and flipped left to right
before it was encoded. So latents are never turned otherwise. A cell of a latent is `reduction` HR pixels a side; an
image is cut, at its right and lower end, to whole cells that are whole LR pixels, and so are the patches. Numbers are
float16, which is 2^-11 of them.

A crop of a whole picture's latent is the latent of the crop only away from its border: there the encoder has seen what
lies beyond. Shapes: B batch, C channels, H and W rows and columns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from orchestrator.data.table import ImageRow, ImageTable
from sr_models.images.operators import to_float
from sr_models.rng import keyed

ROWS = 2
"""Of an image: as it is, and flipped."""

State = Callable[[Tensor], Tensor]
"""A picture in [0, 1], (1, 3, H, W), to its latent."""
Enlarged = Callable[[Tensor, tuple[int, int]], Tensor]
"""LR (1, 3, h, w) and a size (H, W) to the latent of LR enlarged to it."""


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


def twice(hashes: Sequence[str]) -> list[str]:
    """Of each image, for each of its rows."""
    return [sha for sha in hashes for _ in range(ROWS)]


def rows_by(
    lr: ImageTable, hr: ImageTable, grid: Grid, state: State, enlarged: Enlarged, device: torch.device | str
) -> Callable[[int], list[ImageRow]]:
    """What makes the rows of latents, by their number: those of image i are 2 i and, of it flipped, 2 i + 1.

    Raises:
        ValueError: by what is returned: latents that are of another size, or not finite in float16.
    """
    of, hr_hashes, lr_hashes = lr.names, hr.hashes, lr.hashes

    def make(row: int) -> list[ImageRow]:
        i, flipped = divmod(row, ROWS)
        height, width, _ = lr.images[i].shape
        units = height // grid.unit, width // grid.unit
        small = _cut(lr.images[i], units, grid.unit, bool(flipped))
        large = _cut(hr.images[i], units, grid.unit * grid.scale, bool(flipped))
        with torch.no_grad():
            made = state(large.to(device)), enlarged(small.to(device), (large.shape[2], large.shape[3]))
        numbers = [latent.squeeze(0).movedim(0, -1).half().cpu().numpy() for latent in made]
        for latent in numbers:
            if latent.shape[:2] != tuple(side * grid.cells for side in units) or not np.isfinite(latent).all():
                raise ValueError(f"latents of {of[i]} are {latent.shape}, or not finite in float16; {units} units")
        origins = hr_hashes[i], lr_hashes[i]
        return [ImageRow(of[i], origin, latent) for origin, latent in zip(origins, numbers, strict=True)]

    return make


def crops(
    tables: Mapping[str, ImageTable],
    grid: Grid,
    seed: int,
    step: int,
    sample_ids: np.ndarray,
    patch: int,
    device: torch.device | str,
) -> dict[str, Tensor]:
    """For each sample one place of one training image, maybe flipped, out of every table: a function of its number.

    Args:
        tables: "lr", "hr", "latent" and "latent_lr".
        patch: side in LR pixels.

    Raises:
        ValueError: a patch that is no whole number of units.
    """
    if patch % grid.unit:
        raise ValueError(f"a patch of latents must be a multiple of {grid.unit} LR pixels, got {patch}")
    lr, cut = tables["lr"].images, {name: list[Tensor]() for name in tables}
    sides = {"lr": grid.unit, "hr": grid.unit * grid.scale, "latent": grid.cells, "latent_lr": grid.cells}
    side = patch // grid.unit
    for sample_id in sample_ids:
        rng = keyed(seed, step, int(sample_id), "crop")
        number = int(rng.integers(len(lr)))
        rows, columns = (int(length) // grid.unit for length in lr.sizes[number])
        top, left, flipped = (int(rng.integers(most)) for most in (rows - side + 1, columns - side + 1, 2))
        for name, table in tables.items():
            is_latent = name in ("latent", "latent_lr")
            image = table.images[ROWS * number + flipped if is_latent else number]
            # where it is flipped, places are counted in the flipped picture
            begin = columns - left - side if flipped and not is_latent else left
            unit = sides[name]
            part = image[top * unit : (top + side) * unit, begin * unit : (begin + side) * unit]
            cut[name].append(torch.from_numpy(part[:, ::-1].copy() if flipped and not is_latent else part.copy()))
    stacked = {name: torch.stack(parts).to(device) for name, parts in cut.items()}
    return {
        name: parts.movedim(-1, 1).float() if name in ("latent", "latent_lr") else to_float(parts)
        for name, parts in stacked.items()
    }


def _cut(image: np.ndarray, units: tuple[int, int], side: int, flipped: bool) -> Tensor:
    """Whole units of an image, maybe flipped, float (1, 3, H, W)."""
    part = image[: units[0] * side, : units[1] * side]
    return to_float(np.ascontiguousarray(part[:, ::-1] if flipped else part))
