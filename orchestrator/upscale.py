"""`python -m orchestrator.upscale RUN|FOLDER|FILE PHOTOS... -o OUT`: photographs enlarged by a row or weights.

No Ray: one process on this machine. What a network sees of a photograph and what goes along with it is one rule
(`sr_models.images.photographs`); its pixels are those that evaluation scores (`eval.enlarge`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from eval.options import add_part_option, add_sampling_options, asked_sampling, parse_hyper, parse_parts
from orchestrator.plan.services import from_environment
from sr_models.command import EXIT_DONE, EXIT_FAILED, Parser, interrupt_on_sigterm, run_command, say
from sr_models.errors import InputError
from sr_models.files import full_disk, unwritable
from sr_models.images.files import files_below, find_images, image_size, unread_text
from sr_models.scales import parse_scale
from sr_models.text_table import counted

if TYPE_CHECKING:
    from eval.enlarge import Enlarger
    from orchestrator.evaluate.chosen import Chosen

PROG = "python -m orchestrator.upscale"


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog=PROG,
        description="Enlarge photographs by a row of a finished run, a checkpoint folder, or a released file.",
        epilog="Pictures are PNG files of 8 bits under the photographs' names; ICC profile, EXIF and alpha go along.",
    )
    made.add_argument("what", metavar="RUN|FOLDER|FILE", type=Path, help="whose weights: a run's best row's, or these")
    made.add_argument("photos", metavar="PHOTO", type=Path, nargs="+", help="picture files, and folders of them")
    made.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="folder of the enlarged pictures")
    made.add_argument("--row", metavar="N|ID", help="of the run's board: its place, or what the board calls it")
    made.add_argument("--scale", metavar="S", help="of the board or the file, or another one where the network has any")
    made.add_argument("--overwrite", action="store_true", help="replace pictures that are in OUT already")
    made.add_argument("--seed", metavar="N", type=int, help="of a network's noise (default: the run's, else 0)")
    made.add_argument("--max-bytes", metavar="N", type=int, help="memory of a picture or tile (default: half of all)")
    made.add_argument("--tile", metavar="N", type=int, help="compute in tiles of N LR pixels a side")
    made.add_argument("--overlap", metavar="N", type=int, help="LR pixels a tile sees beyond its part (default: 32)")
    made.add_argument("--self-ensemble", action="store_true", help='mean over eight flips and turns ("+")')
    made.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    made.add_argument("--storage", metavar="URI", help="where RUN lives, as the sweep was told ($SR_STORAGE)")
    file = made.add_argument_group("of a released file")
    file.add_argument("--model", metavar="NAME", help="its network (default: recognised by spandrel)")
    file.add_argument("--hyper", metavar="KEY=VALUE", action="append", help="a hyperparameter; may be repeated")
    file.add_argument("--weights-key", metavar="KEY", help="the part of the file to take, where it holds several")
    add_part_option(made.add_argument_group("of a folder or a file"))
    add_sampling_options(made.add_argument_group("of a diffusion network (default: as the run's evaluation draws)"))
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0, 1 if a photograph failed, 2 for input that cannot be used, 130 if interrupted."""
    return run_command(PROG, _run, argv, interrupted="the same command goes on")


@dataclass(frozen=True)
class Photo:
    """A photograph and where its picture goes."""

    source: Path
    target: Path


def _run(argv: Sequence[str]) -> int:
    interrupt_on_sigterm()
    return enlarge(argv)


def enlarge(argv: Sequence[str]) -> int:
    """What the command does, where errors are the caller's; returns 0, or 1 if a photograph failed.

    Raises:
        InputError: as the command says in one line.
    """
    given = parser().parse_args(argv)
    _check(given)
    photos, failed = _photos(given.photos, given.output)
    todo = [photo for photo in photos if given.overwrite or not photo.target.exists()]
    if there := len(photos) - len(todo):
        say(f"in {given.output} already: {there} of {counted(len(photos), 'picture')}; --overwrite makes them again")
    if todo:
        if line := unwritable(given.output, "--output"):  # before weights are read and pictures computed
            raise InputError(line)
        failed += _enlarge(_enlarger(given), todo)
    if failed:
        say(f"{PROG}: {counted(failed, 'photograph')} failed, {len(todo) - failed + there} done")
    return EXIT_FAILED if failed else EXIT_DONE


