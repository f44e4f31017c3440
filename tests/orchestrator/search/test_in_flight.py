"""What the search makes of its trials' reports, told from fake studies and a fake run: nothing here trains."""

import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import make_plan
from orchestrator.plan.trial import TrialConfig
from orchestrator.run.budget import Budget, Meter
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, Journal
from orchestrator.run.records import TRIAL, begin_trial
from orchestrator.run.roles import Roles, read_roles
from orchestrator.search.in_flight import InFlight, lost
from orchestrator.search.studies import Assignment

STEPS = 200
PLAN = make_plan(
    SweepConfig.parse(
        {
            "name": "s", "models": ["imdn"], "objectives": {"eco": {"search": ["target.length"]}}, "teacher": {},
            "data": {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}},
            "train": {"steps": STEPS, "validate_every": 50},
        },
        "test",
    )
)  # fmt: skip


def assignment(number: int, length: float = 0.5) -> Assignment:
    """A planned trial; those of one length have one fingerprint."""
    params, [one] = {"target.length": length}, PLAN.combinations
    config = PLAN.trial(one, params, 0, "d" * 64, "e" * 64)
    return Assignment(one, SimpleNamespace(number=number, params=params), config)


class FakeStudies:
    """Hands out what it is given, stops whom it is told to stop, and notes what it hears."""

    def __init__(self, *planned: Assignment, stopped: tuple[tuple[str, int], ...] = ()) -> None:
        self.planned, self.stopped = list(planned), list(stopped)
        self.worse: set[int] = set()
        self.recorded: list[tuple[int, int, dict[str, float]]] = []
        self.told: list[tuple[int, TrialState, str | None]] = []
        self.left: list[tuple[int, str]] = []

    def next(self) -> Assignment | None:
        return self.planned.pop(0) if self.planned else None

    def record(self, found: Assignment, step: int, metrics: dict[str, float]) -> None:
        self.recorded.append((found.number, step, metrics))

    def should_stop(self, found: Assignment) -> bool:
        return found.number in self.worse

    def tell(self, found: Assignment, state: TrialState, cause: str | None = None) -> None:
        self.told.append((found.number, state, cause))

    def leave(self, found: Assignment, cause: str) -> None:
        self.left.append((found.number, cause))

    def pruned(self) -> list[tuple[str, int]]:
        return self.stopped


class FakeAccess:
    """A run whose journals are lists in memory."""

    def __init__(self, folder: Path) -> None:
        self.run = RunDir(folder)
        self.journals: dict[str, list[dict[str, Any]]] = {}
        self.ended: list[tuple[str, str, int | None]] = []
        self.reopened: list[str] = []
        self.otherwise: set[str] = set()
        """Trials whose validations lack something."""
        self.busy: set[str] = set()
        """Trials that another run is at work on."""

    def read_journal(self, fingerprint: str) -> list[dict[str, Any]]:
        return self.journals.get(fingerprint, [])

    def measures(self, config: TrialConfig) -> bool:
        return config.fingerprint not in self.otherwise

    def is_busy(self, fingerprint: str) -> bool:
        return fingerprint in self.busy

    def end(
        self, fingerprint: str, status: str, step: int | None, cause: str | None = None, why: str | None = None
    ) -> None:
        self.ended.append((fingerprint, status, step))
        if why:
            self.journals.setdefault(fingerprint, []).append(ending(status, step or 0, cause, why))

    def leave(self, fingerprint: str) -> None:
        self.ended.append((fingerprint, "left", None))

    def reopen(self, fingerprint: str) -> None:
        self.reopened.append(fingerprint)
        self.journals[fingerprint].append({"kind": "again"})


def step(number: int, value: float = 20.0) -> dict[str, Any]:
    return {"kind": "step", "step": number, "metrics": {"psnr_y": value}}


def ending(status: str, step: int, cause: str | None = None, why: str | None = None) -> dict[str, Any]:
    return {"kind": "end", "status": status, "step": step, "cause": cause} | ({"why": why} if why else {})


