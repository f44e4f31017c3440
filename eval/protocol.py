"""What a score means: the protocols that turn images into numbers and the table of metrics, without importing torch.

`classical` is the protocol of the SR literature (as in IMDN, https://arxiv.org/abs/1909.11856): SR clamped and rounded
to uint8, `scale` pixels cropped from each side, Y of ITU-R BT.601 in studio range (MATLAB's rgb2ycbcr), kept in float.
Every score carries its protocol's id, so numbers of different protocols never share a column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from sr_models.errors import InputError
from sr_models.params import Params, nearest
from sr_models.plugins import Table

if TYPE_CHECKING:
    from torch import Tensor

Luma = Literal["y", "y8"]
Ssim = Literal["gaussian", "uniform7", "y8"]
Reads = Literal["sr", "hr", "lr", "sigma", "constant", "draws"]
Cost = Literal["light", "backbone", "set", "extra"]
Level = Literal["image", "draws", "set"]

STABILITY = "g_std."
"""What the name of a metric's spread over draws starts with: `g_std.psnr_y`."""

AVERAGED = "ema."
"""What the name of a metric that a validation takes of averaged weights starts with: `ema.psnr_y`."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a column of scores holds.

    unit: "dB", "nat" or "" (a pure number). higher_is_better: which end wins. reads: the images it needs, and the
    "constant" that stands for sigma: the training patches' mean |HR - SR|, which a network's file says.
    decimals: digits worth printing. cost: "light" arithmetic; a "backbone" network an image; features of a whole "set";
    "extra" packages. level: one number an image and draw, one an image over all "draws", or one a "set".
    library: the distribution whose releases may move it, beside those that move all; "" where that is none.
    compute: of a plug-in's metric, (SR, HR) or, as it reads, SR alone -> (B,) on any device: float32 RGB (B, 3, H, W)
    in [0, 1], cropped and rounded as the protocol says.
    """

    unit: str
    higher_is_better: bool
    reads: tuple[Reads, ...]
    decimals: int
    description: str
    cost: Cost = "light"
    level: Level = "image"
    library: str = ""
    compute: Callable[..., Tensor] | None = None

    def better(self, a: float, b: float) -> bool:
        """Whether score `a` beats score `b`."""
        return a > b if self.higher_is_better else a < b


