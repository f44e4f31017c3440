"""A folder of pictures scored into one report, the JSON of `python -m eval`, and the rows behind it.

PSNR and SSIM as in `eval.metrics.fidelity` (https://doi.org/10.1109/TIP.2003.819861), spreads as in
`eval.metrics.stability`. A report says what its numbers depend on: protocol, weights, LR pixels, noise, options and
library versions.
"""

from __future__ import annotations

import math
import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from eval.benchmarks import Benchmark, joined
from eval.metrics.scorer import Scorer, failure
from eval.protocol import STABILITY, get_metric
from eval.report_text import INFINITE, Report
from eval.score import Row, check_room, needs_features, over_draws, score_image, set_row
from sr_models.command import say
from sr_models.errors import InputError
from sr_models.images.files import files_below, find_images, pixels_sha256, read_image, unread_text
from sr_models.images.matlab import modcrop
from sr_models.images.operators import to_float
from sr_models.images.pairs import check_pair_sizes, find_partners, pair_folder, pair_images, surplus_text
from sr_models.inference.super_resolve import Options
from sr_models.networks.base import Network, parameters
from sr_models.networks.sigma import WithSigma, without_head

_LIBRARIES = ("torch", "numpy", "pillow")
_ALWAYS_READ_PX = 4_000_000  # a picture up to this large is decoded before its size is compared with HR's


@dataclass(frozen=True)
class Evaluation:
    """What is printed and saved as JSON, and the rows behind it, one an image and, for FID and KID, one for the set."""

    report: Report
    rows: list[Row]


def score_model(
    model: Network | WithSigma,
    benchmark: Benchmark,
    *,
    name: str,
    weights_sha256: str | None,
    scorer: Scorer,
    metrics: Sequence[str],
    seed: int,
    options: Options,
    save_in: Path | None,
    pictures_in: Path | None,
    trained_scale: float | None = None,
) -> Evaluation:
    """Super-resolve and score every image of a test set, on the device that holds the model.

    Args:
        name, weights_sha256: what the model is called, and which its weights are (`Subject.weights_sha256`), to report.
        scorer: its protocol says how many draws a stochastic network gets.
        metrics: what is reported; of a stochastic network also the spread of each, and L-STD.
        seed: of the noise.
        save_in: folder for the SR images.
        pictures_in: folder for pictures of each image and of the set.
        trained_scale: as in `Identity`.

    Raises:
        InputError: as `eval.score.score_image`.
    """
    rows: list[Row] = []
    features: list[Sequence[Tensor]] = []
    draws = scorer.protocol.draws
    for i in range(len(benchmark)):
        scored = score_image(
            model, benchmark, i, scorer=scorer, draws=draws, seed=seed, options=options, save_in=save_in
        )
        rows.append(scored.row)
        features.append(scored.features)
        if pictures_in is not None:
            from eval.pictures.of_rows import draw_image
            from eval.pictures.style import attempt

            draw = partial(draw_image, pictures_in, benchmark, scored, name=name, scorer=scorer)
            attempt(f"{benchmark.pairs[i].name!r}", draw)
    if pictures_in is not None:
        from eval.pictures.of_rows import draw_set

        attempt(f"{benchmark.name!r}", partial(draw_set, pictures_in, benchmark, rows, name=name))
    lr_sha256 = joined({row["image"]: row["lr_sha256"] for row in rows})  # benchmark.lr_hash, without reading it again
    if needs_features(scorer):
        reference = scorer.reference_features([row["hr_sha256"] for row in rows], lambda i: benchmark.read(i)[1])
        rows.append({**set_row(rows, features, reference, scorer.metrics), "lr_sha256": lr_sha256})
    return model_report(
        rows,
        metrics,
        name=name,
        parameters=parameters(without_head(model)),
        weights_sha256=weights_sha256,
        lr_sha256=lr_sha256,
        options=options,
        refused=[],
        trained_scale=trained_scale,
    )


def model_report(
    rows: list[Row],
    metrics: Sequence[str],
    *,
    name: str,
    parameters: int,
    weights_sha256: str | None,
    lr_sha256: str | None,
    options: Options,
    refused: Sequence[str],
    trained_scale: float | None = None,
) -> Evaluation:
    """The report of rows that exist, wherever they were computed.

    Args:
        rows: of at least one image, in the set's order; then the row of the set if there is one.
        lr_sha256: of all LR pixels; None if some could not be read.
        refused: a line on each image that has no row.
        trained_scale: as in `Identity`; the report says it where there is one.
    """
    of_images = [row for row in rows if row["image"]]
    about = {
        "protocol": rows[0]["protocol"],
        "model": name,
        "scale": rows[0]["scale"],
        "kernel": rows[0]["kernel"],
        "parameters": parameters,
        "weights_sha256": weights_sha256,
        "lr_sha256": lr_sha256,
        "seconds_per_image": math.fsum(row["seconds"] for row in of_images) / len(of_images),
        "options": options.columns,
        "draws": rows[0]["draws"],
        "deterministic": rows[0]["deterministic"],
        "noise_seed": rows[0]["noise_seed"],
    }
    if trained_scale is not None:
        about["trained_scale"] = trained_scale
    return _evaluation(rows, metrics, about, refused)


