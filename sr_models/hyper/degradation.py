"""How LR is made from HR as cameras and the net do it: strengths of degradations, as fields with ranges. No torch here.

Real-ESRGAN's two rounds (https://arxiv.org/abs/2107.10833) with its ranges or with the milder ones of CCSR
(https://arxiv.org/abs/2401.00877, after StableSR's); BSRGAN's shuffled order (https://arxiv.org/abs/2103.14006) and the
longer one of its released code, both without the noise of a camera's processing (ISP), whose model is not at hand;
noise alone. `sr_models.images.degrade` draws within these ranges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from sr_models.errors import InputError
from sr_models.params import Params, nearest
from sr_models.plugins import Table, check_params

if TYPE_CHECKING:
    import numpy as np

NUMERICS_VERSION = 1
"""Of what a degradation makes of a picture and a generator, raised with its bits; held by frozen sets and by trials."""

LEAST_SIDE = 96
"""HR pixels of the smallest square that is degraded; a smaller patch is cut out of the middle of one.

Two rounds shrink a picture by up to 0.15, and blurs see 10 pixels beyond it: of less than 74 they mirror it repeatedly.
"""


Interval = tuple[float, float]
Share = Annotated[float, Field(ge=0, le=1)]

_WITHIN = "within"
"""Where a field keeps the bounds of its interval."""


def _between(default: Interval, low: float, high: float, what: str) -> Any:
    """A field with the least and the most of a uniform draw, both within [low, high]."""
    text = f"{what}: [least, most] of a uniform draw, within {low:g} to {high:g}"
    return Field(default=default, description=text, json_schema_extra={_WITHIN: [low, high]})


def _check_shares(name: str, shares: tuple[float, ...]) -> None:
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"{name} must sum to 1, got {list(shares)}")


def _check_whole(name: str, interval: Interval) -> None:
    if interval[0] % 1 or interval[1] % 1:
        raise ValueError(f"{name} is drawn among whole numbers, got {list(interval)}")


class _Drawn(Params):
    """Base of what holds intervals (`_between`)."""

    @field_validator("*")
    @classmethod
    def _interval(cls, value: Any, info: ValidationInfo) -> Any:
        extra = cls.model_fields[str(info.field_name)].json_schema_extra
        if isinstance(extra, dict) and _WITHIN in extra:
            low, high = cast(Interval, extra[_WITHIN])
            if not low <= value[0] <= value[1] <= high:
                raise ValueError(f"[least, most] must rise and lie within {low:g} to {high:g}")
        return value


class Round(_Drawn):
    """One of the two rounds of `realesrgan` and `ccsr`: blur, resize, noise, JPEG; defaults: realesrgan's first."""

    blur_share: Share = Field(
        default=1, description="how often a round blurs (second of realesrgan 0.8, of ccsr 0.5; 0: never)"
    )
    sinc_share: Share = Field(default=0.1, description="of blurs: how often by a sinc, which rings")
    kernel_size: tuple[int, int] = Field(
        default=(7, 21), description="[least, most] side of blur kernels in pixels, odd, within 3 to 51"
    )
    kernel_shares: tuple[Share, Share, Share, Share, Share, Share] = Field(
        default=(0.45, 0.25, 0.12, 0.03, 0.12, 0.03),
        description="of other blurs: Gaussian, generalised, plateau, each isotropic and anisotropic; they sum to 1",
    )
    sigma: Interval = _between(
        (0.2, 3), 0.05, 20, "blur's standard deviation in pixels (second 0.2-1.5; ccsr 0.2-1.5, second 0.2-1)"
    )
    beta_generalised: Interval = _between(
        (0.5, 4), 0.1, 20, "exponent of generalised kernels, below and above 1 equally often (ccsr 0.5-2)"
    )
    beta_plateau: Interval = _between(
        (1, 2), 0.1, 20, "exponent of plateau kernels, below and above 1 equally often (ccsr 1-1.5)"
    )
    resize_shares: tuple[Share, Share, Share] = Field(
        default=(0.2, 0.7, 0.1), description="up, down, keep (second 0.3, 0.4, 0.3); they sum to 1"
    )
    resize: Interval = _between(
        (0.15, 1.5), 0.1, 4, "factor down to and up to, of HR, or in the second round of LR (second 0.3-1.2; ccsr "
        "0.3-1.5, second 0.6-1.2)"
    )  # fmt: skip
    gaussian_share: Share = Field(default=0.5, description="how often noise is Gaussian; else Poisson")
    noise: Interval = _between(
        (1, 30), 0, 255, "standard deviation of Gaussian noise, of 255 (second 1-25; ccsr 1-15, second 1-12)"
    )
    poisson: Interval = _between(
        (0.05, 3), 0, 20, "factor of Poisson noise (second 0.05-2.5; ccsr 0.05-2, second 0.05-1)"
    )
    grey_share: Share = Field(default=0.4, description="of noise: how often it is one for all three channels")
    jpeg_share: Share = Field(default=1, description="how often a round ends with JPEG")
    jpeg: Interval = _between((30, 95), 1, 100, "JPEG quality (ccsr 60-95, second 60-100)")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        low, high = self.kernel_size
        if not (3 <= low <= high <= 51 and low % 2 and high % 2):
            raise ValueError(f"kernel_size must rise from 3 to 51 and be odd, got {[low, high]}")
        _check_shares("kernel_shares", self.kernel_shares)
        _check_shares("resize_shares", self.resize_shares)
        for name in ("beta_generalised", "beta_plateau", "resize"):
            least, most = getattr(self, name)
            if not least <= 1 <= most:
                raise ValueError(f"{name} must hold 1, got {[least, most]}")
        return self


