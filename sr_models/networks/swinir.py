"""SwinIR: image restoration using Swin Transformer (https://arxiv.org/abs/2108.10257).

Numerics and state-dict keys follow https://github.com/JingyunLiang/SwinIR, commit 6545850; the index and mask buffers
in its files depend on nothing but sizes and are computed here. Input and output in [0, 1].
Shapes: B batch, H and W rows and columns, C channels, n windows, N pixels of a window, h heads, D channels of a head.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_models.errors import InputError
from sr_models.networks.base import SRNetwork, check_window, conv, upsampler
from sr_models.networks.edsr import DIV2K_MEAN

WINDOW = 8
SHIFT = WINDOW // 2
HEAD_CHANNELS = 64  # of the tails that first change the number of channels
MASKED = -100.0  # added to the logits of pixels that are neighbours only because the picture was rolled


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, with a learned bias for each offset between two pixels."""

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, window: int = WINDOW) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", offsets(window), persistent=False)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x_BnNC: Tensor, mask_nNN: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x_BnNC).unflatten(-1, (3, self.heads, -1)).movedim(3, 0).transpose(-3, -2)  # each BnhND
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + self.bias_hNN
        if mask_nNN is not None:
            logits = logits + mask_nNN[:, None]
        out: Tensor = self.proj((logits.softmax(-1) @ v).transpose(-3, -2).flatten(-2))
        return out

    @property
    def bias_hNN(self) -> Tensor:
        """What is learned of each pair of pixels."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


class TransformerLayer(nn.Module):
    """STL: x plus window attention of x, plus an MLP of that; each branch starts with a LayerNorm."""

    def __init__(self, channels: int, heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(channels, hidden), "fc2": nn.Linear(hidden, channels)})

    def forward(self, x_BHWC: Tensor, mask_nNN: Tensor | None) -> Tensor:
        """The windows are shifted by half of their size where there is a mask."""
        shift = 0 if mask_nNN is None else SHIFT
        height, width = x_BHWC.shape[1:3]
        rolled = self.norm1(x_BHWC).roll((-shift, -shift), (1, 2))
        attended = from_windows(self.attn(to_windows(rolled), mask_nNN), height, width).roll((shift, shift), (1, 2))
        x = x_BHWC + self._branch(attended)
        return x + self._branch(self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x)))))

    def _branch(self, residual_BHWC: Tensor) -> Tensor:
        """Stochastic depth: in training a sample's branch is left out with chance `drop_path`, else made up for."""
        if not self.training or self.drop_path == 0:
            return residual_BHWC
        kept = residual_BHWC.new_empty(len(residual_BHWC), 1, 1, 1).bernoulli_(1 - self.drop_path)
        return residual_BHWC * kept / (1 - self.drop_path)


