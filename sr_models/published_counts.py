"""Which published size each network is held to: an entry of the fact sheet `param_counts.json`, and the paper's print.

The sheet's numbers were counted in the releases' code; a paper may print another one, and then `differs` says why. The
papers are those of `sr_models.MODELS`, or the one named beside the number. No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Entry = tuple[str, ...]  # the keys that lead to a number in param_counts.json


@dataclass(frozen=True, kw_only=True)
class Size:
    """One variant of one network.

    Attributes:
        model, hyper: the row of `MODELS` and what differs from its defaults.
        entries: by scale, the sheet's entry that the number of parameters equals.
        counts: parameters by scale; empty for the defaults, whose counts are in `MODELS`.
        printed: by scale, the number as printed.
        unbuilt: of the sheet's number, parameters of layers that the release holds and computes nothing with; our
            network lacks them.
        source: where it is printed, if the sheet has no entry for it.
        differs: why the printed number is another one, where it is.
    """

    model: str
    hyper: Mapping[str, Any] = field(default_factory=dict)
    entries: Mapping[int, Entry] = field(default_factory=dict)
    counts: Mapping[int, int] = field(default_factory=dict)
    printed: Mapping[int, str] = field(default_factory=dict)
    unbuilt: int = 0
    source: str = ""
    differs: str = ""


def _each(sheet: str, *scales: int) -> dict[int, Entry]:
    return {scale: (sheet, f"x{scale}") for scale in scales}


def _all(sheet: str, key: str, *scales: int) -> dict[int, Entry]:
    return dict.fromkeys(scales, (sheet, key))


def _any(count: int, *scales: int) -> dict[int, int]:
    return dict.fromkeys(scales, count)


_MULTI = "multi(x2+x3+x4)"

SIZES: tuple[Size, ...] = (
    Size(
        model="vdsr", entries=_all("VDSR", "Y_nobias(any scale)", 1, 2, 3, 4, 8),
        printed=dict.fromkeys((2, 3, 4), "665K"),
    ),
    Size(  # printed by IMDN
        model="vdsr", hyper={"bias": True}, counts=_any(665_921, 2, 3, 4, 8),
        entries=_all("VDSR", "Y_bias", 2, 3, 4, 8), printed=dict.fromkeys((2, 3, 4), "666K"),
    ),
    Size(
        model="vdsr", hyper={"color": "rgb"}, counts=_any(667_008, 2, 3, 4, 8),
        entries=_all("VDSR", "RGB_nobias", 2, 3, 4, 8),
    ),
    Size(  # printed by He & Cheng
        model="vdsr", hyper={"color": "rgb", "bias": True}, counts=_any(668_227, 2, 3, 4, 8),
        entries=_all("VDSR", "RGB_bias", 2, 3, 4, 8), printed=dict.fromkeys((2, 3, 4), "668K"),
    ),
    Size(
        model="idn", entries=_all("IDN", "Y_deconv(x2,x3,x4)", 2, 3, 4), printed=dict.fromkeys((2, 3, 4), "553K")
    ),
    Size(
        model="idn", hyper={"variant": "rgb_deconv"}, counts=_any(590_915, 2, 3, 4),
        entries=_all("IDN", "RGB_deconv(x2,x3,x4)", 2, 3, 4),
    ),
    Size(
        model="idn", hyper={"variant": "rgb_shuffle"}, counts={2: 579_276, 3: 587_931, 4: 600_048},
        entries={scale: ("IDN", "RGB_pixelshuffle(official TF)", f"x{scale}") for scale in (2, 3, 4)},
    ),
    Size(  # printed by He & Cheng
        model="carn", entries=_each("CARN", 2, 3, 4, 8), printed={2: "964K", 3: "1149K", 4: "1112K"}
    ),
    Size(
        model="carn", hyper={"scales": (2, 3, 4)}, counts=_any(1_591_939, 2, 3, 4),
        entries=_all("CARN", _MULTI, 2, 3, 4), printed=dict.fromkeys((2, 3, 4), "1,592K"),
    ),
    Size(model="carn_m", entries=_each("CARN-M", 2, 3, 4)),
    Size(
        model="carn_m", hyper={"scales": (2, 3, 4)}, counts=_any(414_787, 2, 3, 4),
        entries=_all("CARN-M", _MULTI, 2, 3, 4), printed=dict.fromkeys((2, 3, 4), "412K"),
        differs="the release has grouped 3x3 upsamplers, the paper's revision had 1x1",
    ),
    Size(model="srresnet", entries=_each("MSRResNet", 2, 3, 4), printed={4: "1.52M"}),  # printed by BasicSR
    Size(model="srresnet_bn", entries=_each("SRResNet_BN_original", 2, 3, 4, 8), printed={4: "1.5M"}),
    Size(
        model="edsr_baseline", entries=_each("EDSR-baseline", 2, 3, 4, 8),
        printed={2: "1,370K", 3: "1,555K", 4: "1,518K"}, differs="x3 has 1,554.5K; the paper rounds up",
    ),
    Size(
        model="edsr", entries=_each("EDSR", 2, 3, 4, 8), printed={2: "40.73M", 3: "43.68M", 4: "43.10M"},
        differs="x4 has 43.09M; the paper rounds up",
    ),
    Size(model="rcan", entries=_each("RCAN", 2, 3, 4, 8), printed={2: "15.44M", 3: "15.63M", 4: "15.59M"}),
    Size(  # x3 enlarges once, as x2 does
        model="rrdb", printed={4: "16.7M"},
        entries={
            2: ("RRDBNet", "x2_single_upconv_computed"), 3: ("RRDBNet", "x2_single_upconv_computed"),
            4: ("RRDBNet", "x4"), 8: ("RRDBNet", "x8_three_upconv_computed"),
        },
    ),
    Size(
        model="rrdb", hyper={"unshuffle": True}, counts={2: 16_703_171},
        entries={2: ("RRDBNet", "x2(pixel-unshuffle variant)")},
    ),
    Size(model="rrdb", hyper={"blocks": 6}, counts={4: 4_467_779}, entries={4: ("RRDBNet", "x4_6blocks")}),
    Size(
        model="swinir_light", entries=_each("SwinIR-light", 2, 3, 4), printed={2: "878K", 3: "886K", 4: "897K"},
        differs="the release has one 60->60 3x3 convolution more (32,460)",
    ),
    Size(model="swinir", entries=_each("SwinIR-classical", 2, 3, 4, 8), printed={2: "11.75M", 4: "11.90M"}),
    Size(model="swinir", hyper={"tail": "nearest+conv"}, counts={4: 11_715_559}, entries=_each("SwinIR-real-M", 4)),
    Size(model="imdn", entries=_each("IMDN", 2, 3, 4, 8), printed={2: "694K", 3: "703K", 4: "715K"}),
    *(
        Size(
            model="imdn", hyper={"blocks": 4, **off}, counts={4: count}, printed={4: printed},
            source="IMDN Table 2",
        )
        for count, printed, off in (
            (509_552, "510K", {"prm": False, "attention": "none", "iic": False}),
            (480_176, "480K", {"attention": "none", "iic": False}),
            (482_496, "482K", {"iic": False}),
            (498_944, "499K", {}),
        )
    ),
    Size(
        model="imdn", hyper={"blocks": 4, "attention": "ca", "iic": False}, counts={4: 482_496},
        source="IMDN Table 3, which sets it beside CCA, of as many parameters",
    ),
    Size(model="sr3", entries=_all("SR3", "face_16_128(x8)", 1, 2, 3, 4, 5, 8)),
    Size(
        model="sr3", hyper={"attention": ()}, counts=_any(92_556_931, 4),
        entries=_all("SR3", "image_size=160, attn_res=[16] (DIV2K x4 literal)", 4),
    ),
    Size(
        model="sr3", hyper={"mults": (1, 2, 4, 8, 16), "attention": (), "blocks": 1, "groups": 16, "dropout": 0.0},
        counts=_any(155_334_339, 8), entries=_all("SR3", "64_512(x8)", 8),
    ),
    Size(model="idm", entries=_all("IDM", "total_in_optimizer", 1, 2, 3, 4, 5, 8), unbuilt=16_789_215),
    Size(model="latent_unet", entries={4: ("CCSR", "SD2.1 UNet(frozen)")}),
    Size(model="ccsr", entries={4: ("CCSR", "ControlNet(trainable stage 1)")}),
    Size(
        model="ccsr", hyper={"tuned_decoder": True}, counts={4: 49_490_199},
        entries={4: ("CCSR", "VAE decoder+post_quant_conv(trainable stage 2)")},
    ),
    Size(model="vq_autoencoder", entries=_all("ResShift", "VQGAN_f4", 1, 2, 3, 4, 8)),
    Size(model="kl_autoencoder", entries=_all("CCSR", "VAE", 1, 2, 3, 4, 8)),
    Size(model="resshift", entries=_all("ResShift", "UNetModelSwin", 1, 2, 3, 4, 8)),
    Size(model="imdn_as", entries=_all("IMDN_AS", "any", 1, 2, 3, 4, 8)),
)  # fmt: skip


def agrees(count: int, printed: str) -> bool:
    """Whether a number of parameters rounds to what a paper prints, such as "1,370K" or "40.73M".

    Raises:
        ValueError: `printed` is not written like that.
    """
    found = re.fullmatch(r"([\d,]+(?:\.(\d+))?)([KM])", printed)
    if found is None:
        raise ValueError(f"a printed count is a number and K or M, got {printed!r}")
    unit = {"K": 10**3, "M": 10**6}[found[3]]
    decimals = len(found[2] or "")
    return f"{count / unit:.{decimals}f}" == found[1].replace(",", "")