SECOND: dict[str, Any] = {
    "blur_share": 0.8, "sigma": (0.2, 1.5), "resize_shares": (0.3, 0.4, 0.3), "resize": (0.3, 1.2), "noise": (1, 25),
    "poisson": (0.05, 2.5),
}  # fmt: skip
"""What the second round has otherwise than the first, in `realesrgan`."""

MILD: dict[str, Any] = {"beta_generalised": (0.5, 2), "beta_plateau": (1, 1.5)}
SETS: dict[str, dict[str, Any]] = {
    "realesrgan": {"first": {}, "second": SECOND, "usm": True},
    "ccsr": {
        "first": MILD | {
            "sigma": (0.2, 1.5), "resize": (0.3, 1.5), "noise": (1, 15), "poisson": (0.05, 2), "jpeg": (60, 95)
        },
        "second": SECOND | MILD | {
            "blur_share": 0.5, "sigma": (0.2, 1), "resize": (0.6, 1.2), "noise": (1, 12), "poisson": (0.05, 1),
            "jpeg": (60, 100)
        },
        "usm": False,
    },
}  # fmt: skip
"""Named sets: what they have otherwise than the fields' defaults."""


class SecondOrder(Params):
    """Two rounds of blur, resize, noise and JPEG, and a sinc: `realesrgan`, and `ccsr` with milder ranges."""

    set: Literal["realesrgan", "ccsr"] = Field(description="whose ranges hold where none is given")
    first: Round = Field(default=Round(), description="the first round")
    second: Round = Field(default=Round(), description="the second round, whose resize is of LR's size")
    final_sinc_share: Share = Field(
        default=0.8, description="how often a sinc comes last, beside the last resize and before or after the last JPEG"
    )
    final_resize: Literal["drawn", "matlab"] = Field(
        default="drawn",
        description="to LR's size: by torch's area, bilinear or bicubic without antialiasing, or by MATLAB's bicubic, "
        "of an 8-bit picture: without blurs, resizes, noise and JPEG that is the usual LR",
    )
    codec: Literal["diffjpeg", "libjpeg"] = Field(
        default="diffjpeg", description="JPEG by its arithmetic at any real quality, or by the codec of files"
    )
    usm: bool = Field(default=True, description="sharpen HR first, target and what LR is made from (ccsr false)")

    @model_validator(mode="before")
    @classmethod
    def _of_its_set(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("set") not in SETS:
            return given  # said by the field
        laid = {**SETS[given["set"]], **given}
        for name in ("first", "second"):
            if isinstance(own := given.get(name, {}), Mapping):
                laid[name] = {**SETS[given["set"]][name], **own}
        return laid


class Shuffled(_Drawn):
    """BSRGAN: two blurs, two steps down, noise and JPEG in a random order, and JPEG at the end; no ISP noise."""

    set: Literal["bsrgan"] = Field(description="this one")
    blur: float = Field(
        default=1, ge=0.01, le=4, description="factor of the widest blurs: variances 4 + s, sigma 2 + 0.2 s, at scale s"
    )
    halve_share: Share = Field(default=0.25, description="how often, at x4, the picture is halved before all else")
    kernel_share: Share = Field(
        default=0.25, description="how often the first step down is a shifted Gaussian and every s-th pixel; else a "
        "resize by 1 to 2 s"
    )  # fmt: skip
    noise: Interval = _between((2, 25), 0, 255, "standard deviation of Gaussian noise, of 255, a whole number")
    jpeg_share: Share = Field(default=0.9, description="how often there is JPEG among the shuffled ones")
    jpeg: Interval = _between((30, 95), 1, 100, "JPEG quality, a whole number")
    usm: bool = Field(default=False, description="sharpen HR first, target and what LR is made from")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _check_whole("noise", self.noise)
        _check_whole("jpeg", self.jpeg)
        return self


class ShuffledMore(_Drawn):
    """The longer order of BSRGAN's code: blur, resize, four kinds of noise and JPEG, twice; no ISP noise."""

    set: Literal["bsrgan_plus"] = Field(description="this one")
    shuffle_share: Share = Field(default=0.5, description="how often all is shuffled; else the noises of a round alone")
    blur: float = Field(default=1, ge=0.01, le=4, description="factor of the widest blurs, as of bsrgan")
    resize_shares: tuple[Share, Share, Share] = Field(
        default=(0.2, 0.7, 0.1), description="up by 1 to 2, down by 1 to 2 s, keep; they sum to 1"
    )
    noise: Interval = _between((2, 25), 0, 255, "standard deviation of noise, of 255, a whole number")
    poisson_share: Share = Field(default=0.1, description="how often a round has Poisson noise too")
    speckle_share: Share = Field(default=0.1, description="how often a round has noise that is multiplied too")
    jpeg: Interval = _between((30, 95), 1, 100, "JPEG quality, a whole number")
    usm: bool = Field(default=True, description="sharpen HR first, target and what LR is made from")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _check_whole("noise", self.noise)
        _check_whole("jpeg", self.jpeg)
        _check_shares("resize_shares", self.resize_shares)
        return self


class Additive(_Drawn):
    """MATLAB's bicubic LR with Gaussian noise, and nothing else."""

    set: Literal["additive"] = Field(description="this one")
    noise: Interval = _between((0, 50), 0, 255, "standard deviation, of 255")
    grey_share: Share = Field(default=0, description="how often noise is one for all three channels")
    usm: bool = Field(default=False, description="sharpen HR first, target and what LR is made from")


class OwnDegradation(Params):
    """Base of a plug-in's degradations: its fields are strengths, and `set: Literal[NAME]` its name."""

    set: str = ""
    usm: bool = Field(default=False, description="sharpen HR first, target and what LR is made from")

    def lr(self, hr: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
        """The LR of one picture, a function of it and of what is drawn from `rng`, and of nothing else.

        Args:
            hr: uint8 (H, W, 3), sides multiples of `scale`.

        Returns:
            uint8 (H / scale, W / scale, 3).
        """
        raise NotImplementedError


_Ours = SecondOrder | Shuffled | ShuffledMore | Additive
Degradation = _Ours | OwnDegradation

SEATS: dict[str, type[Params]] = {
    "realesrgan, ccsr": SecondOrder,
    "bsrgan": Shuffled,
    "bsrgan_plus": ShuffledMore,
    "additive": Additive,
}
NAMES = ("realesrgan", "ccsr", "bsrgan", "bsrgan_plus", "additive")
"""The named sets."""


def _check_added(name: str, found: Any, _distribution: str) -> type[OwnDegradation]:
    """A plug-in's row of `DEGRADATIONS`. Raises ValueError: what is wrong with it."""
    if not (isinstance(found, type) and issubclass(found, OwnDegradation)):
        raise ValueError(f"is no class below sr_models.hyper.degradation.OwnDegradation (got {found!r:.80})")
    if "set" not in found.model_fields or found.model_fields["set"].default != name:
        raise ValueError(f"must have the field `set: Literal[{name!r}] = {name!r}`")
    if found.lr is OwnDegradation.lr:
        raise ValueError("has no lr")
    check_params(found)
    return found


DEGRADATIONS = Table[type[Params]](
    "degradation", {name: cls for names, cls in SEATS.items() for name in names.split(", ")}, _check_added
)
"""Every named set: ours, and those of plug-ins."""


def _any(given: Any, ours: ValidatorFunctionWrapHandler) -> Any:
    """One from its name, which stands for all of it, or from plain data, a plug-in's too."""
    if isinstance(given, OwnDegradation):
        return given
    given = {"set": given} if isinstance(given, str) else given
    name = given.get("set") if isinstance(given, Mapping) else None
    return (
        DEGRADATIONS[name].parse(given, name) if isinstance(name, str) and name in DEGRADATIONS.added else ours(given)
    )


AnyDegradation = Annotated[SerializeAsAny[_Ours], Field(discriminator="set"), WrapValidator(_any)]
"""The type of a field that holds one: `realesrgan`, or `{set: realesrgan, usm: false, first: {jpeg: [50, 90]}}`."""


def parse_degradation(given: Mapping[str, Any], where: str) -> Degradation:
    """One from plain data, for a field of which nothing else is known.

    Raises:
        InputError: no such set, unknown key, a value out of range; it starts with `where`.
    """
    if given.get("set") not in DEGRADATIONS:
        raise InputError(f"{where}: unknown set {given.get('set')!r}{nearest(str(given.get('set')), [*DEGRADATIONS])}")
    return DEGRADATIONS[given["set"]].parse(given, where)  # type: ignore[return-value]


def cut_side(patch: int, scale: int) -> int:
    """Side, in LR pixels, of the square that is degraded for an LR patch of this side."""
    return max(patch, -(-LEAST_SIDE // scale))
