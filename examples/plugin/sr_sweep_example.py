"""A network, a loss, a metric and a degradation of one's own; docs/extending.md explains each line."""

from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from eval import Metric
from objectives import OwnLoss
from sr_models.hyper.base import NetworkHyper, upsampler_multiply_adds
from sr_models.hyper.degradation import OwnDegradation
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


class Box(OwnDegradation):
    """The mean of scale x scale pixels, with Gaussian noise."""

    set: Literal["box"] = "box"
    noise: float = Field(default=2, ge=0, le=255, description="standard deviation, of 255")

    def lr(self, hr: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
        small = hr.reshape(hr.shape[0] // scale, scale, hr.shape[1] // scale, scale, 3).mean(axis=(1, 3))
        return np.clip(small + self.noise * rng.standard_normal(small.shape) + 0.5, 0, 255).astype(np.uint8)
