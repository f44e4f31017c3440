"""What every network shares: features in the LR frame, then reconstruction, so that a σ head can read the features.

The cut before the upsampler is that of He & Cheng, Fig. 3 (see `sr_models.networks.sigma`).
Shapes: B batch, C channels, H and W rows and columns of the LR image, r = `feature_scale_to_go`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn


class Network(nn.Module, ABC):
    """What every super-resolution network has, of whatever family.

    Attributes:
        scale: upscaling factor of the whole network; a whole one is an int.
        window: sides of the LR input must be multiples of this; a training patch must fit.
        begun: what names of parameters begin with that `begin` has given values, so that weights which training starts
            from may lack them.
    """

    scale: float
    window: int = 1
    begun: tuple[str, ...] = ()

    def begin(self) -> None:
        """Take over what training starts from and no generator draws; called for a network that is new to it."""

    @property
    @abstractmethod
    def stochastic(self) -> bool:
        """Whether what it gives for an image depends on noise, so that there are several draws."""


class SRNetwork(Network):
    """A network that gives a picture in one pass, on float RGB in [0, 1].

    Attributes:
        scale, window: as in `Network`.
        feature_channels: channels of `features`.
        feature_scale_to_go: upscaling factor left between the features and the output.
        feature_range: the range that features work in where images have [0, 1].
        fit: how `super_resolve` makes other images fit: "pad" to the next multiples; "pad_more" also pads a side that
            fits, by one window; "crop" into overlapping parts (`sr_models.inference.cropping`).
        noise_channels: 0 for a deterministic network. A stochastic one reads this many channels of standard normal
            noise behind the three of RGB, (B, 3 + noise_channels, H, W); given RGB alone, as in training, it draws the
            noise itself from torch's current generator.
    """

    feature_channels: int
    feature_scale_to_go: int
    feature_range: float = 1.0
    fit: Literal["pad", "pad_more", "crop"] = "pad"
    noise_channels: int = 0

    @property
    def stochastic(self) -> bool:
        """Whether it reads noise."""
        return self.noise_channels > 0

    @abstractmethod
    def features(self, lr_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, feature_channels, H', W'); H' * feature_scale_to_go = H * scale."""

    @abstractmethod
    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        """Features and the LR image they came from to (B, 3, H * scale, W * scale), about [0, 1] and not clamped."""

    def forward(self, lr_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 3, H * scale, W * scale), about [0, 1] and not clamped."""
        return self.reconstruct(self.features(lr_BCHW), lr_BCHW)


def conv(in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Conv2d:
    """A convolution that keeps the image size, with bias; kernel_size is odd."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def upsampler(scale: int, channels: int) -> nn.Sequential:
    """[conv, PixelShuffle] once for x3, once per doubling for x2, x4, x8, none for x1; activation-free, as in EDSR."""
    if scale not in (1, 2, 3, 4, 8):
        raise ValueError(f"no upsampler for scale {scale} (it has 1, 2, 3, 4, 8)")
    step, repeats = (3, 1) if scale == 3 else (2, scale.bit_length() - 1)
    stages = [(conv(channels, channels * step**2), nn.PixelShuffle(step)) for _ in range(repeats)]
    return nn.Sequential(*(layer for stage in stages for layer in stage))


@torch.no_grad()
def small_kaiming(module: nn.Module) -> None:
    """Kaiming normal times 0.1 and zero bias for a convolution, as BasicSR starts residual networks; for `apply`."""
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        nn.init.kaiming_normal_(module.weight).mul_(0.1)
        module.bias.zero_()


def check_window(x_BCHW: Tensor, window: int) -> None:
    """Hold `SRNetwork.window`.

    Raises:
        ValueError: a side is no multiple of `window`.
    """
    height, width = x_BCHW.shape[2:]
    if height % window or width % window:
        raise ValueError(f"sides must be multiples of {window}, got {height}x{width}; super_resolve takes any size")


def parameters(net: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
