"""What the hyperparameters of all networks share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, field_validator

from sr_models.params import Params

MOST = 8192
"""Of any size of a network: channels stop at 256, VQ-f4 has so many codes, and more is a slip of the keyboard."""


class Latents(NamedTuple):
    """What latents a network is trained on, beside whose autoencoder's."""

    reduction: int
    """A picture's sides over a latent's."""
    about: tuple[Any, ...]
    """What tells them from others of the same autoencoder: how LR is enlarged, what they are multiplied by."""


class NetworkHyper(Params):
    """Base of every network's hyperparameters: what a plan knows of its cost before torch is imported."""

    parts: ClassVar[tuple[str, ...]] = ()
    """Fields that name the files of frozen networks that this one stands on; each has a field NAME_sha256 beside it."""
    optional_parts: ClassVar[frozenset[str]] = frozenset()
    """Those of them that it can do without."""
    process: ClassVar[Mapping[str, Any]] = {}
    """Of a diffusion network: what its noise process has where nobody says otherwise."""

    @field_validator("*")
    @classmethod
    def _possible(cls, value: Any) -> Any:
        if isinstance(value, int) and value > MOST:
            raise ValueError(f"a network has sizes of at most {MOST}")
        return value

    def multiply_adds(self, scale: int) -> float:
        """Multiply-adds of one forward pass per LR pixel, convolutions only; 0 where nothing is trained."""
        return 0.0

    def backward_multiply_adds(self, scale: int) -> float:
        """The same of a backward pass: as much for inputs and for weights, where none are frozen."""
        return 2 * self.multiply_adds(scale)

    def check_scale(self, scale: int) -> None:
        """Raise an InputError where the network has the scale, but not with these values."""

    def beyond(self, scale: float) -> str:
        """What is to be said of a scale that is larger than the network is made for; "" of others."""
        return ""

    def window(self, scale: int) -> int:
        """What sides of a training patch, in LR pixels, must be multiples of, beside the network's own window."""
        return 1

    def scale_to_go(self, scale: int) -> int:
        """Upscaling factor left between the features and the output: all of it, unless a network says otherwise."""
        return scale

    def stands_on(self, part: str) -> tuple[str, dict[str, Any]] | None:
        """The network that trains such a frozen part, and what its hyperparameters must be; None: it is a file."""
        return None

    @property
    def latents(self) -> Latents | None:
        """The latents that it can be trained on, made before; None: it takes none.

        They are the network's `state` of a picture and `enlarged` of LR, and what it learns from LR is of these alone.
        """
        return None

    @property
    def shifts(self) -> bool:
        """Whether residual shifting goes with it: its authors' own, from the clean state of enlarged LR."""
        return False

    @property
    def tile_exact(self) -> bool:
        """Whether a picture computed in tiles is that computed whole, to rounding, once tiles see far enough beyond.

        False for what looks at all of a picture: pooled attention (CA, CCA), parts whose place goes with the picture's
        size (ACS).
        """
        return True

    @property
    def group_width(self) -> float:
        """Channels of a group that normalisations take together, at full size; infinite where there are none."""
        return math.inf

    @property
    def feature_channels(self) -> int:
        """Channels of the features that a σ head attaches to."""
        return int(getattr(self, "channels", 0))


def upsampler_multiply_adds(channels: int, scale: int) -> float:
    """Multiply-adds per LR pixel of repeated [k3 C -> r^2 C, pixel shuffle]: x3 in one step, 2^n in n steps."""
    if scale == 3:
        return 81.0 * channels**2
    return sum(36.0 * channels**2 * 4**i for i in range(scale.bit_length() - 1))


class SigmaHyper(Params):
    """The head that predicts the spread |y - mu| from a network's features."""

    width: int = Field(default=160, ge=1, description="channels of the head's hidden convolutions")
    depth: int = Field(default=4, ge=1, description="hidden convolutions, each followed by a PReLU")
    out_channels: int = Field(default=3, ge=1, description="channels of the predicted spread")
    detail_unit: float | None = Field(
        default=None,
        gt=0,
        description="features are read less their 3x3 mean, divided by this; null: as they are (older files)",
    )
    constant: float | None = Field(
        default=None, ge=0, description="mean |y - mu| of training patches at the end: what the spread must beat"
    )

    def multiply_adds(self, channels: int, scale: int) -> float:
        """Multiply-adds per feature pixel of the head on `channels` channels, `scale` below the output's size."""
        w = self.width
        return 9 * (channels * w + (self.depth - 1) * w**2 + w * self.out_channels * scale**2)
