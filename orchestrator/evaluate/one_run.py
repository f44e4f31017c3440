"""`python -m orchestrator.evaluate --run`: winners or trials of a run, and its board written anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sr_models
from eval import command
from eval.protocol import get_protocol
from eval.report_text import table
from eval.rows import read_keys
from orchestrator.evaluate.on_cluster import PoolOptions, bring_rows, one_at_a_time, report
from orchestrator.plan.evaluation import EvaluationConfig
from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.run.folder import RunDir
from sr_models.command import tell

if TYPE_CHECKING:
    from orchestrator.evaluate.work import Planned
    from orchestrator.run.access import Access


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Trials of a run to score, and what is to be other than in the run's config; None leaves that as it is."""

    run: Path
    trials: tuple[str, ...]
    """Beginnings of fingerprints; none of them for the winners."""
    protocol: str | None
    snapshots: bool
    """Whether the weights that these have kept along training are scored too."""
    metrics: str | None
    draws: int | None
    seed: int | None
    weights_dir: Path | None
    strict: bool
    """Whether a refused image or missing metric weights are an error."""
    storage: str | None
    """URI below which the run lives."""


def score_run(request: RunRequest, pool: PoolOptions) -> None:
    """Score trials of a run on workers, and write its board anew.

    Raises:
        InputError: no such run or trial, or nothing of it to score.
    """
    from orchestrator.run.driver import visited

    run = RunDir(request.run.absolute())
    home = visited(run, request.storage, "--run")
    config = load(run.config)
    plan, evaluation = make_plan(config), _changed(config.evaluation, request)

    from itertools import chain

    from orchestrator.data.inputs import Inputs
    from orchestrator.evaluate import entrants, work
    from orchestrator.leaderboard import compare as leaderboard
    from orchestrator.leaderboard import text as board_text
    from orchestrator.leaderboard.html import write_page
    from orchestrator.leaderboard.scores import unfinished
    from orchestrator.leaderboard.write import write

    with one_at_a_time(run, "--run"):
        try:
            if request.trials:
                own = list(chain.from_iterable(entrants.trials(home, plan, named) for named in request.trials))
                elsewhere = {source.scale for source in config.data.test.values() if source.scale is not None}
                scales = sorted(elsewhere | {entrant.identity.scale for entrant in own})
                scored = [*map(entrants.bicubic, scales), *own]
            else:
                own, scored = [], list(entrants.winners(run, plan))
            if request.snapshots:
                trained = {one.identity.fingerprint.partition("@")[0]: one for one in scored if one.checkpoint}
                kept = list(chain.from_iterable(entrants.snapshots(home, one) for one in trained.values()))
                own, scored = own + kept, scored + kept
            inputs = Inputs(config)
            jobs = entrants.jobs(scored, evaluation, inputs, home.access)
            planned = work.plan(jobs, inputs.benchmarks, home.access, strict=request.strict)
            refused = bring_rows(
                planned,
                home.access,
                pool,
                strict=request.strict,
                max_bytes=config.resources.max_bytes,
                max_restarts=config.resources.max_restarts,
            )
        finally:
            home.access.remove(entrants.SNAPSHOTS)
        mine = {entrant.identity for entrant in own}
        there = read_keys(run.evaluation)
        tables = [
            _trial_table(planned_job, home.access, there, evaluation.metrics)
            for planned_job in planned
            if planned_job.job.subject.identity in mine
        ]
        if run.winners.exists():
            left = "; ".join(unfinished(run.path))
            board = write(run.path, board_text.terminal_width(), unfinished=left or None)
            board += f"\n\nunfinished: {left}" if left else ""
            write_page(run.path)
            home.access.push("", ["leaderboard.*"])
        else:  # a board on disk would tell the tracker that the sweep is over
            board = board_text.text(leaderboard.boards(run.path), board_text.terminal_width())
            board += "\n\nso far; the sweep writes its board when it has its winners"
    tell("\n\n".join([*tables, board]))
    for line in refused:
        tell(f"refused: {line}")


def _trial_table(planned_job: Planned, access: Access, there: Mapping[str, str], metrics: Sequence[str]) -> str:
    import json

    from sr_models.networks.base import parameters

    who = planned_job.job.subject.identity
    net = sr_models.build(who.network, who.scale, **json.loads(planned_job.job.subject.hyper))
    _, at, step = who.fingerprint.partition("@")
    name = f"{who.model} × {who.objective} {who.fingerprint[:16]} ({who.weights}{f', step {step}' if at else ''})"
    return table(report(planned_job, access, there, metrics, name, parameters(net), [], None).report, per_image=False)


def _changed(evaluation: EvaluationConfig, request: RunRequest) -> EvaluationConfig:
    """The run's evaluation with what the request changes."""
    changes: dict[str, Any] = {"protocol": request.protocol, "draws": request.draws, "seed": request.seed}
    if request.protocol or request.metrics:
        protocol = get_protocol(request.protocol or evaluation.protocol, "--protocol")
        changes["metrics"] = command.chosen(request.metrics, protocol)
    if request.weights_dir is not None:
        changes["weights_dir"] = str(request.weights_dir)
    changes = {name: value for name, value in changes.items() if value is not None}
    return EvaluationConfig.parse({**evaluation.model_dump(), **changes}, "--run")
