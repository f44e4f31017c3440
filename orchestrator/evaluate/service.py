"""The evaluation service: what is to be scored, what is there already, and the rest on warm Ray actors.

A unit of work is a fixed number of images of one job (one set of weights on one test set), however many workers there
are. What it measured is on disk before it counts as done, and is known by its content: it is never computed again, by
no sweep of an output, and the same command goes on where any process of it died. Where networks run on GPUs, one actor
a GPU samples, and actors without one pull draws from it and score them, so that no GPU waits for a metric.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from eval.rows import Subject, knows
from orchestrator.evaluate import actors
from orchestrator.evaluate.measured import Measured, exchange
from orchestrator.evaluate.pool import Pool
from orchestrator.evaluate.work import Known, Planned, Unit, bring, rows_there
from orchestrator.run.access import Access


@dataclass(frozen=True, kw_only=True)
class Workforce:
    """What evaluation takes of a cluster.

    workers: processes that run networks at a time. cpus, gpus: of each. apart: whether they only sample, and `cpus`
    processes of one core beside each of them score. max_bytes: what one picture may take in such a process.
    """

    workers: int
    cpus: int = 1
    gpus: float = 0
    apart: bool = False
    max_restarts: int = 3
    max_bytes: int | None = None


def evaluate(
    planned: Sequence[Planned], access: Access, workforce: Callable[[], Workforce], progress: Callable[[int], None]
) -> list[str]:
    """Bring about the rows that the run lacks; this machine's run folder then holds all of them.

    What another run of the output has measured is taken from there; of an image that lacks some metrics only those are
    computed. A job's rows come into the run together, as soon as all are measured, what there is of them at the end.

    Args:
        access: the driver's.
        workforce: asked for if something is to be measured.
        progress: called with how many images, of all that are planned, are measured.

    Returns:
        A line on each image, or whole set, that has no row, and why.

    Raises:
        InputError: weights, test sets or metrics' files that a worker cannot use.
    """
    there = rows_there(access)
    refused = list(dict.fromkeys(line for planned_job in planned for line in planned_job.refused))
    ended = sum(len(planned_job.pictures) for planned_job in planned)
    groups = _of_same_weights(planned_job for planned_job in planned if not planned_job.is_there(there))
    jobs = {planned_job.job.subject: planned_job for group in groups.values() for planned_job in group}
    measured = Measured(access)
    tried: dict[Subject, set[str]] = {subject: set() for subject in jobs}
    left: Counter[Subject] = Counter()
    for group in groups.values():
        exchange(group[0].job.subject, access)

    def due() -> list[Unit]:
        """The units that are to be tried next: each measurement once, for whichever job comes first."""
        nonlocal ended
        handed: set[str] = set()
        units = []
        for subject, planned_job in jobs.items():
            if planned_job.is_there(there):
                continue
            known = measured.of(subject)
            close(planned_job, known)
            for unit in planned_job.units(there, known, handed | tried[subject]):
                names = [planned_job.set_measured] if unit.files else [picture.measured for picture in unit.pictures]
                tried[subject] |= {*names}
                handed |= {*names}
                left[subject] += len(unit.pictures)
                ended -= 0 if unit.files else len(unit.pictures)
                units.append(unit)
        progress(ended)
        return units

    def close(planned_job: Planned, known: Known) -> None:
        subject = planned_job.job.subject
        if not planned_job.units(there, known):
            measured.compact(subject)  # first: nobody looks there again for a run that has its rows
            bring(planned_job, there, known, access)
        if all(other.is_there(there) for other in groups[subject.content]):
            measured.forget(subject)

    def done(unit: Unit) -> None:
        nonlocal ended
        subject = unit.job.subject
        left[subject] -= len(unit.pictures)
        if not left[subject]:
            close(jobs[subject], measured.of(subject))
        if not unit.files:
            ended += len(unit.pictures)
            progress(ended)

    def unfinished(unit: Unit) -> Unit | None:
        """A process may die after its rows are on disk and before it says so."""
        known = measured.of(unit.job.subject)
        lacking = tuple(
            picture for picture in unit.pictures if not knows(known.get(picture.measured), unit.job.metrics)
        )
        return unit if unit.files else replace(unit, pictures=lacking) if lacking else None

    if units := due():
        force = workforce()
        size = max(min(force.workers * (force.cpus if force.apart else 1), len(units)), 1)
        with Pool(starter(access, force, size), size, force.max_restarts, unfinished) as pool:
            while units:
                refused += pool.run(units, done)
                units = due()
    for subject, planned_job in jobs.items():
        if not planned_job.is_there(there):
            known = measured.of(subject)
            measured.compact(subject)
            bring(planned_job, there, known, access)
        if planned_job.set_key is not None and planned_job.set_key not in there:
            lost = sum(picture.key not in there for picture in planned_job.pictures)
            refused.append(
                f"{subject.benchmark} x{subject.identity.scale}, {subject.identity.combination}: no fid and kid of the "
                f"set, {lost} of its {len(planned_job.pictures)} images have no row"
            )
    return refused


def is_done(planned: Sequence[Planned], access: Access) -> bool:
    """Whether `evaluate` would find nothing to compute."""
    there, measured = rows_there(access), Measured(access)
    groups = _of_same_weights(planned_job for planned_job in planned if not planned_job.is_there(there))
    for group in groups.values():
        subject = group[0].job.subject
        known = measured.of(subject)
        measured.forget(subject)
        if any(planned_job.units(there, known) for planned_job in group):
            return False
    return True


def _of_same_weights(planned: Iterable[Planned]) -> dict[str, list[Planned]]:
    """Jobs by the folder of measurements that they share (`Subject.content`): one after the other they read it once."""
    groups: dict[str, list[Planned]] = defaultdict(list)
    for planned_job in planned:
        groups[planned_job.job.subject.content].append(planned_job)
    return groups


def starter(access: Access, workforce: Workforce, size: int) -> Callable[[int], Any]:
    """What makes the actor of a place in the pool."""
    access = access.for_workers()
    device = "cuda" if workforce.gpus else "cpu"
    if not workforce.apart:
        alone = ray.remote(actors.ScoringWorker).options(
            num_cpus=workforce.cpus, num_gpus=workforce.gpus, max_restarts=0
        )
        return lambda _: alone.remote(access, workforce.cpus, device, workforce.max_bytes)
    sampler = ray.remote(actors.SamplingWorker).options(
        num_cpus=0, num_gpus=workforce.gpus, max_restarts=-1, max_concurrency=workforce.cpus
    )
    scorer = ray.remote(actors.ScoringWorker).options(num_cpus=1, max_restarts=0)
    samplers = [sampler.remote(access, 1, device, workforce.max_bytes) for _ in range(min(workforce.workers, size))]
    return lambda number: scorer.remote(access, 1, "cpu", sampler=samplers[number % len(samplers)])
