"""`python -m eval`: score a model, or a folder of someone else's pictures, against HR under a named protocol.

Everything that can be checked without torch is checked before it is imported, so mistakes and `--help` answer at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

import sr_models
from eval.protocol import METRICS, PROTOCOLS, Protocol, get_metric, get_protocol
from sr_models.errors import InputError

if TYPE_CHECKING:
    from eval.report import Report
    from sr_models.network import SRNetwork
    from sr_models.sigma import WithSigma

EXIT_INPUT = 2

_MODEL_OPTIONS = (
    "weights", "hyper", "lr", "save_images", "precision",
    "channels_last", "compile", "tile", "overlap", "self_ensemble",
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are ours: one line, no usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = _Parser(
        prog="python -m eval",
        description="Super-resolve a folder with a model and score it, or score pictures that exist already.",
        epilog=f"models: {', '.join(sr_models.MODELS)}. metrics: {', '.join(METRICS)}. "
        f"protocols: {', '.join(PROTOCOLS)}. Files are matched by name; HR is cropped to a multiple of the scale.",
    )
    scored = made.add_mutually_exclusive_group(required=True)
    scored.add_argument("--model", metavar="NAME", help="a network, with --weights unless it has none (bicubic)")
    scored.add_argument("--images", metavar="DIR", type=Path, help="SR pictures to score as they are")
    made.add_argument("--scale", metavar="S", type=int, required=True, help="upscaling factor")
    made.add_argument("--hr", metavar="DIR", type=Path, required=True, help="HR images")
    made.add_argument("--metrics", metavar="A,B", default="psnr_y,ssim_y", help="default: %(default)s")
    made.add_argument("--protocol", metavar="NAME", default="classical", help="default: %(default)s")
    made.add_argument("--json", metavar="FILE", type=Path, help="also write the report to this file")
    made.add_argument("--per-image", action="store_true", help="a line for each image in the table")

    model = made.add_argument_group("with --model")
    model.add_argument("--weights", metavar="PATH", type=Path, help="a released file, or a checkpoint folder of ours")
    model.add_argument("--hyper", metavar="KEY=VALUE", action="append", help="a hyperparameter; may be repeated")
    model.add_argument("--lr", metavar="DIR", type=Path, help="LR images (default: made from HR, MATLAB's bicubic)")
    model.add_argument("--save-images", metavar="DIR", type=Path, help="write the SR images there, as PNG")
    model.add_argument("--precision", choices=("fp32", "bf16"), help="default: fp32")
    model.add_argument("--channels-last", action="store_true", help="memory layout, faster on recent GPUs")
    model.add_argument("--compile", action="store_true", help="through torch.compile")
    model.add_argument("--tile", metavar="N", type=int, help="compute in tiles of N LR pixels a side")
    model.add_argument("--overlap", metavar="N", type=int, help="LR pixels a tile sees beyond its part (default: 32)")
    model.add_argument("--self-ensemble", action="store_true", help='mean over eight flips and turns ("+")')
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for input that cannot be used."""
    made = parser()
    try:
        _run(made.parse_args(argv))
    except InputError as error:
        print(f"{made.prog}: {error}", file=sys.stderr)
        return EXIT_INPUT
    return 0


def _run(given: argparse.Namespace) -> None:
    protocol = get_protocol(given.protocol, "--protocol")
    metrics = list(dict.fromkeys(given.metrics.split(",")))
    for name in metrics:
        get_metric(name, "--metrics")
    if given.scale < 1:
        raise InputError(f"--scale must be at least 1, got {given.scale}")
    hyper = _check_model(given) if given.model is not None else _check_pictures(given)
    _check_outputs(given)

    from eval import report as reports  # imports torch

    if given.model is not None:
        report = _score_model(given, hyper, protocol, metrics)
    else:
        report = reports.score_pictures(given.images, given.hr, scale=given.scale, protocol=protocol, metrics=metrics)
    print(reports.table(report, per_image=given.per_image))
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _score_model(
    given: argparse.Namespace, hyper: dict[str, Any], protocol: Protocol, metrics: Sequence[str]
) -> Report:
    import torch

    from eval import benchmarks
    from eval.report import score_model
    from sr_models.images import sha256_file
    from sr_models.inference import Options
    from sr_models.published import load_weights

    asked = {"precision": given.precision, "tile": given.tile, "overlap": given.overlap}
    options = Options(
        channels_last=given.channels_last,
        compile=given.compile,
        self_ensemble=given.self_ensemble,
        **{name: value for name, value in asked.items() if value is not None},
    )
    benchmark = benchmarks.load(given.hr.name, given.scale, given.hr, given.lr)
    model: SRNetwork | WithSigma
    if given.weights is None:
        model, sha256 = sr_models.build(given.model, given.scale, **hyper), None
    else:
        model = load_weights(given.weights, model=given.model, scale=given.scale, hyper=hyper)
        sha256 = sha256_file(given.weights / "model.safetensors" if given.weights.is_dir() else given.weights)
    return score_model(
        model.to("cuda" if torch.cuda.is_available() else "cpu"),
        benchmark,
        name=given.model,
        weights_sha256=sha256,
        protocol=protocol,
        metrics=metrics,
        options=options,
        save_in=given.save_images,
    )


def _check_model(given: argparse.Namespace) -> dict[str, Any]:
    """What --hyper says, once model, scale, hyperparameters and weights go together."""
    hyper = {}
    for text in given.hyper or ():
        key, equals, value = text.partition("=")
        try:
            hyper[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals:
            raise InputError(f"--hyper must be key=value, with a YAML value, got {text!r}")
    sr_models.check(given.model, given.scale, hyper)
    if sr_models.spec(given.model).trainable and given.weights is None:
        raise InputError(f"model {given.model!r} needs --weights")
    if not sr_models.spec(given.model).trainable and given.weights is not None:
        raise InputError(f"model {given.model!r} has no weights; got --weights {str(given.weights)!r}")
    if given.weights is not None and not given.weights.exists():
        raise InputError(f"--weights: {str(given.weights)!r} does not exist")
    if given.overlap is not None and given.tile is None:
        raise InputError("--overlap has no effect without --tile")
    return hyper


def _check_pictures(given: argparse.Namespace) -> dict[str, Any]:
    """Nothing, once no option is there that only a model has a use for."""
    for name in _MODEL_OPTIONS:
        if getattr(given, name) not in (None, False):
            raise InputError(f"--{name.replace('_', '-')} goes with --model, not with --images")
    return {}


def _check_outputs(given: argparse.Namespace) -> None:
    """Make the folders of --json and --save-images, before the work that they are for."""
    if given.json is not None:
        if given.json.is_dir():
            raise InputError(f"--json: {str(given.json)!r} is a folder")
        _make_folder("--json", given.json.parent)
    if given.save_images is not None:
        if given.save_images.resolve() in [folder.resolve() for folder in (given.hr, given.lr) if folder]:
            raise InputError(f"--save-images: {str(given.save_images)!r} holds the images to be scored")
        _make_folder("--save-images", given.save_images)


def _make_folder(option: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option}: folder {str(folder)!r} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"{option}: folder {str(folder)!r} cannot be written to")


if __name__ == "__main__":
    raise SystemExit(main())
