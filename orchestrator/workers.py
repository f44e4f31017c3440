"""What runs on Ray beside the search and evaluation: teachers, centroids, winners' further seeds."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from cluster.ray_runtime import TRIAL_SLOT
from orchestrator import journal
from orchestrator.config import ResourceConfig, TrialConfig
from orchestrator.place import Place, outcome
from orchestrator.trial import Report, TrialResult, run_trial
from sr_models.errors import InputError

POLL_SECONDS = 0.5
"""How often the driver looks at the journals of trials that run as plain tasks."""


def execute(
    trial: dict[str, Any],
    place: Place,
    *,
    device: str,
    threads: int,
    report: Report,
    rank: int = 0,
    world: int = 1,
    micro_batch: int | None = None,
) -> TrialResult:
    """Run one trial of a run in this process, or this process's part of it, with its own number of threads."""
    import torch

    torch.set_num_threads(threads)
    config = TrialConfig.model_validate(trial)
    folder = place.trial_folder(config.fingerprint, rank)
    try:
        return run_trial(
            config,
            place.open_store(),
            report,
            device=device,
            rank=rank,
            world=world,
            out_dir=folder,
            init=place.init(config.init),
            micro_batch=micro_batch,
            pull=functools.partial(place.pull_trial, config.fingerprint, rank),
            kept=functools.partial(place.push_trial, config.fingerprint),
        )
    finally:
        if folder != place.here.trial(config.fingerprint):
            shutil.rmtree(folder, ignore_errors=True)


def run_in_full(
    configs: Sequence[TrialConfig],
    place: Place,
    resources: ResourceConfig,
    device: str,
    progress: Callable[[int], None],
    *,
    at_a_time: int,
) -> list[TrialResult]:
    """Run trials to their end, none stopped early; `progress` gets the finished steps of all of them together."""
    task = ray.remote(_execute).options(max_retries=resources.max_restarts, **held_by_trial(resources))
    results = [_ended(place, config) for config in configs]
    todo = [i for i, result in enumerate(results) if result is None]
    running: dict[Any, int] = {}
    try:
        while todo or running:
            while todo and len(running) < at_a_time:
                i = todo.pop(0)
                running[task.remote(configs[i].model_dump(mode="json"), place, resources, device)] = i
            done, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            progress(sum(_step(place, config) for config in configs))
            with _user_errors():
                for ref in done:
                    results[running.pop(ref)] = ray.get(ref)
        return [result for result in results if result is not None]
    finally:
        for ref in running:  # only on the way out of an interrupted wait
            ray.cancel(ref, force=True)


def held_by_trial(resources: ResourceConfig) -> dict[str, Any]:
    """What Ray sets aside for a trial, in `ray.remote`'s words: its cores, or a slot where its workers hold them."""
    if resources.workers_per_trial > 1:
        return {"num_cpus": 0, "resources": {TRIAL_SLOT: 1}}
    return {"num_cpus": resources.cpus_per_worker, "num_gpus": resources.gpus_per_worker}


def _execute(trial: dict[str, Any], place: Place, resources: ResourceConfig, device: str) -> TrialResult:
    if resources.workers_per_trial > 1:
        from orchestrator.train import Crew, fit

        return fit(Crew(place, resources, device), trial)
    return execute(
        trial,
        place,
        device=device,
        threads=resources.cpus_per_worker,
        report=lambda _step, _metrics: "continue",
        micro_batch=resources.micro_batch,
    )


def _ended(place: Place, config: TrialConfig) -> TrialResult | None:
    """How a trial ended in full or failed; None if there is something left to run."""
    result = outcome(place.look(config.fingerprint))
    return None if result is None or result.status == "stopped" else result


def _step(place: Place, config: TrialConfig) -> int:
    return max((entry["step"] for entry in journal.steps(place.look(config.fingerprint))), default=0)


@contextmanager
def _user_errors() -> Iterator[None]:
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


def make_centroids(
    checkpoint: str, place: Place, teacher: str, scale: int, resources: ResourceConfig, device: str
) -> None:
    """Fill the store with mu and D(mu) of a teacher, on one worker; `checkpoint` names its folder in the run."""
    cpus = resources.cpus_per_worker
    task = ray.remote(_make_centroids).options(num_cpus=cpus, num_gpus=resources.gpus_per_worker)
    with _user_errors():
        ray.get(task.remote(checkpoint, place, teacher, scale, cpus, device))


def _make_centroids(checkpoint: str, place: Place, teacher: str, scale: int, threads: int, device: str) -> None:
    import torch

    from sr_models import weights
    from sr_models.inference import super_resolve

    torch.set_num_threads(threads)
    net, _ = weights.load(place.fetch_folder(checkpoint))
    net = net.to(device)
    store = place.open_store()
    store.add_centroids(teacher, scale, lambda lr: super_resolve(net, lr).sr, device=device)
    place.publish(store)
