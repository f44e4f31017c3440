"""What a sweep's exit code says of its rows; the stages and what they run on are stood in for."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from orchestrator import session, stages, sweep
from orchestrator.ready import Ready
from orchestrator.run.budget import Budget, BudgetReached, Meter
from orchestrator.sweep import main
from sr_models.errors import InputError

CONFIG = {
    "name": "s", "models": ["imdn"], "objectives": ["l1"],
    "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}},
}  # fmt: skip


def stand_in(monkeypatch: pytest.MonkeyPatch, run: Callable[[Any], list[str]]) -> None:
    """Have the stages be `run`, on a machine that has all they need."""
    there = {"device": None, "cores": 2, "gpus": 0, "lines": (), "left_out": (), "faults": ()}
    monkeypatch.setattr(sweep, "ready", lambda plan, *_: Ready(plan=plan, **there))
    monkeypatch.setattr(sweep, "plan_text", lambda *_: "the plan")
    meter = Meter(Budget(), 0)
    monkeypatch.setattr(session, "opened", lambda *_, began, group: nullcontext(SimpleNamespace(meter=meter)))
    monkeypatch.setattr(stages, "run", run)


@pytest.mark.parametrize(
    ("unscored", "code", "last"),
    [
        ([], 0, ""),
        (["x2/imdn/l1 seed 1: NaN"], 4, "python -m orchestrator.sweep: 1 without a score: x2/imdn/l1 seed 1: NaN"),
        ([*"abcde"], 4, "python -m orchestrator.sweep: 5 without a score: a; b; c; and 2 more"),
        (InputError("no such thing"), 2, "python -m orchestrator.sweep: no such thing"),
    ],
)
@pytest.mark.parametrize("as_job", [False, True])
def test_rows_without_a_score(
    unscored: list[str] | InputError,
    code: int,
    last: str,
    as_job: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def run(_session: object) -> list[str]:
        print("the board")
        if isinstance(unscored, InputError):
            raise unscored
        return unscored

    stand_in(monkeypatch, run)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(CONFIG))
    line = [str(tmp_path / "s.yaml"), "--output", str(tmp_path / "runs"), *["--as-job"] * as_job]
    assert main(line) == (0 if as_job else code)
    said = capfd.readouterr()
    assert said.out == "the board\n" and said.err == "the plan\n" + (f"{last}\n" if last else "")


def test_a_job_that_was_lost_or_is_defect_does_not_pass_for_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_session: object) -> list[str]:
        raise KeyboardInterrupt

    stand_in(monkeypatch, run)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(CONFIG))
    assert main([str(tmp_path / "s.yaml"), "--output", str(tmp_path / "runs"), "--as-job"]) == 130


def test_a_budget_is_said_last_with_its_cost_and_the_line_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(_session: object) -> list[str]:
        raise BudgetReached("--max-trials 3")

    stand_in(monkeypatch, run)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(CONFIG))
    line = [str(tmp_path / "s.yaml"), "--output", str(tmp_path), "--max-trials", "3", "--max-hours", "0.02"]
    assert main(line) == 5 and main([*line, "--as-job"]) == 0
    _, first, _, second = capfd.readouterr().err.splitlines()
    assert second.startswith(first)
    said, _, again = first.partition("; go on with: ")
    assert said == (
        "python -m orchestrator.sweep: stopped by --max-trials 3; it cost 0.000 hours, 0 trials begun, "
        "0.000 trial-hours"
    )
    assert again.endswith(" --max-hours 0.02 --max-trials 3")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max-hours", "0"), ("--max-hours", "nan"), ("--max-hours", "-1"), ("--max-hours", "inf"), ("--max-trials", "0"),
     ("--max-trials", "2.5"), ("--max-gpu-hours", "much")],
)  # fmt: skip
def test_a_bound_that_bounds_nothing_is_refused_in_a_line(
    option: str, value: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([f"{option}={value}"]) == 2
    [said] = capfd.readouterr().err.splitlines()
    assert option in said and "above 0, got" in said and value in said
