"""Events are lines of JSON with documented fields, and none goes anywhere unless it is asked for."""

import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from orchestrator.run import events
from orchestrator.run.progress import bar, tell

DOCS = Path(__file__).resolve().parents[3] / "docs" / "progress.md"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Where events go for the length of a test."""
    made = io.StringIO()
    events.to(made)
    yield made
    events.to(None)


def test_the_schema_is_the_documented_one() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {name: re.findall(r"`(\w+)`", cells) for name, cells in rows}
    assert documented == {kind.event: [field.name for field in fields(kind)] for kind in events.Event.__subclasses__()}


def test_an_event_is_one_line_that_any_parser_reads() -> None:
    event = events.Validation(fingerprint="f\n\x1b[2J", step=5, of=20, metrics={"psnr_y": math.inf, "ssim_y": 0.9})
    line = events.line(event, 12.5)
    assert "\n" not in line and "\x1b" not in line
    assert json.loads(line) == {
        "event": "validation", "time": 12.5, "fingerprint": "f\n\x1b[2J", "step": 5, "of": 20,
        "metrics": {"psnr_y": None, "ssim_y": 0.9},
    }  # fmt: skip


def test_stages_are_told_and_standard_output_is_the_events_alone(
    out: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    with bar("evaluation", 4):
        tell("the board")
    with bar("search", 30, "step", left=4200.0):
        pass
    told = [{**json.loads(line), "time": 0} for line in out.getvalue().splitlines()]
    assert told == [
        {"event": "stage", "time": 0, "stage": "evaluation", "total": 4, "unit": "image", "sweep_seconds_left": None},
        {"event": "stage", "time": 0, "stage": "search", "total": 30, "unit": "step", "sweep_seconds_left": 4200.0},
    ]
    said = capsys.readouterr()
    assert said.out == "" and "the board\n" in said.err


def test_nothing_is_told_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    events.emit(events.Stage(stage="search", total=1, unit="step"))
    tell("the board")
    assert capsys.readouterr().out == "the board\n"