_PAIR: tuple[Reads, ...] = ("sr", "hr")
_EXTRA = "no reference; needs the extra [pyiqa] (PolyForm Noncommercial)"
_OURS: dict[str, Metric] = {
    "psnr_y": Metric(unit="dB", higher_is_better=True, reads=_PAIR, decimals=2, description="PSNR of the luma Y"),
    "psnr_rgb": Metric(unit="dB", higher_is_better=True, reads=_PAIR, decimals=2, description="PSNR over R, G and B"),
    "ssim_y": Metric(unit="", higher_is_better=True, reads=_PAIR, decimals=4, description="SSIM of the luma Y"),
    "ssim_rgb": Metric(unit="", higher_is_better=True, reads=_PAIR, decimals=4, description="mean SSIM of R, G and B"),
    "consistency": Metric(
        unit="", higher_is_better=False, reads=("sr", "lr"), decimals=3,
        description="MSE x 1e5 of SR, shrunk again, against LR; images in [0, 1]",
    ),
    "lpips_alex": Metric(
        unit="", higher_is_better=False, reads=_PAIR, decimals=4, cost="backbone", description="LPIPS 0.1, AlexNet",
        library="lpips",
    ),
    "lpips_vgg": Metric(
        unit="", higher_is_better=False, reads=_PAIR, decimals=4, cost="backbone", description="LPIPS 0.1, VGG16",
        library="lpips",
    ),
    "dists": Metric(
        unit="", higher_is_better=False, reads=_PAIR, decimals=4, cost="backbone", description="DISTS",
        library="dists-pytorch",
    ),
    "niqe": Metric(
        unit="", higher_is_better=False, reads=("sr",), decimals=3, cost="extra", description=f"NIQE of Y; {_EXTRA}",
        library="pyiqa",
    ),
    "musiq": Metric(
        unit="", higher_is_better=True, reads=("sr",), decimals=2, cost="extra", description=f"MUSIQ, KonIQ; {_EXTRA}",
        library="pyiqa",
    ),
    "clipiqa": Metric(
        unit="", higher_is_better=True, reads=("sr",), decimals=4, cost="extra", description=f"CLIP-IQA; {_EXTRA}",
        library="pyiqa",
    ),
    "fid": Metric(
        unit="", higher_is_better=False, reads=_PAIR, decimals=2, cost="set", level="set",
        description="Frechet distance of Inception features; biased upward for small sets", library="torch-fidelity",
    ),
    "kid": Metric(
        unit="", higher_is_better=False, reads=_PAIR, decimals=5, cost="set", level="set",
        description="unbiased squared MMD of Inception features, cubic kernel", library="torch-fidelity",
    ),
    "l_std": Metric(
        unit="", higher_is_better=False, reads=("draws",), decimals=4, level="draws",
        description="std of a pixel's channel over draws, mean over the image; RGB in [0, 1]",
    ),
    "pll": Metric(
        unit="nat", higher_is_better=True, reads=("sr", "hr", "sigma"), decimals=3,
        description="mean log likelihood of HR's values under N(SR, sigma^2), RGB in [0, 1]",
    ),
    "psnr_sigma": Metric(
        unit="dB", higher_is_better=True, reads=("sr", "hr", "sigma"), decimals=2,
        description="PSNR of sigma against |HR - SR|, as luma",
    ),
    "psnr_constant": Metric(
        unit="dB", higher_is_better=True, reads=("sr", "hr", "constant"), decimals=2,
        description="psnr_sigma of the best constant on the training images: what sigma must beat",
    ),
    "sigma_r": Metric(
        unit="", higher_is_better=True, reads=("sr", "hr", "sigma"), decimals=3,
        description="Pearson's r of sigma with |HR - SR|, RGB",
    ),
}  # fmt: skip

RESERVED = frozenset({
    "key", "combination", "model", "objective", "target", "loss", "scale", "fingerprint", "step", "seed",
    "weights", "network", "trained_scale", "hyper", "image", "weights_sha256", "benchmark", "images",
    "protocol", "kernel", "lr_sha256", "hr_sha256", "width", "height", "precision", "channels_last", "compile",
    "tile", "overlap", "self_ensemble", "crops", "sampler", "eta", "t_max", "t_min", "steps", "draws",
    "deterministic", "noise_seed", "seconds", "per_draw", "not_computed", "details", "versions", "run", "data",
    "lr_inputs", "of_images", "trial", "twin_of", "weights_folder", "upscale", "seeds", "metrics", "lead", "plugins",
    "all", "parameters", "paper_parameters", "picture_seconds", "paper_seconds", "trained_parameters",
    "searched", "number", "params", "trials", "pruned", "failed", "search_steps", "search_value", "run_images",
    "teacher_images", "teacher_seconds", "centroid_seconds", "train_seconds", "seconds_per_step",
    "trials_at_a_time",
})  # fmt: skip
"""What columns beside those of metrics are called, and so no plug-in's metric."""


def _check_added(name: str, row: Any, distribution: str) -> Metric:
    """A plug-in's row of `METRICS`. Raises ValueError: what is wrong with it."""
    if not isinstance(row, Metric) or row.compute is None:
        raise ValueError(f"is no eval.Metric with `compute` (got {row!r:.80})")
    if row.reads not in (_PAIR, ("sr",)) or (row.cost, row.level) != ("light", "image"):
        raise ValueError("must read SR and HR or SR alone, at cost light and level image: plug-ins add no others")
    if row.library or not 0 <= row.decimals <= 8:
        raise ValueError(f"must have 0 to 8 decimals and no library (got {row.decimals} and {row.library!r})")
    if clash := next((own for own in (*_OURS, "lead", "ema") if name.startswith(f"{own}_")), None):
        raise ValueError(f"may not begin with {clash}_, as columns of {clash} do")
    return replace(row, library=distribution)


