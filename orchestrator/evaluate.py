"""`python -m orchestrator.evaluate`: score a checkpoint, or trials of a run, on workers of a Ray cluster.

The rows are those of `python -m eval`. They are kept, so the same command goes on where it was interrupted; a trial can
be scored while it trains, on another pool of resources.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

import sr_models
from eval import command
from eval.protocol import PROTOCOLS, get_protocol
from eval.report_text import table
from orchestrator.config import BenchmarkSource, EvaluationConfig, load
from orchestrator.plan import make_plan
from orchestrator.rundir import RunDir, write_text
from orchestrator.services import add_cluster_options, cluster_of, from_environment, output_folder
from sr_models.command import EXIT_DONE, Parser, interrupt_on_sigterm, run_command
from sr_models.errors import InputError

if TYPE_CHECKING:
    from eval.report import Evaluation
    from orchestrator.home import Home
    from orchestrator.place import Place
    from orchestrator.scoring import Planned

PROG = "python -m orchestrator.evaluate"
_FRESH = ("config.yaml", "plan.json", "winners.json", "trials/*/trial.json")


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


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Trials of a run to score, and what is to be other than in the run's config; None leaves that as it is."""

    run: Path
    trials: tuple[str, ...]
    """Beginnings of fingerprints; none of them for the winners."""
    protocol: str | None
    metrics: str | None
    draws: int | None
    seed: int | None
    weights_dir: Path | None
    strict: bool
    """Whether a refused image or missing metric weights are an error."""
    storage: str | None
    """URI below which the run lives."""


