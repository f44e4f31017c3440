"""What runs on Ray beside the search and evaluation: teachers, centroids, winners' further seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from orchestrator.plan.config import ResourceConfig, TrialConfig
from orchestrator.run import journal
from orchestrator.run.access import Access
from orchestrator.run.journal import TrialResult, outcome
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
    *,
    at_a_time: int,
    steered: bool = False,
) -> list[TrialResult]:
    """Run trials to their end, none stopped early; `progress` gets the finished steps of all of them together.

    Args:
        access: the driver's.
        steered: whether their validations are held against those of a search.
    """
    task = ray.remote(_execute).options(max_retries=resources.max_restarts, **reserved_for_trial(resources))
    workers = access.for_workers()
    results = [_ended(access, config, steered) for config in configs]
    todo = [i for i, result in enumerate(results) if result is None]
    running: dict[Any, int] = {}
    try:
        while todo or running:
            while todo and len(running) < at_a_time:
                i = todo.pop(0)
                running[task.remote(configs[i].model_dump(mode="json"), workers, resources, device, steered)] = i
            done, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            progress(sum(_step(access, config) for config in configs))
            with user_errors():
                for ref in done:
                    results[running.pop(ref)] = ray.get(ref)
        return [result for result in results if result is not None]
    finally:
        for ref in running:  # only on the way out of an interrupted wait
            ray.cancel(ref, force=True)


def _execute(
    trial: dict[str, Any], access: Access, resources: ResourceConfig, device: str, steered: bool
) -> TrialResult:
    if resources.workers_per_trial > 1:
        from orchestrator.training.group import fit
        from orchestrator.training.worker import Crew

        return fit(Crew(access, resources, device, steered), trial)
    return execute(
        trial,
        access,
        device=device,
        threads=resources.cpus_per_worker,
        report=lambda _step, _metrics: "continue",
        micro_batch=resources.micro_batch,
        steered=steered,
    )


def _ended(access: Access, config: TrialConfig, steered: bool) -> TrialResult | None:
    """How a trial ended in full or failed; None if there is something left to run."""
    result = outcome(access.read_journal(config.fingerprint))
    if steered and not access.measures(config):
        return None
    return None if result is None or result.status == "stopped" else result


def _step(access: Access, config: TrialConfig) -> int:
    return max((entry["step"] for entry in journal.steps(access.read_journal(config.fingerprint))), default=0)


@contextmanager
def user_errors() -> Iterator[None]:
    """Raise what the user can mend as one line, without Ray's traceback around it."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
    except ray.exceptions.OutOfMemoryError:
        raise InputError(
            "out of memory: Ray ended a worker because its node ran low; set resources.max_concurrent lower, "
            "then run the same command again"
        ) from None
