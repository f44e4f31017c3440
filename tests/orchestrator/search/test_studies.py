"""The search's memory: what was asked, heard and told survives the driver; halving looks at one combination only."""

import itertools
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import make_plan
from orchestrator.run.folder import RunDir
from orchestrator.run.winners import SearchCounts
from orchestrator.search.pareto import reported
from orchestrator.search.record import SearchRecord
from orchestrator.search.studies import Assignment, Studies, open_storage
from sr_models.errors import InputError, LostError

DATA = {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}}
TRAIN = {"steps": 200, "validate_every": 50}
SEARCH = {"trials": 4, "first_rung": 0.25, "reduction": 2, "startup_trials": 2}
ECO, EXPECTATION = "x2/imdn/eco", "x2/imdn/expectation"


BASE = {
    "name": "s", "models": ["imdn"], "data": DATA, "teacher": {}, "train": TRAIN, "search": SEARCH,
    "objectives": {"eco": {"search": ["target.length", "target.shape"]}, "expectation": {}},
}  # fmt: skip


def studies_at(url: str, run: RunDir, **changes: Any) -> Studies:
    plan = make_plan(SweepConfig.parse(BASE | changes, "test"))
    return Studies(url, plan, lambda one, values: plan.trial(one, values, plan.config.seed, "d" * 64, "e" * 64), run)


@pytest.fixture
def in_memory(tmp_path):
    """Makes the studies of one sweep in an output of its own, gone with the process."""
    outputs = itertools.count()
    return lambda **changes: studies_at("sqlite:///:memory:", RunDir(tmp_path / f"{next(outputs)}" / "run"), **changes)


@pytest.fixture
def opened(tmp_path):
    """Opens the studies of one sweep; again with the same arguments for a driver that starts over."""
    return lambda **changes: studies_at(f"sqlite:///{tmp_path / 'studies.db'}", RunDir(tmp_path / "run"), **changes)


def test_studies_of_another_run_folder_in_the_same_database_are_refused(tmp_path):
    url, name = f"sqlite:///{tmp_path / 'shared.db'}", "s-0123abcd"
    first = studies_at(url, RunDir(tmp_path / "a" / name))
    studies_at(url, RunDir(tmp_path / "a" / name))
    assert first.next() is not None
    with pytest.raises(InputError, match=f"studies of {name} there belong to another run folder"):
        studies_at(url, RunDir(tmp_path / "b" / name))
    assert studies_at(url, RunDir(tmp_path / "c" / "s-89abcdef")).open == first.open  # another run, its own studies


def test_a_database_that_is_not_there_is_one_line_without_its_password(tmp_path):
    with pytest.raises(InputError) as caught:
        studies_at("postgresql+psycopg://sr:opensesame@127.0.0.1:1/sr", RunDir(tmp_path))
    assert str(caught.value).startswith("--studies-uri 'postgresql+psycopg://***@127.0.0.1:1/sr': ")
    assert "opensesame" not in str(caught.value) and "\n" not in str(caught.value)


def ask(studies: Studies, combination: str) -> Assignment:
    """The next trial of one combination; those of others that come first are closed as failed."""
    while (found := studies.next()) is not None:
        if found.combination.id == combination:
            return found
        studies.tell(found, TrialState.FAIL, "not wanted here")
    raise AssertionError("nothing is left to ask")


def train(studies: Studies, assignment: Assignment, values: dict[int, float]) -> TrialState:
    """Report a curve as a trial would, stop where the pruner says so, and tell."""
    for step, value in values.items():
        studies.record(assignment, step, {"psnr_y": value})
        if step < 200 and studies.should_stop(assignment):
            studies.tell(assignment, TrialState.PRUNED)
            return TrialState.PRUNED
    studies.tell(assignment, TrialState.COMPLETE)
    return TrialState.COMPLETE


def flat(value: float) -> dict[int, float]:
    return dict.fromkeys((50, 100, 150, 200), value)


# ---- planning ------------------------------------------------------------------------------------------------------


def test_every_planned_trial_is_handed_out_once_and_combinations_keep_step(opened):
    studies, order = opened(), []
    while (found := studies.next()) is not None:
        order.append((found.combination.id, found.number))
        studies.tell(found, TrialState.FAIL, "x")
    assert len(order) == len(set(order)) == studies.plan.trials == 8
    assert [name for name, _ in order] == [ECO, EXPECTATION] * 4
    assert studies.open == 0 and studies.next() is None
    assert opened().next() is None  # and a driver that starts over asks for no more


