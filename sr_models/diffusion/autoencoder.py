"""The VQ autoencoder whose latent space ResShift works in: an image in [-1, 1] and a latent of a quarter of its sides.

VQGAN (https://arxiv.org/abs/2012.09841) as latent diffusion uses it (https://arxiv.org/abs/2112.10752): what is encoded
is not quantised, so that diffusion sees a continuous space; what is decoded is. Layout and key names are those of the
file that https://github.com/zsyOAOA/ResShift, commit 3ce1d81, loads (ldm/models/autoencoder.py, VQModelTorch).
Shapes: B batch, C channels, H and W rows and columns, N pixels, K codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_models.errors import InputError

GROUPS, EPS = 32, 1e-6
"""Of every normalisation."""


class VQAutoencoder(nn.Module):
    """Encoder, codebook and decoder; the defaults are those of VQ-f4.

    Args:
        channels: at full size, a multiple of 32; level l has `mults[l]` times as many.
        mults: of the levels; each but the first halves the picture.
        blocks: residual blocks of a level of the encoder; the decoder has one more.
        latent: channels of a latent and numbers of a code.
        codes: how many there are.
    """

    def __init__(
        self,
        *,
        channels: int = 128,
        mults: Sequence[int] = (1, 2, 4),
        blocks: int = 2,
        latent: int = 3,
        codes: int = 8192,
    ) -> None:
        super().__init__()
        self.latent_channels, self.reduction = latent, 2 ** (len(mults) - 1)
        widths = [channels * mult for mult in mults]
        self.encoder = Encoder(widths, blocks, latent)
        self.decoder = Decoder(widths, blocks, latent)
        self.quantize = Codebook(codes, latent)
        self.quant_conv = nn.Conv2d(latent, latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)

    @classmethod
    def of(cls, state: Mapping[str, Tensor], where: str) -> Self:
        """The autoencoder that a released file holds; its sizes are read from the shapes.

        Args:
            state: its tensors, under their released names.
            where: how messages call the file.

        Raises:
            InputError: it holds no such autoencoder, or holds more or less than one.
        """
        try:
            widths = [
                len(state[f"encoder.down.{level}.block.0.conv1.weight"])
                for level in range(_count(r"encoder\.down\.(\d+)\.", state))
            ]
            channels, (codes, latent) = len(state["encoder.conv_in.weight"]), state["quantize.embedding.weight"].shape
            blocks = _count(r"encoder\.down\.0\.block\.(\d+)\.", state)
            mults = [width // channels for width in widths]
            with torch.device("meta"):
                net = cls(channels=channels, mults=mults, blocks=blocks, latent=latent, codes=codes)
            net.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
        except (KeyError, ValueError, ZeroDivisionError, RuntimeError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise InputError(f"{where}: holds no VQ autoencoder as ResShift releases it: {reason[:200]}") from None
        return net

    def encode(self, image_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) to its latent before quantisation, (B, latent, H / reduction, W / reduction).

        Raises:
            ValueError: sides that are no multiples of `reduction`.
        """
        if image_BCHW.shape[2] % self.reduction or image_BCHW.shape[3] % self.reduction:
            sides = "x".join(map(str, image_BCHW.shape[2:]))
            raise ValueError(f"sides must be multiples of {self.reduction}, got {sides}")
        found: Tensor = self.quant_conv(self.encoder(image_BCHW))
        return found

    def decode(self, latent_BCHW: Tensor, *, quantise: bool = True) -> Tensor:
        """The image of a latent, about [-1, 1] and not clamped; each of its pixels first becomes the nearest code."""
        coded = self.quantize(latent_BCHW) if quantise else latent_BCHW
        found: Tensor = self.decoder(self.post_quant_conv(coded))
        return found


