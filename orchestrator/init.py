"""`python -m orchestrator.init my.yaml --images DIR`: a commented config that starts as it is, by folder and machine.

Pictures to steer by and to score are held out by the hash of their names, so the same folder is always split alike.
What has the name or the pixels of another picture stays with the training images. The config is put through a dry run
before the command ends.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cluster.here import machine
from orchestrator.plan.config import LABEL
from orchestrator.plan.cost import duration, gpu_hours, wall_seconds
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.read import load
from orchestrator.plan.resources import most_trials, resolved
from orchestrator.plan.schema import FILE, first_line, write_schema
from orchestrator.plan.services import Services
from orchestrator.ready import Ready, ready
from sr_models.command import EXIT_DONE, Parser, run_command, say, tell
from sr_models.errors import InputError
from sr_models.files import write_text, writing
from sr_models.images.files import find_images, header, is_flat, pixels_sha256, read_image, some

PROG = "python -m orchestrator.init"

LEAST_PATCH, STEP = 24, 8
"""Least LR side of a training picture, and what patches are multiples of."""

LEAST_PICTURES = 3
"""One to train on, one to steer by, one to score."""

DECODED = 300
"""Pictures beyond which only those held out are decoded; the run reads the others, and leaves out what it cannot."""

LARGE = 1024
"""Side beyond which validations look at the middle of a picture, and pictures are computed in tiles if need be."""

MOST_STEPS, LEAST_STEPS = 300_000, 200

NAMED = 10
"""How many of the pictures that are left out are named."""


class Size(NamedTuple):
    """Networks and budget of a first sweep: of minutes on a machine without a GPU, of hours on one with GPUs."""

    models: str
    patch: int
    lr: str
    hours: float


SMALL = Size(
    """  edsr_baseline: {channels: 32, blocks: 4}        # published: 64 and 16; these train on a CPU
  imdn: {channels: 48, blocks: 2, train: {lr: 1.0e-2}}""",
    24, "3.0e-3", 0.25,
)  # fmt: skip
PUBLISHED = Size(
    """  edsr_baseline:
  imdn:""",
    48, "2.0e-4", 2.0,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of the folder, by its header."""

    path: Path
    height: int
    width: int
    format: str
    mode: str


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which pictures are trained on, steer the search and are scored; which are left out, each with a line on why."""

    train: list[Picture]
    validation: list[Picture]
    test: list[Picture]
    left_out: dict[Path, str]


def parser() -> Parser:
    """The command line."""
    made = Parser(prog=PROG, description=__doc__.partition("\n")[0].partition(": ")[2])
    made.add_argument("config", metavar="CONFIG.yaml", type=Path, help="the file to be written")
    made.add_argument("--images", metavar="DIR", type=Path, required=True, help="folder tree of your pictures")
    made.add_argument("--scale", metavar="N", type=int, default=2, choices=(2, 3, 4, 8), help="factor (default 2)")
    made.add_argument(
        "--hours",
        metavar="H",
        type=float,
        help=f"how long it may take (default {SMALL.hours}; on GPUs {PUBLISHED.hours})",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(PROG, _run, argv)


def _run(argv: Sequence[str]) -> int:
    asked = parser().parse_args(argv)
    if asked.config.exists():
        raise InputError(f"{asked.config} is there already; give another name, or remove it")
    if asked.config.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(f"{asked.config}: give a name that ends with .yaml")
    if asked.hours is not None and not 0 < asked.hours < math.inf:
        raise InputError(f"--hours must be a number above 0, got {asked.hours:g}")
    pictures, unread = look_through(asked.images)
    split = divide(pictures, unread, asked.images, asked.scale)
    size = PUBLISHED if machine().resources.gpus else SMALL
    hours = size.hours if asked.hours is None else asked.hours
    found = write(asked, split, size, hours)
    tell(f"{asked.images}: {summary(pictures)}")
    if split.left_out:
        tell(f"  left out: {len(split.left_out)}")
    for why in [*split.left_out.values()][:NAMED]:
        tell(f"    {why}")
    if len(split.left_out) > NAMED:
        tell(f"    and {len(split.left_out) - NAMED} more")
    for name, what, held in (("validation", "steers the search", split.validation), ("test", "is scored", split.test)):
        tell(f"  {name} ({what}): {len(held)}, {some([picture.path for picture in held])}")
    tell(f"  train: {len(split.train)}, the others")
    for line in filter(None, [found.device, *found.left_out]):
        tell(line)
    tell(f"wrote {asked.config}, with comments, and {asked.config.parent / FILE}, by which editors know its keys")
    if _seconds(found.plan) > hours * 3600 and found.plan.config.train.steps == LEAST_STEPS:
        tell(f"the least that this makes, {LEAST_STEPS} steps a run, takes about {_time(found)}: not {hours:g} hours")
    tell(f"next, about {_time(found)}: python -m orchestrator.sweep {shlex.quote(str(asked.config))}")
    return EXIT_DONE


def look_through(folder: Path) -> tuple[list[Picture], list[tuple[Path, str]]]:
    """The pictures of a folder tree, and those whose headers cannot be read with the reason.

    Raises:
        InputError: there are none.
    """
    pictures, unread = [], []
    for path in find_images(folder):
        try:
            with header(path) as opened:
                width, height = opened.size
                format_, mode = opened.format or "", opened.mode
            pictures.append(Picture(path=path, height=height, width=width, format=format_, mode=mode))
        except InputError as error:
            unread.append((path, str(error)))
    return pictures, unread


def summary(pictures: Sequence[Picture]) -> str:
    """`10 pictures (8 PNG, 2 JPEG), 321x481 to 640x480 pixels; 1 grey`."""
    sides = sorted(((one.width, one.height) for one in pictures), key=lambda side: side[0] * side[1])
    formats = ", ".join(f"{n} {name}" for name, n in Counter(one.format for one in pictures).most_common())
    odd = Counter(kind for one in pictures if (kind := _kind(one.mode)))
    kinds = "".join(f"; {n} {kind}" for kind, n in odd.items())
    low, high = sides[0], sides[-1]
    return f"{len(pictures)} pictures ({formats}), {low[0]}x{low[1]} to {high[0]}x{high[1]} pixels{kinds}"


def _kind(mode: str) -> str | None:
    """What is done with a picture that is not 8-bit RGB."""
    if mode.startswith("I"):
        return "of 16 bits, which become 8"
    if mode in ("LA", "RGBA", "PA"):
        return "with an alpha channel, which is dropped where it is opaque"
    return {"L": "grey, which become RGB", "1": "black and white, which become RGB", "P": "with a palette"}.get(mode)


def divide(pictures: Sequence[Picture], unread: Sequence[tuple[Path, str]], folder: Path, scale: int) -> Split:
    """Hold a tenth of the pictures out to steer by (1 to 5) and a fifth to be scored (1 to 10).

    Raises:
        InputError: fewer than three can be used.
    """
    least = LEAST_PATCH * scale
    small = [one for one in pictures if min(one.height, one.width) < least]
    large = [one for one in pictures if min(one.height, one.width) >= least]
    alone = _alone(large, [*(one.path for one in pictures), *(path for path, _ in unread)])
    left_out = dict(unread)
    for one in small:
        name = str(one.path.relative_to(folder))
        left_out[one.path] = f"{name!r} is smaller than {least} pixels a side, {one.width}x{one.height}"
    tests, steering = (min(max(round(len(large) * part), 1), most) for part, most in ((0.2, 10), (0.1, 5)))
    if len(large) > DECODED:
        say(f"reading some of {len(large)} pictures")
    sound: list[Picture] = []
    seen: dict[str, Picture] = {}
    twins: set[Path] = set()
    for one in large if len(large) <= DECODED else alone:
        if len(large) > DECODED and len(sound) == tests + steering:
            break
        try:
            pixels = read_image(one.path)
        except InputError as error:
            left_out[one.path] = str(error)
            continue
        if (twin := seen.setdefault(pixels_sha256(pixels), one)) is not one:
            twins |= {twin.path, one.path}
        elif not is_flat(pixels):
            sound.append(one)
    usable = [one for one in large if one.path not in left_out]
    good = {one.path for one in sound} - twins
    held = [one for one in alone if one.path in good][: tests + steering]
    if len(held) < 2 or len(usable) < LEAST_PICTURES:
        why = f": {next(iter(left_out.values()))}" if left_out else ", of different names and pixels"
        raise InputError(
            f"{folder}: a sweep at x{scale} needs {LEAST_PICTURES} pictures or more of {least} pixels a side, to train "
            f"on, to steer by and to score; {len(usable)} of {len(pictures) + len(unread)} can be used{why}"
        )
    scored = max(len(held) - steering, 1)
    test, validation = held[:scored], held[scored:]
    chosen = {one.path for one in held}
    return Split(
        train=[one for one in usable if one.path not in chosen], validation=validation, test=test, left_out=left_out
    )  # fmt: skip


def _alone(pictures: Sequence[Picture], files: Sequence[Path]) -> list[Picture]:
    """Those whose name, without suffix and capitals, no other of the files has, in an order that names alone decide."""
    named = Counter(path.stem.casefold() for path in files)
    single = [one for one in pictures if named[one.path.stem.casefold()] == 1]
    return sorted(single, key=lambda one: hashlib.sha256(one.path.name.encode("utf-8", "replace")).hexdigest())


def write(asked: argparse.Namespace, split: Split, size: Size, hours: float) -> Ready:
    """Write the config and its schema, and look at it as a dry run does.

    Raises:
        InputError: it cannot be written, or would be refused; nothing is left then.
    """
    try:
        once, twice = (_seconds(_planned(asked, split, size, steps)) for steps in (1000, 2000))
        plan = _planned(asked, split, size, _rounded(1000 + (hours * 3600 - once) / (twice - once) * 1000))
        folder = asked.config.parent / plan.config.run_name  # where runs go is said when they are started
        found = ready(plan, folder, Services(tracking_uri="sqlite://"))
        if found.faults:
            raise InputError(found.faults[0])
        with writing(asked.config.parent, "CONFIG"):
            write_schema(asked.config.parent)
    except BaseException:
        with suppress(OSError):  # it may not be there; and what went wrong first is what is said
            asked.config.unlink()
        raise
    return found


def _planned(asked: argparse.Namespace, split: Split, size: Size, steps: int) -> Plan:
    """Write the config with so many steps a run; its plan."""
    with writing(asked.config, "CONFIG"):
        write_text(asked.config, config_text(asked, split, size, steps))
    return make_plan(load(asked.config))


def _seconds(plan: Plan) -> float:
    """Estimated time of a plan on this machine."""
    here = machine().resources
    resources = resolved(plan.config.resources, here)
    held = most_trials(here, resources)
    if resources.gpus_per_worker:
        return gpu_hours(plan) * 3600 / (held * resources.gpus_per_worker)
    return wall_seconds(plan, held * resources.cpus_per_worker)


def _time(found: Ready) -> str:
    return duration(_seconds(found.plan))


def _rounded(steps: float) -> int:
    """To two digits, within bounds."""
    bounded = min(max(steps, LEAST_STEPS), MOST_STEPS)
    return int(round(bounded, 2 - len(str(int(bounded)))))


def config_text(asked: argparse.Namespace, split: Split, size: Size, steps: int) -> str:
    """The config, with a comment on what one changes first."""
    scale, held, file = asked.scale, [*split.validation, *split.test], shlex.quote(str(asked.config))
    sides = [min(one.height, one.width) // scale for one in split.train]
    patch = min(size.patch, min(sides) // STEP * STEP)
    folder = _text(str(asked.images.absolute()))
    kept = {
        one.path.name for one in split.train
    }  # a name means every file that has it: the run leaves those out itself
    left_out = [path for path in split.left_out if path.name not in kept]
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", asked.config.stem).strip("-.")[:80]
    large = max(max(one.height, one.width) for one in held) > LARGE
    validation = "validation: {crop: 512}                     # of each picture the middle alone: they are large\n"
    return f"""{first_line()}# Written by {PROG} for {len(split.train) + len(held)} pictures. All keys: \
