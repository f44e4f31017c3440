"""An autoencoder on pictures larger than a tile: in overlapping tiles, so that its memory is bounded.

What it looks at all of a picture for, normalisation and attention, then looks at a tile, so tiles do not give what the
whole would; there is no seam, since tiles fade into each other where they overlap. Ours: no release is followed. The
autoencoders are those of latent diffusion (https://arxiv.org/abs/2112.10752). Sides are counted in cells of a latent.
Shapes: B batch, C channels, H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TILE, OVERLAP = 64, 16
"""Cells of a tile's side, and that two neighbours share: attention goes with their square, and 64 are 512 pixels of the
released autoencoder. They decide on bits, so no machine has a say."""


def encoded(encode: Callable[[Tensor], Tensor], picture_BCHW: Tensor, reduction: int) -> Tensor:
    """The latent of a picture whose sides are whole cells; in one piece where it is no larger than a tile."""
    cells = picture_BCHW.shape[2] // reduction, picture_BCHW.shape[3] // reduction
    return _joined(encode, picture_BCHW, cells, inner=reduction, outer=1)


def decoded(decode: Callable[[Tensor], Tensor], latent_BCHW: Tensor, reduction: int) -> Tensor:
    """The picture of a latent, likewise."""
    cells = latent_BCHW.shape[2], latent_BCHW.shape[3]
    return _joined(decode, latent_BCHW, cells, inner=1, outer=reduction)


def _joined(
    compute: Callable[[Tensor], Tensor],
    x_BCHW: Tensor,
    cells: tuple[int, int],
    *,
    inner: int,
    outer: int,
) -> Tensor:
    """Args: inner, outer: pixels of a cell, a side, in what is read, and in what is given."""
    if max(cells) <= TILE:
        return compute(x_BCHW)
    total, weight = None, x_BCHW.new_zeros(cells[0] * outer, cells[1] * outer)
    for rows in _parts(cells[0], TILE, OVERLAP):
        for columns in _parts(cells[1], TILE, OVERLAP):
            made = compute(x_BCHW[:, :, _times(rows, inner), _times(columns, inner)])
            fade = _fade(rows, cells[0], OVERLAP, outer, made)[:, None] * _fade(columns, cells[1], OVERLAP, outer, made)
            if total is None:
                total = made.new_zeros(*made.shape[:2], *weight.shape)
            total[:, :, _times(rows, outer), _times(columns, outer)] += fade * made
            weight[_times(rows, outer), _times(columns, outer)] += fade
    assert total is not None
    return total / weight


def _parts(length: int, side: int, overlap: int) -> list[slice]:
    """Tiles of one side that cover a length, as evenly as whole cells can, and share at least the overlap."""
    if length <= side:
        return [slice(0, length)]
    count = -(-(length - overlap) // (side - overlap))
    begins = [round(i * (length - side) / (count - 1)) for i in range(count)]
    return [slice(begin, begin + side) for begin in begins]


def _times(part: slice, factor: int) -> slice:
    return slice(part.start * factor, part.stop * factor)


def _fade(part: slice, length: int, overlap: int, outer: int, like: Tensor) -> Tensor:
    """What each pixel of a side weighs: 1, but towards a neighbour's tile it falls over the overlap's middle half.

    Beyond that, where the tile does not see enough of what surrounds a pixel, it is 0.
    """
    place = torch.arange((part.stop - part.start) * outer, device=like.device, dtype=like.dtype) + 0.5
    reach, weight = overlap * outer, torch.ones_like(place)
    for far, distance in ((part.start > 0, place), (part.stop < length, place.flip(0))):
        if far:
            weight = weight * ((distance - reach / 4) / (reach / 2)).clamp(0, 1)
    return weight
