"""`python -m sr_models list`: every count is the fact sheet's and the network's own, beside what the paper prints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import sr_models
from sr_models.__main__ import main, rows
from sr_models.networks.base import parameters
from sr_models.published_counts import SIZES, Size, agrees

ROOT = Path(__file__).resolve().parents[2]
SHEET = ROOT.parent / "shared" / "spec" / "param_counts.json"

DISAGREE = {  # where a printed count is not the network's, rounded
    ("carn_m", 2), ("carn_m", 3), ("carn_m", 4),  # the paper's revision
    ("edsr_baseline", 3), ("edsr", 4),  # rounded up
    ("swinir_light", 2), ("swinir_light", 3), ("swinir_light", 4),  # one convolution less
}  # fmt: skip
CASES = [(size, scale) for size in SIZES for scale in size.counts or sr_models.MODELS[size.model].counts]


def count(size: Size, scale: int) -> int:
    return (size.counts or sr_models.MODELS[size.model].counts)[scale]


def test_each_count_is_the_fact_sheets() -> None:
    if not SHEET.exists():
        pytest.skip("needs ../shared/spec/param_counts.json")
    sheet = json.loads(SHEET.read_text())
    for size, scale in CASES:
        value: Any = sheet
        for key in size.entries[scale]:
            value = value[key]
        assert count(size, scale) == value, (size.model, size.hyper, scale)


def test_each_printed_count_is_in_the_fact_sheet() -> None:
    if not SHEET.exists():
        pytest.skip("needs ../shared/spec/param_counts.json")
    sheet = json.loads(SHEET.read_text())
    for size in SIZES:
        for scale, printed in size.printed.items():
            assert printed in str(sheet[size.entries[scale][0]]["paper"]), (size.model, scale)


@pytest.mark.parametrize(("size", "scale"), CASES, ids=[f"{s.model}-{dict(s.hyper)}-x{scale}" for s, scale in CASES])
def test_each_count_is_the_networks(size: Size, scale: int) -> None:
    with torch.device("meta"):
        net = sr_models.build(size.model, scale, **size.hyper)
    assert parameters(net) == count(size, scale)


def test_every_model_and_scale_is_held_to_an_entry() -> None:
    held = {(size.model, scale) for size in SIZES if not size.hyper for scale in size.entries}
    assert sr_models.MODELS["noisy_edsr"].counts == sr_models.MODELS["edsr_baseline"].counts  # ours, of the same layers
    held |= {("noisy_edsr", scale) for name, scale in held if name == "edsr_baseline"}
    assert held == {(name, scale) for name, row in sr_models.MODELS.items() if row.trainable for scale in row.scales}
    for size in SIZES:
        assert bool(size.counts) == bool(size.hyper)
        assert (size.counts or size.entries).keys() == size.entries.keys() >= size.printed.keys()


def test_where_papers_disagree_both_are_shown_with_the_reason() -> None:
    found = {(row["name"], row["scale"]) for row in rows() if row["agrees"] is False}
    assert found == DISAGREE
    assert all(row["differs"] for row in rows() if row["agrees"] is False)


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


@pytest.mark.parametrize(
    ("name", "scale", "giga"),  # as printed by the papers, which round and leave out or in what is small
    [
        ("vdsr", 2, 612.6), ("carn", 2, 222.8), ("carn", 3, 118.8), ("carn", 4, 90.9), ("carn_m", 2, 91.2),
        ("carn_m", 4, 32.5), ("imdn", 2, 158.8), ("imdn", 3, 71.5), ("imdn", 4, 40.9), ("edsr_baseline", 2, 316.3),
    ],
)  # fmt: skip
def test_multiply_adds_are_the_printed_ones(name: str, scale: int, giga: float) -> None:
    row = next(row for row in rows() if (row["name"], row["variant"], row["scale"]) == (name, {}, scale))
    assert row["multiply_adds_720p"] / 1e9 == pytest.approx(giga, rel=0.002)


def test_the_table_and_the_json_hold_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(json.dumps(list(rows())))
    assert {row["name"] for row in found} == set(sr_models.MODELS)
    lines = text.splitlines()
    assert len(lines) > len(found) + 1
    for line, row in zip(lines[1:], found, strict=False):
        assert f" x{row['scale']} " in line and f" {row['parameters']:,} " in line
        assert (row["printed"] or "-") + ("*" if row["agrees"] is False else "") in line.split()
    assert "\n* swinir_light: the release has one 60->60 3x3 convolution more (32,460)" in text
    assert "412K*" in text and "43.10M*" in text


def test_the_list_imports_no_torch() -> None:
    code = "import sys; from sr_models.__main__ import main; main(['list']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_a_command_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "python -m sr_models: the following arguments are required: command\n"
