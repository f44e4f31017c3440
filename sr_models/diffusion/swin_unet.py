"""ResShift's U-Net with Swin layers (https://arxiv.org/abs/2307.12348), in the layout and with the keys of its code.

https://github.com/zsyOAOA/ResShift, commit 3ce1d81, models/unet.py, UNetModelSwin. It is told the step of the chain, by
a scale and a shift in every residual block. The index and mask buffers in its files are computed here.
Shapes: B batch, C channels, H and W rows and columns, n windows, N pixels of a window, h heads, D channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from sr_models.diffusion.autoencoder import Upsample
from sr_models.diffusion.base import Denoiser
from sr_models.networks.swinir import MASKED, WindowAttention, from_windows, to_windows

LAYERS = 2
"""Of a Swin part: windows as they lie, then shifted by half of their size."""


class SwinUNet(Denoiser):
    """Down by levels of residual blocks, up again with what each of them left; one Swin part a level each way.

    Args:
        inputs, outputs: channels.
        channels: at full size; level l has `mults[l]` times as many.
        blocks: residual blocks of a level on the way down, one more on the way up.
        embed, heads, mlp_ratio: of the Swin parts, the same at all levels.
        attention_window: side of their windows.
        side: of what it is trained on; a level where that is one window does not shift its windows, on any picture.
        dropout: of each block's second half, in training.
        groups: of all normalisations.
    """

    def __init__(
        self, inputs: int, outputs: int, *, channels: int, mults: Sequence[int], blocks: int, embed: int, heads: int,
        mlp_ratio: int, attention_window: int, side: int, dropout: float, groups: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.channels, self.multiple = channels, attention_window * 2 ** (len(mults) - 1)
        told = 4 * channels
        self.time_embed = nn.Sequential(nn.Linear(channels, told), nn.SiLU(), nn.Linear(told, told))

        def block(before: int, after: int) -> ResBlock:
            return ResBlock(before, after, told, dropout=dropout, groups=groups)

        def swin(width: int, level: int) -> Swin:
            shifted = side // 2**level > attention_window
            return Swin(width, embed, heads, mlp_ratio, window=attention_window, shifted=shifted, groups=groups)

        here, left = channels * mults[0], [channels * mults[0]]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(inputs, here, 3, padding=1)])])
        for level, mult in enumerate(mults):
            for i in range(blocks):
                parts: list[nn.Module] = [block(here, channels * mult)]
                here = channels * mult
                self.input_blocks.append(nn.ModuleList([*parts, swin(here, level)] if i == 0 else parts))
                left.append(here)
            if level < len(mults) - 1:
                self.input_blocks.append(nn.ModuleList([Downsample(here)]))
                left.append(here)
        self.middle_block = nn.ModuleList([block(here, here), swin(here, len(mults) - 1), block(here, here)])
        self.output_blocks = nn.ModuleList()
        for level, mult in reversed([*enumerate(mults)]):
            for i in range(blocks + 1):
                parts = [block(here + left.pop(), channels * mult)]
                here = channels * mult
                parts += [swin(here, level)] if i == 0 else []
                parts += [Upsample(here)] if level > 0 and i == blocks else []
                self.output_blocks.append(nn.ModuleList(parts))
        self.out = nn.Sequential(nn.GroupNorm(groups, here), nn.SiLU(), nn.Conv2d(here, outputs, 3, padding=1))
        self.apply(_initialise)
        _zero(self.out[-1])

    def denoise(self, x_BCHW: Tensor, step_B: Tensor) -> Tensor:
        """The network's output for its input, whose sides are multiples of `multiple`.

        Args:
            step_B: (B,) steps of the chain, from 0.

        Raises:
            ValueError: other sides.
        """
        if x_BCHW.shape[2] % self.multiple or x_BCHW.shape[3] % self.multiple:
            sides = "x".join(map(str, x_BCHW.shape[2:]))
            raise ValueError(f"sides must be multiples of {self.multiple}, got {sides}; super_resolve takes any size")
        told, x, left = self.time_embed(step_encoding(step_B, self.channels)), x_BCHW, []
        for parts in self.input_blocks:
            x = self._run(parts, x, told)
            left.append(x)
        x = self._run(self.middle_block, x, told)
        for parts in self.output_blocks:
            x = self._run(parts, torch.cat([x, left.pop()], 1), told)
        return self.out(x)

    def _run(self, parts: nn.Module, x: Tensor, told: Tensor) -> Tensor:
        for part in parts.children():
            given = (x, told) if isinstance(part, ResBlock) else (x,)
            if self.checkpointing and torch.is_grad_enabled() and isinstance(part, ResBlock | Swin):
                x = checkpoint(part, *given, use_reentrant=False)
            else:
                x = part(*given)
        return x


def step_encoding(step_B: Tensor, channels: int) -> Tensor:
    """(B, channels): a step under `channels / 2` frequencies from 1 down to about 1e-4: cosines, then sines."""
    frequencies = channels // 2
    exponent = torch.arange(frequencies, dtype=torch.float32, device=step_B.device) / frequencies
    angle = step_B.float()[:, None] * torch.exp(-math.log(1e4) * exponent)
    return torch.cat([angle.cos(), angle.sin()], 1)


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut; the step scales and shifts what is normalised between them."""

    def __init__(self, before: int, after: int, told: int, *, dropout: float, groups: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(groups, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(told, 2 * after))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, after), nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(after, after, 3, padding=1)
        )
        self.skip_connection = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x_BCHW: Tensor, told_BC: Tensor) -> Tensor:
        scale, shift = self.emb_layers(told_BC)[:, :, None, None].chunk(2, 1)
        norm, *rest = self.out_layers
        inner = norm(self.in_layers(x_BCHW)) * (1 + scale) + shift
        for part in rest:
            inner = part(inner)
        found: Tensor = self.skip_connection(x_BCHW) + inner
        return found