def score_pictures(
    folder: Path,
    hr: Path,
    *,
    lr: Path | None,
    globs: tuple[Sequence[str], Sequence[str]],
    name: str,
    scale: float,
    scorer: Scorer,
    metrics: Sequence[str],
    strict: bool,
) -> Evaluation:
    """Score SR pictures that exist already, matched with HR by name.

    A picture is as large as its HR image, before or after cropping to a multiple of `scale`. One that cannot be scored
    is refused by name and the others go on; what is decoded at a time is bounded by HR's size.

    Args:
        lr: folder of LR images for the metrics that read them.
        globs: (include, exclude) on HR's file names; with one, pictures without HR are left out and not refused.
        name: what the set is called in rows.
        strict: a refusal is an error.

    Raises:
        InputError: a folder that is missing or empty, several files without partner on both sides, or nothing to score.
    """
    hr_files = find_images(hr, *globs)
    left_out = [(hr, unread_text(files_below(hr), *globs)), (folder, unread_text(files_below(folder), *globs))]
    lr_of: dict[Path, Path] = {}
    if lr:
        of_lr, surplus = pair_folder(hr_files, find_images(hr), lr, scale, globs=globs)
        lr_of = dict(of_lr)
        left_out.append((lr, surplus_text(surplus)))
    pairs, surplus, refused = _matched(hr_files, hr, find_partners(folder, *globs), folder, scale)
    if any(globs):
        left_out.append((folder, surplus_text(surplus, "SR")))
    else:
        refused += [f"image {str(file)!r}: has no HR image of the same name" for file in surplus]
    for where, line in left_out:
        if line:
            say(f"{where}: {line}")
    if strict and refused:
        raise InputError(refused[0])
    rows: list[Row] = []
    features: list[Sequence[Tensor]] = []
    used: list[Path] = []
    for hr_file, sr_file in pairs:
        try:
            row, seen = _score_picture(sr_file, hr_file, lr_of.get(hr_file), scale, scorer)
        except InputError as error:
            if strict:
                raise
            refused.append(str(error))
            continue
        rows.append({"benchmark": name, "image": hr_file.relative_to(hr).with_suffix("").as_posix(), **row})
        features.append(seen)
        used.append(hr_file)
    if not rows:
        more = f" (and {len(refused) - 1} more refused; nothing was scored)" if len(refused) > 1 else ""
        raise InputError(refused[0] + more)
    rows = [{**row, "images": len(rows)} for row in rows]
    if needs_features(scorer):
        hashes = [row["hr_sha256"] for row in rows]
        reference = scorer.reference_features(hashes, lambda i: modcrop(read_image(used[i]), scale))
        rows.append(set_row(rows, features, reference, scorer.metrics))
    unknown = ("model", "parameters", "weights_sha256", "lr_sha256", "seconds_per_image", "options",
               "deterministic", "noise_seed")  # fmt: skip
    about = {
        "protocol": rows[0]["protocol"],
        "scale": scale,
        "kernel": rows[0]["kernel"],
        "draws": 1,
        **dict.fromkeys(unknown),
    }
    return _evaluation(rows, metrics, about, refused)


def _matched(
    hr_files: Sequence[Path], hr: Path, sr_files: Sequence[Path], folder: Path, scale: float
) -> tuple[list[tuple[Path, Path]], list[Path], list[str]]:
    """(HR, SR) pairs, SR files without HR, and a line on each file that shares its name and on HR files without SR.

    Files of one place and name below the two folders are a pair; those left on both sides are paired as
    `sr_models.images.pairs.pair_images` does.
    """
    refused: list[str] = []

    def named(files: Sequence[Path], root: Path) -> dict[str, Path]:
        found: dict[str, list[Path]] = defaultdict(list)
        for file in files:
            found[file.relative_to(root).with_suffix("").as_posix()].append(file)
        for first, *others in found.values():
            refused.extend(f"image {str(other)!r}: shares its name with {str(first)!r}" for other in others)
        return {name: first for name, (first, *_) in found.items()}

    of_hr, of_sr = named(hr_files, hr), named(sr_files, folder)
    pairs = [(of_hr[name], of_sr[name]) for name in of_hr if name in of_sr]
    alone = [of_hr[name] for name in of_hr if name not in of_sr]
    surplus = [of_sr[name] for name in of_sr if name not in of_hr]
    if alone and surplus:
        more, surplus = pair_images(alone, surplus, scale, partner="SR")
        return pairs + more, surplus, refused
    refused += [f"image {str(file)!r}: has no SR image of the same name" for file in alone]
    return pairs, surplus, refused


