"""Sizes of the networks that work in an autoencoder's latent space, declared before torch is imported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sr_models.errors import InputError
from sr_models.hyper.base import Latents, NetworkHyper

REDUCTION, LATENT = 4, 3
"""Of ResShift's latent space: a picture's sides over a latent's, and channels."""


class ResShiftHyper(NetworkHyper):
    """ResShift's Swin U-Net, as released, and the latent space that it works in."""

    parts: ClassVar[tuple[str, ...]] = ("autoencoder",)
    process: ClassVar[Mapping[str, Any]] = {"kept": 50, "clamp": False}
    channels: int = Field(
        default=160, ge=2, multiple_of=2, description="feature channels at a latent's size, a multiple of groups"
    )
    mults: tuple[int, ...] = Field(
        default=(1, 2, 2, 4), min_length=1, max_length=8, description="channels of each level, in multiples"
    )
    blocks: int = Field(default=2, ge=1, description="residual blocks of a level on the way down")
    embed: int = Field(default=192, ge=1, description="channels of the Swin parts, a multiple of groups and heads")
    heads: int = Field(default=6, ge=1, description="of the Swin parts' attention")
    mlp_ratio: int = Field(default=4, ge=1, description="hidden channels of the Swin parts' MLPs, in multiples")
    attention_window: int = Field(default=8, ge=2, multiple_of=2, description="side of the Swin parts' windows")
    side: int = Field(
        default=64,
        ge=2,
        description="of the latents that it is trained on; levels where that is one window do not shift their windows",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of each residual block's second half, in training")
    groups: int = Field(default=32, ge=1, description="groups of channels that are normalised together")
    condition: Literal["latent", "lr"] = Field(
        default="latent",
        description="what it sees of LR: the latent of the enlarged one (DREAM does not say; advised), or at x4 LR "
        "as it is (the released code's)",
    )
    autoencoder: str | None = Field(
        default=None, description="safetensors file of the VQ autoencoder in whose latent space it works"
    )
    autoencoder_sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="what that file must have; null: not checked"
    )

    @model_validator(mode="after")
    def _whole_levels(self) -> Self:
        if self.channels % self.groups or self.embed % self.groups or self.embed % self.heads:
            raise ValueError(
                f"channels and embed must be multiples of groups, and embed of heads, got {self.channels}, "
                f"{self.embed}, {self.groups} and {self.heads}"
            )
        if not all(1 <= mult <= 64 for mult in self.mults):
            raise ValueError(f"mults must be from 1 to 64, got {list(self.mults)}")
        if self.side % (self.attention_window * 2 ** (len(self.mults) - 1)):
            raise ValueError(
                f"side must be whole windows at every level, a multiple of "
                f"{self.attention_window * 2 ** (len(self.mults) - 1)}, got {self.side}"
            )
        return self

    def check_scale(self, scale: int) -> None:
        """As in `NetworkHyper`: LR has a latent's size at x4 alone."""
        if self.condition == "lr" and scale != REDUCTION:
            raise InputError(f"resshift: condition lr is for x{REDUCTION}, not for x{scale}")

    def window(self, scale: int) -> int:
        """As in `NetworkHyper`: latents are whole windows at the last level."""
        multiple = REDUCTION * self.attention_window * 2 ** (len(self.mults) - 1)
        return multiple // math.gcd(multiple, scale)

    @property
    def latents(self) -> Latents | None:
        """As in `NetworkHyper`: before quantisation."""
        return Latents(REDUCTION, ("torch bicubic",)) if self.condition == "latent" else None

    @property
    def tile_exact(self) -> bool:
        """As in `NetworkHyper`: normalisation and the autoencoder see all of a picture, and each tile draws its own."""
        return False

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`, of one call.

        Neither attention's two products nor the autoencoder, which a picture passes once, are in it.
        """
        c, e = self.channels, self.embed
        here, left, total = c * self.mults[0], [c * self.mults[0]], 2.0 * LATENT * 9 * c * self.mults[0]

        def block(before: int, after: int) -> int:
            return 9 * before * after + 9 * after**2 + (before * after if before != after else 0)

        def swin(width: int) -> int:
            return 2 * width * e + 2 * (4 + 2 * self.mlp_ratio) * e**2

        for level, mult in enumerate(self.mults):
            for i in range(self.blocks):
                total += (block(here, c * mult) + (swin(c * mult) if i == 0 else 0)) / 4**level
                here = c * mult
                left.append(here)
            if level < len(self.mults) - 1:
                total += 9 * here**2 / 4 ** (level + 1)
                left.append(here)
        total += (2 * block(here, here) + swin(here)) / 4 ** (len(self.mults) - 1)
        for level, mult in reversed([*enumerate(self.mults)]):
            for i in range(self.blocks + 1):
                total += (block(here + left.pop(), c * mult) + (swin(c * mult) if i == 0 else 0)) / 4**level
                here = c * mult
            if level:
                total += 9 * here**2 / 4 ** (level - 1)
        return (total + 9 * LATENT * here) * (scale / REDUCTION) ** 2
