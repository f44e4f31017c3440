"""The σ head of "Revisiting l1 loss in super-resolution" (https://arxiv.org/abs/2201.10084, Fig. 3).

From any network's features it predicts the spread |y - mu| of each pixel. It is trained by the auxiliary loss of Eq. 10
and dropped where only the picture is wanted. The paper prints neither kernel sizes nor shuffle stages; those of
`SigmaHead` are our choice.
"""

from __future__ import annotations

from torch import Tensor, nn

from sr_models.hyper.base import SigmaHyper
from sr_models.networks.base import SRNetwork, conv

_DEFAULT = SigmaHyper()


class SigmaHead(nn.Module):
    """`depth` x [3x3 conv to `width`, PReLU per channel], one 3x3 conv with a single pixel shuffle, sigmoid.

    Args:
        channels: channels of the features.
        scale_to_go: upscaling factor from the features to the picture.
        width, depth, out_channels: see `sr_models.hyper.base.SigmaHyper`.
    """

    def __init__(
        self,
        channels: int,
        scale_to_go: int,
        *,
        width: int = _DEFAULT.width,
        depth: int = _DEFAULT.depth,
        out_channels: int = _DEFAULT.out_channels,
    ) -> None:
        super().__init__()
        inputs = [channels] + [width] * (depth - 1)
        hidden = [layer for inside in inputs for layer in (conv(inside, width), nn.PReLU(width))]
        self.body = nn.Sequential(*hidden)
        last = conv(width, out_channels * scale_to_go**2)
        self.tail = nn.Sequential(last, nn.PixelShuffle(scale_to_go), nn.Sigmoid())

    def forward(self, feat_BCHW: Tensor) -> Tensor:
        """Features (B, channels, H, W) to sigma_hat (B, out_channels, H * scale_to_go, W * scale_to_go) in (0, 1)."""
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


def without_head(model: SRNetwork | WithSigma) -> SRNetwork:
    """The network itself, whether it has a σ head or not."""
    return model.net if isinstance(model, WithSigma) else model
