"""Ray Tune places the search's trials; Optuna's studies decide what runs and what stops.

Tune keeps no truth of its own: after a crash a new Tuner over the same studies goes on (restoring Tune's snapshot
beside a database ran steps twice or crashed). Trials are functions in reused actors, so torch is imported once a slot;
a trial on several workers holds a slot on the head and drives a Ray Train run (`orchestrator.training.group`).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import ray
from optuna.trial import TrialState
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.plan.config import ResourceConfig
from orchestrator.run import journal
from orchestrator.run.access import Place
from orchestrator.run.folder import RunDir
from orchestrator.run.records import write_trial
from orchestrator.search.studies import Assignment, Studies
from orchestrator.training.group import Verdicts, fit
from orchestrator.training.worker import Crew, execute, held_by_trial

Progress = Callable[[Assignment, int, str], None]
"""Called with (trial, finished steps, "running" | "complete" | "stopped" | "failed")."""


def search(
    studies: Studies, place: Place, resources: ResourceConfig, concurrency: int, device: str, progress: Progress
) -> None:
    """Run every planned trial that has not been told yet; returns when all have."""
    if not studies.open:
        return
    board = _Board(studies, place, resources, device, progress)
    held = held_by_trial(resources)
    bundle = {"cpu": held["num_cpus"], "gpu": held.get("num_gpus", 0), **held.get("resources", {})}
    trial = tune.with_parameters(_trial, crew=board.crew)  # not in its config, which Tune writes down
    trainable = tune.with_resources(trial, {name: amount for name, amount in bundle.items() if amount})
    with tempfile.TemporaryDirectory(
        prefix="sr-sweep-tune-"
    ) as scratch:  # Tune insists on a folder; nothing in it is read
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_StudySearcher(board),
                scheduler=_StudyScheduler(board),
                num_samples=-1,
                max_concurrent_trials=concurrency,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=board.run.name,
                storage_path=scratch,
                verbose=0,
                callbacks=[_Losses(board)],
                failure_config=tune.FailureConfig(max_failures=resources.max_restarts),
            ),
        )
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # its boxes ignore verbose=0
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is the sweep's to handle
        tuner.fit()
    board.close_journals()
    if studies.open:
        raise RuntimeError(f"{studies.open} planned trials were not run; the same command goes on with them")


def _trial(config: dict[str, Any], crew: Crew) -> None:
    """What a Tune actor runs: one trial, reporting each validation; the driver may end it at any of them."""

    def report(step: int, metrics: dict[str, float]) -> Literal["continue", "stop"]:
        try:
            tune.report({"step": step, "status": "running", "metrics": metrics})
        except SystemExit:  # how Tune ends a function's thread
            return "stop"
        return "continue"

    if crew.verdicts is not None:
        result = fit(crew, config["trial"], config["key"], [TuneReportCallback()])
    else:
        result = execute(
            config["trial"],
            crew.place,
            device=crew.device,
            threads=crew.resources.cpus_per_worker,
            report=report,
            micro_batch=crew.resources.micro_batch,
        )
        if result.status == "stopped":  # a plain return has Tune's wrapper report once more, into the next trial
            raise SystemExit(0)
    tune.report({"step": result.step, "status": result.status, "metrics": result.metrics, "cause": result.cause})


class _Board:
    """The trials in flight, shared by Tune's searcher and scheduler: Tune's trial id -> assignment."""

    def __init__(
        self, studies: Studies, place: Place, resources: ResourceConfig, device: str, progress: Progress
    ) -> None:
        self.studies, self.place, self.progress, self.run = studies, place, progress, RunDir(Path(place.run))
        self.verdicts: Any = _here(Verdicts) if resources.workers_per_trial > 1 else None
        self.crew = Crew(place, resources, device, self.verdicts)
        self.live: dict[str, Assignment] = {}
        self.twins: list[Assignment] = []
        """Proposed while a trial of the same fingerprint runs: two at a time would be in each other's way."""
        self.given: dict[tuple[str, int], bool] = {}
        """Whether a trial was told to stop after a step: workers that were started again must hear the same."""
        self.errors: dict[str, str] = {}

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Tune pickles what it is given into a snapshot that is never read: leave database connections out of it."""
        return (object, ())

    def start(self, trial_id: str) -> dict[str, Any] | None:
        assignment = self._next()
        if assignment is None:
            return None
        self.live[trial_id] = assignment
        write_trial(
            self.run,
            assignment.config,
            combination=assignment.combination.id,
            role="search",
            number=assignment.number,
            params=assignment.trial.params,
        )
        for entry in journal.steps(self.place.look(assignment.config.fingerprint)):
            self.studies.hear(assignment, entry["step"], entry["metrics"])  # what a dead driver did not hear
        return {"trial": assignment.config.model_dump(mode="json"), "key": trial_id}

    def _next(self) -> Assignment | None:
        """The next trial whose twin is not running."""
        busy = {one.config.fingerprint for one in self.live.values()}
        for twin in self.twins:
            if twin.config.fingerprint not in busy:
                self.twins.remove(twin)
                return twin
        while (found := self.studies.next()) and found.config.fingerprint in busy:
            self.twins.append(found)
        return found

    def judge(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take in a report; True if Tune is to stop the trial. Workers of a Ray Train run are told, and stop it."""
        if self.verdicts is None:
            return trial_id in self.live and self.hear(trial_id, result)
        report = trial_id, int(result["step"])
        if report not in self.given:
            self.given[report] = trial_id in self.live and self.hear(trial_id, result)
        elif trial_id in self.live and result["status"] != "running":
            self.hear(trial_id, result)
        self.verdicts.give.remote(*report, "stop" if self.given[report] else "continue")
        return False

    def hear(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take in a report; True if the trial is to stop."""
        assignment = self.live[trial_id]
        metrics = {key.removeprefix("metrics/"): value for key, value in result.items() if key.startswith("metrics/")}
        if metrics and result["status"] != "failed":
            self.studies.hear(assignment, result["step"], metrics)
        if (
            result["status"] == "running"
            and result["step"] < assignment.config.train.steps
            and self.studies.should_stop(assignment)
        ):
            self.close(trial_id, TrialState.PRUNED, result["step"])
            return True
        self.progress(assignment, result["step"], "running")
        return False

    def close(self, trial_id: str, state: TrialState, step: int, cause: str | None = None) -> None:
        assignment = self.live.pop(trial_id)
        self.place.look(assignment.config.fingerprint)
        self.studies.tell(assignment, state, cause)
        self.progress(
            assignment, step, {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped"}.get(state, "failed")
        )

    def close_journals(self) -> None:
        """Write the end of stopped trials whose worker did not live to do so; nobody is working on them any more."""
        for fingerprint, step in self.studies.pruned():
            entries = self.place.look(fingerprint)
            if entries and journal.end(entries) is None:
                self.place.end(fingerprint, "stopped", step)


def _here(actor: type) -> Any:
    """Start an actor without CPUs on the sweep's own node: any other may leave under it, or stay up for it alone."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(actor).options(num_cpus=0, scheduling_strategy=here).remote()


class _StudyScheduler(FIFOScheduler):
    """Asks the trial's own study at each report whether it goes on."""

    def __init__(self, board: _Board) -> None:
        super().__init__()
        self.board = board

    def on_trial_result(self, tune_controller: object, trial: TuneTrial, result: dict[str, Any]) -> str:
        if self.board.judge(trial.trial_id, result):
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: object, trial: TuneTrial) -> None:
        """Keep why Tune gave up on a trial: it was restarted as often as `max_restarts` allows."""
        self.board.errors[trial.trial_id] = _cause(trial) or "its worker was lost more often than max_restarts allows"


