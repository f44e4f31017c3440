"""Upscaling factors: whole ones are ints, and a fraction is p HR pixels for q LR pixels, as its decimal digits say.

HR of a pair is cropped to multiples of p a side, LR has q pixels for each p: HR = scale x LR exactly. Ours, no paper.
"""

from __future__ import annotations

import math
from fractions import Fraction

from pydantic import Field, model_validator

from sr_models.errors import InputError
from sr_models.params import Params


class ScaleRange(Params):
    """A network is trained at all scales between two, fractions too: one a step, uniform, the same for its batch."""

    low: float = Field(ge=1, description="the least; 1: LR as large as HR")
    high: float = Field(gt=1, description="the most")

    @model_validator(mode="after")
    def _rises(self) -> ScaleRange:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        return self

    def hr_side(self, patch: int, share: float) -> int:
        """HR pixels of a side for `patch` LR pixels, at a share of the way from `low` to `high`."""
        return sr_side(patch, self.low + share * (self.high - self.low))

    def cut_side(self, patch: int, scale: int) -> int:
        """Pixels of a side of the largest HR patch, in LR pixels of a scale, rounded up."""
        return -(-self.hr_side(patch, 1) // scale)

    @property
    def mean_square(self) -> float:
        """HR pixels for an LR pixel, in the mean."""
        return (self.low**2 + self.low * self.high + self.high**2) / 3


def parse_scale(text: str | float, where: str) -> float:
    """A factor as it is written: "2" and 2.0 are the int 2, "2.5" is a float; `where` is what a message begins with.

    Raises:
        InputError: no finite number from 1 on.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value < math.inf:
        raise InputError(f"{where} must be at least 1, got {text}")
    return int(value) if value.is_integer() else value


def hr_step(scale: float) -> int:
    """p: what sides of HR are multiples of; the factor itself where it is whole."""
    return Fraction(str(scale)).numerator


def lr_side(hr_side: int, scale: float) -> int:
    """Pixels of LR's side for a side of HR, of which the rest beyond a multiple of `hr_step` is cropped."""
    ratio = Fraction(str(scale))
    return hr_side // ratio.numerator * ratio.denominator


def sr_side(lr_side: int, scale: float) -> int:
    """Pixels of the enlarged side of an LR picture, to the nearest, half up, where it is no whole number."""
    return math.floor(lr_side * Fraction(str(scale)) + Fraction(1, 2))


def whole_scale(scale: float) -> int:
    """The factor, for tiles: they begin on whole pixels of both sides.

    Raises:
        InputError: it is a fraction.
    """
    if not isinstance(scale, int):
        raise InputError(f"tiles are for whole scales, got {scale}: a picture is computed whole there")
    return scale