def report(number: int, value: float = 20.0, status: str = "running") -> dict[str, Any]:
    """A report as Tune flattens it, with some of what Tune adds."""
    return {"step": number, "status": status, "metrics/psnr_y": value, "training_iteration": 1}


class Search:
    """An `InFlight` over fakes, and what it said: (trial, steps, status) of its progress, decisions of its workers."""

    def __init__(self, folder: Path, studies: FakeStudies, *, ray_train: bool) -> None:
        self.studies, self.access = studies, FakeAccess(folder)
        self.progress: list[tuple[int, int, str]] = []
        self.decisions: list[tuple[str, int, str]] = []
        self.now = 0.0
        self.meter = Meter(Budget(max_hours=1, max_trials=3), 0, lambda: self.now)
        self.in_flight = InFlight(
            studies,
            self.access,
            Roles(self.access.run),
            lambda found, steps, status: self.progress.append((found.number, steps, status)),
            self.meter,
            (lambda *decision: self.decisions.append(decision)) if ray_train else None,
        )


@pytest.fixture
def search(tmp_path):
    """Makes a search of some planned trials; with `ray_train`, its workers end by themselves."""
    return lambda *planned, ray_train=False, **given: Search(
        tmp_path, FakeStudies(*planned, **given), ray_train=ray_train
    )


# ---- handing out -----------------------------------------------------------------------------------------------------


def test_a_trial_is_handed_out_and_its_role_kept(search, tmp_path):
    one = assignment(3)
    made = search(one)
    assert made.in_flight.start("t") == {"trial": one.config.model_dump(mode="json"), "key": "t"}
    assert made.in_flight.live == {"t": one} and made.studies.recorded == []
    [role] = read_roles(RunDir(tmp_path))
    assert (role.fingerprint, role.combination, role.role, role.number, role.params) == (
        one.config.fingerprint, "x2/imdn/eco", "search", 3, {"target.length": 0.5},
    )  # fmt: skip
    assert made.in_flight.start("u") is None and not made.in_flight.duplicates, "nothing is left, and nothing waits"


def test_a_duplicate_waits_until_its_twin_has_ended(search):
    twins, other = (assignment(0), assignment(1), assignment(2)), assignment(3, length=0.9)
    made = search(*twins, other)
    in_flight = made.in_flight
    assert in_flight.start("a")["key"] == "a"
    assert in_flight.start("b") is not None and in_flight.live["b"] is other, "others need not wait with it"
    assert in_flight.duplicates == [twins[1], twins[2]]
    assert in_flight.start("c") is None and in_flight.duplicates == [twins[1], twins[2]]
    in_flight.close("b", TrialState.COMPLETE, STEPS)
    assert in_flight.start("c") is None, "that was no twin"
    in_flight.close("a", TrialState.COMPLETE, STEPS)
    assert in_flight.start("c") is not None and in_flight.live == {"c": twins[1]}
    assert in_flight.start("d") is None, "one of them at a time"
    in_flight.close("c", TrialState.COMPLETE, STEPS)
    assert in_flight.start("d") is not None and in_flight.live == {"d": twins[2]} and not in_flight.duplicates


def test_what_a_dead_driver_did_not_record_is_recorded_at_the_start(search):
    one = assignment(0)
    made = search(one)
    made.access.journals[one.config.fingerprint] = [step(50, 21.0), step(100, 22.0), ending("complete", 100)]
    made.in_flight.start("t")
    assert made.studies.recorded == [(0, 50, {"psnr_y": 21.0}), (0, 100, {"psnr_y": 22.0})]
    assert made.studies.told == [], "the trial itself says how it ended"