def _score_picture(
    sr_file: Path, hr_file: Path, lr_file: Path | None, scale: float, scorer: Scorer
) -> tuple[Row, list[Tensor]]:
    """One picture's row, and what the metrics of a whole set see of it: one draw, or nothing if none was asked for."""
    whole = read_image(hr_file)
    pixels = whole.shape[0] * whole.shape[1]
    sr = read_image(sr_file, max_pixels=max(pixels, _ALWAYS_READ_PX))
    lr = None if lr_file is None else read_image(lr_file)
    try:
        hr = modcrop(whole, scale)
        if sr.shape not in (whole.shape, hr.shape):
            sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in (sr, hr))
            raise InputError(f"SR and HR, cropped to a multiple of {scale}, have {sizes} pixels (width x height)")
        check_room(hr.shape[0], hr.shape[1], str(hr_file))
        if lr is not None:
            check_pair_sizes(hr, lr, scale, str(lr_file))
        sr_BCHW, hr_BCHW = to_float(modcrop(sr, scale)), to_float(hr)
        failed: dict[str, str] = {}
        values = scorer.image(sr_BCHW, hr_BCHW, None if lr is None else to_float(lr), failed=failed)
        features = [scorer.features(sr_BCHW)] if needs_features(scorer) else []
    except InputError as error:
        raise InputError(f"image {str(sr_file)!r}: {error}") from None
    per_draw = {name: [float(value[0])] for name, value in values.items()}
    row = {
        "scale": scale,
        "protocol": scorer.protocol.id(scale),
        "kernel": None if lr is None else "files",
        "width": hr.shape[1],
        "height": hr.shape[0],
        "lr_sha256": None if lr is None else pixels_sha256(lr),
        "hr_sha256": pixels_sha256(hr),
        "draws": 1,
        **{name: value for name, value in over_draws(per_draw).items() if name in per_draw},
        "per_draw": per_draw,
        "not_computed": scorer.not_computed
        | scorer.lacking(lr=lr is not None, sigma=False, constant=False)
        | {name: failure(name, str(sr_file), why) for name, why in failed.items()},
    }
    return row, features


def _evaluation(
    rows: list[Row], metrics: Sequence[str], about: Mapping[str, Any], refused: Sequence[str]
) -> Evaluation:
    """Scores by image and metric, their means, and what is known `about` them; strict JSON, so no infinite number."""
    columns = list(metrics)
    if about["deterministic"] is False:
        columns += [f"{STABILITY}{name}" for name in metrics if get_metric(name).level == "image"] + ["l_std"]
    of_images = [row for row in rows if row["image"]]
    of_set = next((row for row in rows if not row["image"]), {})
    means: dict[str, float] = {}
    not_computed: dict[str, str] = {}
    for metric in dict.fromkeys(columns):
        found = [of_set] if get_metric(metric).level == "set" else of_images
        values = {row["image"]: row[metric] for row in found if row.get(metric) is not None}
        if len(values) < len(found) or not values:
            not_computed[metric] = _reason(metric, [*found, *of_images], about)
        elif odd := [name for name, value in values.items() if not math.isfinite(value)]:
            not_computed[metric] = f"{INFINITE}{', '.join(odd)}, equal to HR"
        else:
            means[metric] = math.fsum(values.values()) / len(values)
    shown = [metric for metric in dict.fromkeys(columns) if get_metric(metric).level != "set"]
    report = {
        **about,
        "versions": versions(means),
        "means": means,
        "images": [
            {"name": row["image"], **{metric: _finite(row.get(metric)) for metric in shown}} for row in of_images
        ],
        "set": of_set.get("details", {}),
        "not_computed": not_computed,
        "refused": list(refused),
    }
    return Evaluation(report, rows)


def versions(metrics: Iterable[str]) -> dict[str, str]:
    """Of what computes these scores."""
    own = {get_metric(name).library: None for name in metrics if get_metric(name).library}
    return {"python": platform.python_version(), **{name: version(name) for name in (*_LIBRARIES, *own)}}


def _reason(metric: str, rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """Why a metric has no mean: what a row without it says."""
    base = metric.removeprefix(STABILITY)
    reasons = [row["not_computed"][base] for row in rows if base in row.get("not_computed", {})]
    if not reasons and about["model"] is None:
        return "needs draws of a network; pictures are one"
    return str(reasons[0])


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
