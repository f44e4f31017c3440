"""Latents of a store's training images: made once for an autoencoder, so that no training step pays for it.

Of each image there are two rows, since an encoder does not turn with its picture: as it is, and flipped left to right
before it was encoded. So latents are never turned otherwise. Numbers are float16, rounded by up to 2^-11 of them.
Places are those of `orchestrator.data.cells`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from orchestrator.data.cells import ROWS, Grid, names
from orchestrator.data.store import PatchStore
from orchestrator.data.table import ImageRow
from sr_models.images.operators import to_float

State = Callable[[Tensor], Tensor]
"""A picture in [0, 1], (1, 3, H, W), to its latent."""
Enlarged = Callable[[Tensor, tuple[int, int]], Tensor]
"""LR (1, 3, h, w) and a size (H, W) to the latent of LR enlarged to it."""


def are_in(store: PatchStore, latents: str) -> bool:
    """Whether a store has latents of that name (`TrialConfig.latents`)."""
    return store.has(names(store.scale, latents))


def add(
    store: PatchStore, latents: str, make: Callable[[int], Sequence[ImageRow]], reduction: int, *, seconds: float = 0.0
) -> None:
    """Add the latents of every training image, and of its LR. Does nothing if they are there, goes on after a kill.

    Args:
        make: number of a row -> that of HR's latents and that of LR's, as `rows_by` makes them.
        reduction: HR pixels of a cell, a side.
        seconds: that making them took.
    """
    keys = origins(store, range(len(store.pair("train")[1])), "hr")
    store.add(names(store.scale, latents), keys, make, latents, seconds, reduction)


def origins(store: PatchStore, images: range, of: Literal["hr", "lr"]) -> list[str]:
    """What the rows of latents of HR, or of LR, name as their origin: the hashes of these training images."""
    hr, lr = store.pair("train")
    hashes = (hr if of == "hr" else lr).hashes
    return [hashes[i] for i in images for _ in range(ROWS)]


def rows_by(
    store: PatchStore, state: State, enlarged: Enlarged, reduction: int, *, device: torch.device | str = "cpu"
) -> Callable[[int], list[ImageRow]]:
    """What makes the rows of latents, by their number: those of image i are 2 i and, of it flipped, 2 i + 1.

    Raises:
        ValueError: by what is returned: latents that are of another size, or not finite in float16.
    """
    hr, lr = store.pair("train")
    grid, of, hr_hashes, lr_hashes = Grid.of(store.scale, reduction), lr.names, hr.hashes, lr.hashes

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


def _cut(image: np.ndarray, units: tuple[int, int], side: int, flipped: bool) -> Tensor:
    """Whole units of an image, maybe flipped, float (1, 3, H, W)."""
    part = image[: units[0] * side, : units[1] * side]
    return to_float(np.ascontiguousarray(part[:, ::-1] if flipped else part))
