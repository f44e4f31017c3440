"""`python -m eval weights`: which weights of metrics are present, missing or corrupt; `--fetch` gets what is missing.

The files, their hashes and sources are the table `eval.metrics.backbones.BACKBONES`
(https://github.com/richzhang/PerceptualSimilarity, https://github.com/toshas/torch-fidelity and the others there).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from eval.metrics.backbones import BACKBONES, VARIABLE, Corrupt, Unavailable, WeightFiles
from sr_models.command import EXIT_DONE, EXIT_FAILED, Parser, run_command, tell

PROG = "python -m eval weights"


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code: 0 all there, 1 something is missing or corrupt, 2 unusable input."""
    return run_command(PROG, _run, argv)


def _run(argv: Sequence[str]) -> int:
    parser = Parser(
        prog=PROG,
        description="Show the weights that metrics need, each checked by its sha256.",
        epilog="niqe, musiq and clipiqa need the extra [pyiqa], whose licence (PolyForm Noncommercial 1.0.0) forbids "
        "commercial use; without it their files are not needed.",
    )
    parser.add_argument("--weights-dir", metavar="DIR", type=Path, help=f"folder of weights (default: ${VARIABLE})")
    parser.add_argument("--fetch", action="store_true", help="download what is missing or corrupt")
    given = parser.parse_args(argv)
    files = WeightFiles(given.weights_dir)
    complete = True
    for name, backbone in BACKBONES.items():
        needed = not backbone.extra or find_spec("pyiqa") is not None
        state, where = _look(files, name, fetch=given.fetch and needed)
        complete = complete and (state == "present" or not needed)
        title = f"{backbone.package}/{name}" if backbone.package else name
        note = "" if needed else "; only for the extra [pyiqa], which is not installed"
        tell(f"{state:<8} {title} ({', '.join(backbone.serves)}; licence {backbone.licence}{note})\n{'':<9}{where}")
    return EXIT_DONE if complete else EXIT_FAILED


def _look(files: WeightFiles, name: str, *, fetch: bool) -> tuple[str, str]:
    """One file's state, and where it lies or what to do about it."""
    backbone = BACKBONES[name]
    state = "missing"
    try:
        if (path := files.locate(name)) is not None:
            return "present", str(path)
        advice = f"put it into {str(files.home(name))!r}, sha256 {backbone.sha256}, from {backbone.url}"
    except Corrupt as error:
        state, advice = "corrupt", str(error)
    except Unavailable as error:
        return state, str(error)
    if not fetch:
        return state, advice
    try:
        return "present", f"{files.fetch(name)} (fetched)"
    except Unavailable as error:
        return state, str(error)
