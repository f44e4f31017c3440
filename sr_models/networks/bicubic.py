"""Bicubic as a model: MATLAB's `imresize`, the row that every table starts with (https://doi.org/10.1109/TASSP.1981.1163711)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sr_models.images.matlab import resize
from sr_models.images.operators import quantize, resize_float, to_float, to_uint8
from sr_models.networks.base import SRNetwork
from sr_models.scales import sr_side


class Bicubic(SRNetwork):
    """No parameters. An 8-bit input (every value a multiple of 1/255) is treated as MATLAB treats uint8, with its
    rounding between the passes; any other input takes the float path and is not clamped."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.feature_scale_to_go = math.ceil(scale)  # read by σ heads alone, which fit whole scales
        self.feature_channels = 3

    def features(self, lr_BCHW: Tensor) -> Tensor:
        return lr_BCHW

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        return torch.cat([self._resize(lr_1CHW) for lr_1CHW in lr_BCHW.split(1)])

    def _resize(self, lr_1CHW: Tensor) -> Tensor:
        """One image at a time: what it becomes must not depend on the others of its batch."""
        whole = isinstance(self.scale, int)
        size = None if whole else (sr_side(lr_1CHW.shape[2], self.scale), sr_side(lr_1CHW.shape[3], self.scale))
        if torch.allclose(quantize(lr_1CHW), lr_1CHW, rtol=0, atol=1e-6):
            return to_float(resize(to_uint8(lr_1CHW)[0], self.scale, out_shape=size)).to(lr_1CHW)
        return resize_float(lr_1CHW, self.scale, out_shape=size)
