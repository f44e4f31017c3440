"""Sizes of the diffusion networks on pictures, SR3's and IDM's, declared before torch is imported."""

from __future__ import annotations

import itertools
import math
from typing import Self

from pydantic import Field, model_validator

from sr_models.hyper.base import NetworkHyper


class SR3Hyper(NetworkHyper):
    """SR3's U-Net, as released for faces 16 to 128."""

    channels: int = Field(
        default=64, ge=2, multiple_of=2, description="feature channels at full size, a multiple of groups"
    )
    mults: tuple[int, ...] = Field(
        default=(1, 2, 4, 8, 8), min_length=1, max_length=8, description="channels of each level, in multiples"
    )
    attention: tuple[int, ...] = Field(
        default=(3,),
        description="levels, by halvings of the picture, that attend over all of it; the middle always does",
    )
    blocks: int = Field(default=2, ge=1, description="residual blocks of a level on the way down")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="of each block's second half, in training")
    groups: int = Field(default=32, ge=1, description="groups of channels that are normalised together")

    @model_validator(mode="after")
    def _whole_levels(self) -> Self:
        if self.channels % self.groups:
            raise ValueError(f"channels must be a multiple of groups, got {self.channels} and {self.groups}")
        if not all(1 <= mult <= 64 for mult in self.mults):
            raise ValueError(f"mults must be from 1 to 64, got {list(self.mults)}")
        if missing := set(self.attention) - set(range(len(self.mults))):
            raise ValueError(f"attention names levels 0 to {len(self.mults) - 1}, got {sorted(missing)}")
        return self

    def window(self, scale: int) -> int:
        """As in `NetworkHyper`: each level but the first halves the picture."""
        multiple = 2 ** (len(self.mults) - 1)
        return multiple // math.gcd(multiple, scale)

    @property
    def tile_exact(self) -> bool:
        """As in `NetworkHyper`: attention and normalisation see all of a picture, and each tile draws its own."""
        return False

    @property
    def group_width(self) -> float:
        """As in `NetworkHyper`."""
        return self.channels / self.groups

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`, of one call; attention's two products, which grow with the picture, are left out."""
        here = c = self.channels
        left, total = [c], 54.0 * c

        def layer(before: int, after: int, attend: bool) -> float:
            shortcut = before * after if before != after else 0
            return 9 * before * after + 9 * after**2 + shortcut + 4 * after**2 * attend

        for level, mult in enumerate(self.mults):
            for _ in range(self.blocks):
                total += layer(here, c * mult, level in self.attention) / 4**level
                here = c * mult
                left.append(here)
            if level < len(self.mults) - 1:
                total += 9 * here**2 / 4 ** (level + 1)
                left.append(here)
        total += (layer(here, here, True) + layer(here, here, False)) / 4 ** (len(self.mults) - 1)
        for level, mult in reversed([*enumerate(self.mults)]):
            for _ in range(self.blocks + 1):
                total += layer(here + left.pop(), c * mult, level in self.attention) / 4**level
                here = c * mult
            if level:
                total += self._enlarging(here) / 4**level
        return (total + 27 * here) * scale**2

    def _enlarging(self, channels: int) -> float:
        """Multiply-adds of what doubles the sides of features, per pixel that they have before."""
        return 36.0 * channels**2


class IDMHyper(SR3Hyper):
    """IDM's U-Net and encoder, as released for faces 16 to 128."""

    features: int = Field(default=64, ge=1, description="channels of the encoder, an EDSR without upsampler")
    encoder_blocks: int = Field(default=16, ge=1, description="residual blocks of the encoder")
    highest_scale: float = Field(
        default=8.0,
        gt=1,
        description="the enlargement that the network knows as p = 1, as LR's own size is p = 0; it belongs to weights",
    )

    def beyond(self, scale: float) -> str:
        """As in `NetworkHyper`: where the scaler p is above 1."""
        if scale <= self.highest_scale:
            return ""
        p = (scale - 1) / (self.highest_scale - 1)
        return f"x{scale:g} is beyond highest_scale {self.highest_scale:g}: idm is told p = {p:.2f}, of 0 to 1"

    def window(self, scale: int) -> int:
        """As in `NetworkHyper`: any side goes."""
        return 1

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`, of one call and the encoder, which sampling runs once for all its calls."""
        f, c = self.features, self.channels
        encoder = 27 * f + 9 * f**2 * (2 * self.encoder_blocks + 1)
        levels = [c, *(c * mult for mult in self.mults[:-1])]
        style = 27 * f + 27 * c
        for level, (before, after) in enumerate(itertools.pairwise(levels), start=1):
            style += (9 * before * after + 9 * after * c * self.mults[level]) / 4**level
        return encoder + style * scale**2 + super().multiply_adds(scale)

    def _enlarging(self, channels: int) -> float:
        return 512.0 * channels
