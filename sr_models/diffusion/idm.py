"""IDM (https://arxiv.org/abs/2303.16491): SR3's U-Net with upsamplers that read their features at any size's pixels.

Numbers and keys are those of https://github.com/Ree1s/IDM, commit d224c0e, with two deviations: what it never computes
with is not built, and the pixels of an implicit layer are folded with (H, W) and not as a square. So any LR size and
any scale go, fractions too. Layers start orthogonal, as SR3's, and equalised ones normal.

The equalised layers are those of https://arxiv.org/abs/1710.10196, the leaky ReLU and the blur those of StyleGAN2
(https://arxiv.org/abs/1912.04958). Shapes as in `sr_models.diffusion.base`, for an LR picture of (H, W).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_models.diffusion.process import Level
from sr_models.diffusion.unet import UNet, orthogonal
from sr_models.networks.base import conv
from sr_models.networks.edsr import ResidualBlock

HIDDEN = 256
"""Width between the two linear maps of an implicit upsampler."""


class IDM(UNet):
    """A U-Net on a picture made of LR's features and the noisy one, told by how much LR is enlarged.

    Args:
        features, encoder_blocks: of the EDSR that makes the condition.
        highest_scale: the enlargement at which the scaler p is 1; where nothing is enlarged it is 0.
        others: as of `UNet`.
    """

    def __init__(
        self, scale: float, *, channels: int, mults: Sequence[int], attention: Sequence[int], blocks: int,
        dropout: float, groups: int, features: int, encoder_blocks: int, highest_scale: float,
    ) -> None:  # fmt: skip
        super().__init__(
            6, 3, channels=channels, mults=mults, attention=attention, blocks=blocks, dropout=dropout, groups=groups,
            upsample=ImplicitUpsample,
        )  # fmt: skip
        self.scale, self.multiple, self.highest_scale = scale, 1, highest_scale
        self.encoder = Encoder(features, encoder_blocks).apply(orthogonal)
        widths = [channels * mult for mult in mults]
        self.conv_body_first = StyleLayer(3, channels, down=False)
        befores = [channels, *widths[:-1]]  # of a level's style: the pyramid is a level of channels behind the U-Net
        self.conv_body_down = nn.ModuleList(
            [StyleLayer(before, after, down=True) for before, after in itertools.pairwise(befores)]
        )
        deeper = range(1, len(mults))  # levels that something is enlarged from
        self.condition_scale1 = nn.ModuleDict({str(level): EqualLinear(widths[level]) for level in deeper})
        self.condition_scale2 = nn.ModuleDict({str(level): EqualLinear(widths[level]) for level in deeper})
        self.condition_shift = nn.ModuleDict(
            {str(level): nn.Sequential(EqualConv(befores[level], widths[level])) for level in deeper}
        )

    def encode(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """As in `Denoiser`: (B, 4, H', W'), a picture of three channels and the scaler p as a plane.

        p = (H' W' / (H W))^(1/2) - 1 over `highest_scale` - 1: 0 at LR's own size.
        """
        picture = self.encoder(self.state(lr_BCHW), size)
        enlarged = math.sqrt(size[0] * size[1] / (lr_BCHW.shape[2] * lr_BCHW.shape[3]))
        scaler = (enlarged - 1) / (self.highest_scale - 1)
        return torch.cat([picture, picture.new_full((len(picture), 1, *size), scaler)], 1)

    def forward(self, condition: Tensor, state_BCHW: Tensor, level: Level) -> Tensor:
        return self.conditioned(condition[:, :3], state_BCHW, condition[:, 3, :1, 0], level.gamma)

    def conditioned(self, picture_BCHW: Tensor, state_BCHW: Tensor, scaler_B1: Tensor, gamma_B: Tensor) -> Tensor:
        """The network's output under the encoder's picture and each sample's scaler."""
        here, told = self.conv_body_first(picture_BCHW), []
        for level, down in enumerate(self.conv_body_down, start=1):
            here = down(here)
            parts = self.condition_scale1[str(level)], self.condition_scale2[str(level)]
            told.append((*(part(scaler_B1) for part in parts), self.condition_shift[str(level)](here)))
        return self.denoise(torch.cat([picture_BCHW, state_BCHW], 1), gamma_B, told[::-1])


