"""What `python -m eval` does, for it and for other commands: options, the typed request they make, table and files.

Everything that can be checked without torch is checked before it is imported, so mistakes and `--help` answer at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sr_models
from eval.options import SAMPLING, add_part_option, add_sampling_options, asked_sampling, parse_hyper, parse_parts
from eval.protocol import METRICS, PROTOCOLS, STABILITY, Protocol, get_metric, get_protocol
from eval.report_text import table
from eval.request import ModelRequest, PicturesRequest, Request
from sr_models.command import EXIT_DONE, Parser, say, tell
from sr_models.errors import InputError
from sr_models.files import full_disk, read_json, writing
from sr_models.hyper.sampling import Sampling, as_asked, off_its_levels
from sr_models.plugins import require
from sr_models.scales import parse_scale

if TYPE_CHECKING:
    from eval.metrics.scorer import Scorer
    from eval.report import Evaluation
    from eval.rows import Subject

PROG = "python -m eval"

_MODEL_OPTIONS = (
    "kernel", "weights", "weights_key", "hyper", "part", "save_images", "pictures", "draws", "seed", "precision",
    "channels_last", "compile", "tile", "overlap", "self_ensemble",
    *SAMPLING, "crops",
)  # fmt: skip
_MAX_SEED = 2**63 - 1  # rows hold it as an int64


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog=PROG,
        description="Super-resolve a folder with a model and score it, or score pictures that exist already. "
        "`python -m eval weights` shows and fetches the files that perceptual metrics need.",
        epilog=f"models: {', '.join(sr_models.MODELS)}. metrics: {', '.join(METRICS)}, g_std.<metric>. "
        f"protocols: {', '.join(PROTOCOLS)}. Files are matched by name; HR is cropped to a multiple of the scale.",
    )
    scored = made.add_mutually_exclusive_group()
    scored.add_argument(
        "--model", metavar="NAME",
        help="a network, with --weights unless it has none (bicubic); a checkpoint folder says it itself",
    )  # fmt: skip
    scored.add_argument("--images", metavar="DIR", type=Path, help="SR pictures to score as they are")
    made.add_argument(
        "--scale", metavar="S",
        help="upscaling factor, such as 4 or 2.5; 1: LR is as large as HR (default: a checkpoint folder's)",
    )  # fmt: skip
    made.add_argument(
        "--hr", metavar="DIR", type=Path,
        help="HR images; without them a network's pictures of --lr are measured by what needs none: consistency, and "
        "niqe, musiq, clipiqa where the extra [pyiqa] is there",
    )  # fmt: skip
    made.add_argument("--lr", metavar="DIR", type=Path, help="LR images (a model's are made from HR without them)")
    for name, does in (("--include", "take only"), ("--exclude", "leave out")):
        made.add_argument(
            name, metavar="GLOB", action="append", default=[], help=f"{does} HR files named so; may be repeated"
        )
    made.add_argument("--protocol", metavar="NAME", default="classical", help="default: %(default)s")
    made.add_argument("--metrics", metavar="A,B", help="or 'all' (default: what the protocol reports)")
    made.add_argument("--weights-dir", metavar="DIR", type=Path, help="of perceptual metrics (default: SR_WEIGHTS_DIR)")
    made.add_argument("--strict", action="store_true", help="a refused picture or missing metric weights are an error")
    made.add_argument("--json", metavar="FILE", type=Path, help="also write the report to this file")
    made.add_argument("--parquet", metavar="FILE", type=Path, help="also write one row an image to this file")
    made.add_argument("--per-image", action="store_true", help="a line for each image in the table")

    model = made.add_argument_group("with --model")
    model.add_argument(
        "--kernel",
        metavar="ID",
        help="what makes LR without --lr: matlab-bicubic-replicate-u8 (default), or with another border or without "
        "rounding between its passes: matlab-bicubic-symmetric-u8, -replicate-float, -symmetric-float",
    )
    model.add_argument("--weights", metavar="PATH", type=Path, help="a released file, or a checkpoint folder of ours")
    model.add_argument("--weights-key", metavar="KEY", help="the part of the file to take, where it holds several")
    model.add_argument("--hyper", metavar="KEY=VALUE", action="append", help="a hyperparameter; may be repeated")
    add_part_option(model)
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

    add_sampling_options(made.add_argument_group("with --model of a diffusion network"))
    return made


def evaluate(argv: Sequence[str]) -> int:
    """All of `python -m eval` but its words on mistakes (`sr_models.command.run_command`); returns its exit code."""
    request = requested(parser().parse_args(argv))
    prepare_outputs(request)
    caution(request)
    show(request, *(_score_model(request) if isinstance(request, ModelRequest) else _score_pictures(request)))
    return EXIT_DONE


@contextmanager
def _saving(folder: Path | None) -> Iterator[None]:
    """Have a disk that becomes full while SR images are written there end in one line (DiskFullError)."""
    try:
        yield
    except OSError as error:
        if folder is not None and (full := full_disk(error, [folder])):
            raise full from None
        raise


def requested(given: argparse.Namespace) -> ModelRequest | PicturesRequest:
    """What the options of `parser` ask for, once everything is checked that can be without torch.

    Raises:
        InputError: an option that is wrong, or does not go with another.
    """
    protocol = get_protocol(given.protocol, "--protocol")
    _complete(given)
    metrics = tuple(chosen(given.metrics, protocol) if given.hr else _without_hr(given.metrics, protocol))
    given.scale = parse_scale(given.scale, "--scale")
    if given.model is None:
        _check_pictures(given)
        return PicturesRequest(
            protocol=protocol, metrics=metrics, scale=given.scale, hr=given.hr, lr=given.lr,
            include=tuple(given.include), exclude=tuple(given.exclude),
            weights_dir=given.weights_dir, strict=given.strict, json=given.json, parquet=given.parquet,
            per_image=given.per_image, images=given.images,
        )  # fmt: skip
    hyper = _check_model(given)
    return ModelRequest(
        protocol=protocol if given.draws is None else protocol.model_copy(update={"draws": given.draws}),
        metrics=metrics, scale=given.scale, hr=given.hr, lr=given.lr,
        include=tuple(given.include), exclude=tuple(given.exclude), weights_dir=given.weights_dir,
        strict=given.strict, json=given.json, parquet=given.parquet, per_image=given.per_image,
        model=given.model, kernel=given.kernel, weights=given.weights, weights_key=given.weights_key,
        hyper=hyper, parts=parse_parts(given.part, given.model, hyper), seed=given.seed or 0,
        precision=given.precision or "fp32", channels_last=given.channels_last, compile=given.compile,
        tile=given.tile, overlap=given.overlap,
        self_ensemble=given.self_ensemble, sampling=_sampling(given), crops=given.crops,
        save_images=given.save_images, pictures=given.pictures,
    )  # fmt: skip


def caution(request: Request) -> None:
    """One line where tiles change what the network computes: it looks at all of a picture."""
    if (
        isinstance(request, ModelRequest)
        and (request.tile or request.crops)
        and not sr_models.tile_exact(request.model, request.hyper)
    ):
        print(
            f"caution: {sr_models.called(request.model, request.hyper)} looks at all of a picture, so these scores, of "
            "tiles, are not those of whole pictures",
            file=sys.stderr,
        )


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


def show(request: Request, result: Evaluation, subject: Subject) -> None:
    """Write the files that were asked for, and print the table, which a closed pipe may cut."""
    if request.json is not None:
        with writing(request.json, "--json"):
            request.json.write_text(json.dumps(result.report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if request.parquet is not None:
        from eval.rows import write_rows

        with writing(request.parquet, "--parquet"):
            write_rows(request.parquet, subject, result.rows, versions=json.dumps(result.report["versions"]))
    tell(table(result.report, per_image=request.per_image))


def _score_model(request: ModelRequest) -> tuple[Evaluation, Subject]:
    import torch

    from eval import report
    from eval.asked import load
    from eval.rows import keyed

    loaded, device = load(request), "cuda" if torch.cuda.is_available() else "cpu"
    subject = loaded.subject
    name = sr_models.called(request.model, json.loads(subject.hyper))
    scorer = _scorer(request, kernel=subject.kernel, device=device)
    model = loaded.model.to(device)
    if loaded.benchmark is None:
        from eval.without_hr import score_lr

        assert request.lr is not None
        say(f"no --hr: measured by what needs no HR images alone ({', '.join(request.metrics)})")
        with _saving(request.save_images):
            result = score_lr(
                model, request.lr, globs=(request.include, request.exclude), strict=request.strict, subject=subject,
                name=name, scorer=scorer, metrics=request.metrics, save_in=request.save_images,
            )  # fmt: skip
    else:
        with _saving(request.save_images):
            result = report.score_model(
                model, loaded.benchmark, name=name, weights_sha256=subject.weights_sha256, scorer=scorer,
                metrics=request.metrics, seed=subject.seed, options=subject.options, save_in=request.save_images,
                pictures_in=request.pictures, trained_scale=subject.identity.trained_scale,
            )  # fmt: skip
    return replace(result, rows=keyed(subject, result.rows, scorer.metrics)), subject


def _score_pictures(request: PicturesRequest) -> tuple[Evaluation, Subject]:
    import torch

    from eval import report
    from eval.asked import set_name
    from eval.rows import Identity, Subject
    from sr_models.inference.super_resolve import Options

    assert request.hr is not None
    kernel = None if request.lr is None else "files"
    scorer = _scorer(request, kernel=kernel, device="cuda" if torch.cuda.is_available() else "cpu")
    result = report.score_pictures(
        request.images,
        request.hr,
        lr=request.lr,
        globs=(request.include, request.exclude),
        name=set_name(request.hr),
        scale=request.scale,
        scorer=scorer,
        metrics=request.metrics,
        strict=request.strict,
    )
    name = request.images.name
    identity = Identity(
        combination=name, model=name, objective="-", target="-", loss="-", scale=request.scale, fingerprint="", seed=-1,
        weights="none", network="-",
    )  # fmt: skip
    subject = Subject(
        identity=identity, weights_sha256=None, hyper="{}", benchmark=set_name(request.hr), kernel=str(kernel),
        protocol=request.protocol.id(request.scale), seed=-1, options=Options(),
    )  # fmt: skip
    return result, subject


def _scorer(request: Request, *, kernel: str | None, device: str) -> Scorer:
    from eval.metrics.scorer import Scorer

    return Scorer(
        request.protocol,
        request.metrics,
        scale=request.scale,
        device=device,
        weights_dir=request.weights_dir,
        strict=request.strict,
        kernel=kernel,
    )


def _complete(given: argparse.Namespace) -> None:
    """Take network and scale from a checkpoint folder where they are not given.

    Raises:
        InputError: something lacks that nothing says.
    """
    said = _folder_says(given) if given.images is None else {}
    if isinstance(stamps := said.get("plugins"), dict):
        require({row: str(stamp) for row, stamp in stamps.items()}, exact=False)
    for name in ("model", "scale"):
        if getattr(given, name) is None and isinstance(said.get(name), str | int):
            setattr(given, name, said[name])
    if given.model == sr_models.ZOO.name and isinstance(said.get("hyper"), dict):
        given.hyper = given.hyper or [f"{key}={json.dumps(value)}" for key, value in said["hyper"].items()]
    if given.model is None and given.images is None:
        _recognise(given)
    if given.scale is None:
        raise InputError("--scale is needed; only a checkpoint folder (--weights) says its own")
    if given.hr is None and (given.images is not None or given.lr is None):
        raise InputError("--hr is needed; only a network's pictures of --lr are measured without HR images")


def _folder_says(given: argparse.Namespace) -> dict[str, Any]:
    """What a checkpoint folder's `model.json` holds, which is checked where the folder is loaded; {} of a file."""
    ours = given.weights is not None and (given.weights / "model.json").is_file()
    said = read_json(given.weights / "model.json") if ours else {}
    return said if isinstance(said, dict) else {}


