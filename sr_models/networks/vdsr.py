"""VDSR: Accurate image super-resolution using very deep convolutional networks (https://arxiv.org/abs/1511.04587).

State-dict keys follow https://github.com/twtygqyy/pytorch-vdsr, commit 514b021. All layers work on the bicubic
enlargement of the input, so one set of weights serves every scale. The paper's network sees luma only; `color="rgb"`
with biases is the form that later tables call VDSR at 668K. Input and output in [0, 1].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_models.images.operators import resize_float, rgb_to_y
from sr_models.networks.base import SRNetwork

LUMA_GAIN = 219 / 255  # the rise of Y where R, G and B rise together by 1


class Layer(nn.Module):
    """A convolution and its ReLU."""

    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x))


class VDSR(SRNetwork):
    """Plain convolutions at output size that predict what the bicubic enlargement lacks."""

    def __init__(self, scale: int, *, channels: int, blocks: int, color: Literal["y", "rgb"], bias: bool) -> None:
        super().__init__()
        self.scale, self.feature_scale_to_go = scale, 1
        self.feature_channels = channels
        self.color = color
        planes = 1 if color == "y" else 3

        self.input = nn.Conv2d(planes, channels, 3, padding=1, bias=bias)
        self.residual_layer = nn.Sequential(*(Layer(channels, bias) for _ in range(blocks)))
        self.output = nn.Conv2d(channels, planes, 3, padding=1, bias=bias)
        self.apply(_kaiming_fan_out)

    def features(self, lr_BCHW: Tensor) -> Tensor:
        enlarged = resize_float(lr_BCHW, self.scale)
        x = rgb_to_y(enlarged) if self.color == "y" else enlarged
        features: Tensor = self.residual_layer(functional.relu(self.input(x)))
        return features

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        return add_detail(resize_float(lr_BCHW, self.scale), self.output(feat_BCHW))


def add_detail(rgb_BCHW: Tensor, detail_BCHW: Tensor) -> Tensor:
    """RGB plus what a network adds to it: three channels as they are, a single one as luma.

    Luma detail raises R, G and B alike, so that Y rises by exactly the detail and the chroma stays.
    """
    return rgb_BCHW + (detail_BCHW / LUMA_GAIN if detail_BCHW.shape[1] == 1 else detail_BCHW)


@torch.no_grad()
def _kaiming_fan_out(module: nn.Module) -> None:
    """Normal with variance 2 / (9 * outgoing channels), zero bias."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            module.bias.zero_()
