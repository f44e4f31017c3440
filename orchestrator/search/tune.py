"""Ray Tune places the search's trials; Optuna's studies decide what runs and what stops.

Tune keeps no truth of its own: after a crash a new Tuner over the same studies goes on (restoring Tune's snapshot
beside a database ran steps twice or crashed). Trials are functions in reused actors, so torch is imported once a slot;
a trial on several workers holds a slot on the head and drives a Ray Train run (`orchestrator.training.group`).
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

from cluster.ray_private import QUIET_TUNE
from orchestrator.plan.resources import ResourceConfig
from orchestrator.run.access import Access
from orchestrator.run.budget import BudgetReached, Meter
from orchestrator.run.progress import say
from orchestrator.run.roles import Roles
from orchestrator.search.in_flight import InFlight, SearchProgress, lost
from orchestrator.search.studies import Studies
from orchestrator.training.failure import LOST
from orchestrator.training.group import Verdicts, fit
from orchestrator.training.in_full import run_in_full
from orchestrator.training.worker import Crew, execute, reserved_for_trial
from sr_models.errors import DiskFullError, InputError
from sr_models.hashing import digest

ROUND = 250
"""Trials that Tune is given at a time. It keeps what it knows of each until all of them have ended."""


def search(
    studies: Studies,
    access: Access,
    roles: Roles,
    resources: ResourceConfig,
    at_a_time: Callable[[], int],
    device: str,
    progress: SearchProgress,
    meter: Meter,
) -> None:
    """Run every planned trial that has not been told yet, and those that `lost` names; returns when all have.

    Args:
        at_a_time: how many run at a time, asked if any is to be run.

    Raises:
        BudgetReached: trials are left, and none is under way.
    """
    if again := lost(studies, access.run):
        say(f"search: {len(again)} finished trial(s), of damaged or deleted files, are run again")
        until = {fingerprint: step for fingerprint, (_, step) in again.items()}
        configs = [config for config, _ in again.values()]
        run_in_full(
            configs,
            access,
            resources,
            device,
            lambda _: None,
            meter,
            at_a_time=at_a_time,
            steered=True,
            until=until,
        )
    if not studies.open:
        return
    most = at_a_time()
    verdicts: Any = _here(Verdicts) if resources.workers_per_trial > 1 else None
    in_flight = InFlight(studies, access, roles, progress, meter, verdicts and verdicts.give.remote)
    reserved = reserved_for_trial(resources)
    bundle = {"cpu": reserved["num_cpus"], "gpu": reserved.get("num_gpus", 0), **reserved.get("resources", {})}
    crew = Crew(access.for_workers(), resources, device, True, verdicts)
    trial = tune.with_parameters(_trial, crew=crew)  # not in its config, which Tune writes down
    trainable = tune.with_resources(trial, {name: amount for name, amount in bundle.items() if amount})
    left = studies.open
    while left:
        with scratch_of(in_flight.run.path) as scratch:
            tuner = tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=_StudySearcher(in_flight, ROUND),
                    scheduler=_StudyScheduler(in_flight),
                    num_samples=-1,
                    max_concurrent_trials=most,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name=in_flight.run.name,
                    storage_path=scratch,
                    verbose=0,
                    progress_reporter=tune.CLIReporter(),  # a notebook's clears what its cell has said so far
                    callbacks=[_Losses(in_flight)],
                    failure_config=tune.FailureConfig(max_failures=resources.max_restarts),
                ),
            )
            os.environ.update(QUIET_TUNE)
            tuner.fit()
        if studies.open and (bound := meter.forbids):
            in_flight.close_journals()
            raise BudgetReached(bound)
        if studies.open == left:
            raise RuntimeError(f"{left} planned trials were not run; the same command goes on with them")
        left = studies.open
    in_flight.close_journals()


@contextmanager
def scratch_of(run: Path) -> Iterator[str]:
    """A folder that Tune insists on and nobody reads; what killed drivers of the same run left goes first."""
    prefix = f"sr-sweep-tune-{digest(str(run.resolve()))[:8]}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        seen = left.lstat()
        if stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.getuid():
            shutil.rmtree(left, ignore_errors=True)  # what resists is tried again at the next start
    with tempfile.TemporaryDirectory(prefix=prefix) as scratch:
        yield scratch


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
            crew.access,
            device=crew.device,
            threads=crew.resources.cpus_per_worker,
            report=report,
            micro_batch=crew.resources.micro_batch,
            max_bytes=crew.resources.bound,
            steered=crew.steered,
        )
        if result.status == "stopped":  # a plain return has Tune's wrapper report once more, into the next trial
            raise SystemExit(0)
    ended = {"step": result.step, "status": result.status, "metrics": result.metrics}
    tune.report({**ended, "cause": result.cause, "why": result.why})


def _here(actor: type) -> Any:
    """Start an actor without CPUs on the sweep's own node: any other may leave under it, or stay up for it alone."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(actor).options(num_cpus=0, scheduling_strategy=here).remote()