def _check_weights(weights: Path) -> None:
    """Raises InputError: they are neither a file nor a checkpoint folder."""
    if not weights.exists():
        raise InputError(f"--weights: {str(weights)!r} does not exist")
    if (weights / "config.yaml").is_file():
        raise InputError(
            f"--weights: {str(weights)!r} is a sweep's run: orchestrator.upscale and orchestrator.export take a row "
            "by --row, and orchestrator.evaluate --run scores its trials"
        )
    if weights.is_dir() and not (weights / "model.json").is_file():
        raise InputError(f"--weights: {str(weights)!r} is no checkpoint folder (it has no model.json)")


def _recognise(given: argparse.Namespace) -> None:
    """Take network and scale from what a file of weights is recognised as.

    Raises:
        InputError: there are none, or what `sr_models.checkpoints.zoo.named_by` refuses.
    """
    if given.weights is None:
        raise InputError("give --model, --images, or --weights with a folder or file that says its network")
    _check_weights(given.weights)
    if given.weights.is_dir():
        raise InputError(f"--weights: {str(given.weights / 'model.json')!r} does not say its network")
    if given.hyper:
        raise InputError("--hyper goes with --model; without it a file of weights says all of its network")
    from sr_models.checkpoints import zoo

    found = zoo.named_by(given.weights, given.weights_key)
    say(f"{given.weights}: {found.architecture} x{found.factor}, {found.cost:,.0f} parameters (by spandrel)")
    given.model = sr_models.ZOO.name
    given.scale = found.factor if given.scale is None else given.scale
    given.hyper = [f"{key}={json.dumps(value)}" for key, value in found.model_dump().items()]


