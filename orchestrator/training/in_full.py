"""What runs on Ray beside the search and evaluation: teachers, centroids, winners' further seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import ray

from orchestrator.plan.resources import ResourceConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.run import events, journal
from orchestrator.run.access import Access
from orchestrator.run.budget import BudgetReached, Meter
from orchestrator.run.journal import TrialResult, outcome
from orchestrator.run.progress import say
from orchestrator.training.failure import LOST, NODE_OUT_OF_MEMORY
from orchestrator.training.worker import execute, reserved_for_trial
from sr_models.errors import InputError

POLL_SECONDS = 0.5
"""How often the driver looks at the journals of trials that run as plain tasks."""


def run_in_full(
    configs: Sequence[TrialConfig],
    access: Access,
    resources: ResourceConfig,
    device: str,
    progress: Callable[[int], None],
    meter: Meter,
    *,
    at_a_time: Callable[[], int],
    steered: bool = False,
    until: Mapping[str, int] = MappingProxyType({}),
) -> list[TrialResult]:
    """Run trials to their end; `progress` gets the finished steps of all of them together, at once and then as they go.

    A trial that its environment ended, here or in a run of its group, is a failed result; the others go on. Once a
    budget is reached, each trial under way is ended at its next validation.

    Args:
        access: the driver's.
        at_a_time: how many run at a time, asked if any is to be run.
        steered: whether their validations are held against those of a search.
        until: fingerprint -> the validation after which that trial is stopped, and not run to its end.

    Raises:
        BudgetReached: trials are left, and none is under way.
    """
    last = [until.get(config.fingerprint, config.train.steps) for config in configs]
    task = ray.remote(_execute).options(max_retries=resources.max_restarts, **reserved_for_trial(resources))
    workers = access.for_workers()
    there = access.read_journals([config.fingerprint for config in configs])
    reached = [journal.last_step(entries) for entries in there]
    results = [
        _ended(access, config, entries, step, steered)
        for config, entries, step in zip(configs, there, last, strict=True)
    ]
    todo = [i for i, result in enumerate(results) if result is None]
    running: dict[Any, int] = {}
    progress(sum(reached))  # an earlier invocation may have left nothing to wait for
    try:
        while todo or running:
            while todo and not meter.forbids and len(running) < at_a_time():
                i = todo.pop(0)
                meter.begin(configs[i].fingerprint, reached[i], configs[i].train.steps)
                trial = configs[i].model_dump(mode="json")
                running[task.remote(trial, workers, resources, device, steered, last[i])] = i
            if not running:
                raise BudgetReached(meter.forbids)
            done, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            looked = list(running.values())  # what waits stands still, and what has ended too
            read = dict(zip(looked, access.read_journals([configs[i].fingerprint for i in looked]), strict=True))
            further = set()
            for i, entries in read.items():
                if new := [entry for entry in journal.steps(entries) if entry["step"] > reached[i]]:
                    further.add(i)
                    events.validations(configs[i].fingerprint, new)
                reached[i] = journal.last_step(entries)
            progress(sum(reached))
            if meter.used_up:
                for ref in [
                    ref for ref, i in running.items() if ref not in done and i in further and reached[i] < last[i]
                ]:
                    ray.cancel(ref, force=True)  # what it has come to lies in its checkpoint
                    meter.end(configs[i := running.pop(ref)].fingerprint, "left", reached[i])
                    todo.append(i)
            for ref in done:
                i = running.pop(ref)
                result = results[i] = _result(ref, access, configs[i].fingerprint)
                meter.end(configs[i].fingerprint, result.status, result.step, result.cause)
                for note in journal.notes(read[i]):
                    say(note)
        return [result for result in results if result is not None]
    finally:
        for ref in running:  # only on the way out of an interrupted wait
            ray.cancel(ref, force=True)


def _execute(
    trial: dict[str, Any], access: Access, resources: ResourceConfig, device: str, steered: bool, until: int
) -> TrialResult:
    if resources.workers_per_trial > 1:
        from orchestrator.training.group import fit
        from orchestrator.training.worker import Crew

        return fit(Crew(access, resources, device, steered), trial, until=until)
    return execute(
        trial,
        access,
        device=device,
        threads=resources.cpus_per_worker,
        report=lambda step, _metrics: "continue" if step < until else "stop",
        micro_batch=resources.micro_batch,
        max_bytes=resources.bound,
        steered=steered,
    )


def _result(ref: Any, access: Access, fingerprint: str) -> TrialResult:
    """How a task says its trial ended, or its journal from now on, where the environment left it without a word.

    Raises:
        InputError: what the user can mend. ray.exceptions.RayTaskError: a defect.
    """
    try:
        with user_errors():
            return ray.get(ref)
    except ray.exceptions.OutOfMemoryError:
        cause = NODE_OUT_OF_MEMORY
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError):
        cause = LOST
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, OSError):
            raise
        cause = f"{type(error.cause).__name__}: {error.cause}"
    return access.end(fingerprint, "failed", None, cause, "environment")


def _ended(
    access: Access, config: TrialConfig, entries: list[dict[str, Any]], until: int, steered: bool
) -> TrialResult | None:
    """How a trial with these entries ended, if it came to step `until` or failed; None: something is left to run.

    One that its environment ended, in an earlier invocation, is reopened.
    """
    result = outcome(entries)
    if result is not None and not result.is_final:
        access.reopen(config.fingerprint)
        return None
    if not access.measures(config, steered):
        return None
    return None if result is None or (result.status == "stopped" and result.step < until) else result


@contextmanager
def user_errors() -> Iterator[None]:
    """Raise what the user can mend as one line, without Ray's traceback around it.

    Raises:
        InputError: the one of a task.
    """
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
