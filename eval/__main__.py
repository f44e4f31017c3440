"""`python -m eval`: score a model, or a folder of someone else's pictures, against HR under a named protocol.

Everything that can be checked without torch is checked before it is imported, so mistakes and `--help` answer at once.
`python -m eval weights` is about the files that perceptual metrics need (`eval.weights_command`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

import sr_models
from eval.protocol import METRICS, PROTOCOLS, Protocol, get_metric, get_protocol
from eval.report_text import table
from sr_models.errors import InputError

if TYPE_CHECKING:
    from eval.report import Evaluation
    from eval.rows import Subject
    from eval.scorer import Scorer

EXIT_INPUT = 2

_MODEL_OPTIONS = (
    "weights", "hyper", "save_images", "pictures", "draws", "seed", "precision",
    "channels_last", "compile", "tile", "overlap", "self_ensemble",
)  # fmt: skip
_MAX_SEED = 2**63 - 1  # rows hold it as an int64


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are ours: one line, no usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = Parser(
        prog="python -m eval",
        description="Super-resolve a folder with a model and score it, or score pictures that exist already. "
        "`python -m eval weights` shows and fetches the files that perceptual metrics need.",
        epilog=f"models: {', '.join(sr_models.MODELS)}. metrics: {', '.join(METRICS)}, g_std.<metric>. "
        f"protocols: {', '.join(PROTOCOLS)}. Files are matched by name; HR is cropped to a multiple of the scale.",
    )
    scored = made.add_mutually_exclusive_group(required=True)
    scored.add_argument("--model", metavar="NAME", help="a network, with --weights unless it has none (bicubic)")
    scored.add_argument("--images", metavar="DIR", type=Path, help="SR pictures to score as they are")
    made.add_argument("--scale", metavar="S", type=int, required=True, help="upscaling factor")
    made.add_argument("--hr", metavar="DIR", type=Path, required=True, help="HR images")
    made.add_argument("--lr", metavar="DIR", type=Path, help="LR images (a model's are made from HR without them)")
    made.add_argument("--protocol", metavar="NAME", default="classical", help="default: %(default)s")
    made.add_argument("--metrics", metavar="A,B", help="or 'all' (default: what the protocol reports)")
    made.add_argument("--weights-dir", metavar="DIR", type=Path, help="of perceptual metrics (default: SR_WEIGHTS_DIR)")
    made.add_argument("--strict", action="store_true", help="a refused picture or missing metric weights are an error")
    made.add_argument("--json", metavar="FILE", type=Path, help="also write the report to this file")
    made.add_argument("--parquet", metavar="FILE", type=Path, help="also write one row an image to this file")
    made.add_argument("--per-image", action="store_true", help="a line for each image in the table")

    model = made.add_argument_group("with --model")
    model.add_argument("--weights", metavar="PATH", type=Path, help="a released file, or a checkpoint folder of ours")
    model.add_argument("--hyper", metavar="KEY=VALUE", action="append", help="a hyperparameter; may be repeated")
    model.add_argument("--draws", metavar="N", type=int, help="of a stochastic network (default: as the protocol says)")
    model.add_argument("--seed", metavar="N", type=int, help="of its noise (default: 0)")
    model.add_argument("--save-images", metavar="DIR", type=Path, help="write the SR images there, as PNG")
    model.add_argument("--pictures", metavar="DIR", type=Path, help="draw comparisons, spreads and violins there")
    model.add_argument("--precision", choices=("fp32", "bf16"), help="default: fp32")
    model.add_argument("--channels-last", action="store_true", help="memory layout, faster on recent GPUs")
    model.add_argument("--compile", action="store_true", help="through torch.compile")
    model.add_argument("--tile", metavar="N", type=int, help="compute in tiles of N LR pixels a side")
    model.add_argument("--overlap", metavar="N", type=int, help="LR pixels a tile sees beyond its part (default: 32)")
    model.add_argument("--self-ensemble", action="store_true", help='mean over eight flips and turns ("+")')
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for input that cannot be used."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["weights"]:
        from eval import weights_command

        return weights_command.main(arguments[1:])
    made = parser()
    try:
        _run(made.parse_args(arguments))
    except InputError as error:
        print(f"{made.prog}: {error}", file=sys.stderr)
        return EXIT_INPUT
    return 0


def _run(given: argparse.Namespace) -> None:
    protocol, metrics, hyper = check(given)
    if given.model is not None:
        show(given, *_score_model(given, hyper, protocol, metrics))
    else:
        show(given, *_score_pictures(given, protocol, metrics))


def check(given: argparse.Namespace) -> tuple[Protocol, list[str], dict[str, Any]]:
    """The protocol, with --draws, the metrics and the hyperparameters that options name.

    Everything is checked that can be without torch, and folders for results are made.

    Raises:
        InputError: an option that is wrong, or does not go with another.
    """
    protocol = get_protocol(given.protocol, "--protocol")
    metrics = chosen(given.metrics, protocol)
    if given.scale < 1:
        raise InputError(f"--scale must be at least 1, got {given.scale}")
    hyper = _check_model(given) if given.model is not None else _check_pictures(given)
    _check_outputs(given)
    return protocol if given.draws is None else protocol.model_copy(update={"draws": given.draws}), metrics, hyper


def chosen(asked: str | None, protocol: Protocol) -> list[str]:
    """The metrics to report, each once, in the order asked for; KID always goes with FID.

    Args:
        asked: names with commas between them, or "all"; None for those that the protocol reports.

    Raises:
        InputError: an unknown metric.
    """
    metrics = protocol.metrics if asked is None else METRICS if asked == "all" else asked.split(",")
    for name in metrics:
        get_metric(name, "--metrics")
    return list(dict.fromkeys([part for name in metrics for part in ((name, "kid") if name == "fid" else (name,))]))


def show(given: argparse.Namespace, result: Evaluation, subject: Subject) -> None:
    """Print the table, and write what the options ask for."""
    print(table(result.report, per_image=given.per_image))
    if given.json is not None:
        given.json.write_text(json.dumps(result.report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if given.parquet is not None:
        from eval.rows import write_rows

        write_rows(given.parquet, subject, result.rows, versions=json.dumps(result.report["versions"]))


def _score_model(
    given: argparse.Namespace, hyper: Mapping[str, Any], protocol: Protocol, metrics: Sequence[str]
) -> tuple[Evaluation, Subject]:
    import torch

    from eval import report
    from eval.asked import load
    from eval.rows import keyed

    asked, device = load(given, hyper, protocol), "cuda" if torch.cuda.is_available() else "cpu"
    subject = asked.subject
    scorer = _scorer(given, protocol, metrics, kernel=subject.kernel, device=device)
    result = report.score_model(
        asked.model.to(device),
        asked.benchmark,
        name=given.model,
        weights_sha256=subject.weights_sha256,
        scorer=scorer,
        metrics=metrics,
        seed=subject.seed,
        options=subject.options,
        save_in=given.save_images,
        pictures_in=given.pictures,
    )
    return replace(result, rows=keyed(subject, result.rows, scorer.metrics)), subject


def _score_pictures(
    given: argparse.Namespace, protocol: Protocol, metrics: Sequence[str]
) -> tuple[Evaluation, Subject]:
    import torch

    from eval import report
    from eval.asked import set_name
    from eval.rows import Identity, Subject
    from sr_models.inference import Options

    kernel = None if given.lr is None else "files"
    scorer = _scorer(given, protocol, metrics, kernel=kernel, device="cuda" if torch.cuda.is_available() else "cpu")
    result = report.score_pictures(
        given.images,
        given.hr,
        lr=given.lr,
        name=set_name(given.hr),
        scale=given.scale,
        scorer=scorer,
        metrics=metrics,
        strict=given.strict,
    )
    name = given.images.name
    identity = Identity(
        combination=name, model=name, objective="-", target="-", loss="-", scale=given.scale, fingerprint="", seed=-1,
        weights="none", network="-",
    )  # fmt: skip
    subject = Subject(
        identity=identity, weights_sha256=None, hyper="{}", benchmark=set_name(given.hr), kernel=str(kernel),
        protocol=protocol.id(given.scale), seed=-1, options=Options(),
    )  # fmt: skip
    return result, subject


def _scorer(
    given: argparse.Namespace, protocol: Protocol, metrics: Sequence[str], *, kernel: str | None, device: str
) -> Scorer:
    from eval.scorer import Scorer

    return Scorer(
        protocol,
        metrics,
        scale=given.scale,
        device=device,
        weights_dir=given.weights_dir,
        strict=given.strict,
        kernel=kernel,
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
    if given.draws is not None and given.draws < 1:
        raise InputError(f"--draws must be at least 1, got {given.draws}")
    if given.seed is not None and not 0 <= given.seed <= _MAX_SEED:
        raise InputError(f"--seed must be from 0 to {_MAX_SEED}, got {given.seed}")
    if given.overlap is not None and given.tile is None:
        raise InputError("--overlap has no effect without --tile")
    return hyper


def _check_pictures(given: argparse.Namespace) -> dict[str, Any]:
    """Nothing, once no option is there that only a model has a use for."""
    for name in _MODEL_OPTIONS:
        if getattr(given, name) is not None and getattr(given, name) is not False:  # 0 is given
            raise InputError(f"--{name.replace('_', '-')} goes with --model, not with --images")
    return {}


def _check_outputs(given: argparse.Namespace) -> None:
    """Make the folders of what is written, before the work that it is for."""
    for option, file in (("--json", given.json), ("--parquet", given.parquet)):
        if file is not None:
            if file.is_dir():
                raise InputError(f"{option}: {str(file)!r} is a folder")
            _make_folder(option, file.parent)
    for option, folder in (("--save-images", given.save_images), ("--pictures", given.pictures)):
        if folder is not None:
            if folder.resolve() in [read.resolve() for read in (given.hr, given.lr) if read]:
                raise InputError(f"{option}: {str(folder)!r} holds the images to be scored")
            _make_folder(option, folder)


def _make_folder(option: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option}: folder {str(folder)!r} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"{option}: folder {str(folder)!r} cannot be written to")


if __name__ == "__main__":
    raise SystemExit(main())
