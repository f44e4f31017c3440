"""Sizes of the autoencoders whose latent spaces other networks work in, declared before torch is imported.

VQGAN (https://arxiv.org/abs/2012.09841) and the KL autoencoder of latent diffusion (https://arxiv.org/abs/2112.10752)
have one shape: levels of residual blocks, halved in between, and a middle that attends.
"""

from __future__ import annotations

import math
from typing import Self

from pydantic import Field, model_validator

from sr_models.hyper.base import NetworkHyper

GROUPS = 32
"""Of every normalisation in both."""


class AutoencoderHyper(NetworkHyper):
    """Base of the autoencoders."""

    channels: int = Field(default=128, ge=GROUPS, multiple_of=GROUPS, description="feature channels at full size")
    mults: tuple[int, ...] = Field(
        default=(1, 2, 4), min_length=1, max_length=8, description="channels of each level, in multiples"
    )
    blocks: int = Field(
        default=2, ge=1, description="residual blocks of a level of the encoder; the decoder has one more"
    )
    latent: int = Field(default=3, ge=1, description="channels of a latent")

    @model_validator(mode="after")
    def _possible_levels(self) -> Self:
        if not all(1 <= mult <= 64 for mult in self.mults):
            raise ValueError(f"mults must be from 1 to 64, got {list(self.mults)}")
        return self

    @property
    def reduction(self) -> int:
        """A picture's sides over a latent's: each level but the first halves them."""
        return int(2 ** (len(self.mults) - 1))

    def window(self, scale: int) -> int:
        """As in `NetworkHyper`: pictures are whole cells of a latent."""
        return self.reduction // math.gcd(self.reduction, scale)

    @property
    def tile_exact(self) -> bool:
        """As in `NetworkHyper`: attention and normalisation see all of a picture."""
        return False

    @property
    def group_width(self) -> float:
        """As in `NetworkHyper`."""
        return self.channels / GROUPS

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`, of a picture there and back; attention's two products are left out."""
        return (self.encoding + self.decoding) * scale**2

    @property
    def encoding(self) -> float:
        """Multiply-adds of the encoder, per pixel of a picture."""
        widths = self._widths
        here, total = widths[0], 27.0 * widths[0]
        for i, width in enumerate(widths):
            total += _level(here, width, self.blocks) / 4**i
            here = width
            if i < len(widths) - 1:
                total += 9 * width**2 / 4 ** (i + 1)
        return total + (_middle(here) + 9 * here * self._moments + self._moments**2) / self.reduction**2

    @property
    def decoding(self) -> float:
        """The same of the decoder."""
        widths = self._widths
        here, total = widths[-1], 27.0 * widths[0]
        total += (_middle(here) + 9 * here * self.latent + self.latent**2) / self.reduction**2
        for i, width in reversed([*enumerate(widths)]):
            total += _level(here, width, self.blocks + 1) / 4**i
            here = width
            if i:
                total += 9 * width**2 / 4 ** (i - 1)
        return total

    @property
    def _widths(self) -> list[int]:
        return [self.channels * mult for mult in self.mults]

    @property
    def _moments(self) -> int:
        """Channels that the encoder gives."""
        return self.latent


def _level(before: int, after: int, blocks: int) -> float:
    """Multiply-adds of a level's residual blocks, per pixel that it has."""
    shortcut = before * after if before != after else 0
    return 9 * before * after + shortcut + (2 * blocks - 1) * 9 * after**2


def _middle(channels: int) -> float:
    """The same of the two blocks in the middle and the attention between them."""
    return (4 * 9 + 4) * channels**2


class VQAutoencoderHyper(AutoencoderHyper):
    """VQ-f4, in whose latent space ResShift works."""

    codes: int = Field(default=8192, ge=2, description="how many codes the latent's pixels become")
    commitment: float = Field(
        default=0.25,
        ge=0,
        le=1000,
        description="what the latents' pull to their codes weighs; the codes' pull weighs 1",
    )


class KLAutoencoderHyper(AutoencoderHyper):
    """Stable Diffusion's autoencoder, in whose latent space CCSR works; needs diffusers, the extra [latent]."""

    mults: tuple[int, ...] = Field(
        default=(1, 2, 4, 4), min_length=1, max_length=8, description="channels of each level, in multiples"
    )
    latent: int = Field(default=4, ge=1, description="channels of a latent")
    kl_weight: float = Field(
        default=1e-6, ge=0, le=1000, description="of the latents' KL divergence, in nats a number of the picture"
    )

    @property
    def _moments(self) -> int:
        """Channels that the encoder gives: mean and log variance."""
        return 2 * self.latent
