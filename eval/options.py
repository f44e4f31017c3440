"""Options that several commands have: what a network is made of, and how a diffusion network draws its pictures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import sr_models
from sr_models import yaml_text
from sr_models.errors import InputError
from sr_models.hyper.crops import Crops
from sr_models.hyper.sampling import Canvas, ColourFix

SAMPLING = ("sampler", "steps", "eta", "eps", "t_max", "t_min", "jump", "canvas", "colour_fix")
"""Fields of `Sampling` that are options."""


def add_sampling_options(made: argparse._ActionsContainer) -> None:
    """The options that say how a diffusion network draws its pictures; `asked_sampling` reads all but --crops."""
    made.add_argument(
        "--sampler", metavar="NAME",
        help="ancestral (default), ddim, idm_ddim (IDM's, as shipped), truncated (CCSR's), resshift (the default where "
        "that was trained); dpm_solver and unipc by the extra [diffusion]",
    )  # fmt: skip
    made.add_argument("--steps", metavar="N", type=int, help="steps from noise (default: all of its process)")
    made.add_argument("--eta", metavar="X", type=float, help="noise of ddim's steps, 0 (default) to 1")
    made.add_argument(
        "--eps", choices=("from_x0", "predicted"),
        help="ddim goes on with the noise that fits its clamped guess (default), or with the network's",
    )  # fmt: skip
    made.add_argument("--t-max", metavar="X", type=float, help="where truncated jumps to, of all (default: 2/3)")
    made.add_argument("--t-min", metavar="X", type=float, help="where truncated ends, of all (default: 1/3)")
    made.add_argument(
        "--jump", choices=("first_used", "released"),
        help="truncated jumps to the noise level of its next call (default), or to the released code's",
    )  # fmt: skip
    made.add_argument("--canvas", choices=get_args(Canvas), help="size to draw at: CCSR's, 512 and more, by 64")
    made.add_argument("--colour-fix", choices=get_args(ColourFix), help="colours of the enlarged LR, by CCSR's code")
    made.add_argument(
        "--crops", choices=get_args(Crops), help="tiles, DREAM's or CCSR's, with one noise for all of a picture"
    )


def asked_sampling(given: argparse.Namespace) -> dict[str, Any]:
    """Those of `add_sampling_options` that were given: fields of `Sampling`."""
    return {name: value for name in SAMPLING if (value := getattr(given, name)) is not None}


def parse_hyper(given: Sequence[str] | None) -> dict[str, Any]:
    """What --hyper says. Raises InputError: it is not key=value, or the value no YAML."""
    hyper = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--hyper must be key=value, with a YAML value, got {text!r}")
        hyper[key] = yaml_text.parse(value, f"--hyper {key}")
    return hyper


def add_part_option(made: argparse._ActionsContainer) -> None:
    """--part, which `parse_parts` reads."""
    made.add_argument(
        "--part", metavar="NAME=FILE", action="append",
        help="a frozen part that the network stands on, such as autoencoder=FILE; may be repeated",
    )  # fmt: skip


def parse_parts(given: Sequence[str] | None, model: str, hyper: Mapping[str, Any]) -> dict[str, Path]:
    """What --part says.

    Raises:
        InputError: no NAME=FILE, no part of the network, no such file; a part among the hyperparameters.
    """
    names, found = sr_models.spec(model).hyper.parts, {}
    for name in names:
        if keys := [key for key in (name, f"{name}_sha256") if key in hyper]:
            raise InputError(f"--hyper {keys[0]}: a frozen part is given as --part {name}=FILE")
    for text in given or ():
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise InputError(f"--part must be NAME=FILE, got {text!r}")
        if name not in names:
            raise InputError(f"--part: {model} has no part {name!r} (it has: {', '.join(names) or 'none'})")
        if not Path(path).exists():
            raise InputError(f"--part {name}: {path!r} does not exist")
        found[name] = Path(path)
    return found
