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

GROUPS = 32
"""Of channels that diffusers' networks normalise together."""


def _sha256() -> Any:
    return Field(default=None, pattern="^[0-9a-f]{64}$", description="what that file must have; null: not checked")


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
    autoencoder_sha256: str | None = _sha256()

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

    def stands_on(self, part: str) -> tuple[str, dict[str, Any]] | None:
        """As in `NetworkHyper`; the other sizes are read off the part itself."""
        return "vq_autoencoder", {"reduction": REDUCTION, "latent": LATENT}

    def window(self, scale: int) -> int:
        """As in `NetworkHyper`: latents are whole windows at the last level."""
        multiple = REDUCTION * self.attention_window * 2 ** (len(self.mults) - 1)
        return multiple // math.gcd(multiple, scale)

    @property
    def latents(self) -> Latents | None:
        """As in `NetworkHyper`: before quantisation."""
        return Latents(REDUCTION, ("torch bicubic",)) if self.condition == "latent" else None

    @property
    def shifts(self) -> bool:
        """As in `NetworkHyper`, whatever it sees of LR."""
        return True

    @property
    def tile_exact(self) -> bool:
        """As in `NetworkHyper`: normalisation and the autoencoder see all of a picture, and each tile draws its own."""
        return False

    @property
    def group_width(self) -> float:
        """As in `NetworkHyper`."""
        return self.channels / self.groups

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


