"""Planned rows brought about on a Ray cluster, and reported as `python -m eval` would."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from orchestrator.run.folder import RunDir
from orchestrator.run.lock import EVALUATE_LOCK, held, refuse_while_cleaned
from sr_models.command import interrupt_on_sigterm
from sr_models.errors import InputError
from sr_models.text_table import counted

if TYPE_CHECKING:
    from eval.report import Evaluation
    from orchestrator.evaluate.work import Planned
    from orchestrator.run.access import Access


PROG = "python -m orchestrator.evaluate"


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """What the rows may be computed on: workers, and the Ray cluster they are taken from."""

    workers: int | None
    """Processes that run networks; None for all that fit."""
    cpus: int
    """Of a worker."""
    gpus: float
    """Of a worker."""
    address: str | None
    may_add: str | None
    allow_anonymous: bool


def report(
    planned_job: Planned,
    access: Access,
    there: Mapping[str, str],
    metrics: Sequence[str],
    name: str,
    parameters: int,
    refused: Sequence[str],
    lr_sha256: str | None,
) -> Evaluation:
    """What `python -m eval` says of the same rows; `there`: `read_keys` of the run's.

    Raises:
        InputError: no image could be scored.
    """
    from eval.report import model_report
    from orchestrator.evaluate.work import lacking_set, rows_of

    rows, subject = rows_of(planned_job, access, there), planned_job.job.subject
    if not rows:
        more = f" (and {len(refused) - 1} more refused; nothing was scored)" if len(refused) > 1 else ""
        raise InputError((refused[0] if refused else f"no image of {subject.benchmark} was scored") + more)
    lacking = lacking_set(planned_job, rows)
    result = model_report(
        [*rows, *lacking],
        metrics,
        name=name,
        parameters=parameters,
        weights_sha256=subject.weights_sha256,
        lr_sha256=lr_sha256,
        options=subject.options,
        refused=refused,
        trained_scale=subject.identity.trained_scale,
    )
    return replace(result, rows=rows)


def bring_rows(
    planned: Sequence[Planned],
    access: Access,
    pool: PoolOptions,
    *,
    strict: bool,
    max_bytes: Literal["auto"] | int | None = None,
    max_restarts: int = 3,
) -> list[str]:
    """Bring the rows that lack, on a cluster that is joined only if there are any; what was refused.

    Args:
        max_bytes, max_restarts: of the run's `resources`.
    """
    from cluster import capacity, ray_runtime
    from orchestrator.evaluate import service as scoring
    from orchestrator.run.progress import bar, moves, say
    from orchestrator.training.memory import most_bytes

    for metric, why in dict.fromkeys(lacking for planned_job in planned for lacking in planned_job.job.lacking):
        say(f"{metric} not computed: {why}")
    if scoring.is_done(planned, access):
        return scoring.evaluate(planned, access, lambda: scoring.Workforce(workers=1), lambda _: None)
    interrupt_on_sigterm()
    with ray_runtime.connect(pool.address, may_add=pool.may_add, allow_anonymous=pool.allow_anonymous) as cluster:
        for stamps in dict.fromkeys(planned_job.job.subject.plugins for planned_job in planned):
            ray_runtime.check_plugins(json.loads(stamps or "{}"))
        fit = capacity.workers_that_fit(cluster, pool.cpus, pool.gpus)
        if not fit:
            raise InputError(
                f"--cpus-per-worker, --gpus-per-worker: no node has {counted(pool.cpus, 'CPU')} and "
                f"{counted(pool.gpus, 'GPU')}; there are {len(cluster.may_have)}, of {capacity.shapes(cluster)}"
            )
        workforce = scoring.Workforce(
            workers=pool.workers or fit,
            cpus=pool.cpus,
            gpus=pool.gpus,
            apart=pool.gpus > 0,
            max_restarts=max_restarts,
            max_bytes=most_bytes(max_bytes, cluster, pool.cpus, pool.gpus),
        )
        with bar("evaluation", sum(len(planned_job.pictures) for planned_job in planned)) as made:
            refused = scoring.evaluate(planned, access, lambda: workforce, moves(made))
    if strict and refused:
        raise InputError(refused[0])
    return refused


@contextmanager
def one_at_a_time(run: RunDir, option: str) -> Iterator[None]:
    """One evaluation at a time in a folder, and none while its output is cleaned."""
    with held(run.path, EVALUATE_LOCK, option, "another evaluation is writing to"):
        refuse_while_cleaned(run.output, option)
        yield
