"""Pictures larger than memory: which tiles cover one, and what a pixel takes.

Ours, but for the crops of diffusion networks, which are those of papers' code (`sr_models.hyper.crops`).
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sr_models.hyper.crops import CropRule

Interval = tuple[int, int]  # [first, end) along one side

_LIBRARY_BUFFERS = 2.0  # convolution libraries copy their operands into layouts of their own, unseen by torch


def spans(size: int, tile: int, overlap: int, step: int) -> list[tuple[Interval, Interval]]:
    """Cut one side of a picture into parts of at most `tile` pixels.

    Args:
        overlap: how far beyond its own part each tile sees at least, on both sides, where the picture goes on.
        step: tiles start on multiples of this, as the windows of the whole picture do.

    Returns:
        (own part, what the tile sees) for each tile. The own parts cover the side once. All tiles see equally much (the
        last up to `step` - 1 pixels more), so that compilers and convolution libraries meet one shape.
    """
    count = math.ceil(size / tile)
    edges = [i * size // count for i in range(count + 1)]
    length = -(-(math.ceil(size / count) + 2 * overlap + step - 1) // step) * step
    found = []
    for first, end in itertools.pairwise(edges):
        start = max(first - overlap, 0) // step * step
        seen = (start, start + length) if start + length < size else (max(size - length, 0) // step * step, size)
        found.append(((first, end), seen))
    return found


_GAUSSIAN_VARIANCE = 0.01


def crop_starts(size: int, rule: CropRule, scale: int) -> list[tuple[int, Interval]]:
    """Cut one side of a picture into tiles of exactly `rule.length`; the last one is shifted back to fit.

    Args:
        size: LR pixels, at least `rule.length`.

    Returns:
        (first LR pixel of the tile, SR pixels that are taken from it) for each tile. Seams are in the middle of the
        overlap, rounded down; the last tile gives the pixels beyond the last whole one, where these are more than the
        overlap.
    """
    base = rule.length - rule.overlap
    rest = size % base
    count = size // base + (rest > rule.overlap)
    half, step, end = rule.overlap * scale // 2, base * scale, size * scale
    cuts = [0, *(i * step + half for i in range(1, count)), end]
    if count > 1:
        cuts[-2] = (count - 1) * step if rest > rule.overlap else min(end - step - half, cuts[-2])
    starts = [*(i * base for i in range(count - 1)), size - rule.length]
    return list(zip(starts, itertools.pairwise(cuts), strict=True))


def tile_starts(size: int, rule: CropRule) -> list[int]:
    """First pixels of the tiles of a side of at least `rule.length`; the last one is shifted back to fit."""
    last = size - rule.length
    return [*range(0, last, rule.length - rule.overlap), last]


def tile_weights(rule: CropRule, height: int, width: int) -> Tensor:
    """How much each value of a fused tile counts: (height, width) float32, in no particular unit."""
    if rule.fused == "uniform":
        return torch.ones(height, width)

    def bell(size: int, middle: float) -> Tensor:
        away = (torch.arange(size, dtype=torch.float64) - middle) / size
        return torch.exp(-away.square() / (2 * _GAUSSIAN_VARIANCE))

    middle = height / 2 if rule.fused == "gaussian_released" else (height - 1) / 2
    return torch.outer(bell(height, middle), bell(width, (width - 1) / 2)).float()


def run_tiles(
    forward: Callable[[Tensor], Sequence[Tensor]],
    lr_BCHW: Tensor,
    *,
    scale: int,
    tile: int,
    overlap: int,
    step: int,
) -> list[Tensor]:
    """`forward` on one tile after the other, pasted on the CPU.

    Each output pixel is that of the one tile in whose own part it lies, `overlap` LR pixels or more from where that
    tile was cut; so there is no seam where the network looks no further than that. One tile's tensors are alive at a
    time. Arguments as in `spans`; `forward` returns pictures `scale` times as large as its input.
    """
    height, width = lr_BCHW.shape[2:]
    whole: list[Tensor] = []
    for (top, bottom), (seen_top, seen_bottom) in spans(height, tile, overlap, step):
        for (left, right), (seen_left, seen_right) in spans(width, tile, overlap, step):
            parts = forward(lr_BCHW[..., seen_top:seen_bottom, seen_left:seen_right])
            if not whole:
                whole = [torch.empty(*p.shape[:2], height * scale, width * scale, dtype=p.dtype) for p in parts]
            rows, columns = (
                slice((first - seen) * scale, (end - seen) * scale)
                for first, end, seen in ((top, bottom, seen_top), (left, right, seen_left))
            )
            for canvas, part in zip(whole, parts, strict=True):
                canvas[..., top * scale : bottom * scale, left * scale : right * scale] = part[..., rows, columns]
            del parts
    return whole


def bytes_per_pixel(forward: Callable[[Tensor], object], probe_BCHW: Tensor) -> float:
    """What `forward` takes for each LR pixel, measured on `probe_BCHW`: the most tensors it holds at a time, twice.

    It is taken to be the same at any size, as it is for convolutions and window attention. Twice, for what convolution
    libraries allocate themselves.
    """
    with LiveBytes() as memory:
        forward(probe_BCHW)
    return _LIBRARY_BUFFERS * memory.peak / (probe_BCHW.shape[2] * probe_BCHW.shape[3])


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors made inside the block that are alive, on any device.

    Attributes:
        peak: the most that were alive at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._known.update(_storages((args, kwargs)))  # weights and inputs were there before
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage not in self._known:
                self._known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _freed(self, size: int) -> None:
        self.now -= size


def _storages(tree: Any) -> list[Any]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