def test_another_runs_trial_counts_up_to_where_the_study_stops_it(search):
    one, other = assignment(0), assignment(1, length=0.9)
    made = search(one, other)
    made.access.journals[one.config.fingerprint] = [step(50), step(100), step(STEPS), ending("complete", STEPS)]
    made.studies.worse.add(0)
    assert made.in_flight.start("t") is not None and made.in_flight.live == {"t": other}
    assert made.studies.told == [(0, TrialState.PRUNED, None)] and made.progress == [(0, 50, "stopped")]
    assert made.studies.recorded == [(0, 50, {"psnr_y": 20.0})], "what came later is not this search's"


def test_a_validation_that_was_decided_on_is_not_again(search):
    one = assignment(0)
    one.reported.add(50)
    made = search(one)
    made.studies.worse.add(0)
    made.access.journals[one.config.fingerprint] = [step(50)]
    assert made.in_flight.start("t") is not None and made.studies.told == []


def test_a_trial_whose_validations_lack_something_is_not_heard_and_runs_again(search):
    one = assignment(0)
    made = search(one)
    made.access.journals[one.config.fingerprint] = [{"kind": "step", "step": 50, "metrics": {"ssim_y": 0.9}}]
    made.access.otherwise.add(one.config.fingerprint)
    assert made.in_flight.start("t")["key"] == "t" and made.studies.recorded == []


# ---- reports ---------------------------------------------------------------------------------------------------------


def test_a_report_is_recorded_and_the_trial_goes_on(search):
    made = search(assignment(0))
    made.in_flight.start("t")
    assert made.in_flight.decide("t", report(50, 21.5)) is False
    assert made.studies.recorded == [(0, 50, {"psnr_y": 21.5})] and made.progress == [(0, 50, "running")]
    assert "t" in made.in_flight.live and not made.studies.told


def test_a_stopped_trial_is_told_once(search):
    made = search(assignment(0))
    made.in_flight.start("t")
    made.studies.worse.add(0)
    assert made.in_flight.decide("t", report(50)) is True
    assert made.studies.told == [(0, TrialState.PRUNED, None)] and made.progress == [(0, 50, "stopped")]
    assert made.in_flight.live == {}
    assert made.in_flight.decide("t", report(100)) is False, "a report that was under way"
    assert len(made.studies.told) == len(made.studies.recorded) == len(made.progress) == 1


@pytest.mark.parametrize("status", ["running", "complete"])
def test_a_report_at_the_full_budget_never_stops_a_trial(search, status):
    made = search(assignment(0))
    made.in_flight.start("t")
    made.studies.worse.add(0)
    assert made.in_flight.decide("t", report(STEPS, status=status)) is False
    assert made.studies.recorded == [(0, STEPS, {"psnr_y": 20.0})] and not made.studies.told
    assert "t" in made.in_flight.live


@pytest.mark.parametrize("status", ["complete", "failed"])
def test_a_trial_that_has_ended_is_not_stopped(search, status):
    made = search(assignment(0))
    made.in_flight.start("t")
    made.studies.worse.add(0)
    assert made.in_flight.decide("t", report(50, status=status)) is False and not made.studies.told


def test_a_failed_result_is_not_recorded(search):
    made = search(assignment(0))
    made.in_flight.start("t")
    assert made.in_flight.decide("t", report(100, float("nan"), status="failed")) is False
    made.in_flight.close("t", TrialState.FAIL, 100, "the loss is not finite")
    assert made.studies.recorded == [] and made.studies.told == [(0, TrialState.FAIL, "the loss is not finite")]
    assert made.progress[-1] == (0, 100, "failed")


def test_a_report_without_metrics_is_not_recorded(search):
    made = search(assignment(0))
    made.in_flight.start("t")
    assert made.in_flight.decide("t", {"step": 0, "status": "running"}) is False
    assert made.studies.recorded == []


@pytest.mark.parametrize(
    ("state", "said"),
    [(TrialState.COMPLETE, "complete"), (TrialState.PRUNED, "stopped"), (TrialState.FAIL, "failed")],
)
def test_progress_hears_how_a_trial_ended(search, state, said):
    made = search(assignment(0))
    made.in_flight.start("t")
    made.in_flight.close("t", state, 150)
    assert made.progress == [(0, 150, said)] and made.studies.told == [(0, state, None)]


