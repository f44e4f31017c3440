"""A network, a loss and a metric of one's own; docs/extending.md explains each line."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from eval import Metric
from objectives import OwnLoss
from sr_models.hyper.base import NetworkHyper, upsampler_multiply_adds
from sr_models.networks.base import SRNetwork, conv, upsampler
from sr_models.params import SearchRange, searchable
from sr_models.spec import ModelSpec


class TinyHyper(NetworkHyper):
    channels: int = Field(default=16, ge=1, description="of both convolutions")

    def multiply_adds(self, scale: int) -> float:
        return 9 * self.channels * (3 + self.channels + 3 * scale**2) + upsampler_multiply_adds(self.channels, scale)


class TinyNet(SRNetwork):
    def __init__(self, scale: int, channels: int) -> None:
        super().__init__()
        self.scale, self.feature_channels, self.feature_scale_to_go = scale, channels, scale
        self.head = nn.Sequential(conv(3, channels), nn.ReLU(), conv(channels, channels))
        self.tail = nn.Sequential(upsampler(scale, channels), conv(channels, 3))

    def features(self, lr_BCHW: Tensor) -> Tensor:
        return self.head(lr_BCHW)

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        return self.tail(feat_BCHW) + functional.interpolate(lr_BCHW, scale_factor=self.scale, mode="bicubic")


TINY_NET = ModelSpec(name="tiny_net", family="regression", module="sr_sweep_example", cls="TinyNet", hyper=TinyHyper,
                     scales=(2, 4), counts={2: 12_483, 4: 21_763}, paper="none: an example")  # fmt: skip


class TinyHuber(OwnLoss):
    """|y - mu| with a parabola below delta, divided by delta."""

    kind: Literal["tiny_huber"] = "tiny_huber"
    delta: float = searchable(0.1, SearchRange(low=0.01, high=0.5, log=True), "in image units (1 = white), > 0", gt=0)

    def per_sample(self, mu: Tensor, y: Tensor, z: Tensor | None, sigma_hat: Tensor | None) -> Tensor:
        return functional.huber_loss(mu, y, reduction="none", delta=self.delta).mean(dim=(1, 2, 3)) / self.delta


MEAN_ERROR = Metric(unit="", higher_is_better=False, reads=("sr", "hr"), decimals=2, description="mean |SR - HR| x 255",
                    compute=lambda sr, hr: 255 * (sr - hr).abs().mean(dim=(1, 2, 3)))  # fmt: skip