METRICS = Table("metric", _OURS, _check_added, taken=RESERVED)
"""Every metric, of plug-ins too, but the `g_std.*`, which `get_metric` derives from those that are one number an image
and draw."""

UNCERTAINTY = ("psnr_sigma", "psnr_constant", "sigma_r", "pll")
"""The metrics that say how well sigma tells where SR is wrong, in the order that a picture of it prints them."""

FIDELITY = ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb")
"""The metrics that `eval.metrics.fidelity.score` computes, with neither weights nor anything but SR and HR."""

PERCEPTION = ("lpips_alex", "lpips_vgg", "dists", "niqe", "musiq", "clipiqa", "fid", "kid")
"""The metrics that say how natural SR looks, against those that say how far it is from HR."""

VALIDATED = (*FIDELITY, "lpips_alex", "lpips_vgg", "l_std")
"""The metrics that validations during training may measure, and a search be steered by."""


def needs_backbone(metrics: Iterable[str]) -> tuple[str, ...]:
    """Those of some metrics that a network computes, whose weights must be at hand."""
    return tuple(name for name in metrics if get_metric(name).cost == "backbone")


def all_metrics() -> list[str]:
    """The name of every column of scores: the table's, then the `g_std.*` derived from it."""
    return [*METRICS, *_derived()]


def get_metric(name: str, where: str = "") -> Metric:
    """The metric called `name`, one of `all_metrics`.

    `g_std.<metric>` is CCSR's G-STD (https://arxiv.org/abs/2401.00877, Eq. 4): an image's population standard deviation
    over draws, in the metric's unit.

    Raises:
        InputError: no such metric; starts with `where` and names the nearest one.
    """
    if name in METRICS:
        return METRICS[name]
    derived = _derived()
    if name in derived:
        base = METRICS[name.removeprefix(STABILITY)]
        return Metric(
            unit=base.unit,
            higher_is_better=False,
            reads=(*base.reads, "draws"),
            decimals=base.decimals + 2,
            description=f"std over draws of: {base.description}",
            cost=base.cost,
            level="draws",
            library=base.library,
        )
    valid: Sequence[str] = derived if name.startswith(STABILITY) else [*METRICS, f"{STABILITY}<metric>"]
    raise InputError(f"{where and where + ': '}unknown metric {name!r}{nearest(name, list(valid))}")


def plain_metric(name: str) -> str:
    """The metric that a validation measured: `psnr_y` of `ema.psnr_y`."""
    return name.removeprefix(AVERAGED)


def _derived() -> list[str]:
    own = METRICS.own
    return [f"{STABILITY}{name}" for name in METRICS if name not in own or own[name].level == "image"]


def library(name: str) -> str:
    """`Metric.library` of a key of `METRICS`, without importing a plug-in."""
    return METRICS.own[name].library if name in METRICS.own else METRICS.added[name].rpartition(" ")[0]