# ---- trials whose workers end by themselves --------------------------------------------------------------------------


def test_workers_are_told_and_tune_is_not(search):
    made = search(assignment(0), ray_train=True)
    made.in_flight.start("t")
    assert made.in_flight.decide("t", report(50)) is False
    made.studies.worse.add(0)
    assert made.in_flight.decide("t", report(100)) is False, "the workers end it"
    assert made.decisions == [("t", 50, "continue"), ("t", 100, "stop")]
    assert made.studies.told == [(0, TrialState.PRUNED, None)] and made.progress[-1] == (0, 100, "stopped")


def test_a_report_that_comes_again_gets_the_same_answer(search):
    """Workers that were started again report a step once more, when other trials may have moved what is good enough."""
    made = search(assignment(0), ray_train=True)
    made.in_flight.start("t")
    made.in_flight.decide("t", report(50))
    made.studies.worse.add(0)
    made.in_flight.decide("t", report(50))
    made.in_flight.decide("t", report(100))
    made.studies.worse.clear()
    made.in_flight.decide("t", report(100))
    assert made.decisions == [("t", 50, "continue")] * 2 + [("t", 100, "stop")] * 2
    assert len(made.studies.told) == 1 and [entry[1] for entry in made.studies.recorded] == [50, 100]


def test_the_result_of_a_step_that_was_answered_is_still_taken_in(search):
    """Tune hears of the last validation twice: from the workers, and as how the trial ended."""
    made = search(assignment(0), ray_train=True)
    made.in_flight.start("t")
    made.in_flight.decide("t", report(STEPS))
    made.in_flight.decide("t", report(STEPS, status="complete"))
    assert [entry[1] for entry in made.studies.recorded] == [STEPS, STEPS], "studies leave out what they know"
    assert made.decisions == [("t", STEPS, "continue")] * 2


def test_workers_of_an_unknown_trial_go_on(search):
    made = search(ray_train=True)
    assert made.in_flight.decide("t", report(50)) is False
    assert made.decisions == [("t", 50, "continue")] and made.studies.recorded == []


# ---- what the environment did ----------------------------------------------------------------------------------------


def test_a_trial_that_its_environment_ended_is_left_and_its_twin_with_it(search):
    one, twin = assignment(0), assignment(1)
    made = search(one, twin)
    made.in_flight.start("a")
    assert made.in_flight.start("b") is None
    made.in_flight.leave("a", 50, "out of memory")
    assert made.studies.left == [(0, "out of memory")] and made.studies.told == []
    assert made.access.ended == [(one.config.fingerprint, "failed", None)] and made.progress[-1] == (0, 50, "failed")
    assert made.in_flight.start("b") is not None and made.access.reopened == [], "not twice in one invocation"


def test_the_next_invocation_reopens_what_the_environment_ended_and_leaves_what_the_numbers_did(search):
    one, other = assignment(0), assignment(1, length=0.9)
    made = search(one, other)
    made.access.journals = {
        one.config.fingerprint: [step(50), ending("failed", 60, "out of memory", "environment")],
        other.config.fingerprint: [step(50), ending("failed", 60, "the loss is not finite", "numbers")],
    }
    made.in_flight.start("a"), made.in_flight.start("b")
    assert made.access.reopened == [one.config.fingerprint]
    assert made.studies.recorded == [(0, 50, {"psnr_y": 20.0}), (1, 50, {"psnr_y": 20.0})]


