"""Hyperparameters of every network, published values as defaults; `sr_models.MODELS` names the papers."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from sr_models.errors import InputError
from sr_models.hyper.base import NetworkHyper, upsampler_multiply_adds


class BicubicHyper(NetworkHyper):
    """MATLAB's bicubic has nothing to set."""


class MSRResNetHyper(NetworkHyper):
    """SRResNet without batch normalisation."""

    channels: int = Field(default=64, ge=1, description="feature channels")
    blocks: int = Field(default=16, ge=1, description="residual blocks")

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`: head, two convolutions a block, upsampler, two convolutions at full size."""
        c = self.channels
        return 27 * c + 18 * self.blocks * c**2 + upsampler_multiply_adds(c, scale) + (9 * c**2 + 27 * c) * scale**2


class SRResNetHyper(MSRResNetHyper):
    """SRResNet as published in 2017, with batch normalisation."""

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`: 9x9 head and tail, two convolutions a block, one after them, upsampler."""
        c = self.channels
        return 243 * c + 9 * (2 * self.blocks + 1) * c**2 + upsampler_multiply_adds(c, scale) + 243 * c * scale**2


class EDSRBaselineHyper(NetworkHyper):
    """The small EDSR."""

    channels: int = Field(default=64, ge=1, description="feature channels")
    blocks: int = Field(default=16, ge=1, description="residual blocks")
    res_scale: float = Field(default=1.0, gt=0, le=1, description="factor on each block's residual, in (0, 1]")

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`: head, two convolutions a block, one after them, upsampler, tail at full size."""
        c = self.channels
        return 27 * c + 9 * (2 * self.blocks + 1) * c**2 + upsampler_multiply_adds(c, scale) + 27 * c * scale**2


class EDSRHyper(EDSRBaselineHyper):
    """The full EDSR."""

    channels: int = Field(default=256, ge=1, description="feature channels")
    blocks: int = Field(default=32, ge=1, description="residual blocks")
    res_scale: float = Field(default=0.1, gt=0, le=1, description="factor on each block's residual, in (0, 1]")


class NoisyEDSRHyper(EDSRBaselineHyper):
    """EDSR-baseline with noise on its features."""

    noise: float = Field(
        default=10.0, ge=0, description="standard deviation of the noise on each feature; the layers work in [0, 255]"
    )


class IMDNHyper(NetworkHyper):
    """Information multi-distillation network."""

    channels: int = Field(default=64, ge=16, multiple_of=16, description="feature channels, a multiple of 16")
    blocks: int = Field(default=6, ge=1, description="information multi-distillation blocks")
    prm: bool = Field(  # the switches are left out of dumps as published: fingerprints are older than the choice
        default=True,
        exclude_if=lambda prm: prm,
        description="progressive refinement in a block; without it: three convolutions of all channels",
    )
    attention: Literal["cca", "ca", "none"] = Field(
        default="cca",
        exclude_if=lambda attention: attention == "cca",
        description="channel attention of a block: contrast-aware, by the mean alone, or none",
    )
    iic: bool = Field(
        default=True,
        exclude_if=lambda iic: iic,
        description="the outputs of all blocks are fused; without it: the last one's alone goes on",
    )

    @property
    def tile_exact(self) -> bool:
        """As in `NetworkHyper`: without attention, blocks look no further than their convolutions."""
        return self.attention == "none"

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`: c1..c4 of a block distil a quarter of the channels; c5 and the fusion are 1x1."""
        c = self.channels
        refined = 9 * c * c + 2 * 9 * (0.75 * c) * c + 9 * (0.75 * c) * (0.25 * c) + c * c
        block = (refined if self.prm else 27 * c * c) + self.iic * c * c
        return 27 * c + self.blocks * block + 9 * c * c + 27 * c * scale**2


class VDSRHyper(NetworkHyper):
    """Very deep network on the bicubic enlargement."""

    channels: int = Field(default=64, ge=1, description="feature channels")
    blocks: int = Field(default=18, ge=1, description="hidden convolutions")
    color: Literal["y", "rgb"] = Field(default="y", description="what the layers see: luma alone, or RGB")
    bias: bool = Field(default=False, description="whether convolutions have a bias")

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`: every convolution at full size."""
        c, planes = self.channels, 1 if self.color == "y" else 3
        return 9.0 * (2 * planes * c + self.blocks * c**2) * scale**2

    def scale_to_go(self, scale: int) -> int:
        """1: features are at full size."""
        return 1


class IDNHyper(NetworkHyper):
    """Information distillation network."""

    channels: int = Field(default=64, ge=16, multiple_of=16, description="feature channels, a multiple of 16")
    blocks: int = Field(default=4, ge=1, description="distillation blocks")
    variant: Literal["y_deconv", "rgb_deconv", "rgb_shuffle"] = Field(
        default="y_deconv",
        description="what the layers see (luma or RGB) and how they enlarge (transposed convolution or pixel shuffle)",
    )

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`: the second and fifth convolution of a block have 4 groups; `down` is 1x1."""
        c, planes = self.channels, 1 if self.variant == "y_deconv" else 3
        first = 0.75 + 0.75 * 0.5 / 4 + 0.5
        second = 0.75 + 0.75 / 4 + 0.75 * 1.25
        block = (9 * (first + second) + 1.25) * c**2
        tail = 9 * c**2 + 9 * c * planes * scale**2 if self.variant == "rgb_shuffle" else 17**2 * c * planes
        return 9 * (planes * c + c**2) + self.blocks * block + tail