class ResidualGroup(nn.Module):
    """RSTB: x plus a convolution of transformer layers of x; every second layer has shifted windows."""

    def __init__(self, channels: int, heads: int, mlp_ratio: float, drop_paths: list[float]) -> None:
        super().__init__()
        self.reach = WINDOW * -(-len(drop_paths) // 2)  # two layers look half a window further, twice
        layers = (TransformerLayer(channels, heads, mlp_ratio, rate) for rate in drop_paths)
        self.residual_group = nn.ModuleDict({"blocks": nn.ModuleList(layers)})
        self.conv = conv(channels, channels)

    def forward(self, x_BHWC: Tensor, mask_nNN: Tensor) -> Tensor:
        y = x_BHWC
        for i, layer in enumerate(self.residual_group["blocks"].children()):
            y = layer(y, mask_nNN if i % 2 else None)
        return x_BHWC + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class SwinIR(SRNetwork):
    """Groups of window attention with a long skip, then one of three tails; no path from the input to the output."""

    window = WINDOW
    fit = "pad_more"
    mean: Tensor

    def __init__(
        self,
        scale: int,
        *,
        channels: int,
        blocks: int,
        layers: int,
        heads: int,
        mlp_ratio: float,
        drop_path: float,
        tail: str,
    ) -> None:
        super().__init__()
        if tail == "nearest+conv" and scale != 4:
            raise InputError(f"SwinIR with tail 'nearest+conv' has scale 4, not {scale}")
        self.scale = self.feature_scale_to_go = scale
        self.feature_channels = channels
        self.tail = tail
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN)[:, None, None], persistent=False)

        rates = np.linspace(0, drop_path, blocks * layers).reshape(blocks, layers).tolist()
        self.conv_first = conv(3, channels)
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(channels)})
        self.layers = nn.ModuleList(ResidualGroup(channels, heads, mlp_ratio, group) for group in rates)
        self.norm = nn.LayerNorm(channels)
        self.conv_after_body = conv(channels, channels)
        if tail == "pixelshuffledirect":
            self.upsample = nn.Sequential(conv(channels, 3 * scale**2), nn.PixelShuffle(scale))
        else:
            self.conv_before_upsample = nn.Sequential(conv(channels, HEAD_CHANNELS), nn.LeakyReLU(inplace=True))
            if tail == "pixelshuffle":
                self.upsample = upsampler(scale, HEAD_CHANNELS)
            else:
                self.conv_up1, self.conv_up2, self.conv_hr = (conv(HEAD_CHANNELS, HEAD_CHANNELS) for _ in range(3))
            self.conv_last = conv(HEAD_CHANNELS, 3)
        self.apply(_small_normal)

    def features(self, lr_BCHW: Tensor) -> Tensor:
        check_window(lr_BCHW, WINDOW)
        shallow: Tensor = self.conv_first(lr_BCHW - self.mean)
        mask = shift_mask(*lr_BCHW.shape[2:], device=lr_BCHW.device)
        x_BHWC = self.patch_embed["norm"](shallow.permute(0, 2, 3, 1))
        for group in self.layers:
            x_BHWC = group(x_BHWC, mask)
        deep: Tensor = self.conv_after_body(self.norm(x_BHWC).permute(0, 3, 1, 2))
        return shallow + deep

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        if self.tail == "pixelshuffledirect":
            sr: Tensor = self.upsample(feat_BCHW)
            return sr + self.mean
        x = self.conv_before_upsample(feat_BCHW)
        if self.tail == "pixelshuffle":
            x = self.upsample(x)
        else:
            for step in (self.conv_up1, self.conv_up2):
                x = _leaky(step(functional.interpolate(x, scale_factor=2, mode="nearest")))
            x = _leaky(self.conv_hr(x))
        sr = self.conv_last(x)
        return sr + self.mean


def to_windows(x_BHWC: Tensor, window: int = WINDOW) -> Tensor:
    """(B, H, W, C) to (B, n, N, C), windows and the pixels inside them row by row."""
    split = x_BHWC.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(x_BnNC: Tensor, height: int, width: int, window: int = WINDOW) -> Tensor:
    """Undoes `to_windows`."""
    split = x_BnNC.unflatten(2, (window, window)).unflatten(1, (height // window, width // window))
    return split.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def offsets(window: int = WINDOW) -> Tensor:
    """(N, N): row of the bias table for query i and key j, from the offset of i from j, rows first."""
    place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    offset = place[:, None] - place[None] + window - 1
    return offset[..., 0] * (2 * window - 1) + offset[..., 1]


def shift_mask(height: int, width: int, *, device: torch.device) -> Tensor:
    """(n, N, N): 0 between pixels of a shifted window that lie together in the picture, -100 between the others."""

    def side(size: int) -> Tensor:  # 0, 1 from the last window on, 2 from where the roll put the first pixels
        position = torch.arange(size, device=device)
        return (position >= size - WINDOW).int() + (position >= size - SHIFT).int()

    regions = 3 * side(height)[:, None] + side(width)
    region_nN = to_windows(regions[None, ..., None])[0, ..., 0]
    return MASKED * (region_nN[:, :, None] != region_nN[:, None])


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)


@torch.no_grad()
def _small_normal(module: nn.Module) -> None:
    """Linear layers and bias tables: normal of deviation 0.02, cut at 2; no bias."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        module.bias.zero_()
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
