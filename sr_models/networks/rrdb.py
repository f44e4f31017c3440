"""RRDB: the generator of ESRGAN (https://arxiv.org/abs/1809.00219), trained for PSNR the usual teacher of ECO.

Numerics and state-dict keys follow https://github.com/XPixelGroup/BasicSR, commit 8d56e3a. Input and output in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_models.errors import InputError
from sr_models.networks.base import SRNetwork, check_window, conv, small_kaiming

RESIDUAL_SCALE = 0.2


class DenseBlock(nn.Module):
    """x plus 0.2 times five convolutions, each of which reads x and all the outputs before it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (conv(channels + i * growth, growth) for i in range(4))
        self.conv5 = conv(channels + 4 * growth, channels)
        self.apply(small_kaiming)

    def forward(self, x: Tensor) -> Tensor:
        known = x
        for step in (self.conv1, self.conv2, self.conv3, self.conv4):
            known = torch.cat((known, _leaky(step(known))), dim=1)
        residual: Tensor = self.conv5(known)
        return x + RESIDUAL_SCALE * residual


class RRDB(nn.Module):
    """x plus 0.2 times three dense blocks in a row."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(channels, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return x + RESIDUAL_SCALE * residual


class RRDBNet(SRNetwork):
    """Residual body with a long skip, then [nearest enlargement, convolution]: once for x2 and x3, n times for 2^n.

    With `unshuffle` (scales 1, 2, 4) pixels are first folded into channels, so that the features are always at a
    quarter of the output's size; at x4 there is nothing to fold.
    """

    def __init__(self, scale: int, *, channels: int, growth: int, blocks: int, unshuffle: bool) -> None:
        super().__init__()
        allowed = (1, 2, 4) if unshuffle else (2, 3, 4, 8)
        if scale not in allowed:
            raise InputError(f"RRDBNet with unshuffle={unshuffle} has scales {allowed}, not {scale}")
        self.scale = scale
        self.feature_channels = channels
        self.feature_scale_to_go = 4 if unshuffle else scale
        self.window = self.feature_scale_to_go // scale
        self.steps = (3,) if scale == 3 else (2,) * (self.feature_scale_to_go.bit_length() - 1)

        self.conv_first = conv(3 * self.window**2, channels)
        self.body = nn.Sequential(*(RRDB(channels, growth) for _ in range(blocks)))
        self.conv_body = conv(channels, channels)
        for i in range(len(self.steps)):
            self.add_module(f"conv_up{i + 1}", conv(channels, channels))  # the release's keys
        self.conv_hr = conv(channels, channels)
        self.conv_last = conv(channels, 3)

    def features(self, lr_BCHW: Tensor) -> Tensor:
        check_window(lr_BCHW, self.window)
        shallow: Tensor = self.conv_first(functional.pixel_unshuffle(lr_BCHW, self.window))
        deep: Tensor = self.conv_body(self.body(shallow))
        return shallow + deep

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        x = feat_BCHW
        for i, step in enumerate(self.steps):
            x = functional.interpolate(x, scale_factor=step, mode="nearest")
            x = _leaky(self.get_submodule(f"conv_up{i + 1}")(x))
        sr: Tensor = self.conv_last(_leaky(self.conv_hr(x)))
        return sr


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)
