"""Hyperparameters of every network, published values as defaults; `sr_models.MODELS` names the papers."""

from __future__ import annotations

from pydantic import Field

from sr_models.params import Params


class Network(Params):
    """Base of every network's hyperparameters: what a plan knows of its cost before torch is imported."""

    def multiply_adds(self, scale: int) -> float:
        """Multiply-adds of one forward pass per LR pixel, convolutions only; 0 where nothing is trained."""
        return 0.0

    @property
    def feature_channels(self) -> int:
        """Channels of the features that a σ head attaches to."""
        return int(getattr(self, "channels", 0))


def upsampler_multiply_adds(channels: int, scale: int) -> float:
    """Multiply-adds per LR pixel of repeated [k3 C -> r^2 C, pixel shuffle]: x3 in one step, 2^n in n steps."""
    if scale == 3:
        return 81.0 * channels**2
    return sum(36.0 * channels**2 * 4**i for i in range(scale.bit_length() - 1))


class Bicubic(Network):
    """MATLAB's bicubic has nothing to set."""


class MSRResNet(Network):
    """SRResNet without batch normalisation."""

    channels: int = Field(default=64, ge=1, description="feature channels")
    blocks: int = Field(default=16, ge=1, description="residual blocks")

    def multiply_adds(self, scale: int) -> float:
        """As `Network.multiply_adds`: head, two convolutions a block, upsampler, two convolutions at full size."""
        c = self.channels
        return 27 * c + 18 * self.blocks * c**2 + upsampler_multiply_adds(c, scale) + (9 * c**2 + 27 * c) * scale**2


class EDSRBaseline(Network):
    """The small EDSR."""

    channels: int = Field(default=64, ge=1, description="feature channels")
    blocks: int = Field(default=16, ge=1, description="residual blocks")
    res_scale: float = Field(default=1.0, gt=0, le=1, description="factor on each block's residual, in (0, 1]")

    def multiply_adds(self, scale: int) -> float:
        """As `Network.multiply_adds`: head, two convolutions a block, one after them, upsampler, tail at full size."""
        c = self.channels
        return 27 * c + 9 * (2 * self.blocks + 1) * c**2 + upsampler_multiply_adds(c, scale) + 27 * c * scale**2


class EDSR(EDSRBaseline):
    """The full EDSR."""

    channels: int = Field(default=256, ge=1, description="feature channels")
    blocks: int = Field(default=32, ge=1, description="residual blocks")
    res_scale: float = Field(default=0.1, gt=0, le=1, description="factor on each block's residual, in (0, 1]")


class IMDN(Network):
    """Information multi-distillation network."""

    channels: int = Field(default=64, ge=16, multiple_of=16, description="feature channels, a multiple of 16")
    blocks: int = Field(default=6, ge=1, description="information multi-distillation blocks")

    def multiply_adds(self, scale: int) -> float:
        """As `Network.multiply_adds`: c1..c4 of a block distil a quarter of the channels; c5 and the fusion are 1x1."""
        c = self.channels
        block = 9 * c * c + 2 * 9 * (0.75 * c) * c + 9 * (0.75 * c) * (0.25 * c) + c * c
        return 27 * c + self.blocks * (block + c * c) + 9 * c * c + 27 * c * scale**2


class Sigma(Params):
    """The head that predicts the spread |y - mu| from a network's features."""

    width: int = Field(default=160, ge=1, description="channels of the head's hidden convolutions")
    depth: int = Field(default=4, ge=1, description="hidden convolutions, each followed by a PReLU")
    out_channels: int = Field(default=3, ge=1, description="channels of the predicted spread")

    def multiply_adds(self, channels: int, scale: int) -> float:
        """Multiply-adds per LR pixel of the head on `channels` feature channels at LR size."""
        w = self.width
        return 9 * (channels * w + (self.depth - 1) * w**2 + w * self.out_channels * scale**2)
