"""`python -m orchestrator.export RUN|FOLDER -o OUT`: a row's weights for other places, as a folder or a .pth file.

The folder (`model.safetensors`, `model.json`) holds all that there is, without pickle. The file holds the network
alone, under the key names of its own release, as training codes and other tools read it.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.plan.services import from_environment
from sr_models.command import EXIT_DONE, Parser, run_command, tell
from sr_models.errors import InputError
from sr_models.files import full_disk, replacing
from sr_models.scales import parse_scale

if TYPE_CHECKING:
    from orchestrator.evaluate.chosen import Chosen

PROG = "python -m orchestrator.export"


def parser() -> Parser:
    """The command line."""
    made = Parser(prog=PROG, description="Bring a row's weights elsewhere: as a checkpoint folder, or as a .pth file.")
    made.add_argument(
        "what", metavar="RUN|FOLDER", type=Path, help="whose weights: a run's best row's, or a checkpoint's"
    )
    made.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="folder, or with pth the file")
    made.add_argument("--format", choices=("safetensors", "pth"), default="safetensors", help="default: %(default)s")
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
    if given.format == "pth" and given.output.suffix not in (".pth", ".pt"):
        raise InputError(f"--output: with --format pth a file such as model.pth, got {str(given.output)!r}")
    if given.output.exists() and not given.overwrite:
        raise InputError(f"--output: {given.output} is there already; --overwrite replaces it")
    chosen = _chosen(given)
    if chosen.folder is None:
        raise InputError(f"--row: {chosen.title} has no weights")
    if given.output.resolve() == chosen.folder.resolve():
        raise InputError(f"--output: {given.output} is the folder of these weights")
    try:
        (_write_file if given.format == "pth" else _copy)(chosen, chosen.folder, given.output)
    except OSError as error:
        raise full_disk(error, [given.output]) or InputError(
            f"--output: {given.output} cannot be written ({error.strerror})"
        ) from None
    tell(f"{chosen.title} -> {given.output}")
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


def _copy(_chosen: Chosen, folder: Path, output: Path) -> None:
    """The checkpoint folder as it lies, `model.json` last, which makes it one."""
    for name in ("model.safetensors", "model.json"):
        with replacing(output / name) as part:
            shutil.copyfile(folder / name, part)


def _write_file(chosen: Chosen, _folder: Path, output: Path) -> None:
    """A file with the network's tensors under `params`, as BasicSR keeps them; a σ head stays behind.

    Raises:
        InputError: a diffusion network, which is nothing without its noise process.
    """
    import torch

    import sr_models
    from sr_models.networks.sigma import without_head

    if sr_models.spec(chosen.name).family == "diffusion":
        raise InputError(
            f"--format pth: {chosen.name} draws from a noise process, which no .pth file says; safetensors keeps it"
        )
    state = {key: value.detach().contiguous() for key, value in without_head(chosen.model).state_dict().items()}
    with replacing(output) as part:
        torch.save({"params": state}, part)


if __name__ == "__main__":
    raise SystemExit(main())
