"""Bicubic as a model: MATLAB's `imresize`, the row that every table starts with (https://doi.org/10.1109/TASSP.1981.1163711)."""

from __future__ import annotations

import torch
from torch import Tensor

from sr_models.images.operators import quantize, resize, resize_float, to_float, to_uint8
from sr_models.networks.base import SRNetwork


class Bicubic(SRNetwork):
    """No parameters. An 8-bit input (every value a multiple of 1/255) is treated as MATLAB treats uint8, with its
    rounding between the passes; any other input takes the float path and is not clamped."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = self.feature_scale_to_go = scale
        self.feature_channels = 3

    def features(self, lr_BCHW: Tensor) -> Tensor:
        return lr_BCHW

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        return torch.cat([self._resize(lr_1CHW) for lr_1CHW in lr_BCHW.split(1)])

    def _resize(self, lr_1CHW: Tensor) -> Tensor:
        """One image at a time: what it becomes must not depend on the others of its batch."""
        if torch.allclose(quantize(lr_1CHW), lr_1CHW, rtol=0, atol=1e-6):
            return to_float(resize(to_uint8(lr_1CHW)[0], self.scale)).to(lr_1CHW)
        return resize_float(lr_1CHW, self.scale)
