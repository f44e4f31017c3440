"""RCAN: Image super-resolution using very deep residual channel attention networks (https://arxiv.org/abs/1807.02758).

State-dict keys follow https://github.com/yulunzhang/RCAN, commit f722e5d. As in EDSR the layers work in [0, 255] around
DIV2K's mean. The release trained its mean shifts by accident: here they are frozen, but read from a checkpoint like any
other weight.
"""

from __future__ import annotations

from torch import Tensor, nn

from sr_models.networks.base import conv
from sr_models.networks.edsr import EDSRFrame


class ChannelAttention(nn.Module):
    """Channels weighted by what a bottleneck makes of each feature map's mean."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = channels // reduction
        self.conv_du = nn.Sequential(
            conv(channels, hidden, 1), nn.ReLU(inplace=True), conv(hidden, channels, 1), nn.Sigmoid()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        weight: Tensor = self.conv_du(x_BCHW.mean((2, 3), keepdim=True))
        return x_BCHW * weight


class Residual(nn.Module):
    """x plus `body` of x: a channel attention block, and a group of them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.body(x)
        return x + residual


class RCAN(EDSRFrame):
    """EDSR's frame around residual groups of residual channel attention blocks."""

    def __init__(self, scale: int, *, channels: int, groups: int, blocks: int, reduction: int) -> None:
        def block() -> Residual:
            first, second = conv(channels, channels), conv(channels, channels)
            return Residual(first, nn.ReLU(inplace=True), second, ChannelAttention(channels, reduction))

        def group() -> Residual:
            return Residual(*(block() for _ in range(blocks)), conv(channels, channels))

        super().__init__(scale, channels=channels, body=(group() for _ in range(groups)))
