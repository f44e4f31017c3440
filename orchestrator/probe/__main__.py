"""`python -m orchestrator.probe RUN|FOLDER ... --kind KIND`: look into finished trials, on this machine, without Ray.

What it finds lies in RUN/probes and goes to MLflow as artifacts of the sweep's run. The same command goes on where it
was interrupted.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.plan.services import from_environment
from orchestrator.probe.kinds import (
    DEFAULT_AT_ONCE,
    DEFAULT_BATCHES,
    DEFAULT_CROP,
    DEFAULT_DRAWS,
    DEFAULT_IMAGES,
    KINDS,
    Asked,
)
from sr_models.command import EXIT_DONE, Parser, interrupt_on_sigterm, run_command, tell
from sr_models.errors import InputError
from sr_models.files import unwritable
from sr_models.text_table import aligned

PROG = "python -m orchestrator.probe"
_WIDTH = 100


def parser() -> Parser:
    """The command line."""
    kinds = "\n\n".join(
        textwrap.fill(f"{name}: {kind.about}", _WIDTH, initial_indent="  ", subsequent_indent="    ")
        for name, kind in KINDS.items()
    )
    made = Parser(
        prog=PROG,
        description="Why does it win? Look into finished trials; numbers and figures go to RUN/probes, and to MLflow.",
        epilog=f"kinds:\n{kinds}\n\nThe same command goes on where it was interrupted.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "runs", metavar="RUN|FOLDER", type=Path, nargs="+", help="run folders, or folders of them, shown side by side"
    )
    made.add_argument("--kind", metavar="KIND", action="append", required=True, help=", ".join(KINDS))
    made.add_argument(
        "--trial", metavar="FINGERPRINT", action="append", default=[],
        help="a trial, by enough of its fingerprint; may be repeated (default: the winners)",
    )  # fmt: skip
    made.add_argument(
        "--only", metavar="PATTERN", action="append", default=[],
        help="combinations that fit it, such as 'x2/*/eco*'; may be repeated (default: all)",
    )  # fmt: skip
    made.add_argument("--seeds", metavar="N", type=int, help="of each winner (default: 1; of kinds over seeds all)")
    made.add_argument("--weights", metavar="KIND", default="raw", help="raw or ema (default: raw, what was trained)")
    made.add_argument(
        "--batches", metavar="N", type=int, default=DEFAULT_BATCHES,
        help=f"training batches at each step (default: {DEFAULT_BATCHES})",
    )  # fmt: skip
    made.add_argument(
        "--at-once", metavar="N", type=int, default=DEFAULT_AT_ONCE,
        help=f"most samples in one pass, which bounds memory (default: {DEFAULT_AT_ONCE})",
    )  # fmt: skip
    made.add_argument("--lengths", metavar="A,B", help="landscape: step lengths, as fractions of the weights' L2 norm")
    made.add_argument(
        "--images", metavar="N", type=int,
        help=f"uncertainty, and kinds that draw pictures: of each test set (default: all; drawn: {DEFAULT_IMAGES})",
    )  # fmt: skip
    made.add_argument(
        "--steps", metavar="S|A,B",
        help="gap, along_t: steps that the chain is cut to; sampling_steps: numbers of steps to compare",
    )  # fmt: skip
    made.add_argument(
        "--draws", metavar="N", type=int, default=DEFAULT_DRAWS,
        help=f"kinds that draw pictures: of each image (default: {DEFAULT_DRAWS})",
    )  # fmt: skip
    made.add_argument(
        "--crop", metavar="N", type=int, default=DEFAULT_CROP,
        help=f"kinds that draw pictures: HR px of each image's middle (default: {DEFAULT_CROP})",
    )  # fmt: skip
    made.add_argument(
        "--metric", metavar="NAME", help="curves, batch_size: this one alone; size_quality: this one, not the leading"
    )
    made.add_argument(
        "--baseline", metavar="LABEL", help="curves: the objective that rows catch up with (default: board.baseline)"
    )
    made.add_argument("--image", metavar="NAME", help="targets: which training image (default: the first)")
    made.add_argument("--alphas", metavar="A,B", help="targets: mixtures to show, between 0 and 1")
    made.add_argument("--device", metavar="NAME", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    made.add_argument("--output", metavar="DIR", type=Path, help="where to leave it (default: probes in the first RUN)")
    made.add_argument("--storage", metavar="URI", help="where the runs live, as the sweep was told ($SR_STORAGE)")
    made.add_argument(
        "--tracking-uri", metavar="URI",
        help="MLflow store of the first RUN ($SR_TRACKING_URI; default: the file that its sweep delivered to)",
    )  # fmt: skip
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for input that cannot be used, 130 when interrupted."""
    return run_command(PROG, _run, argv, interrupted="the same command goes on")