def _check(given: argparse.Namespace) -> None:
    """What can be refused before torch is there."""
    given.scale = None if given.scale is None else parse_scale(given.scale, "--scale")
    if not given.what.exists() and not given.storage:
        raise InputError(f"{str(given.what)!r} does not exist; expected a run folder, a checkpoint folder or a file")
    for name in ("max_bytes", "tile"):
        if (value := getattr(given, name)) is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if given.overlap is not None and given.tile is None:
        raise InputError("--overlap has no effect without --tile")
    if given.crops is not None and given.tile is not None:
        raise InputError(f"--crops {given.crops} and --tile {given.tile} both say what the tiles are; give one")
    released = given.what.is_file()
    if released and given.model is not None and given.scale is None:
        raise InputError(f"a file of {given.model} does not say its scale: give --scale")
    for name in ("row", "storage") if released else ():
        if getattr(given, name) is not None:
            raise InputError(f"--{name} is of a run, and {given.what} is a file")
    for name in () if released else ("model", "hyper", "weights_key"):
        if getattr(given, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} goes with a released file, and {given.what} is a folder")


# ---- photographs -----------------------------------------------------------------------------------------------------


def _photos(given: Sequence[Path], output: Path) -> tuple[list[Photo], int]:
    """The photographs, and how many cannot have a picture of their own in OUT, which are named.

    Raises:
        InputError: a folder that cannot be read or holds no pictures, but those that are in OUT.
    """
    found: list[tuple[Path, Path]] = []
    out = output.resolve()
    for path in given:
        if path.is_dir():
            if line := unread_text(files_below(path)):
                say(f"{path}: {line}")
            inside = find_images(path)
            if out == path.resolve():  # what an earlier call has made
                made = {file.with_suffix(".png") for file in inside if file.suffix != ".png"}
                inside = [file for file in inside if file not in made]
            elif out.is_relative_to(path.resolve()):  # likewise
                inside = [file for file in inside if not file.resolve().is_relative_to(out)]
            if not inside:
                raise InputError(
                    f"{path}: all its pictures lie in {output}, which is OUT; those are not enlarged again"
                )
            found += [(file, file.relative_to(path)) for file in inside]
        else:
            found.append((path, Path(path.name)))
    photos: dict[Path, Photo] = {}
    failed = 0
    for source, name in found:
        target = output / name.with_suffix(".png")
        if target in photos or target.resolve() == source.resolve():
            other = photos[target].source if target in photos else source
            say(f"{source}: its picture would take the place of {other}'s; give it another OUT")
            failed += 1
        else:
            photos[target] = Photo(source, target)
    return list(photos.values()), failed


def _enlarge(enlarger: Enlarger, photos: Sequence[Photo]) -> int:
    """Enlarge them one by one; what fails is named, and the rest goes on. Returns how many failed.

    Raises:
        DiskFullError: the disk of OUT is full.
    """
    from orchestrator.run import progress
    from orchestrator.training.failure import failure_cause

    sizes = [_pixels(photo.source) for photo in photos]
    failed = 0
    with progress.bar("photographs", sum(sizes), "px") as bar:
        for photo, pixels in zip(photos, sizes, strict=True):
            before = bar.n
            try:
                _one(enlarger, photo, lambda share, b=before, of=pixels: bar.update(b + int(share * of) - bar.n))  # type: ignore[misc]
            except (InputError, MemoryError, OSError, RuntimeError) as error:
                if full := full_disk(error, [photo.target.parent]):
                    raise full from None
                reason = failure_cause(error, enlarger.device)
                if reason is None and isinstance(error, RuntimeError):
                    raise
                progress.say(str(error) if isinstance(error, InputError) else f"{photo.source}: {reason or error}")
                failed += 1
            bar.update(before + pixels - bar.n)
    return failed


def _one(enlarger: Enlarger, photo: Photo, step: Callable[[float], None]) -> None:
    from orchestrator.run import progress
    from sr_models.images.photographs import read_photograph, write_picture

    photograph = read_photograph(photo.source)
    try:
        options, note = enlarger.how(*photograph.rgb.shape[:2])
        for line in filter(None, [note, *photograph.notes]):
            progress.say(f"{photo.source}: {line}")
        made = enlarger.picture(photograph.rgb, options, step)
    except InputError as error:
        raise InputError(f"image {str(photo.source)!r}: {error}") from None
    write_picture(photo.target, made, photograph, enlarger.scale)