class Encoder(nn.Module):
    """EDSR's body on the state of LR, its features enlarged by the nearest pixel and turned into a picture."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Sequential(conv(3, channels))
        self.body = nn.Sequential(*(ResidualBlock(channels, 1) for _ in range(blocks)), conv(channels, channels))
        self.tail = nn.Sequential(conv(channels, 3))

    def forward(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        shallow = self.head(lr_BCHW)
        found: Tensor = self.tail(functional.interpolate(self.body(shallow) + shallow, size=size, mode="nearest"))
        return found


class ImplicitUpsample(nn.Module):
    """Features and a style, mixed by the scaler, read at the nearest place of each wanted pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.style = nn.ModuleDict({"activate": FusedLeakyReLU(channels)})
        self.imnet = nn.Sequential(nn.Linear(channels + 2, HIDDEN), nn.Linear(HIDDEN, channels))

    def forward(
        self, x_BCHW: Tensor, size: tuple[int, int], scale1_BC: Tensor, scale2_BC: Tensor, shift_BCHW: Tensor
    ) -> Tensor:
        """(B, C, h, w) to (B, C, *size).

        Both maps of `imnet` are linear, so what they make of features is computed once a feature pixel, and what they
        make of a pixel's place in it once for all samples.

        Args:
            scale1_BC, scale2_BC: shares of the features and of `shift_BCHW`, (B, C, h, w), brought to unit length.
        """
        length = (scale1_BC.square() + scale2_BC.square() + 1e-8).sqrt()
        of_x, of_shift = ((scale / length)[:, :, None, None] for scale in (scale1_BC, scale2_BC))
        mixed: Tensor = self.style["activate"](x_BCHW * of_x + shift_BCHW * of_shift)
        first, second = self.imnet
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        channels = x_BCHW.shape[1]
        seen = functional.linear(mixed.movedim(1, -1), first.weight[:, :channels], first.bias)
        (rows, in_row), (columns, in_column) = (
            nearest(here, wanted, x_BCHW.device) for here, wanted in zip(x_BCHW.shape[2:], size, strict=True)
        )
        place_HW2 = torch.stack(torch.meshgrid(in_row, in_column, indexing="ij"), -1).to(x_BCHW)
        place = functional.linear(functional.linear(place_HW2, first.weight[:, channels:]), second.weight)
        found = second(seen)[:, rows][:, :, columns] + place
        return found.movedim(-1, 1)


def nearest(size: int, wanted: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each of `wanted` pixels of a side: the nearest of `size` pixels, and its distance in halves of such a one.

    A pixel just between two is the first one's.
    """
    middle = 2 * torch.arange(wanted, device=device) + 1
    index = (middle * size - 1).div(2 * wanted, rounding_mode="floor")
    return index, (middle.double() * size / wanted - (2 * index + 1)).float()


class StyleLayer(nn.Sequential):
    """An equalised convolution and a leaky ReLU; one that goes `down` blurs before and halves the sides, rounded up."""

    def __init__(self, before: int, after: int, *, down: bool) -> None:
        layers = [EqualConv(before, after, stride=2 if down else 1, bias=False), FusedLeakyReLU(after)]
        super().__init__(*([Blur()] if down else []), *layers)


class Blur(nn.Module):
    """The mean of 3 x 3 pixels with weights 1, 3, 1 a side; beyond the edge is nothing."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        channels = x_BCHW.shape[1]
        row = x_BCHW.new_tensor([0.2, 0.6, 0.2])
        return functional.conv2d(x_BCHW, torch.outer(row, row).expand(channels, 1, 3, 3), padding=1, groups=channels)


class EqualConv(nn.Module):
    """A convolution of 3 x 3 pixels whose weights are kept normal and divided by √(inputs) as they are used."""

    def __init__(self, before: int, after: int, *, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, 3, 3))
        self.bias = nn.Parameter(torch.zeros(after)) if bias else None
        self.factor, self.stride = 1 / math.sqrt(9 * before), stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return functional.conv2d(x_BCHW, self.weight * self.factor, self.bias, self.stride, padding=1)


class EqualLinear(nn.Module):
    """A linear map of one number; the weights start normal, the bias at 1."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, 1))
        self.bias = nn.Parameter(torch.ones(after))

    def forward(self, x_B1: Tensor) -> Tensor:
        return functional.linear(x_B1, self.weight, self.bias)


class FusedLeakyReLU(nn.Module):
    """A bias a channel, then a leaky ReLU of slope 0.2 times √2, which keeps the variance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return functional.leaky_relu(x_BCHW + self.bias[:, None, None], 0.2) * math.sqrt(2)
