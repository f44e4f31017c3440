"""`python -m orchestrator.degrade DIR OUT`: a frozen test set: the LR of every picture below DIR, degraded once.

OUT/lr/NAME.png is a function of the picture's pixels, the seed and the parameters alone: neither its name, nor the
others, nor how often the command was stopped count. With `usm` its target, sharpened, is OUT/hr/NAME.png; else that is
the HR file, cropped to a multiple of the scale as everywhere. OUT/manifest.json says what was made of what, how, and
under which libraries, as another version may round otherwise.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sr_models import yaml_text
from sr_models.command import EXIT_DONE, Parser, interrupt_on_sigterm, run_command, say, tell
from sr_models.errors import InputError
from sr_models.files import LOCK, locked, read_json, replacing, write_json, writing
from sr_models.hyper.degradation import DEGRADATIONS, LEAST_SIDE, NUMERICS_VERSION, Degradation, parse_degradation

if TYPE_CHECKING:
    import numpy as np

PROG = "python -m orchestrator.degrade"
MANIFEST, LR, HR = "manifest.json", "lr", "hr"
FORMAT = {"format": "sr-degraded-set", "version": 1}
LIBRARIES = ("numpy", "pillow", "scipy", "torch")

_LISTED_EVERY = 5.0
"""Seconds between writes of the manifest: what a kill leaves unlisted is made again."""

_SHOWN, _DRAWS = ("realesrgan", "ccsr"), 8
"""The sets that a sheet shows beside the one that was asked for, and how often each is drawn."""
_SHEET_SIDE = 240
"""HR pixels of what a sheet shows, at most."""


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog=PROG,
        description="Freeze degraded LR pictures of a folder's HR pictures to files: a test set's `lr:`. The same "
        "command goes on where it was stopped.",
    )
    made.add_argument("folder", metavar="DIR", type=Path, help="folder of HR pictures, searched to the bottom")
    made.add_argument("out", metavar="OUT", type=Path, help="new folder, or one that this command began")
    made.add_argument("changes", metavar="KEY=VALUE", nargs="*", help="other strengths: first.jpeg=[50,90] usm=false; "
                      "all are train.degradation.KEY in `python -m orchestrator.sweep --keys`")  # fmt: skip
    made.add_argument(
        "--set", required=True, choices=(*DEGRADATIONS,), help="whose degradations; none has camera (ISP) noise"
    )
    made.add_argument("--seed", type=int, default=0, help="of all draws (default: %(default)s)")
    made.add_argument("--scale", type=int, default=4, help="HR over LR (default: %(default)s)")
    for name, does in (("--include", "take only"), ("--exclude", "leave out")):
        made.add_argument(name, metavar="GLOB", action="append", default=[], help=f"{does} files named so; repeatable")
    made.add_argument("--sheet", metavar="FILE.png", type=Path, help="also draw the middle of the first picture and "
                      f"{_DRAWS} degradations each of {' and '.join(_SHOWN)}, and of the set asked for")  # fmt: skip
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0, 2 for input that cannot be used, 130 if interrupted."""
    return run_command(PROG, _run, argv, interrupted="the same command goes on")


def _run(argv: Sequence[str]) -> int:
    given = parser().parse_intermixed_args(argv)
    how = _asked(given)
    from sr_models.images.files import find_images  # late: --help needs no Pillow, and no torch

    interrupt_on_sigterm()
    names = _named(given.folder, find_images(given.folder, given.include, given.exclude))
    if given.out.resolve().is_relative_to(given.folder.resolve()):
        raise InputError(f"OUT: {given.out} lies in {given.folder}, whose pictures it would be among")
    _check_sizes(names.values(), given.scale)
    _check_new(given.out)
    asked = FORMAT | {
        "numerics": NUMERICS_VERSION,
        "scale": given.scale,
        "seed": given.seed,
        "degradation": how.model_dump(mode="json"),
    }
    if plugin := DEGRADATIONS.stamp(given.set):
        asked["plugin"] = plugin
    with locked(given.out), writing(given.out, "OUT"):
        made = _freeze(names, given.out, how, asked)
    there = len(names) - made
    tell(f"{given.out / LR}: {made} made, {there} there already; {given.set} x{given.scale}, seed {given.seed}")
    if how.usm:
        tell(f"made from sharpened HR (usm=true): score against {given.out / HR}, or make the set with usm=false")
    if given.sheet is not None:
        with writing(given.sheet, "--sheet"):
            _draw_sheet(given.sheet, next(iter(names.values())), given, how)
        tell(f"{given.sheet}: drawn")
    return EXIT_DONE


