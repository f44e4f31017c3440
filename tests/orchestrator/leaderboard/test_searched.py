"""What searches came to: where steps went, what was tried, and importance from enough trials alone."""

import numpy as np
import pytest

from orchestrator.leaderboard import searched
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, Journal
from orchestrator.run.roles import RoleRecord

ECO, L1 = "x2/edsr_baseline/eco", "x2/edsr_baseline/l1"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(
        SweepConfig.parse(
            {
                "name": "s", "models": {"edsr_baseline": {"channels": 8, "blocks": 1}}, "teacher": {},
                "objectives": {"l1": {}, "eco": {"search": ["target.length", "target.shape"]}},
                "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"toy": {"hr": "c"}}},
            },
            "test",
        )
    )  # fmt: skip


def write(run: RunDir, number: int, end: int, value: float, status: str, combination: str = ECO, **params) -> None:
    """A trial of the search in a run folder, which ended after a step with a value."""
    fingerprint = f"{number:02x}{len(combination):02x}".ljust(64, "0")
    run.trial(fingerprint).mkdir(parents=True)
    journal = Journal(run.trial(fingerprint) / JOURNAL)
    journal.step(end, 100, {"psnr_y": value})
    journal.end(status, end)
    role = RoleRecord(
        fingerprint=fingerprint, combination=combination, role="search", number=number, seed=0, params=params
    )
    with run.roles.open("a") as file:
        file.write(role.model_dump_json() + "\n")


@pytest.fixture
def run(tmp_path) -> RunDir:
    made = RunDir(tmp_path / "runs" / "quick")
    made.path.mkdir(parents=True)
    return made


@pytest.fixture
def drawn(monkeypatch) -> dict:
    """Function's name -> what it was given."""
    found: dict = {}
    for name in ("budget", "trials"):
        monkeypatch.setattr(
            searched, name, lambda path, of, name=name, **given: found.update({name: (path, of, given)})
        )
    return found


def test_a_budget_is_by_how_far_trials_came(run, plan, drawn):
    """Two trials of one search stopped after a validation, one ran in full; a lone trial is no search."""
    for number, end in enumerate((50, 50, 100)):
        write(run, number, end, 20.0, "complete" if end == 100 else "stopped")
    write(run, 0, 100, 20.0, "complete", L1)
    searched.spent(run, plan, 2)
    path, spent, given = drawn["budget"]
    assert path.name == "budget_x2.png" and given["full"] == 100
    assert spent == {"edsr_baseline × eco": {50: (2, 100), 100: (1, 100)}}


def test_importance_is_of_ten_full_trials_and_finds_what_matters(run, plan, drawn, winner):
    """Length decides, shape does nothing; a stopped trial has a line and no value."""
    rng, shapes = np.random.default_rng(0), plan.combinations[-1].axes.values("target.shape")
    winners = {ECO: winner(0, "a" * 64), L1: winner(0, "b" * 64)}
    write(run, 99, 50, 10.0, "stopped", **{"target.length": 0.5, "target.shape": shapes[0]})
    for number in range(9):
        length = float(rng.uniform(0.3, 0.9))
        write(run, number, 100, 20 + length, "complete",
              **{"target.length": length, "target.shape": shapes[number % len(shapes)]})  # fmt: skip
    searched.tried(run, plan, winners, 2)
    path, [search], given = drawn["trials"]
    assert path.name == "trials_x2.png" and given["metric"] == "psnr_y" and search.importance == {}
    assert search.reason == "no importance from fewer than 10 full trials (here 9)"
    assert search.tried[0] == ({"target.length": 0.5, "target.shape": shapes[0]}, None) and len(search.tried) == 10

    write(run, 9, 100, 20.31, "complete", **{"target.length": 0.31, "target.shape": shapes[0]})
    searched.tried(run, plan, winners, 2)
    _, [search], _ = drawn["trials"]
    assert list(search.importance) == ["fANOVA", "PED-ANOVA"] and search.reason == ""
    assert search.importance["fANOVA"]["target.length"] > 0.8
    assert [axis.name for axis in search.axes] == ["target.length", "target.shape"]


def test_a_sweep_that_searches_nothing_has_no_such_picture(run, plan, drawn, winner):
    searched.tried(run, plan, {L1: winner(0, "b" * 64)}, 2)
    searched.spent(run, plan, 2)
    assert drawn == {}
