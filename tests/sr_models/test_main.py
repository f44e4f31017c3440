"""`python -m sr_models list`: every count is the fact sheet's and the network's own, beside what the paper prints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import sr_models
from sr_models.__main__ import main, rows

ROOT = Path(__file__).resolve().parents[2]

DISAGREE = {  # where a printed count is not the network's, rounded
    ("carn_m", 2), ("carn_m", 3), ("carn_m", 4),  # the paper's revision
    ("edsr_baseline", 3), ("edsr", 4),  # rounded up
    ("swinir_light", 2), ("swinir_light", 3), ("swinir_light", 4),  # one convolution less
}  # fmt: skip


def test_where_papers_disagree_both_are_shown_with_the_reason() -> None:
    found = {(row["name"], row["scale"]) for row in rows() if row["agrees"] is False}
    assert found == DISAGREE
    assert all(row["differs"] for row in rows() if row["agrees"] is False)


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
