"""The trials that a search has under way: what their reports mean for the studies, and what the trials are told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Literal

from optuna.trial import TrialState

from orchestrator.plan.trial import TrialConfig
from orchestrator.run import events, journal
from orchestrator.run.access import Access
from orchestrator.run.budget import Meter
from orchestrator.run.folder import RunDir
from orchestrator.run.progress import say
from orchestrator.run.records import TRIAL, TrialRecord
from orchestrator.run.roles import Roles
from orchestrator.search.pareto import last_step
from orchestrator.search.studies import Assignment, Studies
from sr_models.hyper.sampling import Sampling

Answer = Literal["continue", "stop"]

SearchProgress = Callable[[Assignment, int, str], None]
"""Called with (trial, finished steps, "running" | "complete" | "stopped" | "failed")."""


ENDS: dict[TrialState, events.Ended] = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped"}


class InFlight:
    """The trials that are running, shared by Tune's searcher and scheduler: Tune's trial id -> assignment.

    Args:
        access: the driver's, to the run whose trials these are.
        roles: where the run keeps what it makes use of.
        progress: told of every report, and of how trials end.
        meter: what the trials cost; once its budget is reached, they end at their next validation.
        tell_workers: sends the decision on a report, (trial id, step, answer), to workers that wait for it and then end
            by themselves; None where Tune ends trials.
    """

    def __init__(
        self,
        studies: Studies,
        access: Access,
        roles: Roles,
        progress: SearchProgress,
        meter: Meter,
        tell_workers: Callable[[str, int, Answer], object] | None = None,
    ) -> None:
        self.studies, self.access, self.progress, self.tell_workers = studies, access, progress, tell_workers
        self.run, self.roles, self.meter = access.run, roles, meter
        self.live: dict[str, Assignment] = {}
        self.duplicates: list[Assignment] = []
        """Proposed while a trial of the same fingerprint runs: two at a time would be in each other's way."""
        self.given: dict[tuple[str, int], bool] = {}
        """Whether a trial was told to stop after a step: workers that were started again must hear the same."""
        self.errors: dict[str, str] = {}
        self.off: list[str] = []
        """Fingerprints of trials that the budget ended."""
        self.begun: set[str] = set()
        """Fingerprints that were handed out: what the environment does to one of them now is not tried once more."""

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Tune pickles what it is given into a snapshot that is never read: leave database connections out of it."""
        return (object, ())

    def start(self, trial_id: str) -> dict[str, Any] | None:
        """What Tune is to run next under this id; None if there is nothing, or nothing yet (`duplicates`).

        A trial that is there already, of this run or of another one, is heard first, validation by validation: what it
        has gone through beyond a rung at which the study stops it counts for nothing.
        """
        while (assignment := self._next()) is not None:
            config = assignment.config
            self.roles.add(
                config,
                combination=assignment.combination.id,
                role="search",
                number=assignment.number,
                params=assignment.trial.params,
            )
            self.live[trial_id] = assignment
            entries = self.access.read_journal(config.fingerprint)
            if (ended := journal.outcome(entries)) and not ended.is_final and config.fingerprint not in self.begun:
                self.access.reopen(config.fingerprint)
            self.begun.add(config.fingerprint)
            if not self._hear(trial_id, journal.steps(entries) if self.access.measures(config) else []):
                self.meter.begin(config.fingerprint, journal.last_step(entries), config.train.steps)
                return {"trial": config.model_dump(mode="json"), "key": trial_id}
        return None

    def _hear(self, trial_id: str, entries: list[dict[str, Any]]) -> bool:
        """Take in what a trial's journal holds; True if the study stops it at one of these steps."""
        assignment = self.live[trial_id]
        for entry in entries:
            if entry["step"] in assignment.reported:
                continue  # it was decided on then
            self.studies.record(assignment, entry["step"], entry["metrics"])
            if entry["step"] < assignment.config.train.steps and self.studies.should_stop(assignment):
                self.close(trial_id, TrialState.PRUNED, entry["step"])
                return True
        return False

    def _next(self) -> Assignment | None:
        """The next trial of whose fingerprint none is running."""
        busy = {assignment.config.fingerprint for assignment in self.live.values()}
        for duplicate in self.duplicates:
            if duplicate.config.fingerprint not in busy:
                self.duplicates.remove(duplicate)
                return duplicate
        while (found := self.studies.next()) and found.config.fingerprint in busy:
            self.duplicates.append(found)
        return found

    def decide(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take in a report; True if Tune is to stop the trial. Workers of a Ray Train run are told, and stop it."""
        if self.tell_workers is None:
            return trial_id in self.live and self.take_in(trial_id, result)
        report = trial_id, int(result["step"])
        if report not in self.given:
            self.given[report] = trial_id in self.live and self.take_in(trial_id, result)
        elif trial_id in self.live and result["status"] != "running":
            self.take_in(trial_id, result)
        self.tell_workers(*report, "stop" if self.given[report] else "continue")
        return False

    def take_in(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take in a report; True if the trial is to stop."""
        assignment = self.live[trial_id]
        config, step = assignment.config, int(result["step"])
        metrics = {key.removeprefix("metrics/"): value for key, value in result.items() if key.startswith("metrics/")}
        is_new = step not in assignment.reported  # one that goes on begins with what it has said before
        if metrics and result["status"] != "failed":
            if is_new:
                entry = {"step": step, "of": config.train.steps, "metrics": metrics}
                events.validations(config.fingerprint, [entry])
            self.studies.record(assignment, step, metrics)
        if result["status"] == "running" and step < config.train.steps and self.studies.should_stop(assignment):
            self.close(trial_id, TrialState.PRUNED, step)
            return True
        self.progress(assignment, step, "running")
        if result["status"] == "running" and step < config.train.steps and is_new and self.meter.used_up:
            self.off.append(config.fingerprint)
            self.meter.end(config.fingerprint, "left", step)
            self._out(trial_id)  # the study hears nothing, and hands it out first when it is opened again
            return True
        return False

    def close(self, trial_id: str, state: TrialState, step: int, cause: str | None = None) -> None:
        """Tell the study how a trial ended."""
        assignment = self._out(trial_id)
        self.studies.tell(assignment, state, cause)
        status = ENDS.get(state, "failed")
        self.meter.end(assignment.config.fingerprint, status, step, cause)
        self.progress(assignment, step, status)

    def leave(self, trial_id: str, step: int, cause: str) -> None:
        """Leave a trial that its environment ended to the next invocation of the sweep; the study hears nothing."""
        fingerprint = self.live[trial_id].config.fingerprint
        if not self.access.is_busy(fingerprint):  # by another run, which goes on with it
            self.access.end(fingerprint, "failed", None, cause, "environment")
        assignment = self._out(trial_id)
        self.studies.leave(assignment, cause)
        self.meter.end(fingerprint, "failed", step, cause)
        self.progress(assignment, step, "failed")

    def _out(self, trial_id: str) -> Assignment:
        """A trial that is under way no longer; what befell its files is said."""
        assignment = self.live.pop(trial_id)
        for note in journal.notes(self.access.read_journal(assignment.config.fingerprint)):
            say(note)
        return assignment

    def close_journals(self) -> None:
        """Write the end of stopped trials whose worker did not live to do so, unless another run goes on with them.

        Those that the budget ended are under way.
        """
        for fingerprint in self.off:
            if not self.access.is_busy(fingerprint):
                self.access.leave(fingerprint)
        for fingerprint, step in self.studies.pruned():
            entries = self.access.read_journal(fingerprint)
            if entries and journal.end(entries) is None and not self.access.is_busy(fingerprint):
                self.access.end(fingerprint, "stopped", step)


def lost(studies: Studies, run: RunDir) -> dict[str, tuple[TrialConfig, int]]:
    """Trials whose files no longer say what the studies know: fingerprint -> config, step that it reached.

    They are damaged, or somebody deleted them. Failed trials are left alone. Of trials that differ in how validations
    draw pictures alone, which share a folder, it holds the last one, and need hold no other.
    """
    told: dict[str, dict[Sampling | None, tuple[TrialConfig, int]]] = defaultdict(dict)
    for _, trial, config in studies.told():
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            ways = told[config.fingerprint]
            _, before = ways.get(config.sampling, (config, 0))
            ways[config.sampling] = config, max(last_step(trial), before)
    for config in [assignment.config for assignment in studies.cut]:
        if config.fingerprint in told and config.sampling not in told[config.fingerprint]:
            del told[config.fingerprint]  # the folder is that one's now
    found = {}
    for fingerprint, ways in told.items():
        folder, (config, step) = run.trial(fingerprint), list(ways.values())[-1]
        if len(ways) > 1 and (folder / TRIAL).exists():
            there = TrialRecord.read(folder / TRIAL).trial_config().sampling
            config, step = ways.get(there, (config, step))
        result = journal.outcome(entries := journal.read(folder / journal.JOURNAL))
        whole = [entry for entry in journal.steps(entries) if entry["step"] >= step]
        ended = whole and (step < whole[-1]["of"] or (result and result.status == "complete"))
        if not (ended and (folder / TRIAL).exists()):
            found[fingerprint] = config, step
    return found
