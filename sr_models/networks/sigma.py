"""The σ head of "Revisiting l1 loss in super-resolution" (https://arxiv.org/abs/2201.10084, Fig. 3).

From any network's features it predicts the spread |y - mu| of each pixel. It is trained by the auxiliary loss of Eq. 10
and dropped where only the picture is wanted. The paper prints neither kernel sizes nor shuffle stages, nor how features
are read and what the branch starts from; these are our choice. Two of them give it life in a short run: σ starts at
`START` and not at the sigmoid's 0.5, from where large steps overshoot to a σ of 0, which has no gradient to return by;
and features are read less their local mean, for errors are made where detail is, and what colour a region has drowns
that. Both concern the training only: a head of an older file reads features as they are.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_models.hyper.base import SigmaHyper
from sr_models.networks.base import Network, SRNetwork, conv

START = 0.02
"""About what σ is before it has learned anything: a typical mean |y - mu|, five 8-bit levels."""

DETAIL = 1 / 32
"""About how far features are from their local mean, as a fraction of the range that they work in."""

_DEFAULT = SigmaHyper()


class SigmaHead(nn.Module):
    """`depth` x [3x3 conv to `width`, PReLU per channel], one 3x3 conv with a single pixel shuffle, sigmoid.

    Args:
        channels: channels of the features.
        scale_to_go: upscaling factor from the features to the picture.
        width, depth, out_channels, detail_unit, constant: see `sr_models.hyper.base.SigmaHyper`.
    """

    def __init__(
        self,
        channels: int,
        scale_to_go: int,
        *,
        width: int = _DEFAULT.width,
        depth: int = _DEFAULT.depth,
        out_channels: int = _DEFAULT.out_channels,
        detail_unit: float | None = _DEFAULT.detail_unit,
        constant: float | None = _DEFAULT.constant,
    ) -> None:
        super().__init__()
        self.width, self.detail_unit, self.constant = width, detail_unit, constant
        inputs = [channels] + [width] * (depth - 1)
        hidden = [layer for inside in inputs for layer in (conv(inside, width), nn.PReLU(width))]
        self.body = nn.Sequential(*hidden)
        last = conv(width, out_channels * scale_to_go**2)
        assert last.bias is not None
        with torch.no_grad():
            last.bias.fill_(math.log(START / (1 - START)))
        self.tail = nn.Sequential(last, nn.PixelShuffle(scale_to_go), nn.Sigmoid())

    def forward(self, feat_BCHW: Tensor) -> Tensor:
        """Features (B, channels, H, W) to sigma_hat (B, out_channels, H * scale_to_go, W * scale_to_go) in (0, 1)."""
        if self.detail_unit is not None:
            mean_BCHW = functional.avg_pool2d(feat_BCHW, 3, stride=1, padding=1, count_include_pad=False)
            feat_BCHW = (feat_BCHW - mean_BCHW) / self.detail_unit
        sigma_hat: Tensor = self.tail(self.body(feat_BCHW))
        return sigma_hat


class WithSigma(nn.Module):
    """A network and its σ head on the same features; gradients of the head reach the network."""

    def __init__(self, net: SRNetwork, head: SigmaHead) -> None:
        super().__init__()
        self.net, self.head = net, head
        self.scale = net.scale

    def forward(self, lr_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [0, 1] to the picture (B, 3, H * scale, W * scale) and sigma_hat of the same size."""
        features = self.net.features(lr_BCHW)
        return self.net.reconstruct(features, lr_BCHW), self.head(features)


N = TypeVar("N", bound=Network)


def without_head(model: N | WithSigma) -> N | SRNetwork:
    """The network itself, whether it has a σ head or not."""
    return model.net if isinstance(model, WithSigma) else model
