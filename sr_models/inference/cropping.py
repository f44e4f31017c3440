"""ACS: the adaptive cropping strategy of IMDN (https://arxiv.org/abs/1909.11856, Sec. 3.4, Eq. 6-8).

A network that takes only sides that are multiples of `multiple` sees four overlapping parts of one size as a batch;
each part gives its own quarter of the picture. Numbers follow https://github.com/Zheng222/IMDN, commit 8f158e6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sr_models.images.operators import beyond


@dataclass(frozen=True)
class Span:
    """Along one side: what a part reads, [start, end), and which of it becomes the picture, [first, last).

    A side shorter than `multiple` is read beyond its ends, where it is mirrored with the edge repeated.
    """

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True)
class Crop:
    """One part of a picture."""

    rows: Span
    columns: Span


def adaptive_crops(height: int, width: int, *, multiple: int = 4, overlap: int = 32) -> list[Crop]:
    """The parts to compute: the whole picture if it fits, else its four corners, top left to bottom right.

    Args:
        height, width: sides of the picture, >= 1.
        multiple: what the sides of every part are multiples of.
        overlap: how far a part reaches past the middle of the picture, rounded down to fit; less in a small picture.
            Not below `multiple`, or the corners could miss the middle.
    """
    if min(height, width, multiple) < 1 or overlap < multiple:
        raise ValueError(
            f"adaptive crops need sides >= 1 and overlap >= multiple >= 1, got {height}x{width}, {overlap}, {multiple}"
        )
    if height % multiple == width % multiple == 0:
        return [Crop(Span(0, height, 0, height), Span(0, width, 0, width))]
    rows, columns = (_halves(side, multiple, overlap) for side in (height, width))
    return [Crop(row, column) for row in rows for column in columns]


def cut(x_BCHW: Tensor, crops: Sequence[Crop]) -> Tensor:
    """The parts of a batch of pictures as one batch (len(crops) * B, C, H', W'), part by part."""
    height, width = x_BCHW.shape[2:]

    def read(span: Span, size: int) -> Tensor:
        return torch.from_numpy(beyond(np.arange(span.start, span.end), size, "symmetric")).to(x_BCHW.device)

    return torch.cat([x_BCHW[..., read(c.rows, height)[:, None], read(c.columns, width)] for c in crops])


def paste(parts: Tensor, crops: Sequence[Crop], scale: int = 1) -> Tensor:
    """The picture (B, C, H * scale, W * scale) from the network's results for `cut`, `scale` times as large."""
    batches = parts.chunk(len(crops))
    height, width = crops[-1].rows.last * scale, crops[-1].columns.last * scale
    picture = parts.new_empty(*batches[0].shape[:2], height, width)

    def kept(span: Span, origin: int) -> slice:
        return slice((span.first - origin) * scale, (span.last - origin) * scale)

    for crop, part in zip(crops, batches, strict=True):
        source = part[..., kept(crop.rows, crop.rows.start), kept(crop.columns, crop.columns.start)]
        picture[..., kept(crop.rows, 0), kept(crop.columns, 0)] = source
    return picture


def _halves(size: int, multiple: int, overlap: int) -> tuple[Span, Span]:
    """Two spans of one length, from either end of a side; each gives its half, the second the middle pixel if odd."""
    half = size // 2
    length = min(_down(half + overlap, multiple), max(_down(size, multiple), multiple))
    return Span(0, length, 0, half), Span(size - length, size, half, size)


def _down(size: int, multiple: int) -> int:
    return size - size % multiple