def _asked(given: argparse.Namespace) -> Degradation:
    """The degradation that a command line names.

    Raises:
        InputError: a scale or seed that cannot be, a change that is none, an unknown key, a value out of range.
    """
    for name, least in (("scale", 1), ("seed", 0)):
        if getattr(given, name) < least:
            raise InputError(f"--{name} must be at least {least}, got {getattr(given, name)}")
    if given.sheet is not None and given.sheet.suffix.lower() != ".png":
        raise InputError(f"--sheet: {str(given.sheet)!r} is no .png file")
    values: dict[str, Any] = {}
    for change in given.changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise InputError(f"{change!r}: a change is KEY=VALUE, for example first.jpeg=[50,90]")
        *parents, last = key.split(".")
        inner = values
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise InputError(f"{change!r}: {parent!r} is not a mapping")
        inner[last] = yaml_text.parse(text, change)
    if "set" in values:
        raise InputError("set=: a set is chosen by --set")
    return parse_degradation({"set": given.set, **values}, given.set)


def _named(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    """Name below OUT, without suffix -> HR file.

    Raises:
        InputError: two files differ in their suffix alone.
    """
    names: dict[str, Path] = {}
    for file in files:
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in names:
            raise InputError(f"{names[name]} and {file} would both become {name}.png; rename or move one")
        names[name] = file
    return names


def _check_sizes(files: Iterable[Path], scale: int) -> None:
    """Raises InputError: a file without a readable header, or a picture too small to degrade; it is named."""
    from sr_models.images.files import image_size

    least = max(LEAST_SIDE, scale)
    for file in files:
        height, width = image_size(file)
        if min(height, width) < least:
            raise InputError(
                f"image {str(file)!r}: {height}x{width} pixels (height x width), and a degradation needs {least} a "
                "side; --exclude it"
            )


def _check_new(out: Path) -> None:
    """Raises InputError: OUT holds something that this command did not begin."""
    if out.exists() and not out.is_dir():
        raise InputError(f"OUT: {out} is no folder")
    if out.is_dir() and not (out / MANIFEST).exists() and (others := sorted({p.name for p in out.iterdir()} - {LOCK})):
        raise InputError(f"OUT: {out} holds {others[0]!r} and no {MANIFEST}; name a new folder")


def _freeze(names: Mapping[str, Path], out: Path, how: Degradation, asked: Mapping[str, Any]) -> int:
    """Make what is not there yet; returns how many that were.

    Raises:
        InputError: a set that was begun otherwise, or is not whole and was begun with other libraries; a picture that
            cannot be read.
    """
    manifest = _begun(out, asked)
    begun, here = manifest.get("libraries", {}), _libraries()
    others = [f"{name} {begun.get(name)} (here {here[name]})" for name in LIBRARIES if begun.get(name) != here[name]]
    listed, made, last = manifest["files"], 0, time.monotonic()
    if lost := sorted(listed.keys() - names.keys()):
        say(f"{len(lost)} in {out} are of no picture that is there now, and stay: {', '.join(lost[:3])}")
    try:
        for name, file in names.items():
            made += _made(name, file, out, how, asked, listed, others)
            if time.monotonic() - last > _LISTED_EVERY:
                write_json(out / MANIFEST, manifest)
                last = time.monotonic()
    finally:
        write_json(out / MANIFEST, manifest)
    return made


def _begun(out: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a set that was begun, or a new one.

    Raises:
        InputError: what lies there was begun otherwise; the first difference is named.
    """
    if not (out / MANIFEST).exists():
        manifest = {**asked, "libraries": _libraries(), "files": {}}
        write_json(out / MANIFEST, manifest)
        return manifest
    manifest = read_json(out / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise InputError(f"{out / MANIFEST} is none of this command; name a new folder")
    for key, value in _flat(asked):
        there = dict(_flat(manifest)).get(key)
        if there != value:
            raise InputError(
                f"OUT: {out} was begun with {key} {there!r}, and {value!r} is asked for; name a new folder"
            )
    return manifest


def _libraries() -> dict[str, str]:
    """Versions of those whose pixels are in a set."""
    return {name: version(name) for name in LIBRARIES}


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key -> value."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _made(
    name: str, file: Path, out: Path, how: Degradation, asked: Mapping[str, Any], listed: dict[str, dict[str, str]],
    others: Sequence[str],
) -> bool:  # fmt: skip
    """Make the LR of one picture, unless it is there as it was made; whether it was made.

    Args:
        others: libraries that are not those the set was begun with.

    Raises:
        InputError: it is to be made, and there are such libraries; the picture cannot be read.
    """
    from sr_models.images.degrade import degrade
    from sr_models.images.files import pixels_sha256, read_image
    from sr_models.images.matlab import modcrop
    from sr_models.rng import keyed

    image = read_image(file)
    sha256, before = pixels_sha256(image), listed.get(name)
    paths = {side: out / side / f"{name}.png" for side in ((LR, HR) if how.usm else (LR,))}
    same = before is not None and before["source"] == sha256
    if before is not None and same and all(_sha256(path) == before[side] for side, path in paths.items()):
        return False
    if others:
        raise InputError(
            f"OUT: {out} was begun with {', '.join(others)}, and {name} is to be made, whose pixels may then not be of "
            "that set; name a new folder"
        )
    if before is not None:
        why = "its files are not what they were" if same else "HR is not what it was"
        say(f"{name}: {why}; made again")
    rng = keyed(asked["seed"], 0, int(sha256[:15], 16), "degrade")
    pair = degrade(modcrop(image, asked["scale"]), asked["scale"], how, rng)
    for side, path in paths.items():
        _write_png(path, getattr(pair, side))
    listed[name] = {"source": sha256} | {side: str(_sha256(path)) for side, path in paths.items()}
    return True


def _sha256(path: Path) -> str | None:
    from sr_models.images.files import sha256_file

    return sha256_file(path) if path.exists() else None


def _write_png(path: Path, image: np.ndarray) -> None:
    from PIL import Image

    with replacing(path) as part:
        Image.fromarray(image).save(part, format="PNG")


def _draw_sheet(path: Path, file: Path, given: argparse.Namespace, how: Degradation) -> None:
    """The middle of a picture, and what several draws of several sets make of it, enlarged by repetition."""
    from eval.pictures.grid import grid
    from sr_models.images.degrade import degrade
    from sr_models.images.files import read_image
    from sr_models.rng import keyed

    image, scale = read_image(file), given.scale
    side = min(_SHEET_SIDE, *image.shape[:2]) // scale * scale
    top, left = ((whole - side) // 2 for whole in image.shape[:2])
    hr = image[top : top + side, left : left + side]
    sets = {name: parse_degradation({"set": name}, name) for name in _SHOWN} | {given.set: how}
    rows = []
    for name, one in sets.items():
        drawn = [degrade(hr, scale, one, keyed(given.seed, draw, 0, "degrade")).lr for draw in range(_DRAWS)]
        large = [lr.repeat(scale, axis=0).repeat(scale, axis=1) for lr in drawn]
        rows.append([("HR", hr), *((f"{name} {draw}", lr) for draw, lr in enumerate(large))])
    caption = f"{side}x{side} HR pixels of the middle; LR is enlarged by repetition; seed {given.seed}"
    grid(path, title=f"{file.name}, degraded x{scale}", rows=rows, caption=caption)


if __name__ == "__main__":
    raise SystemExit(main())
