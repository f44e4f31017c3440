"""SRResNet (https://arxiv.org/abs/1609.04802), as published and as BasicSR's model zoo has it (MSRResNet).

MSRResNet's numerics and state-dict keys follow https://github.com/XPixelGroup/BasicSR, commit 8d56e3a. No weights of
the published network were released. Input and output in [0, 1].
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from sr_models.networks.base import SRNetwork, conv, small_kaiming, upsampler


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
        if scale not in (1, 2, 3, 4):
            raise ValueError(f"MSRResNet has scales 1, 2, 3, 4, not {scale}")
        self.scale = self.feature_scale_to_go = scale
        self.feature_channels = channels
        step = 3 if scale == 3 else 2

        self.conv_first = conv(3, channels)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        if scale > 1:
            self.upconv1 = conv(channels, channels * step**2)
        if scale == 4:
            self.upconv2 = conv(channels, channels * step**2)
        self.shuffle = nn.PixelShuffle(step)
        self.conv_hr = conv(channels, channels)
        self.conv_last = conv(channels, 3)
        self.apply(small_kaiming)

    def features(self, lr_BCHW: Tensor) -> Tensor:
        features: Tensor = self.body(_leaky(self.conv_first(lr_BCHW)))
        return features

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        x = feat_BCHW
        if self.scale > 1:
            x = _leaky(self.shuffle(self.upconv1(x)))
        if self.scale == 4:
            x = _leaky(self.shuffle(self.upconv2(x)))
        detail: Tensor = self.conv_last(_leaky(self.conv_hr(x)))
        return detail + functional.interpolate(lr_BCHW, scale_factor=self.scale, mode="bilinear", align_corners=False)


class NormalizedBlock(nn.Module):
    """x plus [conv, BN, PReLU, conv, BN] of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(channels, channels), nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU()
        self.conv2, self.bn2 = conv(channels, channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))
        return x + residual


class SRResNet(SRNetwork):
    """The network of 2017: batch normalisation, a long skip, 9x9 head and tail; the input is not added at the end."""

    def __init__(self, scale: int, *, channels: int, blocks: int) -> None:
        super().__init__()
        self.scale = self.feature_scale_to_go = scale
        self.feature_channels = channels

        self.head = nn.Sequential(conv(3, channels, 9), nn.PReLU())
        self.body = nn.Sequential(*(NormalizedBlock(channels) for _ in range(blocks)))
        self.body_end = nn.Sequential(conv(channels, channels), nn.BatchNorm2d(channels))
        stages = list(upsampler(scale, channels))
        activated = (layer for pair in zip(stages[::2], stages[1::2], strict=True) for layer in (*pair, nn.PReLU()))
        self.upsample = nn.Sequential(*activated)
        self.tail = conv(channels, 3, 9)

    def features(self, lr_BCHW: Tensor) -> Tensor:
        shallow: Tensor = self.head(lr_BCHW)
        deep: Tensor = self.body_end(self.body(shallow))
        return shallow + deep

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        sr: Tensor = self.tail(self.upsample(feat_BCHW))
        return sr


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.1)
