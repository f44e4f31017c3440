"""What trials are computed from where that is a trial that is there, or another combination of the sweep; no Ray."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from orchestrator import ingredients, stages
from orchestrator.ingredients import Ingredients
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.weights import Weights
from orchestrator.run.budget import UNBOUND, Meter
from orchestrator.run.driver import home_of
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, Journal
from orchestrator.run.records import begin_trial, exported
from orchestrator.run.roles import Roles
from orchestrator.run.winners import SearchCounts, WinnerRecord, write_winners
from orchestrator.training import teachers
from orchestrator.training.network import build_network, export
from orchestrator.training.products import Room
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.errors import InputError

SMALL = {"channels": 8, "blocks": 1}
X2, X4 = "x2/edsr_baseline/l1", "x4/edsr_baseline/l1"
DATA = {2: "d" * 64, 4: "e" * 64}
BASE: dict[str, Any] = {
    "name": "s", "scales": [2, 4], "objectives": ["l1"],
    "models": {"edsr_baseline": {**SMALL, "init": {4: {"from": X2}}}},
    "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}},
}  # fmt: skip


def planned(**changes: Any) -> Plan:
    return make_plan(SweepConfig.parse(BASE | changes, "test"))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "out" / "s-01234567")
    made.make()
    made.config.touch()
    return made


def session(run: RunDir, plan: Plan) -> Any:
    return SimpleNamespace(plan=plan, config=plan.config, run=run, home=home_of(run, None))


def trained(run: RunDir, plan: Plan, number: int = 0, status: str = "complete") -> str:
    """The fingerprint of a combination's first fresh seed, whose folder is then as a worker leaves it."""
    one = plan.combinations[number]
    config = plan.trial(one, {}, plan.config.seed + 1, DATA[one.scale], None)
    folder = run.trial(config.fingerprint)
    begin_trial(folder, config, run=run.name, steered=False)
    Journal(folder / JOURNAL).end(status, config.train.steps)
    with torch.random.fork_rng(devices=[]):
        net = build_network(config)
    ema = {name: value + 1 for name, value in net.state_dict().items()} if config.train.ema else None
    export(folder, net, config, ema, None)
    return config.fingerprint


def test_what_needs_a_winner_is_known_once_there_is_one(run: RunDir) -> None:
    plan = planned()
    own, known = session(run, plan), Ingredients(data_hash=DATA)
    assert [known.hold(one) for one in plan.combinations] == [True, False]
    assert ingredients.start_weights(own, known) == {}
    first = trained(run, plan)
    known = Ingredients(data_hash=DATA, sources={Weights("from", X2): first})
    inits = ingredients.start_weights(own, known)
    known = Ingredients(data_hash=DATA, inits=inits)
    assert [*inits] == [("edsr_baseline", 4)] and all(known.hold(one) for one in plan.combinations)
    x2, x4 = (known.trial(plan, one, {}, 1) for one in plan.combinations)
    assert (x2.fingerprint, x2.init) == (first, None) and x4.init == inits["edsr_baseline", 4]
    assert run.init(x4.init or "").exists()


def test_averaged_weights_are_taken_where_there_are_some(run: RunDir) -> None:
    for ema in (None, 0.9):
        plan = planned(train={"ema": ema})
        folder = exported(run, trained(run, plan))
        assert folder.name == ("model_ema" if ema else "model") and load_checkpoint(folder)[1].ema is (ema is not None)


@pytest.mark.parametrize(
    ("seeds", "left", "known"), [((1, 2), [], True), ((2,), [], False), ((1, 2), ["out of memory"], False)]
)
def test_a_winner_that_a_later_command_may_change_is_no_source(
    run: RunDir, seeds: tuple[int, ...], left: list[str], known: bool
) -> None:
    """Its first fresh seed has to be there, and no trial of its search may be waiting to be tried again."""
    plan = planned(seeds=2)
    part, known_now = session(run, plan.part(plan.levels[0])), Ingredients(data_hash=DATA)
    prints = [known_now.trial(plan, plan.combinations[0], {}, seed).fingerprint for seed in seeds]
    counts = SearchCounts(trials=0, pruned=0, failed=0)
    won = WinnerRecord(number=None, params={}, fingerprints=tuple(prints), search=counts, train_seconds=1.0)
    write_winners(run.winners, {X2: won})
    found = stages.settled(part, known_now, SimpleNamespace(left=lambda _: left))  # type: ignore[arg-type]
    assert found == ({Weights("from", X2): prints[0]} if known else {})