def _run(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    asked = _asked(given)
    interrupt_on_sigterm()
    import torch

    from orchestrator.probe import work
    from orchestrator.probe.delivered import deliver
    from orchestrator.probe.folders import open_runs
    from orchestrator.probe.kept import PROBES
    from sr_models.inference.device import check_device

    runs = open_runs(given.runs, from_environment(given.storage, "SR_STORAGE"))
    torch.set_num_threads(runs[0].plan.config.resources.cpus_per_worker)  # as the trials did
    check_device(asked.device, "--device")
    folder = given.output.absolute() if given.output else runs[0].run.path / PROBES
    if line := unwritable(folder, "--output"):
        raise InputError(line)
    if given.output is None:
        runs[0].home.access.pull("", [f"{PROBES}/*"])  # what another machine has begun
    for kind in dict.fromkeys(given.kind):
        seeds = KINDS[kind].seeds if given.seeds is None else given.seeds
        found = work.run(kind, runs, replace(asked, seeds=seeds), folder)
        tell("\n".join([f"{kind}:", *(f"  {line}" for line in aligned(found.table, left={0}))]))
        tell("\n".join(f"  {path}" for path in found.files))
    if given.output is None:
        runs[0].home.access.push("", [f"{PROBES}/*"])
        deliver(runs[0], from_environment(given.tracking_uri, "SR_TRACKING_URI"))
    return EXIT_DONE


def _asked(given: argparse.Namespace) -> Asked:
    """What the options ask for.

    Raises:
        InputError: an unknown kind, or a number that is too small.
    """
    from sr_models.params import nearest

    for kind in given.kind:
        if kind not in KINDS:
            raise InputError(f"--kind: unknown kind {kind!r}{nearest(kind, list(KINDS))}")
    if given.weights not in ("raw", "ema"):
        raise InputError(f"--weights must be raw or ema, got {given.weights!r}")
    for name in ("batches", "at_once", "seeds", "images", "draws", "crop"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    return Asked(
        trials=tuple(given.trial),
        only=tuple(given.only),
        weights=given.weights,
        batches=given.batches,
        at_once=given.at_once,
        images=given.images,
        draws=given.draws,
        crop=given.crop,
        steps=_counts(given.steps, "--steps"),
        metric=given.metric,
        baseline=given.baseline,
        image=given.image,
        alphas=_numbers(given.alphas, "--alphas", below=1),
        device=given.device,
        lengths=_numbers(given.lengths, "--lengths"),
    )


def _numbers(text: str | None, option: str, below: float = math.inf) -> tuple[float, ...]:
    """Positive numbers with commas between them, by size. Raises InputError: something else."""
    try:
        found = tuple(sorted(float(word) for word in text.split(","))) if text else ()
    except ValueError:
        found = (0.0,)
    if not all(0 < number < below for number in found):
        most = "" if below == math.inf else f" below {below:g}"
        raise InputError(f"{option}: expected positive numbers{most} with commas between them, got {text!r}")
    return found


def _counts(text: str | None, option: str) -> tuple[int, ...]:
    """Different whole numbers, by size. Raises InputError: something else."""
    found = _numbers(text, option)
    if not all(number.is_integer() for number in found):
        raise InputError(f"{option}: expected whole numbers with commas between them, got {text!r}")
    return tuple(sorted({int(number) for number in found}))


if __name__ == "__main__":
    raise SystemExit(main())
