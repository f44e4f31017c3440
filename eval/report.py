"""A folder of pictures scored into one report: the JSON of `python -m eval`, and its table on the terminal.

PSNR and SSIM as in `eval.fidelity` (https://doi.org/10.1109/TIP.2003.819861). A report says what its numbers depend on:
protocol, weights, LR pixels, options and library versions.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eval.benchmarks import Benchmark
from eval.fidelity import score
from eval.protocol import METRICS, Protocol
from eval.score import score_image
from sr_models import images
from sr_models.errors import InputError
from sr_models.imaging import modcrop, to_float
from sr_models.inference import Options
from sr_models.network import SRNetwork, parameters
from sr_models.sigma import WithSigma

Report = dict[str, Any]

_LIBRARIES = ("torch", "numpy", "pillow")


def score_model(
    model: SRNetwork | WithSigma,
    benchmark: Benchmark,
    *,
    name: str,
    weights_sha256: str | None,
    protocol: Protocol,
    metrics: Sequence[str],
    options: Options,
    save_in: Path | None,
) -> Report:
    """Super-resolve and score every image of a test set, on the device that holds the model.

    Args:
        name, weights_sha256: what the model is called, and the hash of the file its weights came from, for the report.
        save_in: folder for the SR images.

    Raises:
        InputError: as `eval.score.score_image`.
    """
    rows = [
        score_image(model, benchmark, i, protocol=protocol, metrics=metrics, options=options, save_in=save_in)
        for i in range(len(benchmark))
    ]
    return _report(
        {row["image"]: {metric: row[metric] for metric in metrics} for row in rows},
        {
            "protocol": protocol.id(benchmark.scale),
            "model": name,
            "scale": benchmark.scale,
            "parameters": parameters(model.net if isinstance(model, WithSigma) else model),
            "weights_sha256": weights_sha256,
            "lr_sha256": benchmark.lr_hash,
            "seconds_per_image": math.fsum(row["seconds"] for row in rows) / len(rows),
            "options": asdict(options),
        },
    )


def score_pictures(folder: Path, hr: Path, *, scale: int, protocol: Protocol, metrics: Sequence[str]) -> Report:
    """Score SR pictures that exist already, matched with HR by name.

    A picture is as large as its HR image, before or after cropping to a multiple of `scale`.

    Raises:
        InputError: a folder that is missing or empty, no partner or two, a picture of another size.
    """
    hr_files = images.find(hr)
    scores = {}
    for hr_file, sr_file in images.pair(hr_files, images.find(folder), scale, partner="SR"):
        whole, sr = images.read(hr_file), images.read(sr_file)
        try:
            cropped = modcrop(whole, scale)
            if sr.shape not in (whole.shape, cropped.shape):
                sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in (sr, cropped))
                raise InputError(f"SR and HR, cropped to a multiple of {scale}, have {sizes} pixels (width x height)")
            pair = to_float(modcrop(sr, scale)), to_float(cropped)
            values = score(*pair, scale=scale, protocol=protocol, metrics=metrics)
        except InputError as error:
            raise InputError(f"image {str(sr_file)!r}: {error}") from None
        name = hr_file.relative_to(hr).with_suffix("").as_posix()
        scores[name] = {metric: values[metric][0] for metric in metrics}
    unknown = ("model", "parameters", "weights_sha256", "lr_sha256", "seconds_per_image", "options")
    return _report(scores, {"protocol": protocol.id(scale), "scale": scale, **dict.fromkeys(unknown)})


def _report(scores: Mapping[str, Mapping[str, float]], about: Mapping[str, Any]) -> Report:
    """Scores by image and metric, their means, and what is known `about` them; strict JSON, so no infinite number."""
    metrics = list(next(iter(scores.values())))
    means, not_computed = {}, {}
    for metric in metrics:
        values = {name: row[metric] for name, row in scores.items()}
        if infinite := [name for name, value in values.items() if not math.isfinite(value)]:
            not_computed[metric] = f"no finite mean: infinite for {', '.join(infinite)}, equal to HR"
        else:
            means[metric] = math.fsum(values.values()) / len(values)
    return {
        **about,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        "means": means,
        "images": [
            {"name": name, **{metric: value if math.isfinite(value) else None for metric, value in row.items()}}
            for name, row in scores.items()
        ],
        "not_computed": not_computed,
    }


def table(report: Report, *, per_image: bool) -> str:
    """The report as text: a line on what was scored, then the means, after one line an image if asked."""
    metrics = [key for key in report["images"][0] if key != "name"]
    heads = [f"{name} ({METRICS[name].unit})" if METRICS[name].unit else name for name in metrics]
    count = len(report["images"])
    rows = report["images"] if per_image else []
    lines = [["image", *heads]]
    for name, values in [*((row["name"], row) for row in rows), (f"mean of {count}", report["means"])]:
        lines.append([name, *(_number(values.get(metric), METRICS[metric].decimals) for metric in metrics)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    what = f"{report['model'] or 'pictures'} x{report['scale']}, protocol {report['protocol']}"
    if report["model"]:
        what += f", {report['parameters']:,} parameters, {report['seconds_per_image']:.3g} s an image"
    notes = [f"{metric}: {reason}" for metric, reason in report["not_computed"].items()]
    return "\n".join([what, "", *body, *notes])


def _number(value: float | None, decimals: int) -> str:
    return "inf" if value is None else f"{value:.{decimals}f}"