def test_a_row_without_its_source_is_named(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    line = stages.without(planned().combinations[1], Ingredients(data_hash=DATA))
    assert line == f"{X4}: needs the winner's first run of {X2}, which has not come to its end"
    assert f"{line}; no score" in "".join(capsys.readouterr())


def test_weights_that_would_not_fit_are_refused_before_anything_is_trained() -> None:
    ingredients.check_starts(planned())
    other = {"a": {"model": "edsr_baseline", **SMALL}, "b": {"model": "edsr_baseline", "init": {"from": "x2/a/l1"}}}
    with pytest.raises(InputError, match=r"^models\.b\.init: x2/b/l1 from x2/a/l1: "):
        ingredients.check_starts(planned(models=other))


def test_a_trial_of_the_output_is_found_by_the_beginning_of_its_fingerprint(run: RunDir) -> None:
    fingerprint = trained(run, planned())
    for digits in (8, 16, 20, 64):
        plan = planned(models={"edsr_baseline": {**SMALL, "init": {"trial": fingerprint[:digits]}}})
        named = Weights("trial", fingerprint[:digits])
        assert ingredients.find_trials(session(run, plan)) == {named: fingerprint}
    starts = ingredients.start_weights(session(run, plan), Ingredients(data_hash=DATA, sources={named: fingerprint}))
    assert [*starts] == [("edsr_baseline", 2), ("edsr_baseline", 4)], "x2 weights start x2 and x4"


@pytest.mark.parametrize(
    ("status", "digits", "said"),
    [
        ("complete", "0" * 8, r"no trial '00000000' in .*shared; it has none that begins so$"),
        ("complete", "{16}" + "x" * 4, None),
        ("stopped", "{16}", r"trial [0-9a-f]{16} has not come to its end \(stopped\)$"),
    ],
)
def test_a_trial_that_cannot_be_used_is_one_line(run: RunDir, status: str, digits: str, said: str | None) -> None:
    fingerprint = trained(run, planned(), status=status)
    given = digits.replace("{16}", fingerprint[:16]).replace("x", "1" if fingerprint[16] == "0" else "0")
    said = said or rf"no trial '{given}'; the one whose name begins so is {fingerprint}"
    with pytest.raises(InputError, match=rf"^models\.edsr_baseline\.init: {said}"):
        teachers.finished_trial(home_of(run, None), given, "models.edsr_baseline.init")


def test_a_beginning_of_two_trials_names_both(run: RunDir) -> None:
    for name in ("12345678" + "a" * 8, "12345678" + "b" * 8):
        run.trial(name).mkdir(parents=True)
    with pytest.raises(InputError, match=r"2 trials begin so: 12345678aaaaaaaa, 12345678bbbbbbbb$"):
        teachers.finished_trial(home_of(run, None), "12345678", "teacher")


@pytest.mark.parametrize("given", [{"hyper": {"channels": 64}}, {"model": "imdn"}])
def test_a_folder_of_a_teacher_says_its_network_alone(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    """Whatever stands beside it, which a dry run says is ignored: runs that began so go on."""
    folder = exported(run, trained(run, planned(scales=[2])))
    plan = planned(scales=[2], objectives=["kd"], teacher={"weights": str(folder)} | given)
    home, meter = home_of(run, None), Meter(UNBOUND, 0.0)
    elsewhere = folder.rename(run.output.parent / "elsewhere")
    monkeypatch.setattr(teachers.products, "bring", lambda *_: None)
    teachers.teach(plan, home, Roles(run), 2, DATA[2], nobody, "cpu", elsewhere, meter)
    kept, own = (load_checkpoint(at)[1] for at in (run.path / "teacher" / "x2", elsewhere))
    assert kept == own and own.model == "edsr_baseline"


def nobody() -> Room:
    raise AssertionError("nothing is computed")