class Encoder(nn.Module):
    """Levels of residual blocks, halved in between, and a middle that attends over all of the picture."""

    def __init__(self, widths: Sequence[int], blocks: int, latent: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        before = widths[0]
        for level, width in enumerate(widths):
            parts: dict[str, nn.Module] = {"block": _blocks(before, width, blocks)}
            if level < len(widths) - 1:
                parts["downsample"] = Downsample(width)
            self.down.append(nn.ModuleDict(parts))
            before = width
        self.mid = _middle(before)
        self.norm_out = nn.GroupNorm(GROUPS, before, EPS)
        self.conv_out = nn.Conv2d(before, latent, 3, padding=1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        x = self.conv_in(image_BCHW)
        for level in self.down:
            x = _run(level, x)
        found: Tensor = self.conv_out(functional.silu(self.norm_out(_run(self.mid, x))))
        return found


class Decoder(nn.Module):
    """The way back: the middle, then levels from the smallest on, doubled in between."""

    def __init__(self, widths: Sequence[int], blocks: int, latent: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(latent, widths[-1], 3, padding=1)
        self.mid = _middle(widths[-1])
        levels, before = [], widths[-1]
        for level, width in reversed([*enumerate(widths)]):
            parts: dict[str, nn.Module] = {"block": _blocks(before, width, blocks + 1)}
            if level > 0:
                parts["upsample"] = Upsample(width)
            levels.append(nn.ModuleDict(parts))
            before = width
        self.up = nn.ModuleList(reversed(levels))  # files count them from the largest picture on
        self.norm_out = nn.GroupNorm(GROUPS, before, EPS)
        self.conv_out = nn.Conv2d(before, 3, 3, padding=1)

    def forward(self, latent_BCHW: Tensor) -> Tensor:
        x = _run(self.mid, self.conv_in(latent_BCHW))
        for level in reversed([*self.up]):
            x = _run(level, x)
        found: Tensor = self.conv_out(functional.silu(self.norm_out(x)))
        return found


class Codebook(nn.Module):
    """K codes, (K, C)."""

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, channels)

    def forward(self, latent_BCHW: Tensor) -> Tensor:
        """Each pixel's nearest code, in its place."""
        pixels_NC = latent_BCHW.movedim(1, -1).flatten(0, -2)
        codes_KC = self.embedding.weight
        # the pixel's own square is the same for all codes
        distance_NK = codes_KC.square().sum(1) - 2 * pixels_NC @ codes_KC.T
        chosen = codes_KC[distance_NK.argmin(1)]
        return chosen.unflatten(0, latent_BCHW.movedim(1, -1).shape[:-1]).movedim(-1, 1)


class ResidualBlock(nn.Module):
    """Twice normalise, activate, convolve, beside a shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, before, EPS)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, after, EPS)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner = self.conv1(functional.silu(self.norm1(x_BCHW)))
        found: Tensor = self.nin_shortcut(x_BCHW) + self.conv2(functional.silu(self.norm2(inner)))
        return found


class Attention(nn.Module):
    """One head over all pixels, beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, EPS)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        normed = self.norm(x_BCHW)
        # as in the U-Net's: one head, and channels side by side, so that torch keeps no N x N table
        qkv = (part(normed).flatten(2).transpose(1, 2).contiguous()[:, None] for part in (self.q, self.k, self.v))
        seen_B1NC = functional.scaled_dot_product_attention(*qkv)
        found: Tensor = x_BCHW + self.proj_out(seen_B1NC.transpose(2, 3).reshape(x_BCHW.shape))
        return found


class Downsample(nn.Module):
    """Half the sides; zeros are beyond the last row and column alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        found: Tensor = self.conv(functional.pad(x_BCHW, (0, 1, 0, 1)))
        return found


class Upsample(nn.Module):
    """Twice the sides, each pixel repeated and convolved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        found: Tensor = self.conv(functional.interpolate(x_BCHW, scale_factor=2, mode="nearest"))
        return found


def _blocks(before: int, after: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(ResidualBlock(before if i == 0 else after, after) for i in range(count))


def _middle(channels: int) -> nn.ModuleDict:
    around = (ResidualBlock(channels, channels) for _ in range(2))
    return nn.ModuleDict({"block_1": next(around), "attn_1": Attention(channels), "block_2": next(around)})


def _run(parts: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Through the parts of a level one after the other, and through the blocks of a list."""
    for part in parts.children():
        x_BCHW = _run(part, x_BCHW) if isinstance(part, nn.ModuleList) else part(x_BCHW)
    return x_BCHW


def _count(pattern: str, state: Mapping[str, Tensor]) -> int:
    return 1 + max((int(found[1]) for key in state if (found := re.match(pattern, key))), default=-1)
