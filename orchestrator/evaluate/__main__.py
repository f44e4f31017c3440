"""`python -m orchestrator.evaluate`: score a checkpoint, or trials of a run, on workers of a Ray cluster.

The rows are those of `python -m eval`. They are kept, so the same command goes on where it was interrupted; a trial can
be scored while it trains, on another pool of resources.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from eval import command
from eval.protocol import PROTOCOLS
from eval.request import ModelRequest
from orchestrator.evaluate.on_cluster import PROG, PoolOptions
from orchestrator.evaluate.one_model import score_model
from orchestrator.evaluate.one_run import RunRequest, score_run
from orchestrator.plan.services import add_cluster_options, cluster_of, from_environment
from sr_models.command import EXIT_DONE, Parser, run_command
from sr_models.errors import InputError


def parser(of_run: bool) -> Parser:
    """The command line: that of `python -m eval --model`, or that with --run."""
    if of_run:
        made = Parser(prog=PROG, description="Score trials of a sweep, and write its board anew.")
        made.add_argument("--run", metavar="RUN", type=Path, required=True, help="a run folder")
        made.add_argument(
            "--trial", metavar="FINGERPRINT", action="append", default=[],
            help="a trial, by enough of its fingerprint, finished or not; may be repeated (default: the winners)",
        )  # fmt: skip
        made.add_argument(
            "--snapshots", action="store_true", help="also the weights that these have kept along training"
        )
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
        made.add_argument(
            "--output", metavar="DIR", type=Path,
            help="where rows are kept, what they are made from in `shared` beside it (default: runs/eval-...)",
        )  # fmt: skip
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
        score_run(_run_request(given), pool)
        return EXIT_DONE
    request = command.requested(given)
    if not isinstance(request, ModelRequest):
        raise InputError("--images: pictures need no workers; use python -m eval")
    score_model(request, given.output, pool)
    return EXIT_DONE


def _run_request(given: argparse.Namespace) -> RunRequest:
    """What the options of `parser(of_run=True)` ask for."""
    return RunRequest(
        run=given.run,
        trials=tuple(given.trial),
        snapshots=given.snapshots,
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
