"""SR3 (https://arxiv.org/abs/2104.07636): the picture is drawn from noise beside the bicubic enlargement of LR.

Numbers and keys are those of the public code that DREAM (https://arxiv.org/abs/2312.00210) and CCSR build on; see
`sr_models.diffusion.unet`. The enlargement is MATLAB's bicubic, clamped and not rounded, so any scale goes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sr_models.diffusion.process import Level
from sr_models.diffusion.unet import UNet
from sr_models.images.operators import resize_float


class SR3(UNet):
    """A U-Net on the enlarged LR and the noisy picture, six channels, which gives three."""

    def __init__(
        self, scale: int, *, channels: int, mults: Sequence[int], attention: Sequence[int], blocks: int, dropout: float,
        groups: int,
    ) -> None:  # fmt: skip
        super().__init__(
            6, 3, channels=channels, mults=mults, attention=attention, blocks=blocks, dropout=dropout, groups=groups
        )
        self.scale = scale
        self.window = self.multiple // math.gcd(self.multiple, scale)

    def encode(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        return self.state(resize_float(lr_BCHW, self.scale, out_shape=size).clamp(0, 1))

    def forward(self, condition: Tensor, state_BCHW: Tensor, level: Level) -> Tensor:
        return self.denoise(torch.cat([condition, state_BCHW], 1), level.gamma)
