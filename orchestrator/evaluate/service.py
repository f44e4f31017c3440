"""The evaluation service: what is to be scored, what is there already, and the rest on warm Ray actors.

A unit of work is a fixed number of images of one job (one set of weights on one test set), however many workers there
are. Its rows are on disk before it counts as done, and each is known by its content: what is there is never computed
again, and the same command goes on where any process of it died. Where networks run on GPUs, one actor a GPU samples,
and actors without one pull draws from it and score them, so that no GPU waits for a metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from orchestrator.evaluate import actors
from orchestrator.evaluate.pool import Pool
from orchestrator.evaluate.work import Planned, Unit, rows_there
from orchestrator.run.access import Access


@dataclass(frozen=True, kw_only=True)
class Workforce:
    """What evaluation takes of a cluster.

    workers: processes that run networks at a time. cpus, gpus: of each. apart: whether they only sample, and `cpus`
    processes of one core beside each of them score.
    """

    workers: int
    cpus: int = 1
    gpus: float = 0
    apart: bool = False
    max_restarts: int = 3


def evaluate(
    planned: Sequence[Planned], access: Access, workforce: Workforce, progress: Callable[[int], None]
) -> list[str]:
    """Compute the rows that are not there yet; this machine's run folder then holds all of them.

    Args:
        access: the driver's.
        progress: called with how many images, of all that are planned, have their rows.

    Returns:
        A line on each image, or whole set, that has no row, and why.

    Raises:
        InputError: weights, test sets or metrics' files that a worker cannot use.
    """
    there = rows_there(access)
    refused = list(dict.fromkeys(line for planned_job in planned for line in planned_job.refused))
    units = [unit for planned_job in planned for unit in planned_job.units(there)]
    ended = sum(len(planned_job.pictures) for planned_job in planned) - sum(len(unit.pictures) for unit in units)
    progress(ended)
    if not units and not any(planned_job.closing(there) for planned_job in planned):
        return refused

    def done(unit: Unit) -> None:
        nonlocal ended
        ended += 0 if unit.files else len(unit.pictures)
        progress(ended)

    def unfinished(unit: Unit) -> Unit | None:
        """A process may die after its rows are on disk and before it says so."""
        known = rows_there(access)
        left = tuple(picture for picture in unit.pictures if picture.key not in known)
        return unit if unit.files else replace(unit, pictures=left) if left else None

    size = max(min(workforce.workers * (workforce.cpus if workforce.apart else 1), len(units)), 1)
    with Pool(starter(access, workforce, size), size, workforce.max_restarts, unfinished) as pool:
        refused += pool.run(units, done)
        there = rows_there(access)
        refused += pool.run([unit for planned_job in planned if (unit := planned_job.closing(there))], done)
    there = rows_there(access)
    for planned_job in planned:
        if planned_job.set_key not in (None, *there):
            lost = sum(picture.key not in there for picture in planned_job.pictures)
            what = planned_job.job.subject
            refused.append(
                f"{what.benchmark} x{what.identity.scale}, {what.identity.combination}: no fid and kid of the set, "
                f"{lost} of its {len(planned_job.pictures)} images have no row"
            )
    return refused


def is_done(planned: Sequence[Planned], access: Access) -> bool:
    """Whether `evaluate` would find nothing to do."""
    there = rows_there(access)
    return not any(planned_job.units(there) or planned_job.closing(there) for planned_job in planned)


def starter(access: Access, workforce: Workforce, size: int) -> Callable[[int], Any]:
    """What makes the actor of a place in the pool."""
    access = access.for_workers()
    device = "cuda" if workforce.gpus else "cpu"
    if not workforce.apart:
        alone = ray.remote(actors.ScoringWorker).options(
            num_cpus=workforce.cpus, num_gpus=workforce.gpus, max_restarts=0
        )
        return lambda _: alone.remote(access, workforce.cpus, device)
    sampler = ray.remote(actors.SamplingWorker).options(
        num_cpus=0, num_gpus=workforce.gpus, max_restarts=-1, max_concurrency=workforce.cpus
    )
    scorer = ray.remote(actors.ScoringWorker).options(num_cpus=1, max_restarts=0)
    samplers = [sampler.remote(access, 1, device) for _ in range(min(workforce.workers, size))]
    return lambda number: scorer.remote(access, 1, "cpu", samplers[number % len(samplers)])
