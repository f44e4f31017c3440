"""`python -m orchestrator.export RUN|FOLDER -o OUT`: a row's weights for other places: a folder, .pth or .onnx file.

The folder (`model.safetensors`, `model.json`) holds all that there is, without pickle. The .pth file holds the network
alone, under the key names of its own release, as training codes and other tools read it; the .onnx file its graph.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.plan.services import from_environment
from sr_models.command import EXIT_DONE, Parser, run_command, tell
from sr_models.errors import InputError
from sr_models.files import replacing, writing
from sr_models.scales import parse_scale

if TYPE_CHECKING:
    from orchestrator.evaluate.chosen import Chosen

PROG = "python -m orchestrator.export"

_FOLDER = "safetensors"
_SUFFIXES = {"pth": (".pth", ".pt"), "onnx": (".onnx",)}  # of formats that are one file


def parser() -> Parser:
    """The command line."""
    made = Parser(prog=PROG, description="Bring a row's weights elsewhere: a checkpoint folder, .pth or .onnx file.")
    made.add_argument(
        "what", metavar="RUN|FOLDER", type=Path, help="whose weights: a run's best row's, or a checkpoint's"
    )
    made.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="folder, or the file")
    made.add_argument(
        "--format", choices=("safetensors", *_SUFFIXES), default="safetensors", help="default: %(default)s"
    )
    made.add_argument("--row", metavar="N|ID", help="of the run's board: its place, or what the board calls it")
    made.add_argument("--scale", metavar="S", help="of the board, where there are several")
    made.add_argument("--overwrite", action="store_true", help="replace what is there")
    made.add_argument("--storage", metavar="URI", help="where RUN lives, as the sweep was told ($SR_STORAGE)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for input that cannot be used, 130 when interrupted."""
    return run_command(PROG, _run, argv)


def _run(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    form = given.format
    if form in _SUFFIXES and given.output.suffix not in _SUFFIXES[form]:
        raise InputError(f"--output: with --format {form} a file such as model.{form}, got {str(given.output)!r}")
    if form == "onnx":
        from orchestrator.onnx_graph import check_extra

        check_extra()
    if given.output.exists() and not given.overwrite:
        raise InputError(f"--output: {given.output} is there already; --overwrite replaces it")
    chosen = _chosen(given)
    if chosen.folder is None:
        raise InputError(f"--row: {chosen.title} has no weights")
    if given.output.resolve() == chosen.folder.resolve():
        raise InputError(f"--output: {given.output} is the folder of these weights")
    with writing(given.output, "--output"):
        note = {"safetensors": _copy, "pth": _write_file, "onnx": _write_graph}[form](
            chosen, chosen.folder, given.output
        )
    tell(f"{chosen.title} -> {given.output}{note}")
    return EXIT_DONE


def _chosen(given: argparse.Namespace) -> Chosen:
    from orchestrator.evaluate import chosen

    if (given.what / "model.json").is_file():
        if given.row is not None:
            raise InputError(f"--row is of a run's board, and {given.what} is a checkpoint folder")
        return chosen.of_checkpoint(given.what, None, None)
    if not given.what.is_dir() and not given.storage:
        raise InputError(f"{str(given.what)!r} is neither a run folder nor a checkpoint folder")
    scale = None if given.scale is None else parse_scale(given.scale, "--scale")
    root = from_environment(given.storage, "SR_STORAGE")
    return chosen.of_run(given.what, root, row=given.row, scale=scale)


def _copy(_chosen: Chosen, folder: Path, output: Path) -> str:
    """The checkpoint folder as it lies, `model.json` last, which makes it one. Returns what is to be said of it."""
    is_new = not output.exists()
    try:
        for name in ("model.safetensors", "model.json"):
            with replacing(output / name) as part:
                shutil.copyfile(folder / name, part)
    except BaseException:
        if is_new:  # else the same command would be told that it is there already
            shutil.rmtree(output, ignore_errors=True)
        raise
    return ""


def _write_file(chosen: Chosen, _folder: Path, output: Path) -> str:
    """A file with the network's tensors under `params`, as BasicSR keeps them; a σ head stays behind.

    Raises:
        InputError: a diffusion network, which is nothing without its noise process.
    """
    import torch

    import sr_models
    from sr_models.networks.sigma import without_head
    from sr_models.networks.zoo import Zoo

    if sr_models.spec(chosen.name).family == "diffusion":
        raise InputError(
            f"--format pth: {chosen.name} draws from a noise process, which no .pth file says; safetensors keeps it"
        )
    net = without_head(chosen.model)
    theirs = net.net if isinstance(net, Zoo) else net  # under the keys of its own code
    state = {key: value.detach().contiguous() for key, value in theirs.state_dict().items()}
    with replacing(output) as part, part.open("wb") as file:  # given a name, torch does not say that a disk is full
        torch.save({"params": state}, file)
    return ""


def _write_graph(chosen: Chosen, folder: Path, output: Path) -> str:
    """The network's graph, which says in its metadata what it is and by how much it differs.

    Raises:
        InputError: a diffusion network, a σ head, a graph that computes other pixels.
    """
    from orchestrator.onnx_graph import check_exportable, write_graph
    from sr_models.checkpoints.folder import CheckpointInfo

    info = CheckpointInfo.read(folder)
    net = check_exportable(chosen.model, chosen.name)
    about = {
        "model": info.model,
        "hyper": json.dumps(info.hyper, sort_keys=True),
        "weights_sha256": info.weights_sha256,
    }
    with replacing(output) as part:
        delta = write_graph(net, part, about)
    return f"; onnxruntime's pixels of a photograph differ from torch's by up to {delta:.1e} in [0, 1], before rounding"


if __name__ == "__main__":
    raise SystemExit(main())
