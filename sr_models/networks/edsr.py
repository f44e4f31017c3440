"""EDSR and EDSR-baseline: "Enhanced deep residual networks for single image SR" (https://arxiv.org/abs/1707.02921).

State-dict keys follow https://github.com/sanghyun-son/EDSR-PyTorch. The layers work in [0, 255] around DIV2K's mean,
as the released weights need; the network's own input and output are in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sr_models.networks.base import SRNetwork, conv, upsampler

RANGE = 255
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB, in [0, 1]


class MeanShift(nn.Conv2d):
    """Adds `sign` times the mean colour: a frozen 1x1 convolution, because released weights hold it as one."""

    def __init__(self, sign: int) -> None:
        super().__init__(3, 3, kernel_size=1)
        self.requires_grad_(False)
        self.weight.copy_(torch.eye(3)[:, :, None, None])
        assert self.bias is not None
        self.bias.copy_(sign * RANGE * torch.tensor(DIV2K_MEAN))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 has steps of 1 near 255
            return super().forward(x.float())


class ResidualBlock(nn.Module):
    """x plus `res_scale` times [conv, ReLU, conv] of x."""

    def __init__(self, channels: int, res_scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), nn.ReLU(inplace=True), conv(channels, channels))
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.body(x)
        return x + self.res_scale * residual


class EDSRFrame(SRNetwork):
    """Head, body with a long skip, pixel-shuffle tail; no path from the input pixels to the output.

    Args:
        body: made one by one where their turn comes, because initial weights are drawn in the order of the layers.
    """

    feature_range = float(RANGE)

    def __init__(self, scale: int, *, channels: int, body: Iterator[nn.Module]) -> None:
        super().__init__()
        self.scale = self.feature_scale_to_go = scale
        self.feature_channels = channels

        self.sub_mean = MeanShift(-1)
        self.head = nn.Sequential(conv(3, channels))
        self.body = nn.Sequential(*body, conv(channels, channels))
        self.tail = nn.Sequential(upsampler(scale, channels), conv(channels, 3))
        self.add_mean = MeanShift(1)

    def features(self, lr_BCHW: Tensor) -> Tensor:
        shallow: Tensor = self.head(self.sub_mean(lr_BCHW * RANGE))
        deep: Tensor = self.body(shallow)
        return shallow + deep

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        sr: Tensor = self.add_mean(self.tail(feat_BCHW))
        return sr / RANGE


class EDSR(EDSRFrame):
    """A body of residual blocks."""

    def __init__(self, scale: int, *, channels: int, blocks: int, res_scale: float) -> None:
        body = (ResidualBlock(channels, res_scale) for _ in range(blocks))
        super().__init__(scale, channels=channels, body=body)