class Protocol(Params):
    """How SR and HR are prepared before a metric compares them, and which variant of a metric is meant."""

    name: str = Field(
        pattern=r"^[a-z0-9]+([_-][a-z0-9]+)*$", description="First part of the id that is stamped on every score."
    )
    border: Literal["scale"] | int = Field(
        default="scale",
        description="Pixels cropped a side before images are compared; 'scale' = the factor, rounded up. Consistency, "
        "FID and KID see whole images.",
    )
    luma: Luma = Field(
        default="y",
        description="Y for the *_y metrics: 'y' in float; 'y8' rounded to uint8 first, as some released scripts do "
        "(on IMDN, Set5: -0.085 dB at x2, -0.036 at x3, -0.022 at x4).",
    )
    uint8: bool = Field(
        default=True,
        description="Clamp and round SR to uint8 first, as a PNG would; else only clamp. pll and psnr_sigma compare "
        "what the network predicts, so they never round.",
    )
    ssim: Ssim = Field(
        default="gaussian",
        description="SSIM's window: 'gaussian' 11x11 of Wang et al.; 'uniform7' 7x7 with sample covariance, "
        "scikit-image's default; 'y8' gaussian on Y rounded to uint8 with negative structure set to 0, as in pyiqa.",
    )
    mse_floor: float = Field(
        default=0.0,
        ge=0,
        description="Added to the MSE of images in [0, 1] before PSNR takes its logarithm: 1e-8 in pyiqa.",
    )
    lpips_range: Literal["signed", "unit"] = Field(
        default="signed", description="What LPIPS is fed: [-1, 1] as it was trained, or [0, 1] as some scripts do."
    )
    consistency: Literal["kernel", "pil"] = Field(
        default="kernel",
        description="How SR is shrunk again: by the kernel that made LR (MATLAB's bicubic where LR came as files), or "
        "by Pillow's bicubic, whose rounding adds about 0.13 (MSE x 1e5).",
    )
    fid_patch: int | None = Field(
        default=None, ge=16, description="Side of the square patches, in px, that FID and KID see; null: whole images."
    )
    fid_stride: int | None = Field(default=None, ge=1, description="Pixels from one patch to the next.")
    draws: int = Field(
        default=10, ge=1, description="Samples of a stochastic network that scores are means of; others have one."
    )
    steps: int | None = Field(
        default=None, ge=1, description="Network calls a sampler makes; null: the network's own, or no sampler."
    )
    lr_noise: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Standard deviation, in image units (1 = white), of Gaussian noise on each channel of LR, rounded "
        "to 8 bits; the noise seed, LR's pixels and the draw fix it, so each network gets the same `draws` inputs. "
        "Consistency is with LR before that.",
    )
    metrics: tuple[str, ...] = Field(
        default=("psnr_y", "ssim_y"),
        min_length=1,
        description="What is reported unless asked otherwise; not in the id.",
    )
    traps: str = Field(default="", description="What to know before comparing with the printed numbers; not in the id.")

    @field_validator("border")
    @classmethod
    def _not_negative(cls, border: Literal["scale"] | int) -> Literal["scale"] | int:
        if border != "scale" and border < 0:
            raise ValueError("border must be 'scale' or a number of pixels >= 0")
        return border

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        for name in metrics:
            get_metric(name)
        return metrics

    @model_validator(mode="after")
    def _patches_have_a_stride(self) -> Protocol:
        if (self.fid_patch is None) != (self.fid_stride is None):
            raise ValueError(f"fid_patch and fid_stride go together, got {self.fid_patch} and {self.fid_stride}")
        return self

    def shave(self, scale: float) -> int:
        """Pixels cropped from each side at `scale`, rounded up."""
        return math.ceil(scale) if self.border == "scale" else self.border

    def id(self, scale: float) -> str:
        """Name of the exact recipe at `scale`, such as `classical-y-b4`; different recipes have different ids.

        Luma and border are always spelt out; everything else where it differs from the default. How SR was computed
        follows it on every score, as `sr_models.inference.super_resolve.Options.marks`.
        """
        plain = Protocol.model_fields
        parts = [self.name, self.luma, f"b{self.shave(scale)}"]
        if not self.uint8:
            parts.append("float")
        if self.ssim != plain["ssim"].default:
            parts.append(f"ssim.{self.ssim}")
        if self.mse_floor:
            parts.append(f"floor.{self.mse_floor:g}")
        if self.lpips_range != plain["lpips_range"].default:
            parts.append(f"lpips.{self.lpips_range}")
        if self.consistency != plain["consistency"].default:
            parts.append(f"consistency.{self.consistency}")
        if self.fid_patch is not None:
            parts.append(f"fid.{self.fid_patch}s{self.fid_stride}")
        if self.draws != plain["draws"].default:
            parts.append(f"n{self.draws}")
        if self.steps is not None:
            parts.append(f"steps{self.steps}")
        if self.lr_noise is not None:
            parts.append(f"noise{self.lr_noise:g}")
        return "-".join(parts)