def _without_hr(asked: str | None, protocol: Protocol) -> list[str]:
    """The metrics to report where there are no HR images.

    Raises:
        InputError: an unknown metric, or one that reads HR.
    """
    free = [name for name, metric in METRICS.own.items() if metric.level == "image" and "hr" not in metric.reads]
    if asked is None:
        return [name for name in free if METRICS[name].cost != "extra" or find_spec("pyiqa") is not None]
    metrics = free if asked == "all" else chosen(asked, protocol)
    for name in metrics:
        base = name.removeprefix(STABILITY)
        if base not in (*free, "l_std") and not (base in METRICS.added and "hr" not in METRICS[base].reads):
            raise InputError(f"--metrics: {name} needs HR images (--hr); without them there are {', '.join(free)}")
    return metrics


def _check_model(given: argparse.Namespace) -> dict[str, Any]:
    """What --hyper says, once model, scale, hyperparameters and weights go together."""
    hyper = parse_hyper(given.hyper)
    sr_models.check(given.model, given.scale, hyper)
    if not sr_models.spec(given.model).sr:
        raise InputError(f"--model: {given.model} is a part of other networks, and gives no SR")
    if sr_models.spec(given.model).trainable and given.weights is None:
        raise InputError(f"model {given.model!r} needs --weights")
    if not sr_models.spec(given.model).trainable and given.weights is not None:
        raise InputError(f"model {given.model!r} has no weights; got --weights {str(given.weights)!r}")
    if given.weights is not None:
        _check_weights(given.weights)
    if given.hr is None and given.pictures is not None:
        raise InputError("--pictures compares with HR images (--hr); --save-images writes the SR images alone")
    if given.scale == 1 and given.lr is None:
        raise InputError("--scale 1: no kernel makes LR from HR there; --lr names its files")
    if given.kernel is not None and given.lr is not None:
        raise InputError("--kernel makes LR from HR, and --lr names files of it; give one")
    if given.weights_key is not None and given.weights is None:
        raise InputError("--weights-key has no effect without --weights")
    if given.draws is not None and given.draws < 1:
        raise InputError(f"--draws must be at least 1, got {given.draws}")
    if given.seed is not None and not 0 <= given.seed <= _MAX_SEED:
        raise InputError(f"--seed must be from 0 to {_MAX_SEED}, got {given.seed}")
    if given.overlap is not None and given.tile is None:
        raise InputError("--overlap has no effect without --tile")
    return hyper


