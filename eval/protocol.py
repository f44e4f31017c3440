"""What a score means: the protocols that turn images into numbers and the table of metrics, without importing torch.

`classical` is the protocol of the SR literature (as in IMDN, https://arxiv.org/abs/1909.11856): SR clamped and rounded
to uint8, `scale` pixels cropped from each side, Y of ITU-R BT.601 in studio range (MATLAB's rgb2ycbcr), kept in float.
Every score carries its protocol's id, so numbers of different protocols never share a column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from sr_models.errors import InputError
from sr_models.params import Params, nearest

Luma = Literal["y", "y8"]
Reads = Literal["sr", "hr", "lr", "sigma"]


class Protocol(Params):
    """How SR and HR are prepared before a metric compares them."""

    name: str = Field(pattern=r"^[a-z0-9_]+$", description="First part of the id that is stamped on every score.")
    border: Literal["scale"] | int = Field(default="scale", description="Pixels cropped a side; 'scale' = the factor.")
    luma: Luma = Field(
        default="y",
        description="Y for the *_y metrics: 'y' in float; 'y8' rounded to uint8 first, as some released scripts do "
        "(on IMDN, Set5: -0.085 dB at x2, -0.036 at x3, -0.022 at x4).",
    )
    uint8: bool = Field(default=True, description="Clamp and round SR to uint8 first, as a PNG would; else only clamp.")

    @field_validator("border")
    @classmethod
    def _not_negative(cls, border: Literal["scale"] | int) -> Literal["scale"] | int:
        if border != "scale" and border < 0:
            raise ValueError("border must be 'scale' or a number of pixels >= 0")
        return border

    def shave(self, scale: int) -> int:
        """Pixels cropped from each side at `scale`."""
        return scale if self.border == "scale" else self.border

    def id(self, scale: int) -> str:
        """Name of the exact recipe at `scale`, such as `classical-y-b4`; different recipes have different ids."""
        return f"{self.name}-{self.luma}-b{self.shave(scale)}{'' if self.uint8 else '-float'}"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a column of scores holds.

    unit: "dB" or "" (a pure number). higher_is_better: which end wins. reads: the images it needs.
    decimals: digits worth printing.
    """

    unit: str
    higher_is_better: bool
    reads: tuple[Reads, ...]
    decimals: int
    description: str

    def better(self, a: float, b: float) -> bool:
        """Whether score `a` beats score `b`."""
        return a > b if self.higher_is_better else a < b


PROTOCOLS: dict[str, Protocol] = {
    "classical": Protocol(name="classical"),
    "uncropped": Protocol(name="uncropped", border=0),
}

_PAIR: tuple[Reads, ...] = ("sr", "hr")
METRICS: dict[str, Metric] = {
    "psnr_y": Metric(unit="dB", higher_is_better=True, reads=_PAIR, decimals=2, description="PSNR of the luma Y"),
    "psnr_rgb": Metric(unit="dB", higher_is_better=True, reads=_PAIR, decimals=2, description="PSNR over R, G and B"),
    "ssim_y": Metric(unit="", higher_is_better=True, reads=_PAIR, decimals=4, description="SSIM of the luma Y"),
    "ssim_rgb": Metric(unit="", higher_is_better=True, reads=_PAIR, decimals=4, description="mean SSIM of R, G and B"),
}


def get_protocol(name: str, where: str = "") -> Protocol:
    """The protocol called `name`. Raises InputError, starting with `where`, that names the nearest one."""
    if name not in PROTOCOLS:
        raise InputError(f"{where and where + ': '}unknown protocol {name!r}{nearest(name, list(PROTOCOLS))}")
    return PROTOCOLS[name]


def get_metric(name: str, where: str = "") -> Metric:
    """The metric called `name`. Raises InputError, starting with `where`, that names the nearest one."""
    if name not in METRICS:
        raise InputError(f"{where and where + ': '}unknown metric {name!r}{nearest(name, list(METRICS))}")
    return METRICS[name]