def parser(of_run: bool) -> Parser:
    """The command line: that of `python -m eval --model`, or that with --run."""
    if of_run:
        made = Parser(prog=PROG, description="Score trials of a sweep, and write its board anew.")
        made.add_argument("--run", metavar="RUN", type=Path, required=True, help="a run folder")
        made.add_argument(
            "--trial", metavar="FINGERPRINT", action="append", default=[],
            help="a trial, by enough of its fingerprint, finished or not; may be repeated (default: the winners)",
        )  # fmt: skip
        made.add_argument("--protocol", metavar="NAME", help=f"default: the run's; one of {', '.join(PROTOCOLS)}")
        made.add_argument("--metrics", metavar="A,B", help="or 'all' (default: the run's, with --protocol that one's)")
        made.add_argument("--draws", metavar="N", type=int, help="of a stochastic network (default: the run's)")
        made.add_argument("--seed", metavar="N", type=int, help="of its noise (default: the run's)")
        made.add_argument("--weights-dir", metavar="DIR", type=Path, help="of perceptual metrics (default: the run's)")
        made.add_argument("--strict", action="store_true", help="a refused image or missing weights are an error")
        made.add_argument("--storage", metavar="URI", help="where the run lives, as the sweep was told ($SR_STORAGE)")
    else:
        made = command.parser()
        made.prog = PROG
        made.description = (
            "Score a network on workers; `--run RUN` scores trials of a sweep instead (`--run RUN --help`)."
        )
        made.add_argument("--output", metavar="DIR", type=Path, help="where rows are kept (default: runs/eval-...)")
    pool = made.add_argument_group("workers")
    pool.add_argument("--workers", metavar="N", type=int, help="processes that run networks (default: all that fit)")
    pool.add_argument("--cpus-per-worker", metavar="N", type=int, default=1, help="cores and threads (default: 1)")
    pool.add_argument("--gpus-per-worker", metavar="N", type=float, default=0, help="GPUs, or a part (default: 0)")
    add_cluster_options(pool)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for input that cannot be used, 130 when interrupted."""
    return run_command(PROG, _run, argv, interrupted="the same command goes on")


def _run(argv: Sequence[str]) -> int:
    of_run = any(text.partition("=")[0] == "--run" for text in argv)
    given = parser(of_run).parse_args(argv)
    pool = _pool(given)
    if of_run:
        _score_run(_run_request(given), pool)
        return EXIT_DONE
    request = command.requested(given)
    if not isinstance(request, command.ModelRequest):
        raise InputError("--images: pictures need no workers; use python -m eval")
    _score_model(request, given.output, pool)
    return EXIT_DONE


def _score_model(request: command.ModelRequest, output: Path | None, pool: PoolOptions) -> None:
    for option, folder in (("--save-images", request.save_images), ("--pictures", request.pictures)):
        if folder is not None:
            raise InputError(f"{option} goes with python -m eval, not with workers")
    command.prepare_outputs(request)
    from eval.asked import load as load_asked

    asked = load_asked(request)
    bench, subject = asked.benchmark, asked.subject
    name = f"eval-{request.model}-x{request.scale}-{bench.name}"
    run = RunDir((output_folder(output) / ("" if output else name)).absolute())
    if run.plan.exists():
        raise InputError(f"--output: {run.path} is the run folder of a sweep; score its trials with --run")

    from orchestrator import scoring
    from orchestrator.place import Place
    from orchestrator.scorers import Job
    from sr_models.network import parameters

    with _held(run, "--output"):
        if not run.config.exists():
            write_text(run.config, f"# rows of {PROG}\n")
        place = Place(str(run.path))
        job = Job(
            subject=subject,
            checkpoint=str(request.weights.absolute()) if request.weights else None,
            source=BenchmarkSource(
                hr=str(request.hr.absolute()),
                lr=str(request.lr.absolute()) if request.lr else None,
                include=(),
                exclude=(),
            ),
            protocol=request.protocol,
            metrics=request.metrics,
            weights_dir=scoring.weights_folder(request.weights_dir),
        )
        planned = scoring.plan([job], {(bench.name, request.scale): bench}, place, strict=request.strict)
        refused = _evaluate(planned, place, pool, strict=request.strict)
        lr_sha256 = None if planned[0].refused else bench.lr_hash
        result = _report(planned[0], place, request.metrics, request.model, parameters(asked.model), refused, lr_sha256)
    command.show(request, result, subject)


def _score_run(request: RunRequest, pool: PoolOptions) -> None:
    run = RunDir(request.run.absolute())
    home = _home(run, request.storage)
    config = load(run.config)
    plan, evaluation = make_plan(config), _changed(config.evaluation, request)

    from itertools import chain

    from orchestrator import entrants, leaderboard, scoring
    from orchestrator.inputs import Inputs

    with _held(run, "--run"):
        try:
            if request.trials:
                own = list(chain.from_iterable(entrants.trials(home, plan, named) for named in request.trials))
                scored = [entrants.bicubic(scale) for scale in sorted({one.identity.scale for one in own})] + own
            else:
                own, scored = [], list(entrants.winners(run, plan))
            inputs = Inputs(config)
            jobs = entrants.jobs(scored, evaluation, inputs, home.storage)
            planned = scoring.plan(jobs, inputs.benchmarks, home.place, strict=request.strict)
            refused = _evaluate(planned, home.place, pool, strict=request.strict)
        finally:
            entrants.drop_snapshots(home)
        mine = {entrant.identity for entrant in own}
        tables = [
            _trial_table(one, home.place, evaluation.metrics) for one in planned if one.job.subject.identity in mine
        ]
        if run.winners.exists():
            board = leaderboard.write(run.path)
            if home.storage is not None:
                from orchestrator.nodecache import push_tree

                push_tree(run.path, home.storage, ["leaderboard.*"])
        else:  # a board on disk would tell the tracker that the sweep is over
            from orchestrator import board_text

            board = board_text.text(leaderboard.boards(run.path))
            board += "\n\nso far; the sweep writes its board when it has its winners"
    print(*tables, board, sep="\n\n")
    for line in refused:
        print(f"refused: {line}")


def _trial_table(one: Planned, place: Place, metrics: Sequence[str]) -> str:
    import json

    from sr_models.network import parameters

    who = one.job.subject.identity
    net = sr_models.build(who.network, who.scale, **json.loads(one.job.subject.hyper))
    _, at, step = who.fingerprint.partition("@")
    name = f"{who.model} × {who.objective} {who.fingerprint[:16]} ({who.weights}{f', step {step}' if at else ''})"
    return table(_report(one, place, metrics, name, parameters(net), [], None).report, per_image=False)


def _report(
    one: Planned,
    place: Place,
    metrics: Sequence[str],
    name: str,
    parameters: int,
    refused: Sequence[str],
    lr_sha256: str | None,
) -> Evaluation:
    """What `python -m eval` says of the same rows."""
    from eval.report import model_report
    from orchestrator import scoring

    rows, subject = scoring.rows_of(one, place), one.job.subject
    if not rows:
        more = f" (and {len(refused) - 1} more refused; nothing was scored)" if len(refused) > 1 else ""
        raise InputError((refused[0] if refused else f"no image of {subject.benchmark} was scored") + more)
    lacking = scoring.lacking_set(one, rows)
    result = model_report(
        [*rows, *lacking],
        metrics,
        name=name,
        parameters=parameters,
        weights_sha256=subject.weights_sha256,
        lr_sha256=lr_sha256,
        options=subject.options,
        refused=refused,
    )
    return replace(result, rows=rows)


def _evaluate(planned: Sequence[Planned], place: Place, pool: PoolOptions, *, strict: bool) -> list[str]:
    """Bring the rows that lack, on a cluster that is joined only if there are any; what was refused."""
    from cluster import ray_runtime
    from orchestrator import scoring
    from orchestrator.progress import bar, moves, say

    for line in dict.fromkeys(f"{m} not computed: {why}" for one in planned for m, why in one.job.lacking):
        say(line)
    if scoring.is_done(planned, place):
        return scoring.evaluate(planned, place, scoring.Hold(workers=1), lambda _: None)
    interrupt_on_sigterm()
    with ray_runtime.connect(pool.address, may_add=pool.may_add, allow_anonymous=pool.allow_anonymous) as cluster:
        interrupt_on_sigterm()  # again: Ray put one of its own there
        nodes = (*cluster.nodes, *cluster.may_add)
        fit = sum(node.holds(pool.cpus, pool.gpus) for node in nodes)
        if not fit:
            shapes = sorted({f"{node.cpus} CPUs and {node.gpus} GPUs" for node in nodes})
            raise InputError(
                f"--cpus-per-worker, --gpus-per-worker: no node has {pool.cpus} CPUs and {pool.gpus:g} GPUs; the "
                f"{len(nodes)} nodes have {', '.join(shapes) or 'nothing'}"
            )
        hold = scoring.Hold(workers=pool.workers or fit, cpus=pool.cpus, gpus=pool.gpus, apart=pool.gpus > 0)
        with bar("evaluation", sum(len(one.pictures) for one in planned)) as made:
            refused = scoring.evaluate(planned, place, hold, moves(made))
    if strict and refused:
        raise InputError(refused[0])
    return refused


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


def _home(run: RunDir, root: str | None) -> Home:
    """The run's home, what its driver last wrote brought here."""
    from orchestrator.home import Home

    home = Home(run, root)
    home.visit()
    if home.storage is not None:
        from orchestrator.nodecache import pull_tree

        pull_tree(home.storage, run.path, _FRESH)
    if not run.config.exists() or not run.plan.exists():
        raise InputError(f"--run: {run.path} is not a run folder (it has no config.yaml and plan.json)")
    return home


