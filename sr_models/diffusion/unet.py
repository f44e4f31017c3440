"""SR3's U-Net (https://arxiv.org/abs/2104.07636), in the layout and with the key names of its public code.

https://github.com/Janspiry/Image-Super-Resolution-via-Iterative-Refinement, commit 01d27a7, model/sr3_modules/unet.py.
Attention stands at levels, which are counted in halvings of the picture, and not where a side has some length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from sr_models.diffusion.base import Denoiser


class UNet(Denoiser):
    """Down by levels of residual blocks, up again with what each of them left, told the noise level in every block.

    Args:
        inputs, outputs: channels.
        channels: at full size; level l has `mults[l]` times as many.
        attention: levels that attend over their whole picture; the middle always does.
        blocks: residual blocks of a level on the way down, one more on the way up.
        dropout: of each block's second half, in training.
        groups: of all normalisations.
        upsample: makes the part, for some channels, that enlarges features on the way up; SR3's if None.
    """

    def __init__(
        self, inputs: int, outputs: int, *, channels: int, mults: Sequence[int], attention: Sequence[int], blocks: int,
        dropout: float, groups: int, upsample: Callable[[int], nn.Module] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.multiple = 2 ** (len(mults) - 1)
        upsample = Upsample if upsample is None else upsample
        self.noise_level_mlp = nn.Sequential(
            GammaEncoding(channels), nn.Linear(channels, 4 * channels), nn.SiLU(), nn.Linear(4 * channels, channels)
        )

        def layer(before: int, after: int, attend: bool) -> Layer:
            return Layer(before, after, channels, attend=attend, dropout=dropout, groups=groups)

        here, left = channels, [channels]
        self.downs = nn.ModuleList([nn.Conv2d(inputs, channels, 3, padding=1)])
        for level, mult in enumerate(mults):
            for _ in range(blocks):
                self.downs.append(layer(here, channels * mult, level in attention))
                here = channels * mult
                left.append(here)
            if level < len(mults) - 1:
                self.downs.append(Downsample(here))
                left.append(here)
        self.mid = nn.ModuleList([layer(here, here, True), layer(here, here, False)])
        self.ups = nn.ModuleList()
        for level, mult in reversed([*enumerate(mults)]):
            for _ in range(blocks + 1):
                self.ups.append(layer(here + left.pop(), channels * mult, level in attention))
                here = channels * mult
            if level > 0:
                self.ups.append(upsample(here))
        self.final_conv = Block(here, outputs, dropout=0, groups=groups)
        self.apply(orthogonal)

    def denoise(self, x_BCHW: Tensor, gamma_B: Tensor, told: Sequence[tuple[Tensor, ...]] = ()) -> Tensor:
        """The network's output for its input, whose sides are multiples of `multiple`, at the noise levels γ.

        Args:
            told: what each part that enlarges is told beside its features and the size to come, the deepest first.

        Raises:
            ValueError: other sides.
        """
        if x_BCHW.shape[2] % self.multiple or x_BCHW.shape[3] % self.multiple:
            sides = "x".join(map(str, x_BCHW.shape[2:]))
            raise ValueError(f"sides must be multiples of {self.multiple}, got {sides}; super_resolve takes any size")
        noise, x, left = self.noise_level_mlp(gamma_B), x_BCHW, []
        for part in self.downs:
            x = self._run(part, x, noise)
            left.append(x)
        for part in self.mid:
            x = self._run(part, x, noise)
        further = iter(told)
        for part in self.ups:
            if isinstance(part, Layer):
                x = self._run(part, torch.cat([x, left.pop()], 1), noise)
            else:
                x = part(x, (left[-1].shape[2], left[-1].shape[3]), *next(further, ()))
        return self.final_conv(x)

    def _run(self, part: nn.Module, x: Tensor, noise: Tensor) -> Tensor:
        if not isinstance(part, Layer):
            return part(x)
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(part, x, noise, use_reentrant=False)
        return part(x, noise)


class GammaEncoding(nn.Module):
    """γ, as it is, under `channels / 2` frequencies from 1 down to about 1e-4: sines, then cosines."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.frequencies = channels // 2

    def forward(self, gamma_B: Tensor) -> Tensor:
        exponent = torch.arange(self.frequencies, dtype=torch.float32, device=gamma_B.device) / self.frequencies
        angle = gamma_B.float()[:, None] * torch.exp(-math.log(1e4) * exponent)
        return torch.cat([angle.sin(), angle.cos()], 1)


class Layer(nn.Module):
    """A residual block that is told the noise level, and attention after it if `attend`."""

    def __init__(self, before: int, after: int, noise: int, *, attend: bool, dropout: float, groups: int) -> None:
        super().__init__()
        self.res_block = ResBlock(before, after, noise, dropout=dropout, groups=groups)
        self.attn = Attention(after, groups) if attend else None

    def forward(self, x_BCHW: Tensor, noise_BC: Tensor) -> Tensor:
        x_BCHW = self.res_block(x_BCHW, noise_BC)
        return x_BCHW if self.attn is None else self.attn(x_BCHW)


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut; the noise level is added between them, a number a channel."""

    def __init__(self, before: int, after: int, noise: int, *, dropout: float, groups: int) -> None:
        super().__init__()
        self.noise_func = NoiseBias(noise, after)
        self.block1 = Block(before, after, dropout=0, groups=groups)
        self.block2 = Block(after, after, dropout=dropout, groups=groups)
        self.res_conv = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x_BCHW: Tensor, noise_BC: Tensor) -> Tensor:
        found: Tensor = self.block2(self.noise_func(self.block1(x_BCHW), noise_BC)) + self.res_conv(x_BCHW)
        return found


class NoiseBias(nn.Module):
    """Adds a linear function of the encoded noise level to each channel."""

    def __init__(self, noise: int, channels: int) -> None:
        super().__init__()
        self.noise_func = nn.Sequential(nn.Linear(noise, channels))

    def forward(self, x_BCHW: Tensor, noise_BC: Tensor) -> Tensor:
        found: Tensor = x_BCHW + self.noise_func(noise_BC)[:, :, None, None]
        return found


class Block(nn.Module):
    """Normalise, activate, drop, convolve."""

    def __init__(self, before: int, after: int, *, dropout: float, groups: int) -> None:
        super().__init__()
        drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.block = nn.Sequential(
            nn.GroupNorm(groups, before), nn.SiLU(), drop, nn.Conv2d(before, after, 3, padding=1)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.block(x_BCHW)


class Attention(nn.Module):
    """One head over all pixels, beside a shortcut."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # torch keeps no N x N table where there is a dimension of heads, and channels of a pixel lie side by side
        qkv_B1NC = self.qkv(self.norm(x_BCHW)).flatten(2).transpose(1, 2).contiguous()[:, None]
        seen_B1NC = functional.scaled_dot_product_attention(*qkv_B1NC.chunk(3, 3))
        found: Tensor = self.out(seen_B1NC.transpose(2, 3).reshape(x_BCHW.shape)) + x_BCHW
        return found


class Downsample(nn.Module):
    """Half the sides."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(x_BCHW)


class Upsample(nn.Module):
    """Twice the sides, each pixel repeated and convolved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        return self.conv(functional.interpolate(x_BCHW, size=size, mode="nearest"))


@torch.no_grad()
def orthogonal(module: nn.Module) -> None:
    """Orthogonal weights and no bias for what convolves or is linear, as SR3 starts; for `apply`."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.orthogonal_(module.weight)
        if module.bias is not None:
            module.bias.zero_()
