"""IMDN: Lightweight image super-resolution with information multi-distillation network (https://arxiv.org/abs/1909.11856).

Numerics and state-dict keys follow https://github.com/Zheng222/IMDN, commit 8f158e6, where it differs from the paper (a
block's fourth convolution has no activation). Input and output in [0, 1].

What the paper's Tables 2 and 3 take away or exchange can be switched: progressive refinement (PRM), contrast-aware
against ordinary channel attention (CCA, CA), collection of all blocks' outputs (IIC). Nobody released those networks:
what stands in for a part that is off is known by the printed sizes.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_models.images.operators import resize_float
from sr_models.networks.base import SRNetwork, check_window, conv


class ChannelAttention(nn.Module):
    """Channels weighted by the mean of each feature map (CA), plus its standard deviation if contrast-aware (CCA)."""

    def __init__(self, channels: int, *, contrast: bool) -> None:
        super().__init__()
        self.contrast = contrast
        hidden = channels // 16
        self.conv_du = nn.Sequential(
            conv(channels, hidden, 1), nn.ReLU(inplace=True), conv(hidden, channels, 1), nn.Sigmoid()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mean = x_BCHW.mean((2, 3), keepdim=True)
        weight: Tensor = self.conv_du(spread(x_BCHW) + mean if self.contrast else mean)
        return x_BCHW * weight


def spread(x_BCHW: Tensor) -> Tensor:
    """Population standard deviation over H and W, (B, C, 1, 1); its gradient at a constant map is 0, not NaN."""
    variance = (x_BCHW - x_BCHW.mean((2, 3), keepdim=True)).square().mean((2, 3), keepdim=True)
    flat = variance == 0
    return variance.masked_fill(flat, 1).sqrt().masked_fill(flat, 0)


Attention = Literal["cca", "ca", "none"]


def _attention(channels: int, kind: Attention) -> nn.Module:
    return nn.Identity() if kind == "none" else ChannelAttention(channels, contrast=kind == "cca")


class DistillationBlock(nn.Module):
    """IMDB: each of three steps keeps a quarter of the channels and passes the rest on; the quarters are fused."""

    def __init__(self, channels: int, attention: Attention) -> None:
        super().__init__()
        self.kept = channels // 4
        passed = channels - self.kept
        self.c1, self.c2, self.c3 = conv(channels, channels), conv(passed, channels), conv(passed, channels)
        self.c4 = conv(passed, self.kept)
        self.cca = _attention(4 * self.kept, attention)
        self.c5 = conv(4 * self.kept, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept, rest = [], x
        for step in (self.c1, self.c2, self.c3):
            y = _leaky(step(rest))
            kept.append(y[:, : self.kept])
            rest = y[:, self.kept :]
        kept.append(self.c4(rest))
        fused: Tensor = self.c5(self.cca(torch.cat(kept, dim=1)))
        return x + fused


class PlainBlock(nn.Module):
    """What a block is without progressive refinement: three convolutions, the last one without activation."""

    def __init__(self, channels: int, attention: Attention) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = conv(channels, channels), conv(channels, channels), conv(channels, channels)
        self.cca = _attention(channels, attention)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cca(self.c3(_leaky(self.c2(_leaky(self.c1(x))))))
        return x + y


class IMDN(SRNetwork):
    """Blocks, their outputs fused (IIC) or the last alone, one pixel shuffle; no path from input pixels to output."""

    def __init__(self, scale: int, *, channels: int, blocks: int, prm: bool, attention: Attention, iic: bool) -> None:
        super().__init__()
        self.scale = self.feature_scale_to_go = scale
        self.feature_channels = channels
        self.block_names = [f"IMDB{i + 1}" for i in range(blocks)]  # the release's keys

        self.fea_conv: nn.Module = conv(3, channels)
        for name in self.block_names:
            self.add_module(name, (DistillationBlock if prm else PlainBlock)(channels, attention))
        self.c: nn.Sequential | None = None
        if iic:
            self.c = nn.Sequential(conv(channels * blocks, channels, 1), nn.LeakyReLU(0.05, inplace=True))
        self.LR_conv = conv(channels, channels)
        self.upsampler = nn.Sequential(conv(channels, 3 * scale**2), nn.PixelShuffle(scale))

    def features(self, lr_BCHW: Tensor) -> Tensor:
        shallow: Tensor = self.fea_conv(lr_BCHW)
        x, outputs = shallow, []
        for name in self.block_names:
            x = self.get_submodule(name)(x)
            outputs.append(x)
        deep: Tensor = self.LR_conv(x if self.c is None else self.c(torch.cat(outputs, dim=1)))
        return shallow + deep

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        sr: Tensor = self.upsampler(feat_BCHW)
        return sr


class IMDNAS(IMDN):
    """IMDN_AS: two strided convolutions, then IMDN x4, so that the output is as large as the input.

    The input is the bicubic enlargement of the LR image, or the image itself at scale 1. Its sides must be multiples of
    4; other pictures go through the adaptive cropping strategy.
    """

    fit = "crop"

    def __init__(self, scale: int, *, channels: int, blocks: int, prm: bool, attention: Attention, iic: bool) -> None:
        # features stay at a quarter of the output's size
        super().__init__(4, channels=channels, blocks=blocks, prm=prm, attention=attention, iic=iic)
        self.scale = scale
        self.window = 4 // math.gcd(4, scale)
        first, second = conv(3, channels), conv(channels, channels)
        first.stride = second.stride = (2, 2)
        self.fea_conv = nn.Sequential(first, nn.LeakyReLU(0.05, inplace=True), second)

    def features(self, lr_BCHW: Tensor) -> Tensor:
        check_window(lr_BCHW, self.window)
        return super().features(resize_float(lr_BCHW, self.scale))


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.05)