class _StudyScheduler(FIFOScheduler):
    """Asks the trial's own study at each report whether it goes on."""

    def __init__(self, in_flight: InFlight) -> None:
        super().__init__()
        self.in_flight = in_flight

    def on_trial_result(self, tune_controller: object, trial: TuneTrial, result: dict[str, Any]) -> str:
        if self.in_flight.decide(trial.trial_id, result):
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: object, trial: TuneTrial) -> None:
        """Keep why Tune gave up on a trial: it was restarted as often as `max_restarts` allows."""
        self.in_flight.errors[trial.trial_id] = _raised(trial) or LOST


_AWAY = re.compile(r"(\w+\.)*(OSError|ConnectionError|TimeoutError|StorageAway|LostError)\b")
"""How the last line of a traceback begins that tells of a storage, which may come back."""


def _cause(trial: TuneTrial) -> str | None:
    """Why a trial's last failure would only happen again; None if its worker, its node or the storage was lost."""
    raised = _raised(trial)
    return None if raised and _AWAY.match(raised) else raised


def _raised(trial: TuneTrial) -> str | None:
    """What a trial's last failure said; None if it was its worker or its node that was lost.

    Tune's own `get_error` looks for this file where it will be copied later, and finds nothing yet.

    Raises:
        DiskFullError: a node's disk is full, which ends the search and says nothing of the trial.
    """
    text = Path(trial.error_file).read_text(encoding="utf-8").rpartition("Failure #")[2] if trial.error_file else ""
    if "running low on memory" in text:
        return "out of memory: Ray ended the worker because its node ran low"
    last = text.strip().rpartition("\n")[2]
    raised = "ray::" in text and "  File " in text  # an exception of the trial's own code, with its traceback
    if raised and (full := last.partition(f"{DiskFullError.__name__}: ")[2]):
        raise DiskFullError(full)
    return last.removeprefix(f"{InputError.__module__}.InputError: ") if raised else None


class _Losses(tune.Callback):
    """Tells a lost worker, whose trial goes on elsewhere, from a trial that would only fail again."""

    def __init__(self, in_flight: InFlight) -> None:
        self.in_flight = in_flight

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Tune starts the trial again: where that cannot help, its journal says so and the restart ends at once."""
        cause = _cause(trial)
        if cause is None or trial.trial_id not in self.in_flight.live:
            return
        fingerprint = self.in_flight.live[trial.trial_id].config.fingerprint
        if self.in_flight.access.is_busy(fingerprint):
            return  # another run goes on with it, and `end` would wait for that
        self.in_flight.access.end(fingerprint, "failed", None, cause, "environment")


class _StudySearcher(Searcher):
    """Hands out the studies' trials and tells the studies how they ended. It has no state of its own to save."""

    def __init__(self, in_flight: InFlight, most: int) -> None:
        super().__init__()
        self.in_flight, self.left = in_flight, most

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if not self.left or self.in_flight.meter.forbids:
            return Searcher.FINISHED  # type: ignore[return-value]  # a string to Tune
        started = self.in_flight.start(trial_id)
        if started is None and self.in_flight.duplicates:
            return None  # ask again later
        self.left -= 1
        return started or Searcher.FINISHED  # type: ignore[return-value]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id not in self.in_flight.live:  # stopped by the scheduler, which told the study
            return
        step = int(result["step"]) if result else 0
        if error or result is None:
            self.in_flight.leave(trial_id, step, self.in_flight.errors.get(trial_id, LOST))
        elif result["status"] == "complete":
            self.in_flight.take_in(trial_id, result)
            self.in_flight.close(trial_id, TrialState.COMPLETE, step)
        elif result["status"] == "failed" and result.get("why") == "environment":
            self.in_flight.leave(trial_id, step, result["cause"])
        elif result["status"] == "failed":
            self.in_flight.close(trial_id, TrialState.FAIL, step, result.get("cause"))
        else:
            raise AssertionError(f"trial {trial_id} ended while {result['status']!r}")

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a search goes on from its studies, never from Tune's snapshot")
