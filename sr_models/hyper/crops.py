"""The tiles of papers that diffusion networks draw pictures in, declared before torch is imported.

Those of DREAM's tables (https://arxiv.org/abs/2312.00210), by the code of IDM (https://github.com/Ree1s/IDM, commit
d224c0e, model/crop_validation.py), and those that CCSR's code fuses at each step (https://github.com/csslc/CCSR, commit
15778ed, model/q_sampler.py). `sr_models.inference.tiling` says where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Crops = Literal["dream40o5", "dream64o8", "ccsr128o64", "ccsr128o64released", "ccsr128o64mean"]
"""Keys of `CROP_RULES`."""


@dataclass(frozen=True)
class CropRule:
    """Tiles of one size: `length` LR pixels a side, of which `overlap` are also its neighbour's.

    fused: None where each tile is a picture of its own, and these are pasted; else how the guesses that tiles make of a
    pixel count in their mean at each step: by `gaussian`, most in a tile's middle; by `gaussian_released`, whose middle
    is half a value lower down, as CCSR's code has it; or `uniform`, all alike.
    """

    length: int
    overlap: int
    fused: Literal["gaussian", "gaussian_released", "uniform"] | None = None

    def fits(self, window: int) -> bool:
        """Whether a network can draw such tiles whose windows are so many LR pixels; fused ones start on windows."""
        return self.length % window == 0 and (self.fused is None or self.overlap % window == 0)

    def times(self, factor: int) -> CropRule:
        """The same tiles of a picture that was enlarged before."""
        return replace(self, length=self.length * factor, overlap=self.overlap * factor)


CROP_RULES: dict[str, CropRule] = {
    "dream40o5": CropRule(40, 5),
    "dream64o8": CropRule(64, 8),
    "ccsr128o64": CropRule(128, 64, "gaussian"),
    "ccsr128o64released": CropRule(128, 64, "gaussian_released"),
    "ccsr128o64mean": CropRule(128, 64, "uniform"),
}
"""DREAM's, for SR3 and IDM on DIV2K and for ResShift; CCSR's, which are 512 pixels of SR at x4."""


def rule_of(crops: str | None, tile: int | None, overlap: int) -> CropRule | None:
    """How a diffusion network's picture is cut: by the paper's rule, or into tiles that see `overlap` beyond `tile`."""
    if crops is not None:
        return CROP_RULES[crops]
    return None if tile is None else CropRule(tile + 2 * overlap, 2 * overlap)