class LatentUNetHyper(NetworkHyper):
    """The U-Net of latent diffusion, as Stable Diffusion 2.1 has it, and the latent space that it works in."""

    parts: ClassVar[tuple[str, ...]] = ("autoencoder", "prompt")
    optional_parts: ClassVar[frozenset[str]] = frozenset({"prompt"})
    process: ClassVar[Mapping[str, Any]] = {
        "T": 1000, "schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clamp": False,
    }  # fmt: skip
    channels: int = Field(default=320, ge=GROUPS, multiple_of=GROUPS, description="feature channels at a latent's size")
    mults: tuple[int, ...] = Field(
        default=(1, 2, 4, 4), min_length=1, max_length=8, description="channels of each level, in multiples"
    )
    attention: tuple[int, ...] = Field(
        default=(0, 1, 2), description="levels, by halvings of the latent, that attend; the middle always does"
    )
    blocks: int = Field(default=2, ge=1, description="residual blocks of a level on the way down")
    head: int = Field(default=64, ge=1, description="channels of an attention head, which all levels are multiples of")
    context: int = Field(default=1024, ge=1, description="channels of the prompt's embedding")
    latent: int = Field(default=4, ge=1, description="channels of a latent")
    latent_scale: float = Field(
        default=0.18215, gt=0, le=1000, description="what the autoencoder's latents are multiplied by for a state"
    )
    vae_channels: int = Field(
        default=128, ge=GROUPS, multiple_of=GROUPS, description="the autoencoder's feature channels at full size"
    )
    vae_mults: tuple[int, ...] = Field(
        default=(1, 2, 4, 4), min_length=1, max_length=8, description="channels of each of its levels, in multiples"
    )
    vae_blocks: int = Field(default=2, ge=1, description="residual blocks of a level of its encoder")
    autoencoder: str | None = Field(
        default=None, description="safetensors file of the autoencoder, in diffusers' names or latent diffusion's"
    )
    autoencoder_sha256: str | None = _sha256()
    prompt: str | None = Field(
        default=None,
        description="safetensors file of the empty prompt's embedding (python -m sr_models prompt); null: a seeded "
        "stand-in that means nothing, for networks that were trained with it",
    )
    prompt_sha256: str | None = _sha256()

    @model_validator(mode="after")
    def _whole_levels(self) -> Self:
        for name in ("mults", "vae_mults"):
            if not all(1 <= mult <= 64 for mult in getattr(self, name)):
                raise ValueError(f"{name} must be from 1 to 64, got {list(getattr(self, name))}")
        if missing := set(self.attention) - set(range(len(self.mults))):
            raise ValueError(f"attention names levels 0 to {len(self.mults) - 1}, got {sorted(missing)}")
        if self.channels % self.head:
            raise ValueError(f"channels must be a multiple of head, got {self.channels} and {self.head}")
        return self

    def stands_on(self, part: str) -> tuple[str, dict[str, Any]] | None:
        """As in `NetworkHyper`."""
        sizes = {name: getattr(self, f"vae_{name}") for name in ("channels", "mults", "blocks")}
        return ("kl_autoencoder", {**sizes, "latent": self.latent}) if part == "autoencoder" else None

    def window(self, scale: int) -> int:
        """As in `NetworkHyper`: pictures are whole cells of a latent, and each level but the first halves that."""
        multiple = 2 ** (len(self.mults) + len(self.vae_mults) - 2)
        return multiple // math.gcd(multiple, scale)

    @property
    def latents(self) -> Latents | None:
        """As in `NetworkHyper`: scaled modes; alike for all that stand on one."""
        return Latents(2 ** (len(self.vae_mults) - 1), ("Pillow bicubic", self.latent_scale))

    @property
    def tile_exact(self) -> bool:
        """As in `NetworkHyper`: attention and normalisation see all of a picture, and each tile draws its own."""
        return False

    @property
    def group_width(self) -> float:
        """As in `NetworkHyper`."""
        return self.channels / GROUPS

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`, of one call.

        Attention's two products, what is computed of the prompt and the step, and the autoencoder are not in it.
        """
        return self._cells(self._down(self.latent) + self._up(), scale)

    def _cells(self, per_cell: float, scale: int) -> float:
        """What it is per LR pixel, of what it is per cell of a latent."""
        return per_cell * (scale / 2 ** (len(self.vae_mults) - 1)) ** 2

    def _layer(self, before: int, after: int, level: int, attend: bool) -> float:
        """A residual block and what attends behind it, per cell of a latent."""
        shortcut = before * after if before != after else 0
        return (9 * before * after + 9 * after**2 + shortcut + 20 * after**2 * attend) / 4**level

    def _skips(self) -> list[tuple[int, int]]:
        """Channels and level of each output of the way down."""
        found = [(self.channels, 0)]
        for level, mult in enumerate(self.mults):
            found += [(self.channels * mult, level)] * self.blocks
            if level < len(self.mults) - 1:
                found.append((self.channels * mult, level + 1))
        return found

    def _down(self, channels: int) -> float:
        """The first half, with its middle, that reads so many channels."""
        here, last, total = self.channels, len(self.mults) - 1, 9.0 * channels * self.channels
        for level, mult in enumerate(self.mults):
            for _ in range(self.blocks):
                total += self._layer(here, self.channels * mult, level, level in self.attention)
                here = self.channels * mult
            if level < last:
                total += 9 * here**2 / 4 ** (level + 1)
        return total + self._layer(here, here, last, True) + self._layer(here, here, last, False)

    def _up(self) -> float:
        """The second half."""
        left, here, total = self._skips(), self.channels * self.mults[-1], 0.0
        for level, mult in reversed([*enumerate(self.mults)]):
            for _ in range(self.blocks + 1):
                total += self._layer(here + left.pop()[0], self.channels * mult, level, level in self.attention)
                here = self.channels * mult
            if level:
                total += 9 * here**2 / 4 ** (level - 1)
        return total + 9 * here * self.latent


class CCSRHyper(LatentUNetHyper):
    """CCSR's adapter and the frozen U-Net and autoencoder that it stands on; or the decoder that stage 2 tunes."""

    parts: ClassVar[tuple[str, ...]] = ("autoencoder", "unet", "prompt")
    unet: str | None = Field(
        default=None, description="safetensors file of the frozen U-Net, in diffusers' names or latent diffusion's"
    )
    unet_sha256: str | None = _sha256()
    encoder_in_gradient: bool = Field(
        default=False,
        description="gradients with respect to a state go through the U-Net's first half too; false: as released",
    )
    tuned_decoder: bool = Field(
        default=False,
        description="stage 2: the adapter is frozen, and a decoder of its own, begun as the autoencoder's, is trained",
    )

    def stands_on(self, part: str) -> tuple[str, dict[str, Any]] | None:
        """As in `NetworkHyper`: its U-Net is one of its own sizes."""
        if part != "unet":
            return super().stands_on(part)
        files = {each for part in LatentUNetHyper.parts for each in (part, f"{part}_sha256")}
        return "latent_unet", {name: getattr(self, name) for name in LatentUNetHyper.model_fields if name not in files}

    def multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`, of one call: the U-Net and the adapter."""
        return super().multiply_adds(scale) + self._adapter(scale)

    def backward_multiply_adds(self, scale: int) -> float:
        """As in `NetworkHyper`, of the adapter, and through the frozen U-Net's second half, or all of it, to it."""
        frozen = self._up() + self.encoder_in_gradient * self._down(self.latent)
        return 2 * self._adapter(scale) + self._cells(frozen, scale)

    def _adapter(self, scale: int) -> float:
        controls = sum(channels**2 / 4**level for channels, level in self._skips())
        controls += (self.channels * self.mults[-1]) ** 2 / 4 ** (len(self.mults) - 1)
        return self._cells(self._down(2 * self.latent) + controls, scale)
