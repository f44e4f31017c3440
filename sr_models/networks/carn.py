"""CARN and CARN-M: Fast, accurate, and lightweight SR with cascading residual network (https://arxiv.org/abs/1803.08664).

Numerics and state-dict keys follow https://github.com/nmhkahn/CARN-pytorch, commit 40d3514. Input and output in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_models.networks import edsr
from sr_models.networks.base import SRNetwork, conv


class MeanShift(nn.Module):
    """Adds `sign` times the mean colour, frozen, in [0, 1]."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.shifter = edsr.MeanShift(sign)
        assert self.shifter.bias is not None
        self.shifter.bias.copy_(sign * torch.tensor(edsr.DIV2K_MEAN))

    def forward(self, x: Tensor) -> Tensor:
        shifted: Tensor = self.shifter(x)
        return shifted


class ResidualUnit(nn.Module):
    """x plus convolutions of x, then ReLU: two 3x3, or CARN-M's efficient two 3x3 and one 1x1."""

    def __init__(self, channels: int, groups: int, mobile: bool) -> None:
        super().__init__()
        pointwise = (nn.ReLU(), conv(channels, channels, 1)) if mobile else ()
        self.body = nn.Sequential(
            _grouped(channels, channels, groups), nn.ReLU(), _grouped(channels, channels, groups), *pointwise
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.body(x))


class Fusion(nn.Module):
    """1x1 convolution of everything so far back to one width, then ReLU."""

    def __init__(self, parts: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(parts * channels, channels, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        fused: Tensor = self.body(x)
        return fused


class CascadingBlock(nn.Module):
    """A cascade of residual units; in CARN-M all of them are the same unit, b1."""

    def __init__(self, channels: int, units: int, groups: int, mobile: bool) -> None:
        super().__init__()
        self.unit_names = ["b1"] * units if mobile else _names("b", units)
        self.fusion_names = _names("c", units)
        for name in dict.fromkeys(self.unit_names):
            self.add_module(name, ResidualUnit(channels, groups, mobile))
        for i, name in enumerate(self.fusion_names):
            self.add_module(name, Fusion(i + 2, channels))

    def forward(self, x: Tensor) -> Tensor:
        return cascade(x, map(self.get_submodule, self.unit_names), map(self.get_submodule, self.fusion_names))


class Upsampler(nn.Module):
    """[conv, ReLU, PixelShuffle] once for x3, once per doubling for x2, x4, x8."""

    def __init__(self, scale: int, channels: int, groups: int) -> None:
        super().__init__()
        step, repeats = (3, 1) if scale == 3 else (2, scale.bit_length() - 1)
        stages = [
            (_grouped(channels, channels * step**2, groups), nn.ReLU(), nn.PixelShuffle(step)) for _ in range(repeats)
        ]
        self.body = nn.Sequential(*(layer for stage in stages for layer in stage))

    def forward(self, x: Tensor) -> Tensor:
        enlarged: Tensor = self.body(x)
        return enlarged


class CARN(SRNetwork):
    """A cascade of cascading blocks and one upsampler, or one for each scale of a multi-scale network.

    Attributes:
        upsampler_names: by the scales that `forward` accepts; it uses `scale` where it is not told.
    """

    def __init__(
        self, scale: int, *, channels: int, blocks: int, units: int, groups: int, mobile: bool, scales: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.scale = self.feature_scale_to_go = scale
        self.feature_channels = channels
        self.block_names, self.fusion_names = _names("b", blocks), _names("c", blocks)

        self.sub_mean, self.add_mean = MeanShift(-1), MeanShift(1)
        self.entry = conv(3, channels)
        for name in self.block_names:
            self.add_module(name, CascadingBlock(channels, units, groups, mobile))
        for i, name in enumerate(self.fusion_names):
            self.add_module(name, Fusion(i + 2, channels))
        self.upsampler_names = {s: f"up{s}" for s in sorted({scale, *scales})} if scales else {scale: "up"}
        upsamplers = {name: Upsampler(s, channels, groups) for s, name in self.upsampler_names.items()}
        self.upsample = nn.ModuleDict(upsamplers)
        self.exit = conv(channels, 3)

    def features(self, lr_BCHW: Tensor) -> Tensor:
        x = self.entry(self.sub_mean(lr_BCHW))
        return cascade(x, map(self.get_submodule, self.block_names), map(self.get_submodule, self.fusion_names))

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor, scale: int | None = None) -> Tensor:
        """As `SRNetwork.reconstruct`, at one of the network's scales."""
        chosen = int(self.scale) if scale is None else scale
        if chosen not in self.upsampler_names:
            raise ValueError(f"this CARN has upsamplers for scales {list(self.upsampler_names)}, not for {chosen}")
        sr: Tensor = self.add_mean(self.exit(self.upsample[self.upsampler_names[chosen]](feat_BCHW)))
        return sr

    def forward(self, lr_BCHW: Tensor, scale: int | None = None) -> Tensor:
        """As `SRNetwork.forward`, at one of the network's scales; the upsamplers of the others take no part."""
        return self.reconstruct(self.features(lr_BCHW), lr_BCHW, scale)


def cascade(x: Tensor, units: Iterable[nn.Module], fusions: Iterable[nn.Module]) -> Tensor:
    """Each unit reads the last fusion; each fusion reads input and outputs of all units so far: (B, C, H, W)."""
    parts, out = x, x
    for unit, fuse in zip(units, fusions, strict=True):
        parts = torch.cat([parts, unit(out)], dim=1)
        out = fuse(parts)
    return out


def _grouped(in_channels: int, out_channels: int, groups: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, groups=groups)


def _names(letter: str, count: int) -> list[str]:
    """The release's attribute names: b1, b2, ..."""
    return [f"{letter}{i + 1}" for i in range(count)]