def test_a_trial_that_another_run_goes_on_with_is_given_no_end(search):
    made = search(one := assignment(0))
    made.in_flight.start("a")
    made.access.busy.add(one.config.fingerprint)
    made.in_flight.leave("a", 50, "its workers were lost")
    assert made.access.ended == [] and made.studies.left == [(0, "its workers were lost")]


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_journals_are_closed_only_where_an_end_is_missing(search):
    made = search(stopped=(("open", 50), ("closed", 100), ("never begun", 50), ("went on", 100)))
    made.access.journals = {
        "open": [step(50)],
        "closed": [step(50), step(100), {"kind": "end", "status": "stopped", "step": 100}],
        "went on": [step(50), {"kind": "end", "status": "stopped", "step": 50}, step(100)],
        "not stopped": [step(50)],
    }
    made.in_flight.close_journals()
    assert made.access.ended == [("open", "stopped", 50), ("went on", "stopped", 100)]
    made.access.busy.add("open")
    made.in_flight.close_journals()
    assert made.access.ended[2:] == [("went on", "stopped", 100)], "another run goes on with it"


def test_what_befell_a_trials_files_is_said_as_it_ends(search, capsys):
    one = assignment(0)
    made = search(one)
    made.in_flight.start("t")
    made.access.journals[one.config.fingerprint] = [{"kind": "note", "step": 0, "text": "a file is damaged"}, step(50)]
    made.in_flight.close("t", TrialState.COMPLETE, STEPS)
    assert capsys.readouterr().err == "a file is damaged\n"


def test_trials_whose_journal_has_lost_their_end_are_found(tmp_path):
    run, numbers = RunDir(tmp_path / "run"), {}
    lengths = iter(np.linspace(0.1, 0.9, 20))

    def told(state: TrialState, last: int, change=lambda lines: lines) -> None:
        """A trial as the studies know it, and its journal after some damage."""
        found = assignment(len(numbers), float(next(lengths)))
        folder = run.trial(found.config.fingerprint)
        folder.mkdir(parents=True)
        begin_trial(folder, found.config, run="s", steered=True)
        journal = Journal(folder / JOURNAL)
        for number in range(50, last + 1, 50):
            journal.step(number, STEPS, {})
        journal.end("stopped" if state == TrialState.PRUNED else "complete", last)
        journal.path.write_bytes(b"".join(change(journal.path.read_bytes().splitlines(keepends=True))))
        numbers[found.config.fingerprint] = len(numbers)
        trials.append(
            (None, SimpleNamespace(state=state, intermediate_values={last: 1.0}, user_attrs={}), found.config)
        )

    trials: list[tuple[None, SimpleNamespace, TrialConfig]] = []
    told(TrialState.COMPLETE, STEPS)
    told(TrialState.PRUNED, 100)
    told(TrialState.PRUNED, 100, lambda lines: lines[:-1])  # `close_journals` ends it
    told(TrialState.COMPLETE, STEPS, lambda lines: lines[:-1])  # 3
    told(TrialState.COMPLETE, STEPS, lambda lines: [lines[0], b"{}\n", *lines[2:]])  # 4
    told(TrialState.COMPLETE, STEPS, lambda _: [])  # 5
    told(TrialState.PRUNED, 100, lambda lines: lines[1:])  # 6
    told(TrialState.PRUNED, 100, lambda lines: [lines[0], lines[1][:30]])  # 7
    told(TrialState.FAIL, 100, lambda _: [])
    told(TrialState.RUNNING, 100, lambda lines: lines[:1])
    told(TrialState.PRUNED, 100)  # 10
    first, *_, last = numbers
    shutil.rmtree(run.trial(first))  # its folder is gone
    (run.trial(last) / TRIAL).unlink()  # as a damaged one is to be
    studies = SimpleNamespace(told=lambda: trials, cut=[])
    found = {numbers[fingerprint]: step for fingerprint, (_, step) in lost(studies, run).items()}
    assert found == {0: STEPS, 3: STEPS, 4: STEPS, 5: STEPS, 6: 100, 7: 100, 10: 100}