def test_proposals_depend_on_the_seed_and_on_what_was_told_alone(in_memory):
    def proposals(**changes: Any) -> list[dict[str, Any]]:
        studies, found = in_memory(search=SEARCH | {"trials": 3}, **changes), []
        while (assignment := studies.next()) is not None:
            found.append(assignment.trial.params)
            train(studies, assignment, flat(20.0 + len(found)))
        return found

    first = proposals()
    assert proposals() == first and proposals(seed=1) != first
    assert len({str(params) for params in first}) == len(first)
    for params in first:
        if "target.length" in params:
            assert 0.25 <= params["target.length"] <= 1.0
        else:
            assert 1e-3 <= params["sigma.beta"] <= 1e-1


# ---- a driver that died --------------------------------------------------------------------------------------------


def test_trials_of_a_dead_driver_come_first_with_their_parameters_and_reports(opened):
    before = opened()
    done, cut, fresh = ask(before, ECO), ask(before, ECO), ask(before, ECO)
    train(before, done, flat(30.0))
    before.record(cut, 50, {"psnr_y": 25.0})
    before.record(cut, 100, {"psnr_y": 26.0})
    open_before = before.open

    after = opened()
    assert after.open == open_before
    again = [after.next(), after.next()]
    for old, new in zip((cut, fresh), again, strict=True):
        assert new.number == old.number and new.combination.id == ECO
        assert new.trial.params == old.trial.params
        assert new.config.fingerprint == old.config.fingerprint
    assert [a.reported for a in again] == [{50, 100}, set()]
    after.record(again[0], 100, {"psnr_y": 99.0})  # the trial tells its last step again; the first word counts
    after.record(again[0], 150, {"psnr_y": 27.0})
    held = after.trials(cut.combination)[cut.number]
    assert held.intermediate_values == {50: 25.0, 100: 26.0, 150: 27.0}
    assert held.user_attrs["fingerprint"] == cut.config.fingerprint
    for assignment in again:
        after.tell(assignment, TrialState.FAIL, "x")
    rest = []
    while (assignment := after.next()) is not None:
        rest.append(assignment.number)
        after.tell(assignment, TrialState.FAIL, "x")
    assert all(one.trials == len(after.trials(one)) for one in after.plan.combinations)
    assert after.trials(done.combination)[done.number].value == 30.0


def test_what_the_environment_ended_is_tried_again_by_the_next_driver_under_its_number(opened):
    before = opened()
    first, second = ask(before, ECO), ask(before, ECO)
    before.record(first, 50, {"psnr_y": 32.0})
    before.leave(first, "out of memory")
    train(before, second, flat(30.0))
    while (found := before.next()) is not None:
        assert found.number != first.number or found.combination.id != ECO, "never twice by one driver"
        before.tell(found, TrialState.FAIL, "x")
    assert before.open == 0 and before.left(first.combination) == ["out of memory"]
    assert before.counts(first.combination).failed == 3, "with the two that were told"
    records = (before.run.output / "shared" / "searches").glob("*.json")
    [record] = [path for path in records if SearchRecord.read(path).combination == ECO]
    assert not SearchRecord.read(record).proposals, "nothing from the first that has not ended on"

    after = opened()
    assert after.open == 1 and after.left(first.combination) == []
    again = after.next()
    assert (again.number, again.config.fingerprint) == (first.number, first.config.fingerprint)
    assert again.reported == {50} and after.next() is None
    train(after, again, flat(32.0))
    assert len(SearchRecord.read(record).proposals) == 4 and after.winner(again.combination).number == first.number


def test_a_driver_that_died_while_asking_leaves_a_trial_that_is_completed(opened):
    before = opened()
    study = optuna.load_study(study_name=f"{before.run.name}/{ECO}", storage=before.storage)
    half = study.ask()
    half.suggest_float("target.length", 0.25, 1.0)
    found = opened().next()
    assert (found.combination.id, found.number) == (ECO, half.number)
    assert set(found.trial.params) == {"target.length", "target.shape"}
    assert found.trial.params["target.length"] == half.params["target.length"]
    assert found.config.objective.target.length == half.params["target.length"]