def _cause(trial: TuneTrial) -> str | None:
    """Why a trial's last failure would only happen again; None if its worker or node was lost.

    Tune's own `get_error` looks for this file where it will be copied later, and finds nothing yet.
    """
    text = Path(trial.error_file).read_text(encoding="utf-8").rpartition("Failure #")[2] if trial.error_file else ""
    if "running low on memory" in text:
        return "out of memory: Ray ended the worker because its node ran low"
    last = text.strip().rpartition("\n")[2]
    raised = "ray::" in text and "  File " in text  # an exception of the trial's own code, with its traceback
    away = re.match(r"(\w+\.)*(OSError|ConnectionError|TimeoutError)\b", last)  # a storage that may come back
    return last if raised and not away else None


class _Losses(tune.Callback):
    """Tells a lost worker, whose trial goes on elsewhere, from a trial that would only fail again."""

    def __init__(self, board: _Board) -> None:
        self.board = board

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Tune starts the trial again: where that cannot help, its journal says so and the restart ends at once."""
        cause = _cause(trial)
        if cause is None or trial.trial_id not in self.board.live:
            return
        self.board.place.end(self.board.live[trial.trial_id].config.fingerprint, "failed", None, cause)


class _StudySearcher(Searcher):
    """Hands out the studies' trials and tells the studies how they ended. It has no state of its own to save."""

    def __init__(self, board: _Board) -> None:
        super().__init__()
        self.board = board

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        started = self.board.start(trial_id)
        if started is None and self.board.twins:
            return None  # ask again later
        return started or Searcher.FINISHED  # type: ignore[return-value]  # FINISHED is a string to Tune

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id not in self.board.live:  # stopped by the scheduler, which told the study
            return
        step = int(result["step"]) if result else 0
        if error or result is None:
            self.board.close(trial_id, TrialState.FAIL, step, self.board.errors.get(trial_id, "its worker was lost"))
        elif result["status"] == "complete":
            self.board.hear(trial_id, result)
            self.board.close(trial_id, TrialState.COMPLETE, step)
        elif result["status"] == "failed":
            self.board.close(trial_id, TrialState.FAIL, step, result.get("cause"))
        else:
            raise AssertionError(f"trial {trial_id} ended while {result['status']!r}")

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a search goes on from its studies, never from Tune's snapshot")
