"""IDN: Fast and accurate single image SR via information distillation network (https://arxiv.org/abs/1803.09454).

Numerics and keys follow https://github.com/Zheng222/IDN-Caffe (luma, transposed convolution); the variant with a pixel
shuffle follows the authors' later colour version, https://github.com/Zheng222/IDN-tensorflow. In [0, 1] and out.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_models.images.operators import resize_float, rgb_to_y
from sr_models.networks.base import SRNetwork, conv
from sr_models.networks.vdsr import add_detail


class IDN(SRNetwork):
    """Distillation blocks at LR size, one learned upsampling, plus the bicubic enlargement of the input."""

    def __init__(
        self, scale: int, *, channels: int, blocks: int, variant: Literal["y_deconv", "rgb_deconv", "rgb_shuffle"]
    ) -> None:
        super().__init__()
        self.scale = self.feature_scale_to_go = scale
        self.feature_channels = channels
        self.blocks = blocks
        self.color, tail = variant.split("_")
        planes = 1 if self.color == "y" else 3

        self.conv1, self.conv2 = conv(planes, channels), conv(channels, channels)
        for block in range(blocks):  # flat, as in the release: conv3_1 ... conv3_6, down1, conv4_1 ...
            for i, layer in enumerate(_block(channels), start=1):
                self.add_module(f"conv{block + 3}_{i}", layer)
            self.add_module(f"down{block + 1}", conv(channels * 5 // 4, channels, 1))
        if tail == "deconv":
            self.upsample: nn.Module = AlignedDeconvolution(channels, planes, scale)
        else:
            shuffle = conv(channels, planes * scale**2), nn.PixelShuffle(scale)
            self.upsample = nn.Sequential(conv(channels, channels), *shuffle)
        self.apply(_msra)

    def features(self, lr_BCHW: Tensor) -> Tensor:
        x = rgb_to_y(lr_BCHW) if self.color == "y" else lr_BCHW
        x = _leaky(self.conv2(_leaky(self.conv1(x))))
        for block in range(self.blocks):
            x = self._distil(block, x)
        return x

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        return add_detail(resize_float(lr_BCHW, self.scale), self.upsample(feat_BCHW))

    def _distil(self, block: int, x: Tensor) -> Tensor:
        """Three convolutions; a quarter of their output is kept with x, the rest goes through three more; compress."""

        def layers(y: Tensor, *numbers: int) -> Tensor:
            for i in numbers:
                y = _leaky(self.get_submodule(f"conv{block + 3}_{i}")(y))
            return y

        y = layers(x, 1, 2, 3)
        quarter = y.shape[1] // 4
        kept = torch.cat([x, y[:, :quarter]], dim=1)
        return _leaky(self.get_submodule(f"down{block + 1}")(kept + layers(y[:, quarter:], 4, 5, 6)))


class AlignedDeconvolution(nn.ConvTranspose2d):
    """The release's 17x17 transposed convolution, extended to whole output size.

    The release computes the s(h-1)+1 rows from s-1 on and gives up the first s-1 (columns likewise). Here the same
    weights give those too: padding 9-s instead of 8 shows s-1 more rows on either side, and the ones below are cut.
    """

    def __init__(self, channels: int, planes: int, scale: int) -> None:
        super().__init__(channels, planes, 17, stride=scale, padding=9 - scale)
        self.scale = scale

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(x, output_size)[..., : x.shape[2] * self.scale, : x.shape[3] * self.scale]


def _block(channels: int) -> list[nn.Conv2d]:
    """The six 3x3 convolutions of a block; the second and the fifth have four groups."""
    half, most, more = channels // 2, channels * 3 // 4, channels * 5 // 4
    widths = [(channels, most), (most, half), (half, channels), (most, channels), (channels, most), (most, more)]
    return [nn.Conv2d(*width, 3, padding=1, groups=4 if i in (1, 4) else 1) for i, width in enumerate(widths)]


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.05)


@torch.no_grad()
def _msra(module: nn.Module) -> None:
    """Caffe's MSRA filler with averaged fans, variance 4 / (fan in + fan out), and zero bias."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
        nn.init.xavier_normal_(module.weight, gain=math.sqrt(2))
        module.bias.zero_()
