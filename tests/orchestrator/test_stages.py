"""What is run in full after a search, and what winners.json says of it; nothing here trains, and there is no Ray."""

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import orchestrator.search
from orchestrator import stages
from orchestrator.ingredients import Ingredients
from orchestrator.leaderboard import standing
from orchestrator.plan.combination import Combination
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import make_plan
from orchestrator.plan.trial import TrialConfig
from orchestrator.plan.weights import Weights
from orchestrator.run import events
from orchestrator.run.budget import Budget, Meter
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import TrialResult
from orchestrator.run.roles import Roles, read_roles
from orchestrator.run.winners import SearchCounts, WinnerRecord, read_winners
from orchestrator.session import Session
from orchestrator.training import in_full

INGREDIENTS = Ingredients(data_hash={2: "d" * 64}, inits={}, teachers={2: "e" * 64})
L1, ECO = "x2/imdn/l1", "x2/imdn/eco"
COUNTS = SearchCounts(trials=4, pruned=1, failed=0)


class FakeStudies:
    """Searches that have ended: combination -> the best trial's number, what was chosen, its fingerprint."""

    def __init__(self, best: dict[str, tuple[int, dict[str, Any], str]]) -> None:
        self.best = best

    def winner(self, one: Combination) -> Any:
        if one.id not in self.best:
            return None
        number, params, fingerprint = self.best[one.id]
        return SimpleNamespace(number=number, params=params, user_attrs={"fingerprint": fingerprint}, value=30.0)

    def front(self, one: Combination) -> None:
        return None

    def to_beat(self, one: Combination) -> float | None:
        return 30.0 if one.id in self.best else None

    def stopped(self, one: Combination) -> dict[int, Any]:
        lengths = {1: 0.3, 2: 0.6, 5: 0.9} if one.id == ECO else {}
        return {number: SimpleNamespace(params={"target.length": length}) for number, length in lengths.items()}

    def left(self, one: Combination) -> list[str]:
        return ["out of memory"] if one.trials else []

    def failures(self, one: Combination) -> list[str]:
        return ["the loss is not finite"]

    def counts(self, one: Combination) -> SearchCounts:
        return COUNTS if one.trials else SearchCounts(trials=0, pruned=0, failed=0)