class Swin(nn.Module):
    """A narrower copy of the picture, through `LAYERS` of window attention, and back to its width; no shortcut."""

    def __init__(
        self, channels: int, embed: int, heads: int, mlp_ratio: int, *, window: int, shifted: bool, groups: int
    ) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, embed, 1)})
        self.blocks = nn.ModuleList(SwinLayer(embed, heads, mlp_ratio, window, groups) for _ in range(LAYERS))
        self.patch_unembed = nn.ModuleDict({"proj": nn.Conv2d(embed, channels, 1)})

    def forward(self, x_BCHW: Tensor) -> Tensor:
        height, width = x_BCHW.shape[2:]
        mask = released_mask(height, width, self.window, device=x_BCHW.device) if self.shifted else None
        x = self.patch_embed["proj"](x_BCHW)
        for i, layer in enumerate(self.blocks):
            x = layer(x, mask if i % 2 else None)
        found: Tensor = self.patch_unembed["proj"](x)
        return found


def released_mask(height: int, width: int, window: int, *, device: torch.device) -> Tensor:
    """(n, N, N): what the released weights were trained under, added to the logits of shifted windows.

    Rolling makes neighbours of pixels from opposite ends, across the middle of the last row and column of windows,
    which SwinIR's mask keeps apart. This one is -100 between the left and right halves of the windows in the last row,
    and 0 elsewhere.
    """
    right = torch.arange(window, device=device).repeat(window) >= window // 2
    rows, columns = height // window, width // window
    last = torch.arange(rows * columns, device=device) >= (rows - 1) * columns
    return MASKED * (last[:, None, None] & (right[:, None] != right))


class SwinLayer(nn.Module):
    """x plus window attention of x, plus an MLP of that; each branch starts with a normalisation by groups."""

    def __init__(self, channels: int, heads: int, mlp_ratio: int, window: int, groups: int) -> None:
        super().__init__()
        self.window, hidden = window, channels * mlp_ratio
        self.norm1 = nn.GroupNorm(groups, channels)
        self.attn = SwinAttention(channels, heads, window)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.mlp = nn.ModuleDict({"fc1": nn.Conv2d(channels, hidden, 1), "fc2": nn.Conv2d(hidden, channels, 1)})

    def forward(self, x_BCHW: Tensor, mask_nNN: Tensor | None) -> Tensor:
        """The windows are shifted by half of their size where there is a mask."""
        shift = 0 if mask_nNN is None else self.window // 2
        height, width = x_BCHW.shape[2:]
        rolled = self.norm1(x_BCHW).permute(0, 2, 3, 1).roll((-shift, -shift), (1, 2))
        seen = self.attn(to_windows(rolled, self.window), mask_nNN)
        x = x_BCHW + from_windows(seen, height, width, self.window).roll((shift, shift), (1, 2)).permute(0, 3, 1, 2)
        return x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))


class SwinAttention(WindowAttention):
    """SwinIR's, by torch's fused kernels."""

    def forward(self, x_BnNC: Tensor, mask_nNN: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x_BnNC).unflatten(-1, (3, self.heads, -1)).movedim(3, 0).transpose(-3, -2)  # each BnhND
        bias = self.bias_hNN if mask_nNN is None else self.bias_hNN + mask_nNN[:, None]
        seen_BnhND = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        found: Tensor = self.proj(seen_BnhND.transpose(-3, -2).flatten(-2))
        return found


class Downsample(nn.Module):
    """Half the sides."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        found: Tensor = self.op(x_BCHW)
        return found


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    """A residual block starts as its shortcut; attention starts as SwinIR's; the rest as torch has it."""
    if isinstance(module, ResBlock):
        _zero(module.out_layers[-1])
    elif isinstance(module, WindowAttention):
        for linear in (module.qkv, module.proj):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            linear.bias.zero_()
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)


@torch.no_grad()
def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.zero_()