_CLASSICAL_TRAPS = (
    "Also the protocol of ECO, IMDN and the expectation loss (Y, border = scale); rounding Y to uint8 would cost up to "
    "0.085 dB."
)
PROTOCOLS: dict[str, Protocol] = {
    "classical": Protocol(name="classical", traps=_CLASSICAL_TRAPS),
    "uncropped": Protocol(name="uncropped", border=0),
    "patches": Protocol(
        name="patches", fid_patch=256, fid_stride=128, metrics=("fid", "kid"),
        traps="FID and KID of 256x256 px patches on a grid of 128 px, from the top left; a rest that holds no whole "
        "patch is left out. Comparable only with numbers from the same images, patches and count.",
    ),
    "imdn-realsr": Protocol(
        name="imdn-realsr", border=0, metrics=("psnr_rgb", "ssim_rgb"), traps="RGB, uncropped; all else of IMDN is Y.",
    ),
    "dream-face": Protocol(
        name="dream-face", border=0, lpips_range="unit", consistency="pil", draws=1,
        metrics=("psnr_rgb", "ssim_rgb", "lpips_vgg", "consistency", "fid", "kid"),
        traps="DREAM's code feeds LPIPS [0, 1] without normalize=True: not comparable with other papers' LPIPS; score "
        "`uncropped` too for the standard one. Its consistency shrinks 8-bit SR by Pillow, as its LR was made; LR "
        "files of MATLAB's bicubic give even HR 0.33 (Set5 x4). FID: 100 whole images against 100, covariances of rank "
        "99, so only equal counts compare; printed with pytorch-fid's resize, not torch-fidelity's.",
    ),
    "dream-div2k": Protocol(
        name="dream-div2k", border=0, draws=1, metrics=("psnr_rgb", "ssim_rgb", "lpips_alex", "fid", "kid"),
        traps="Neither the bicubic kernel (here MATLAB's), nor the SSIM (here 11x11 gaussian; `srflow-div2k` has the "
        "7x7), nor how FID was taken (here whole images, 100 against 100) is printed.",
    ),
    "srflow-div2k": Protocol(
        name="srflow-div2k", border=0, ssim="uniform7", draws=1, metrics=("psnr_rgb", "ssim_rgb", "lpips_alex"),
        traps="SRFlow's Measure.py, which DREAM's baseline rows are inferred to come from: scikit-image's default "
        "SSIM on RGB, nothing cropped, LPIPS in [-1, 1].",
    ),
    "ccsr-real": Protocol(
        name="ccsr-real", border=4, ssim="y8", mse_floor=1e-8,
        metrics=("psnr_y", "ssim_y", "lpips_alex", "dists", "niqe", "musiq", "clipiqa", "fid", "kid",
                 "g_std.psnr_y", "g_std.ssim_y", "g_std.lpips_alex", "l_std"),
        traps="CCSR's cal_iqa.py through pyiqa: 4 px cropped at any scale, Y in float for PSNR but rounded for SSIM, "
        "whose negative structure is set to 0. DISTS, NIQE, MUSIQ, CLIP-IQA and FID are not in the released script: "
        "variants are inferred, and pyiqa's defaults moved between versions. Means over 10 noises; G-STD is not "
        "defined for FID. DIV2K rows use StableSR's 512 px crops as whole images.",
    ),
}  # fmt: skip
"""The printed protocols of the papers by name, each with what spoils a comparison (`traps`)."""


def get_protocol(name: str, where: str = "") -> Protocol:
    """The protocol called `name`. Raises InputError, starting with `where`, that names the nearest one."""
    if name not in PROTOCOLS:
        raise InputError(f"{where and where + ': '}unknown protocol {name!r}{nearest(name, list(PROTOCOLS))}")
    return PROTOCOLS[name]