def test_a_driver_that_died_before_it_asked_for_a_proposal_does_not_add_another(opened):
    """A study that was just made, and a point of a finite space that was chosen and not handed out yet."""
    objectives = {"eco": {"search": {"target.length": [0.5, 0.75]}}}
    opened(objectives=objectives)
    again = opened(objectives=objectives)
    [one] = again.plan.combinations
    assert [trial.state for trial in again.trials(one)] == [TrialState.WAITING]
    train(again, again.next(), flat(20.0))
    study = optuna.load_study(study_name=f"{again.run.name}/{one.id}", storage=again.storage)
    study.enqueue_trial({"target.length": 0.75})
    last = opened(objectives=objectives)
    assert [last.next().trial.params["target.length"] for _ in range(2)] == [0.75, 0.5]
    assert last.next() is None and len(last.trials(one)) == 3


# ---- what is proposed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_configured_values_come_first(in_memory, sampler):
    objectives = {
        "eco": {
            "target.length": 0.9,
            "target.shape": "cosine",
            "search": {"target.length": {"low": 0.25, "high": 0.5}},
        },
        "l1": {},
        "expectation": {"sigma.beta": 0.05},
    }
    models = {"imdn": {"train": {"lr": 1e-2}}}
    search = SEARCH | {"sampler": sampler, "common": ["train.lr"]}
    studies = in_memory(objectives=objectives, models=models, search=search)
    found = {one.combination.id: one.trial.params for one in (studies.next(), studies.next(), studies.next())}
    assert found == {
        ECO: {"target.length": 0.9, "train.lr": 1e-2},
        "x2/imdn/l1": {"train.lr": 1e-2},
        EXPECTATION: {"sigma.beta": 0.05, "train.lr": 1e-2},
    }


def test_no_two_combinations_share_their_proposals(in_memory):
    objectives = {f"width_{width}": {"recipe": "expectation", "sigma.width": width} for width in (8, 16)} | {
        "grid": {"recipe": "expectation", "grid": {"train.batch_size": [12, 21]}}
    }
    studies, found = in_memory(objectives=objectives, search=SEARCH | {"trials": 6, "startup_trials": 6}), {}
    while (assignment := studies.next()) is not None:
        found.setdefault(assignment.combination.id, []).append(assignment.trial.params["sigma.beta"])
        train(studies, assignment, flat(20.0))
    first, *others = list(found.values())
    assert {values[0] for values in found.values()} == {0.01}
    drawn = [value for values in found.values() for value in values[1:]]
    assert len(others) == 3 and len(first) == 6 and len(set(drawn)) == len(drawn) == 4 * 5


def test_two_labels_of_one_search_propose_the_same(in_memory):
    studies, found = in_memory(objectives={name: {"recipe": "expectation"} for name in ("ab", "cd")}), {}
    while (assignment := studies.next()) is not None:
        found.setdefault(assignment.combination.id, []).append(assignment.config.fingerprint)
        train(studies, assignment, flat(20.0))
    first, second = found.values()
    assert first == second and len(set(first)) == SEARCH["trials"]


# ---- records ---------------------------------------------------------------------------------------------------------


def walk(studies: Studies) -> dict[str, list[tuple[dict[str, Any], TrialState]]]:
    """Train what is left, longer `target.length` or larger `sigma.beta` being better; what was asked, and its end."""
    found: dict[str, list[tuple[dict[str, Any], TrialState]]] = {}
    while (one := studies.next()) is not None:
        value = 20.0 + one.trial.params.get("target.length", one.trial.params.get("sigma.beta", 0.0))
        found.setdefault(one.combination.id, []).append((one.trial.params, train(studies, one, flat(value))))
    return found


def test_another_run_of_the_same_search_asks_only_for_what_is_missing(tmp_path):
    def studies(name: str, **changes: Any) -> Studies:
        return studies_at("sqlite:///:memory:", RunDir(tmp_path / name), **changes)

    whole = walk(studies_at("sqlite:///:memory:", RunDir(tmp_path / "alone" / "run"), search=SEARCH | {"trials": 6}))
    first = walk(studies("first"))
    again = studies("second")
    assert walk(again) == {} and again.open == 0
    told = {c.id: [(t.params, t.state) for t in again.trials(c)] for c in again.plan.combinations}
    assert told == first
    longer = walk(studies("third", search=SEARCH | {"trials": 6}))
    assert {name: first[name] + longer[name] for name in first} == whole, "as if it had been planned so"
    assert walk(studies("fourth", search=SEARCH | {"trials": 2})) == {}, "a shorter one takes the first of them"
    other = studies("fifth", objectives=BASE["objectives"] | {"more": {"recipe": "expectation", "sigma.width": 8}})
    assert list(walk(other)) == ["x2/imdn/more"]
    assert len(walk(studies("sixth", seed=1))) == len(walk(studies("seventh", search=SEARCH | {"reduction": 3}))) == 2