class Finals:
    """The stage over fakes: `ran` is what was run in full, in order; the k-th run takes k + 1 seconds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.ran, self.fails = folder, list[TrialConfig](), lambda trial: False
        self.pulled: list[str] = []
        self.seconds_left: float | None = None
        monkeypatch.setattr(in_full, "run_in_full", self._run)
        monkeypatch.setattr(standing, "standing", lambda _folder: SimpleNamespace(seconds_left=self.seconds_left))

    def session(self, **changes: Any) -> Any:
        base = {
            "name": "s", "models": ["imdn"], "objectives": {"l1": {}, "eco": {"search": ["target.length"]}},
            "teacher": {}, "seeds": 2, "seed": 7,
            "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}},
        }  # fmt: skip
        self.plan = make_plan(SweepConfig.parse(base | changes, "test"))
        home = SimpleNamespace(
            access=None, run=RunDir(self.folder), pull_weights=self.pulled.append, push=lambda: None,
            pull_trials=lambda: self.pulled.append("trials"),
        )  # fmt: skip
        return SimpleNamespace(
            plan=self.plan, config=self.plan.config, run=RunDir(self.folder), home=home, device="cpu",
            trials_at_a_time=2, roles=Roles(RunDir(self.folder)), meter=Meter(Budget(), 0),
        )  # fmt: skip

    def __call__(self, best: dict[str, tuple[int, dict[str, Any], str]], **changes: Any) -> dict[str, WinnerRecord]:
        self.unscored = stages.finish_winners(session := self.session(**changes), INGREDIENTS, FakeStudies(best))
        return read_winners(session.run.winners)

    def expected(self, combination: str, params: dict[str, Any], seed: int) -> str:
        [one] = [one for one in self.plan.combinations if one.id == combination]
        return INGREDIENTS.trial(self.plan, one, params, seed).fingerprint

    def _run(self, trials: Sequence[TrialConfig], *_about: Any, at_a_time: int, steered: bool) -> list[TrialResult]:
        self.ran += trials
        self.steered = steered
        return [
            TrialResult("failed", 3, {}, "the loss is not finite")
            if self.fails(trial)
            else TrialResult("complete", 1000, {"train.seconds": float(k), "psnr_y": 29.0 + k})
            for k, trial in enumerate(trials, start=1)
        ]


@pytest.fixture
def finals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finals:
    return Finals(tmp_path, monkeypatch)


def test_every_combination_gets_as_many_seeds_that_no_search_saw(finals: Finals, tmp_path: Path) -> None:
    best = {"target.length": 0.5}
    found = finals({ECO: (3, best, "s")})
    assert found == {
        L1: WinnerRecord(
            number=None, params={}, fingerprints=tuple(finals.expected(L1, {}, seed) for seed in (8, 9)),
            search=SearchCounts(trials=0, pruned=0, failed=0), train_seconds=1.5,
        ),
        ECO: WinnerRecord(
            number=3, params=best, fingerprints=tuple(finals.expected(ECO, best, seed) for seed in (8, 9)),
            search=COUNTS, train_seconds=3.5, search_run="s",
        ),
    }  # fmt: skip
    assert [(trial.seed, trial.teacher is not None) for trial in finals.ran] == [
        (8, False), (9, False), (8, True), (9, True),
    ]  # fmt: skip
    assert {(one.combination, one.role, one.number, one.seed) for one in read_roles(RunDir(tmp_path))} == {
        (name, "final", None, seed) for name in (L1, ECO) for seed in (8, 9)
    }
    assert finals.pulled == ["trials", *(trial.fingerprint for trial in finals.ran)]
    assert not finals.steered, "their weights alone are asked for"
    assert finals.unscored == []


@pytest.mark.parametrize(
    ("left", "said"),
    [(None, ""), (0.0, ""), (5040.0, "winners in full: about 84 minutes of training left in this sweep, if no trial")],
)
def test_a_stage_begins_with_the_time_that_the_sweep_has_left(finals: Finals, capsys, left, said) -> None:
    """Where it is known, and there is some; programs are told either."""
    out = io.StringIO()
    finals.seconds_left = left
    events.to(out)
    try:
        finals({ECO: (3, {"target.length": 0.5}, "s")})
    finally:
        events.to(None)
    told = [event for event in map(json.loads, out.getvalue().splitlines()) if event["event"] == "stage"]
    assert [(event["stage"], event["sweep_seconds_left"]) for event in told] == [("winners in full", left)]
    err = capsys.readouterr().err
    assert said in err and ("of training left" in err) == bool(said)


def test_an_audit_is_no_part_of_the_time_left(finals: Finals) -> None:
    out = io.StringIO()
    finals.seconds_left = 0.0
    events.to(out)
    try:
        stages.audit(finals.session(search={"audit": 3}), INGREDIENTS, FakeStudies({ECO: (0, {}, "s")}))
    finally:
        events.to(None)
    [told] = map(json.loads, out.getvalue().splitlines())
    assert (told["stage"], told["sweep_seconds_left"]) == ("audit", None)


def test_a_search_brings_its_trials_here_once(finals: Finals, monkeypatch: pytest.MonkeyPatch) -> None:
    session = finals.session()
    session.services = SimpleNamespace(studies_uri="sqlite://")
    told = SimpleNamespace(
        told=lambda: [], finished=lambda _: 0, failures=lambda _: [], left=lambda _: [], searched=finals.pulled
    )
    monkeypatch.setattr(stages, "Studies", lambda *_: told)
    tune = SimpleNamespace(search=lambda studies, *_: studies.searched.append("search"))
    monkeypatch.setattr(orchestrator.search, "tune", tune, raising=False)
    assert stages.search(session, INGREDIENTS) is told
    assert finals.pulled == ["trials", "search"], "each look costs one at the storage for every trial"


def test_each_grid_point_has_its_own_runs(finals: Finals) -> None:
    found = finals({}, objectives={"l1": {"grid": {"train.batch_size": [16, 8, 4]}}})
    assert [(trial.train.batch_size, trial.seed) for trial in finals.ran] == [
        (size, seed) for size in (16, 8, 4) for seed in (8, 9)
    ]
    assert list(found) == [f"{L1}[train.batch_size={size}]" for size in (16, 8, 4)]


def test_a_search_without_a_complete_trial_has_no_winner(finals: Finals, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(finals({})) == [L1]
    assert finals.unscored == [f"{ECO}: no trial of its search ran its full budget (out of memory)"]
    assert f"{finals.unscored[0]}; no score" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("fails", "seeds", "unscored"),
    [
        (lambda trial: trial.seed == 8, [9], [(L1, 8), (ECO, 8)]),
        (lambda trial: trial.objective.target.kind == "hr", None, [(L1, 8), (L1, 9)]),
    ],
)
def test_a_run_that_failed_is_no_score(
    finals: Finals,
    fails: Callable[[TrialConfig], bool],
    seeds: list[int] | None,
    unscored: list[tuple[str, int]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    finals.fails = fails
    found = finals({ECO: (0, {}, "s")})
    assert (L1 in found) == (seeds is not None) and ECO in found
    if seeds:
        assert found[L1].fingerprints == tuple(finals.expected(L1, {}, seed) for seed in seeds)
        assert found[L1].train_seconds == 2.0
    assert finals.unscored == [f"{name} seed {seed}: the loss is not finite" for name, seed in unscored]
    assert "imdn seed 8: failed at step 3: the loss is not finite" in "".join(capsys.readouterr())


def test_twins_are_run_once(finals: Finals) -> None:
    found = finals({}, objectives={"l1": {}, "mine": {"recipe": "l1"}})
    assert len(finals.ran) == 2 and found[L1].fingerprints == found["x2/imdn/mine"].fingerprints


def test_an_audit_runs_stopped_trials_of_the_search_to_the_end(finals: Finals) -> None:
    session, studies = finals.session(search={"audit": 3}), FakeStudies({ECO: (0, {}, "s")})
    finals.fails = lambda trial: trial.objective.target.length == 0.3
    [found] = stages.audit(session, INGREDIENTS, studies)
    assert (found.combination, found.stopped) == (ECO, 3)
    assert [trial.objective.target.length for trial in finals.ran] == [0.3, 0.6, 0.9]
    assert {trial.seed for trial in finals.ran} == {7}, "the trials of the search themselves"
    assert finals.steered
    assert math.isnan(found.gains[0]) and found.gains[1:] == (1.0, 2.0) and found.hits == 2


def test_nothing_is_audited_unless_it_is_asked_for(finals: Finals) -> None:
    assert stages.audit(finals.session(), INGREDIENTS, FakeStudies({ECO: (0, {}, "s")})) == [] == finals.ran
    assert stages.audit(finals.session(search={"audit": 3}), INGREDIENTS, FakeStudies({})) == []


@pytest.mark.parametrize("trained", [True, False])
def test_rows_come_level_by_level_and_those_without_their_source_get_no_score(
    finals: Finals, monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    l1, kd = "x{}/imdn/l1".format, "x{}/imdn/kd".format
    session = finals.session(
        scales=[2, 4], objectives=["l1", "kd"], teacher={"from": "x{scale}/imdn/l1"},
        models={"imdn": {"init": {4: {"from": l1(2)}}}},
    )  # fmt: skip
    session = Session(**{name.name: getattr(session, name.name, None) for name in fields(Session)})
    session = replace(
        session,
        home=SimpleNamespace(shown="home", run=session.home.run),
        cluster=SimpleNamespace(is_joined=False),
        services=SimpleNamespace(address=None),
    )
    seen: list[list[str]] = []

    def prepare(_session: Any, ingredients: Ingredients) -> Ingredients:
        known = {reference.name for reference in ingredients.sources}
        inits = {("imdn", 4): "i"} if l1(2) in known else {}
        return replace(ingredients, inits=inits, teachers={s: "t" for s in (2, 4) if l1(s) in known})

    def settled(part: Session, *_: Any) -> dict[Weights, str]:
        return {Weights("from", one.id): "f" for one in part.plan.combinations if trained}

    def search(part: Session, _ingredients: Ingredients) -> None:
        seen.append([one.id for one in part.plan.combinations])

    nothing: dict[str, Callable[..., Any]] = {
        "stages.check_starts": lambda _: None, "stages.find_trials": lambda _: {}, "images.build": lambda _: {},
        "images.check_memory": lambda *_: None, "stages.record": lambda *_: None, "stages.search": search,
        "stages.finish_winners": lambda *_: [], "stages.already": lambda *_: SimpleNamespace(text="there"),
        "stages.audit": lambda *_: [], "stages.evaluate": lambda _: [], "report.finished": lambda *_, **__: None,
        "stages.prepare": prepare, "stages.settled": settled,
    }  # fmt: skip
    for name, function in nothing.items():
        monkeypatch.setattr(f"orchestrator.{name}", function)
    unscored = stages.run(session)
    if trained:
        assert seen == [[l1(2)], [kd(2), l1(4)], [kd(4)]] and unscored == []
    else:
        assert seen == [[l1(2)]]
        assert [line.partition(": needs the winner's first run of ")[::2] for line in unscored] == [
            (kd(2), f"{l1(2)}, which has not come to its end"),
            (l1(4), f"{l1(2)}, which has not come to its end"),
            (kd(4), f"{l1(2)} and {l1(4)}, which has not come to its end"),
        ]