def _sampling(given: argparse.Namespace) -> Sampling | None:
    """How the pictures of a diffusion network are drawn; of any other None.

    On the noise levels that it has practised, where its folder says that these are not all: what is asked for otherwise
    is done, and said.

    Raises:
        InputError: a value that is wrong, or an option that does not go with the network or another one.
    """
    asked = asked_sampling(given)
    if sr_models.spec(given.model).family != "diffusion":
        for name in [*asked, *(["crops"] if given.crops is not None else [])]:
            raise InputError(f"--{name.replace('_', '-')} goes with diffusion networks, and {given.model} is none")
        return None
    if given.crops is not None and given.tile is not None:
        raise InputError(f"--crops {given.crops} and --tile {given.tile} both say what the tiles are; give one")
    if given.self_ensemble:
        raise InputError(f"--self-ensemble: {given.model} draws pictures, and the mean of several is none of them")
    found, where = _folder_says(given).get("sampling"), f"checkpoint {str(given.weights)!r}, model.json: sampling"
    own = None if found is None else Sampling.parse(found, where)
    drawn = as_asked(own, asked)
    if line := off_its_levels(given.weights, own, drawn):
        say(line)
    return drawn


def _check_pictures(given: argparse.Namespace) -> None:
    """No option is there that only a model has a use for."""
    for name in _MODEL_OPTIONS:
        if getattr(given, name) is not None and getattr(given, name) is not False:  # 0 is given
            raise InputError(f"--{name.replace('_', '-')} goes with --model, not with --images")


def prepare_outputs(request: Request) -> None:
    """Make the folders of what is written, before the work that it is for.

    Raises:
        InputError: something that cannot be written, or would be among the images to be scored.
    """
    for option, file in (("--json", request.json), ("--parquet", request.parquet)):
        if file is not None:
            if file.is_dir():
                raise InputError(f"{option}: {str(file)!r} is a folder")
            _make_folder(option, file.parent)
    if not isinstance(request, ModelRequest):
        return
    for option, folder in (("--save-images", request.save_images), ("--pictures", request.pictures)):
        if folder is not None:
            if folder.resolve() in [read.resolve() for read in (request.hr, request.lr) if read]:
                raise InputError(f"{option}: {str(folder)!r} holds the images to be scored")
            _make_folder(option, folder)


def _make_folder(option: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option}: folder {str(folder)!r} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"{option}: folder {str(folder)!r} cannot be written to")
