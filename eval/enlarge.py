"""One photograph enlarged as evaluation enlarges a test image, in tiles where memory asks for them. Ours, no paper.

Draw 0 of `eval.score.sample` in 8 bits: the picture that evaluation scores, and `python -m eval --save-images` writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from eval.score import machine_bytes, sample
from sr_models.diffusion.base import Denoiser
from sr_models.errors import InputError
from sr_models.hyper.crops import CropRule
from sr_models.images.operators import to_uint8
from sr_models.inference.bound import Bound
from sr_models.inference.super_resolve import Options
from sr_models.inference.tiling import crop_starts, spans, tile_starts
from sr_models.networks.base import Network
from sr_models.networks.sigma import WithSigma, without_head
from sr_models.scales import sr_side

_PICTURE_BYTES = 36
"""That an SR pixel takes beside the network: three floats and a copy of them, and 8 bits in as many as four copies."""
_SHARE = 2
"""A tile takes one part in so many of the memory there is: others work on the machine, too."""


def memory_share(device: str) -> int:
    """Bytes that a picture or tile may take where nobody says: half of the machine's, or of what a GPU has left."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) // _SHARE
    return machine_bytes() // _SHARE


@dataclass(frozen=True, kw_only=True)
class Enlarger:
    """A network, ready for pictures.

    Attributes:
        model: on the device that it is to work on.
        options: how it computes them; tiles that these name are taken as they are.
        bound: what it may take.
        seed: of a stochastic network's noise.
    """

    model: Network | WithSigma
    options: Options
    bound: Bound
    seed: int = 0

    @property
    def device(self) -> str:
        """That the network works on."""
        return str(next((tensor.device for tensor in self.model.parameters()), torch.device("cpu")))

    @property
    def scale(self) -> float:
        """How much larger its pictures are."""
        return without_head(self.model).scale

    def how(self, height: int, width: int) -> tuple[Options, str]:
        """How a picture of these sides (LR pixels) is computed, and what to say of it: "" unless tiles change it.

        Raises:
            InputError: it cannot be computed in the memory there is.
        """
        sides = sr_side(height, self.scale), sr_side(width, self.scale)
        if (takes := sides[0] * sides[1] * _PICTURE_BYTES) > machine_bytes():
            raise InputError(
                f"{sides[1]}x{sides[0]} pixels take about {takes / 1e9:.1f} GB, and this machine has "
                f"{machine_bytes() / 1e9:.1f} GB; cut it into parts"
            )
        options = self.bound.options(height, width, self.options)
        if options.crop_rule is not None or self.bound.takes(height, width, options) <= self.bound.max_bytes:
            return options, ""
        if not isinstance(self.scale, int):
            most = f"{self.bound.max_bytes / 1e6:,.0f} MB"
            raise InputError(f"too large for {most}, and there are no tiles at a scale that is a fraction")
        tile, overlap = self._tile(options.overlap)
        return replace(options, tile=tile, overlap=overlap), (
            f"computed in tiles of {tile} pixels that see {overlap} further, so that it fits "
            f"{self.bound.max_bytes / 1e6:,.0f} MB; this network looks at all of a picture, which whole would differ"
        )

    def picture(self, rgb: np.ndarray, options: Options, step: Callable[[float], None]) -> np.ndarray:
        """The enlarged picture.

        Args:
            rgb: (H, W, 3) uint8.
            options: what `how` says of its sides.
            step: called after each pass of the network with the share of the work that is done, up to 1.

        Returns:
            (H * scale, W * scale, 3) uint8, by `sr_side`.

        Raises:
            InputError: as `super_resolve`, or SR that is not finite.
        """
        calls = self._calls(rgb.shape[0], rgb.shape[1], options)
        with _counted(self.model, lambda done: step(min(done / calls, 1.0))):
            drawn = next(iter(sample(self.model, rgb, draws=1, seed=self.seed, options=options)))
        if not torch.isfinite(drawn.out.sr).all():
            raise InputError("SR is not finite")
        return to_uint8(drawn.out.sr)[0]

    def _tile(self, overlap: int) -> tuple[int, int]:
        """Side and overlap of the largest tile that fits, of a diffusion network one that its windows divide."""
        if not isinstance(without_head(self.model), Denoiser):
            return self.bound.tile(overlap), overlap
        window = self.bound.window
        side = math.isqrt(int(self.bound.max_bytes / self.bound.pixel_bytes)) // window * window
        overlap = side // 8
        if side - 2 * overlap < 1:
            raise InputError(f"{self.bound.max_bytes} bytes are too few for a tile of {window} pixels")
        return side - 2 * overlap, overlap

    def _calls(self, height: int, width: int, options: Options) -> int:
        """About how many passes of the network a picture takes."""
        net, rule = without_head(self.model), options.crop_rule
        if isinstance(net, Denoiser):
            tiles = [] if rule is None else [_tiles(side, rule) for side in (height, width)]
            assert options.sampling is not None and options.sampling.steps is not None
            return options.sampling.steps * math.prod(tiles)
        if options.tile is not None:
            tiles = [len(spans(side, options.tile, options.overlap, net.window)) for side in (height, width)]
        else:
            tiles = []
        return math.prod(tiles) * (8 if options.self_ensemble else 1)


def _tiles(side: int, rule: CropRule) -> int:
    """How many a side of so many LR pixels is cut into."""
    side = max(side, rule.length)
    return len(tile_starts(side, rule) if rule.fused else crop_starts(side, rule, 1))


@contextmanager
def _counted(model: Network | WithSigma, tell: Callable[[int], None]) -> Iterator[None]:
    """Tell of each pass of a network inside the block how many there have been."""
    done = 0

    def add(*_: object) -> None:
        nonlocal done
        done += 1
        tell(done)

    hook = model.register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()