@contextmanager
def _held(run: RunDir, option: str) -> Iterator[None]:
    """One evaluation at a time in a folder."""
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run.path / ".evaluate.lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise InputError(f"{option}: another evaluation is writing to {run.path}") from None
    except OSError as error:
        raise InputError(f"{option}: {run.path} cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()


def _run_request(given: argparse.Namespace) -> RunRequest:
    """What the options of `parser(of_run=True)` ask for."""
    return RunRequest(
        run=given.run,
        trials=tuple(given.trial),
        protocol=given.protocol,
        metrics=given.metrics,
        draws=given.draws,
        seed=given.seed,
        weights_dir=given.weights_dir,
        strict=given.strict,
        storage=from_environment(given.storage, "SR_STORAGE"),
    )


def _pool(given: argparse.Namespace) -> PoolOptions:
    """What the options of `parser` say of workers.

    Raises:
        InputError: a number that is too small.
    """
    for name in ("workers", "cpus_per_worker"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if given.gpus_per_worker < 0:
        raise InputError(f"--gpus-per-worker must be at least 0, got {given.gpus_per_worker:g}")
    return PoolOptions(
        workers=given.workers, cpus=given.cpus_per_worker, gpus=given.gpus_per_worker, **cluster_of(given)
    )


if __name__ == "__main__":
    raise SystemExit(main())
