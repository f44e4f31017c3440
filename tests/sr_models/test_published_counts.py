"""Sizes as published: every variant is held to the fact sheet, and a printed number is compared by its own digits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sr_models
from sr_models.networks.base import parameters
from sr_models.published_counts import SIZES, Size, agrees

ROOT = Path(__file__).resolve().parents[2]
SHEET = ROOT.parent / "shared" / "spec" / "param_counts.json"


CASES = [(size, scale) for size in SIZES for scale in size.counts or sr_models.MODELS[size.model].counts]


def count(size: Size, scale: int) -> int:
    return (size.counts or sr_models.MODELS[size.model].counts)[scale]


def test_each_count_is_the_fact_sheets() -> None:
    if not SHEET.exists():
        pytest.skip("needs ../shared/spec/param_counts.json")
    sheet = json.loads(SHEET.read_text())
    for size, scale in [(size, scale) for size, scale in CASES if scale in size.entries]:
        value: Any = sheet
        for key in size.entries[scale]:
            value = value[key]
        assert count(size, scale) + size.unbuilt == value, (size.model, size.hyper, scale)


def test_each_printed_count_is_in_the_fact_sheet() -> None:
    if not SHEET.exists():
        pytest.skip("needs ../shared/spec/param_counts.json")
    sheet = json.loads(SHEET.read_text())
    for size in [size for size in SIZES if not size.source]:
        for scale, printed in size.printed.items():
            assert printed in str(sheet[size.entries[scale][0]]["paper"]), (size.model, scale)


@pytest.mark.parametrize(("size", "scale"), CASES, ids=[f"{s.model}-{dict(s.hyper)}-x{scale}" for s, scale in CASES])
def test_each_count_is_the_networks(size: Size, scale: int) -> None:
    if size.model in ("latent_unet", "ccsr", "kl_autoencoder"):
        pytest.importorskip("diffusers", reason="needs the extra [latent]")
    with torch.device("meta"):
        net = sr_models.build(size.model, scale, **size.hyper)
    assert parameters(net) == count(size, scale)


def test_every_model_and_scale_is_held_to_an_entry() -> None:
    held = {(size.model, scale) for size in SIZES if not size.hyper for scale in size.entries}
    assert sr_models.MODELS["noisy_edsr"].counts == sr_models.MODELS["edsr_baseline"].counts  # ours, of the same layers
    held |= {("noisy_edsr", scale) for name, scale in held if name == "edsr_baseline"}
    every = {(name, scale) for name, row in sr_models.MODELS.items() if row.trainable for scale in row.scales}
    unprinted = ("edsr", "edsr_baseline", "imdn", "noisy_edsr", "rcan", "srresnet", "srresnet_bn")  # without upsampler
    assert held <= every and every - held == {(name, 1) for name in unprinted}
    for size in SIZES:
        assert bool(size.counts) == bool(size.hyper)
        if size.source:  # the printed number is all that holds it
            assert size.counts.keys() >= size.printed.keys() and not size.entries
            assert all(agrees(size.counts[scale], printed) for scale, printed in size.printed.items())
        else:
            assert (size.counts or size.entries).keys() == size.entries.keys() >= size.printed.keys()


@pytest.mark.parametrize(
    ("number", "printed", "same"),
    [
        (1_369_859, "1,370K", True),
        (1_369_859, "1369K", False),
        (40_729_603, "40.73M", True),
        (43_089_923, "43.10M", False),
        (16_697_987, "16.7M", True),
        (16_697_987, "17M", True),
    ],
)
def test_agreement_is_rounding_to_the_printed_digits(number: int, printed: str, same: bool) -> None:
    assert agrees(number, printed) == same


def test_a_printed_count_has_a_unit() -> None:
    with pytest.raises(ValueError, match="K or M, got '1370'"):
        agrees(1_369_859, "1370")