class CARNHyper(NetworkHyper):
    """Cascading residual network."""

    channels: int = Field(default=64, ge=1, description="feature channels")
    blocks: int = Field(default=3, ge=1, description="cascading blocks")
    units: int = Field(default=3, ge=1, description="residual units of a block")
    groups: int = Field(default=1, ge=1, description="groups of the units' and the upsamplers' 3x3 convolutions")
    mobile: bool = Field(default=False, description="CARN-M's unit: ends in a 1x1, the same one all through a block")
    scales: tuple[Literal[2, 3, 4, 8], ...] = Field(
        default=(), description="multi-scale network: also has upsamplers for these scales, 2, 3 and 4 in the paper"
    )

    @model_validator(mode="after")
    def _channels_fill_groups(self) -> Self:
        if self.channels % self.groups:
            raise ValueError(f"channels must be a multiple of groups, got {self.channels} and {self.groups}")
        return self

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`: a unit is two convolutions (and a 1x1 if mobile); a 1x1 fuses after each."""
        c = self.channels
        unit = 18 / self.groups + self.mobile
        block = self.units * unit + sum(i + 2 for i in range(self.units))
        body = self.blocks * block + sum(i + 2 for i in range(self.blocks))
        return 27 * c + body * c**2 + upsampler_multiply_adds(c, scale) / self.groups + 27 * c * scale**2


class CARNMHyper(CARNHyper):
    """CARN-M, for mobile devices."""

    groups: int = Field(default=4, ge=1, description="groups of the units' and the upsamplers' 3x3 convolutions")
    mobile: bool = Field(default=True, description="CARN-M's unit: ends in a 1x1, the same one all through a block")


class RCANHyper(NetworkHyper):
    """Residual channel attention network."""

    channels: int = Field(default=64, ge=1, description="feature channels")
    groups: int = Field(default=10, ge=1, description="residual groups")
    blocks: int = Field(default=20, ge=1, description="channel attention blocks of a group")
    reduction: int = Field(default=16, ge=1, description="channels over the channels of an attention's bottleneck")

    @model_validator(mode="after")
    def _bottleneck_has_channels(self) -> Self:
        if self.channels % self.reduction:
            raise ValueError(f"channels must be a multiple of reduction, got {self.channels} and {self.reduction}")
        return self

    @property
    def tile_exact(self) -> bool:
        """False: attention pools all of a picture."""
        return False

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`: two convolutions a block, one a group, one after them; attention is per image."""
        c = self.channels
        body = 9 * (self.groups * (2 * self.blocks + 1) + 1) * c**2
        return 27 * c + body + upsampler_multiply_adds(c, scale) + 27 * c * scale**2


class IMDNASHyper(IMDNHyper):
    """IMDN at a quarter of the output's resolution."""

    @property
    def tile_exact(self) -> bool:
        """False: the place of its parts goes with the picture's size."""
        return False

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`: the x4 network on 1/16 of the output's pixels, after two strided convolutions."""
        c = self.channels
        return scale**2 / 16 * (super().multiply_adds(4) - 27 * c + 4 * 27 * c + 9 * c * c)

    def scale_to_go(self, scale: int) -> int:
        """4 at any scale."""
        return 4


class RRDBHyper(NetworkHyper):
    """Residual in residual dense blocks, the generator of ESRGAN."""

    channels: int = Field(default=64, ge=1, description="feature channels")
    growth: int = Field(default=32, ge=1, description="channels that each convolution of a dense block adds")
    blocks: int = Field(default=23, ge=1, description="residual in residual blocks of three dense blocks")
    unshuffle: bool = Field(default=False, description="work at 1/4 of the output's size; scales 2 and 4")

    def check_scale(self, scale: int) -> None:
        """Pixel unshuffling goes with a factor 4 between features and output."""
        if self.unshuffle and 4 % scale:
            raise InputError(f"rrdb with unshuffle has scales 2, 4, not {scale}")

    def scale_to_go(self, scale: int) -> int:
        """4 at any scale where the input is unshuffled."""
        return 4 if self.unshuffle else scale

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`: counted per pixel of the features, `shrink` times fewer on a side."""
        c, g, to_go = self.channels, self.growth, self.scale_to_go(scale)
        shrink = to_go // scale
        dense = sum(9 * (c + i * g) * g for i in range(4)) + 9 * (c + 4 * g) * c
        sizes = (3,) if to_go == 3 else tuple(2 ** (i + 1) for i in range(to_go.bit_length() - 1))
        up = sum(9 * c**2 * size**2 for size in sizes)
        body = 27 * shrink**2 * c + self.blocks * 3 * dense + 9 * c**2 + up + (9 * c**2 + 27 * c) * to_go**2
        return body / shrink**2


class SwinIRHyper(NetworkHyper):
    """Window attention for classical super-resolution; "nearest+conv" is the tail of the real-world network."""

    channels: int = Field(default=180, ge=1, description="feature channels, a multiple of heads")
    blocks: int = Field(default=6, ge=1, description="residual groups")
    layers: int = Field(default=6, ge=1, description="transformer layers of a group; every second one is shifted")
    heads: int = Field(default=6, ge=1, description="attention heads")
    mlp_ratio: float = Field(default=2.0, ge=1, description="hidden channels of a layer's MLP over channels")
    drop_path: float = Field(default=0.1, ge=0, lt=1, description="chance to skip the last layer in training")
    tail: Literal["pixelshuffle", "pixelshuffledirect", "nearest+conv"] = Field(
        default="pixelshuffle", description="from features to the picture; nearest+conv has scale 4 only"
    )

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.channels % self.heads:
            raise ValueError(f"channels must be a multiple of heads, got {self.channels} and {self.heads}")
        return self

    def check_scale(self, scale: int) -> None:
        """The released nearest+conv tail doubles twice."""
        if self.tail == "nearest+conv" and scale != 4:
            raise InputError(f"swinir with tail 'nearest+conv' has scale 4, not {scale}")

    def multiply_adds(self, scale: int) -> float:
        """Per LR pixel of whole windows: convolutions, linear layers and the two products of attention."""
        c, r2 = self.channels, scale**2
        layer = 4 * c**2 + 2 * c * int(c * self.mlp_ratio) + 2 * 64 * c
        body = 27 * c + self.blocks * (self.layers * layer + 9 * c**2) + 9 * c**2
        if self.tail == "pixelshuffledirect":
            return body + 27 * c * r2
        up = 9 * 64**2 * (4 + 16 + 16) if self.tail == "nearest+conv" else upsampler_multiply_adds(64, scale)
        return body + 9 * c * 64 + up + 27 * 64 * r2


class SwinIRLightHyper(SwinIRHyper):
    """The lightweight SwinIR."""

    channels: int = Field(default=60, ge=1, description="feature channels, a multiple of heads")
    blocks: int = Field(default=4, ge=1, description="residual groups")
    tail: Literal["pixelshuffle", "pixelshuffledirect", "nearest+conv"] = Field(
        default="pixelshuffledirect", description="from features to the picture; nearest+conv has scale 4 only"
    )
