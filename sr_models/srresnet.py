"""MSRResNet: SRResNet (https://arxiv.org/abs/1609.04802) without batch normalisation, as BasicSR's model zoo has it.

Numerics and state-dict keys follow https://github.com/XPixelGroup/BasicSR, commit 8d56e3a. Input and output in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_models.network import SRNetwork, conv


class ResidualBlock(nn.Module):
    """x plus [conv, ReLU, conv] of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(channels, channels), conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2(functional.relu(self.conv1(x)))
        return x + residual


class MSRResNet(SRNetwork):
    """Residual blocks, pixel-shuffle tail, plus the bilinear enlargement of the input."""

    def __init__(self, scale: int, *, channels: int, blocks: int) -> None:
        super().__init__()
        if scale not in (2, 3, 4):
            raise ValueError(f"MSRResNet has scales 2, 3, 4, not {scale}")
        self.scale = self.feature_scale_to_go = scale
        self.feature_channels = channels
        step = 3 if scale == 3 else 2

        self.conv_first = conv(3, channels)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.upconv1 = conv(channels, channels * step**2)
        if scale == 4:
            self.upconv2 = conv(channels, channels * step**2)
        self.shuffle = nn.PixelShuffle(step)
        self.conv_hr = conv(channels, channels)
        self.conv_last = conv(channels, 3)
        self.apply(_small_kaiming)

    def features(self, lr_BCHW: Tensor) -> Tensor:
        features: Tensor = self.body(_leaky(self.conv_first(lr_BCHW)))
        return features

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        x = _leaky(self.shuffle(self.upconv1(feat_BCHW)))
        if self.scale == 4:
            x = _leaky(self.shuffle(self.upconv2(x)))
        detail: Tensor = self.conv_last(_leaky(self.conv_hr(x)))
        return detail + functional.interpolate(lr_BCHW, scale_factor=self.scale, mode="bilinear", align_corners=False)


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.1)


@torch.no_grad()
def _small_kaiming(module: nn.Module) -> None:
    """Kaiming normal times 0.1, zero bias."""
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        nn.init.kaiming_normal_(module.weight).mul_(0.1)
        module.bias.zero_()