def _pixels(photo: Path) -> int:
    """What its header says; 0 of one that will fail."""
    try:
        height, width = image_size(photo)
    except InputError:
        return 0
    return height * width


# ---- weights ---------------------------------------------------------------------------------------------------------


def _enlarger(given: argparse.Namespace) -> Enlarger:
    """The network that is asked for, on its device, with what it may take."""
    import torch

    import sr_models
    from eval.enlarge import Enlarger, memory_share
    from sr_models.hyper.sampling import off_its_levels
    from sr_models.inference.bound import Bound
    from sr_models.inference.device import check_device
    from sr_models.networks.sigma import without_head

    if given.device is not None:
        check_device(given.device, "--device")
    chosen = _chosen(given)
    options = chosen.sampled(asked_sampling(given))
    if options.sampling and (line := off_its_levels(chosen.folder, chosen.practised, options.sampling)):
        say(line)
    if given.tile is not None:
        overlap = options.overlap if given.overlap is None else given.overlap
        options = replace(options, tile=given.tile, overlap=overlap, crops=None)
    if given.crops is not None:
        if options.sampling is None:
            raise InputError(f"--crops goes with diffusion networks, and {chosen.name} is none")
        options = replace(options, tile=None, crops=given.crops)
    if given.self_ensemble:
        options = replace(options, self_ensemble=True)
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if given.seed is not None and not without_head(chosen.model).stochastic:
        raise InputError(f"--seed goes with networks that draw from noise, and {chosen.name} is none")
    seed = chosen.seed if given.seed is None else given.seed
    drawn = f", drawn by {options.sampling.mark} with seed {seed}" if options.sampling else ""
    drawn += f" in tiles of {options.crops}" if options.crops else ""
    say(f"{chosen.title}{drawn}; on {device}")
    values = sr_models.spec(chosen.name).hyper.parse(chosen.hyper, chosen.name)
    if beyond := values.beyond(without_head(chosen.model).scale):
        say(f"caution: {beyond}")
    exact = sr_models.tile_exact(chosen.name, chosen.hyper)
    if options.crop_rule is not None and not exact:
        named = sr_models.called(chosen.name, chosen.hyper)
        say(f"caution: {named} looks at all of a picture, so tiles give other pictures than the whole would")
    most = memory_share(device) if given.max_bytes is None else given.max_bytes
    bound = Bound.of(chosen.model.to(device), most, tile_exact=exact)
    return Enlarger(model=chosen.model, options=options, bound=bound, seed=seed)


def _chosen(given: argparse.Namespace) -> Chosen:
    from orchestrator.evaluate import chosen
    from sr_models.checkpoints.folder import CheckpointInfo

    if given.what.is_file():
        hyper = parse_hyper(given.hyper)
        if given.model is None:
            import sr_models
            from sr_models.checkpoints import zoo

            if given.hyper:
                raise InputError("--hyper goes with --model; without it a file of weights says all of its network")
            found = zoo.named_by(given.what, given.weights_key)
            given.model, given.scale, hyper = sr_models.ZOO.name, given.scale or found.factor, found.model_dump()
        parts = parse_parts(given.part, given.model, hyper)
        return chosen.of_file(
            given.what, model=given.model, scale=given.scale, hyper=hyper, key=given.weights_key, parts=parts,
            sampler=given.sampler,
        )  # fmt: skip
    if not (given.what / "model.json").exists():
        if given.part:
            raise InputError(f"--part goes with a folder or a file of weights; the run {given.what} has its own")
        root = from_environment(given.storage, "SR_STORAGE")
        return chosen.of_run(given.what, root, row=given.row, scale=given.scale)
    if given.row is not None:
        raise InputError(f"--row is of a run's board, and {given.what} is a checkpoint folder")
    parts = parse_parts(given.part, CheckpointInfo.read(given.what).model, {})
    return chosen.of_checkpoint(given.what, given.scale, parts)


if __name__ == "__main__":
    raise SystemExit(main())