python -m orchestrator.sweep --keys
# Look:  python -m orchestrator.sweep {file} --dry-run
# Start: python -m orchestrator.sweep {file}      (the same line again goes on after a stop)
name: {_text(name if re.fullmatch(LABEL, name) else "mine")}
scales: [{scale}]                                    # factors; each is a board of its own, as in [2, 4]
models:                                        # networks; `python -m sr_models list` names all
{size.models}
objectives:                                    # ways to train them; --keys says what each does
  l1:                                          # the usual one, and the baseline below
  expectation: {{search: [sigma.beta]}}          # a predicted spread beside the picture
  eco: {{search: [target.length]}}               # from a teacher's picture to the true one
teacher: {{model: edsr_baseline{_teacher(size)}}}  # eco's, trained first
data:
  on_bad: skip                                 # a training picture that cannot be read is left out, and said
  train:
    - hr: {folder}
{_names("exclude", [*(one.path for one in held), *left_out], "held out below, or not to be used")}  validation:
    - hr: {folder}
{_names("include", [one.path for one in split.validation], "these steer the search and are never scored")}  test:
    mine:
      hr: {folder}
{_names("include", [one.path for one in split.test], "these are scored, and never trained on", "      ")}train:
  steps: {steps}                                 # more is better, and takes longer
  batch_size: 16
  patch: {patch}                                    # LR pixels a side
  lr: {size.lr}
  warmup: 0.1
  clip_norm: 1.0
  validate_every: {max(steps // 5, 2)}
  checkpoint_every: {max(steps // 5, 2)}
{validation if large else ""}search: {{trials: 3, startup_trials: 2}}         # proposals for each row that searches
seeds: 2                                       # full runs of each winner; more tell rows apart more surely
board: {{baseline: l1}}                          # each network's rows also as differences to its l1
resources: {_resources(large)}                                # a GPU where there is one
"""


def _teacher(size: Size) -> str:
    return ", hyper: {channels: 32, blocks: 6}" if size is SMALL else ""


def _resources(large: bool) -> str:
    return "{auto: true, max_bytes: auto}" if large else "auto"


def _names(key: str, paths: Sequence[Path], why: str, indent: str = "      ") -> str:
    """A list of file names as globs that mean them alone; nothing where there are none."""
    if not paths:
        return ""
    names = dict.fromkeys(glob.escape(path.name) for path in paths)
    lines = [f"{indent}{key}:  # {why}", *(f"{indent}  - {_text(name)}" for name in names)]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """As YAML in quotes."""
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    raise SystemExit(main())