def test_a_record_that_holds_other_proposals_is_left_alone(tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    run = RunDir(tmp_path / "run")
    cut = studies_at(url, run)
    one = ask(cut, EXPECTATION)
    cut.tell(one, TrialState.FAIL, "x")
    [path] = [p for p in (tmp_path / "shared" / "searches").glob("*.json") if "expectation" in p.read_text()]
    record = SearchRecord.read(path)
    changed = record.proposals[0].model_copy(update={"params": {"sigma.beta": 0.02}})
    record.model_copy(update={"proposals": (changed,) * 3}).write(path)
    assert len(studies_at(url, run).trials(one.combination)) == 1


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("trials", [4, 9, 30])
def test_a_finite_space_is_walked_without_a_repetition(in_memory, sampler, trials):
    entry = {"search": {"target.shape": ["linear", "step", "cosine"], "target.length": [0.25, 0.5, 1.0]}}
    search = SEARCH | {"trials": trials, "sampler": sampler}
    studies, found = in_memory(objectives={"eco": entry}, search=search), []
    assert studies.open == studies.plan.trials == min(trials, 9)
    while (assignment := studies.next()) is not None:
        found.append(assignment)
        if len(found) % 3:  # some are still running while others are asked for
            train(studies, assignment, flat(20.0 + len(found) % 4))
    points = {tuple(one.trial.params.items()) for one in found}
    assert len(points) == len({one.config.fingerprint for one in found}) == len(found) == min(trials, 9)
    assert found[0].trial.params == {"target.shape": "linear", "target.length": 1.0}


def test_where_there_is_nothing_to_search_there_is_no_study(in_memory):
    studies = in_memory(objectives={"l1": {}, "eco": {"search": {"target.length": [1.0]}}})
    assert studies.open == 0 and studies.next() is None and studies.pruned() == []
    for one in studies.plan.combinations:
        assert (studies.finished(one), studies.winner(one), studies.failures(one)) == (0, None, [])
        assert studies.counts(one) == SearchCounts(trials=0, pruned=0, failed=0, steps=0)
    assert studies.storage.get_all_studies() == []


# ---- stopping ------------------------------------------------------------------------------------------------------


def test_halving_follows_its_table(in_memory):
    """Rungs at 50 and 100: at each, the better half of those that got there go on, and always the first."""
    studies = in_memory()
    table = [
        ({50: 20.0, 100: 21.0, 150: 22.0, 200: 23.0}, TrialState.COMPLETE, 200),  # the first meets nobody
        ({50: 19.0}, TrialState.PRUNED, 50),
        ({50: 22.0, 100: 20.0}, TrialState.PRUNED, 100),  # best of three, then worse of two
        ({50: 23.0, 100: 24.0, 150: 1.0, 200: 25.0}, TrialState.COMPLETE, 200),  # 150 is no rung
    ]
    for values, state, last in table:
        assignment = ask(studies, ECO)
        assert train(studies, assignment, values) == state
        held = studies.trials(assignment.combination)[assignment.number]
        assert (held.state, max(held.intermediate_values)) == (state, last)
    assert studies.counts(assignment.combination) == SearchCounts(trials=4, pruned=2, failed=0, steps=550)


def test_halving_compares_within_a_combination_only(in_memory):
    studies = in_memory()
    for _ in range(3):
        for level in (30.0, 10.0):  # every trial of the second combination is far below the first one's
            assignment = studies.next()
            assert assignment.combination.id == (ECO if level == 30.0 else EXPECTATION)
            studies.record(assignment, 50, {"psnr_y": level + assignment.number})
            assert not studies.should_stop(assignment)


def test_halving_compares_proposals_of_one_grid_point_only(in_memory):
    studies = in_memory(objectives={"expectation": {"grid": {"train.batch_size": [16, 8, 4, 2]}}})
    for round_ in range(2):
        for level in (40.0, 30.0, 20.0, 10.0):
            assignment = studies.next()
            studies.record(assignment, 50, {"psnr_y": level + round_})
            assert not studies.should_stop(assignment)
    assert {one.point["train.batch_size"]: len(studies.trials(one)) for one in studies.plan.combinations} == {
        16: 2, 8: 2, 4: 2, 2: 2,
    }  # fmt: skip


def test_halving_survives_the_driver(opened):
    first = opened()
    train(first, ask(first, ECO), flat(30.0))
    cut = ask(first, ECO)
    first.record(cut, 50, {"psnr_y": 10.0})  # killed before it was decided
    second = opened()
    again = second.next()
    second.record(again, 50, {"psnr_y": 10.0})
    assert again.number == cut.number and second.should_stop(again)


# ---- choosing ------------------------------------------------------------------------------------------------------


def test_the_winner_is_the_best_that_ran_in_full(in_memory):
    studies = in_memory()
    one = studies.plan.combinations[0]
    assert studies.winner(one) is None
    assert train(studies, ask(studies, ECO), {50: 40.0, 100: 40.0, 150: 40.0, 200: 30.0}) == TrialState.COMPLETE
    assert train(studies, ask(studies, ECO), {50: 39.0}) == TrialState.PRUNED
    failed = ask(studies, ECO)
    studies.record(failed, 50, {"psnr_y": 99.0})
    studies.tell(failed, TrialState.FAIL, "the loss is not finite")
    assert train(studies, ask(studies, ECO), {50: 99.5, 100: 50.0, 150: 50.0, 200: 31.0}) == TrialState.COMPLETE
    winner = studies.winner(one)
    assert (winner.number, winner.value) == (3, 31.0)  # the last value counts, not the highest one on the way
    assert studies.failures(one) == ["the loss is not finite"]
    assert studies.counts(one) == SearchCounts(trials=4, pruned=1, failed=1, steps=500)


def test_the_steering_metric_is_the_one_that_is_named(in_memory):
    studies = in_memory(search=SEARCH | {"metric": "ssim_y"})
    assignment = ask(studies, ECO)
    studies.record(assignment, 200, {"psnr_y": 30.0, "ssim_y": 0.9})
    studies.tell(assignment, TrialState.COMPLETE)
    assert studies.winner(assignment.combination).value == 0.9


# ---- several metrics -------------------------------------------------------------------------------------------------

PARETO = SEARCH | {"metric": ["psnr_y", "ssim_y"]}


def trade(params: dict[str, Any], step: int) -> dict[str, float]:
    """What a trial measures: longer is better by the first metric and worse by the second."""
    length = params.get("target.length", params.get("sigma.beta", 0.0))
    return {"psnr_y": 20.0 + length + step / 1000, "ssim_y": 0.9 - length / 10}


def drive(open_again: Any, kills: int) -> list[tuple[Any, ...]]:
    """A whole search, by a new driver after each `kills` operations on the studies; what they hold in the end."""
    done = 0

    def step(studies: Studies) -> bool:
        """One operation of whatever is next; False: there is nothing."""
        nonlocal done
        while (one := studies.next()) is not None:
            for at in (50, 200):
                if at in one.reported:
                    if at < 200 and max(one.reported) == at and studies.should_stop(one):
                        studies.tell(one, TrialState.PRUNED)
                        break
                    continue
                studies.record(one, at, trade(one.trial.params, at))
                done += 1
                if kills and done % kills == 0:
                    return True  # killed between a report and what follows from it
                if at < 200 and studies.should_stop(one):
                    studies.tell(one, TrialState.PRUNED)
                    break
            else:
                studies.tell(one, TrialState.COMPLETE)
        return False

    while step(studies := open_again()):
        pass
    return [
        (c.id, t.number, t.state, t.params, t.values, reported(t)) for c in studies.plan.combinations
        for t in studies.trials(c)
    ]  # fmt: skip


@pytest.mark.parametrize("halve_by", [None, "psnr_y"])
def test_a_search_for_a_front_comes_to_the_same_however_often_its_driver_is_killed(tmp_path, halve_by):
    search = PARETO | ({"halve_by": halve_by} if halve_by else {})
    objectives = {"eco": {"search": ["target.length"]}}

    def opener(name: str) -> Any:
        url, run = f"sqlite:///{tmp_path / name}.db", RunDir(tmp_path / name / "run")
        return lambda: studies_at(url, run, search=search, objectives=objectives)

    whole = drive(opener("whole"), kills=0)
    assert len(whole) == 4 and len({str(params) for _, _, _, params, *_ in whole}) == 4
    stopped = [state for _, _, state, *_ in whole if state == TrialState.PRUNED]
    assert bool(stopped) == (halve_by is not None)
    assert drive(opener("cut"), kills=1) == whole
    _, _, state, params, values, curve = whole[0]
    assert (state, values) == (TrialState.COMPLETE, list(trade(params, 200).values()))
    assert curve == {at: tuple(trade(params, at).values()) for at in (50, 200)}


def test_a_front_is_told_its_winner_is_the_best_by_the_first_metric(in_memory):
    studies = in_memory(
        search=PARETO | {"halve_by": "ssim_y", "trials": 5}, objectives={"eco": {"search": ["target.length"]}}
    )
    [one] = studies.plan.combinations
    assert studies.front(one) is studies.winner(one) is studies.to_beat(one) is None
    table = [(30.0, 0.8), (31.0, 0.7), (29.0, 0.8), (31.0, 0.75)]
    for values in table:
        found = studies.next()
        for at in (50, 200):
            studies.record(found, at, dict(zip(("psnr_y", "ssim_y"), values, strict=True)))
        studies.tell(found, TrialState.COMPLETE)
    stopped = studies.next()
    studies.record(stopped, 50, {"psnr_y": 99.0, "ssim_y": 0.1})
    assert studies.should_stop(stopped)
    studies.tell(stopped, TrialState.PRUNED)
    assert studies.winner(one).number == 3 and studies.to_beat(one) == 0.8
    assert [(p.number, p.on_front) for p in studies.front(one).points] == [(0, True), (1, False), (2, False), (3, True)]
    assert studies.counts(one).steps == 4 * 200 + 50
    assert studies.pruned() == [(stopped.config.fingerprint, 50)]
    study = optuna.load_study(study_name=f"{studies.run.name}/{one.id}", storage=studies.storage)
    assert study.metric_names == ["psnr_y", "ssim_y"] and len(study.directions) == 2


def test_a_study_of_an_earlier_version_gets_its_metrics_name_and_keeps_its_trials(opened):
    studies = opened()
    [one] = [combination for combination in studies.plan.combinations if combination.id == ECO]
    train(studies, ask(studies, ECO), flat(20.0))
    study = optuna.load_study(study_name=f"{studies.run.name}/{ECO}", storage=studies.storage)
    assert study.metric_names == ["psnr_y"]
    studies.storage.set_study_system_attr(study._study_id, "study:metric_names", None)  # as it was before
    assert study.metric_names is None
    again = opened()
    assert again.winner(one).value == 20.0 and again.open == studies.open
    found = optuna.load_study(study_name=f"{studies.run.name}/{ECO}", storage=again.storage)
    assert found.metric_names == ["psnr_y"] and len(found.trials) == 1


def test_a_shared_record_of_a_front_spares_another_run_its_search(tmp_path):
    def studies(name: str, **changes: Any) -> Studies:
        objectives = {"eco": {"search": ["target.length"]}}
        url = f"sqlite:///{tmp_path / name}.db"
        return studies_at(url, RunDir(tmp_path / name), objectives=objectives, search=PARETO | changes)

    whole = drive(lambda: studies("first"), kills=0)
    assert drive(lambda: studies("second"), kills=0) == whole and studies("second").open == 0
    [path] = (tmp_path / "shared" / "searches").glob("*.json")
    record = SearchRecord.read(path)
    assert record.metric == ("psnr_y", "ssim_y") and [len(p.last) for p in record.proposals] == [2] * 4
    assert studies("halved", halve_by="psnr_y").open == studies("turned", metric=["ssim_y", "psnr_y"]).open == 4


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_finite_space_of_a_search_for_a_front_is_walked_without_a_repetition(in_memory, sampler):
    entry = {"search": {"target.shape": ["linear", "step", "cosine"], "target.length": [0.25, 0.5, 1.0]}}
    studies, found = in_memory(objectives={"eco": entry}, search=PARETO | {"trials": 20, "sampler": sampler}), []
    while (one := studies.next()) is not None:
        found.append(tuple(one.trial.params.items()))
        studies.record(one, 200, trade(one.trial.params, 200))
        studies.tell(one, TrialState.COMPLETE)
    assert len(set(found)) == len(found) == 9


@pytest.mark.parametrize(("state", "kind"), [("57P01", LostError), ("57P03", LostError), ("28P01", InputError)])
def test_a_database_that_is_just_starting_again_is_no_wrong_input(
    monkeypatch: pytest.MonkeyPatch, state: str, kind: type[Exception]
) -> None:
    class Refused(Exception):
        sqlstate = state

    def connect(*_: object, **__: object) -> None:
        raise OperationalError("select 1", {}, Refused("terminating connection"))

    monkeypatch.setattr(optuna.storages, "RDBStorage", connect)
    with pytest.raises(kind, match=r"^--studies-uri 'postgresql://\*\*\*@db/optuna': .*terminating connection"):
        open_storage("postgresql://me:secret@db/optuna")