def test_of_trials_that_differ_in_sampling_steps_alone_the_folder_holds_the_last(tmp_path):
    """They share a folder, in which each begins anew: what it no longer holds of the others is not lost for ever."""
    noise = {"models": {"sr3": {"channels": 8, "mults": [1], "attention": [], "groups": 4}}, "teacher": None,
             "objectives": {"ddpm": {"search": {"sampling.steps": [10, 20]}}}}  # fmt: skip
    plan = make_plan(PLAN.config.parse({**PLAN.config.model_dump(), **noise}, "test"))
    ten, twenty = (plan.trial(plan.combinations[0], {"sampling.steps": s}, 0, "d" * 64, None) for s in (10, 20))
    run = RunDir(tmp_path / "run")
    folder = run.trial(ten.fingerprint)
    assert ten.fingerprint == twenty.fingerprint
    folder.mkdir(parents=True)

    def run_to(config: TrialConfig, last: int, status: str | None) -> None:
        begin_trial(folder, config, run="s", steered=True)
        journal = Journal(folder / JOURNAL)
        for number in range(50, last + 1, 50):
            journal.step(number, STEPS, {})
        if status:
            journal.end(status, last)

    def told(config: TrialConfig, state: TrialState, last: int) -> tuple[None, SimpleNamespace, TrialConfig]:
        return None, SimpleNamespace(state=state, intermediate_values={last: 1.0}, user_attrs={}), config

    whole = told(ten, TrialState.COMPLETE, STEPS)
    run_to(ten, STEPS, "complete")
    run_to(twenty, 50, None)  # begun anew; the driver died
    cut = [SimpleNamespace(config=twenty)]
    assert lost(SimpleNamespace(told=lambda: [whole], cut=cut), run) == {}, "the folder is the other one's now"
    begin_trial(folder, twenty, run="s", steered=True)
    Journal(folder / JOURNAL).end("stopped", 50)
    trials = [whole, told(twenty, TrialState.PRUNED, 50)]
    assert lost(SimpleNamespace(told=lambda: trials, cut=[]), run) == {}
    (folder / JOURNAL).unlink()
    found = lost(SimpleNamespace(told=lambda: trials, cut=[]), run)
    assert found == {twenty.fingerprint: (twenty, 50)}, "as far as the one that it is of had come"
    run_to(twenty, 50, "stopped")
    assert lost(SimpleNamespace(told=lambda: trials, cut=[]), run) == {}, "and then no more"


def test_a_snapshot_holds_nothing_of_it(search):
    assert type(pickle.loads(pickle.dumps(search(assignment(0)).in_flight))) is object


# ---- budgets ---------------------------------------------------------------------------------------------------------


def test_time_is_up_at_a_trials_next_validation_and_the_study_hears_nothing_of_it(search):
    one = assignment(0)
    one.reported.add(50)
    made = search(one)
    made.access.journals[one.config.fingerprint] = [step(50)]
    made.in_flight.start("t")
    made.now = 3600.0
    assert not made.in_flight.decide("t", report(50)), "what it had said before"
    assert made.in_flight.decide("t", report(100))
    assert made.studies.told == made.studies.left == [] and made.in_flight.live == {}
    assert made.studies.recorded[-1][1] == 100 and made.meter.spent.trial_seconds == 3600.0
    made.in_flight.close_journals()
    assert made.access.ended == [(one.config.fingerprint, "left", None)]


def test_workers_of_a_trial_are_told_that_time_is_up(search):
    made = search(assignment(0), ray_train=True)
    made.in_flight.start("t")
    made.now = 3600.0
    assert not made.in_flight.decide("t", report(50)) and made.decisions == [("t", 50, "stop")]


def test_at_its_last_validation_nothing_is_left_to_stop(search):
    made = search(assignment(0))
    made.in_flight.start("t")
    made.now = 3600.0
    assert not made.in_flight.decide("t", report(STEPS)) and "t" in made.in_flight.live


def test_trials_are_counted_as_they_are_handed_out(search):
    made = search(assignment(0, 0.3), assignment(1, 0.6))
    made.in_flight.start("t")
    made.in_flight.start("u")
    assert made.meter.spent.trials == 2 and made.meter.forbids is None
    made.in_flight.close("t", TrialState.PRUNED, 50)
    assert made.meter.spent.trials == 2, "however they end"
