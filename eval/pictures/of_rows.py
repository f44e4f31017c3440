"""The pictures of one evaluation: each image compared, where its draws differ, what σ says of the error, the whole set.

How they look is `panels` and `spread` beside this file; best and worst draw and the map of L-STD are shown as in CCSR
(https://arxiv.org/abs/2401.00877).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sr_models
from eval.benchmarks import Benchmark
from eval.metrics.scorer import Scorer
from eval.metrics.uncertainty import is_constant
from eval.pictures.panels import Panel, comparison, violins
from eval.pictures.spread import best_and_worst, l_std_map, sigma_against_error
from eval.protocol import UNCERTAINTY, get_metric
from eval.score import Scored
from sr_models.images.operators import to_float, to_uint8
from sr_models.inference.super_resolve import super_resolve

_SHOWN_SCORES = 3  # a label holds no more


def draw_image(folder: Path, benchmark: Benchmark, scored: Scored, *, name: str, scorer: Scorer) -> None:
    """Draw one image of a test set, scored by one model, into `folder`.

    `<image>_comparison.png`: LR, bicubic, the model's first draw and HR. Of a stochastic network also
    `<image>_draws.png`, its best and worst draw, and `<image>_l_std.png`; with a σ head `<image>_sigma.png`.
    """
    row, scale = scored.row, benchmark.scale
    title, image = f"{benchmark.name} ×{scale}: {row['image']}", row["image"]
    metrics = list(row["per_draw"])[:_SHOWN_SCORES]
    label = name if row["deterministic"] else f"{name}, draw 0 of {row['draws']}"
    panels: list[Panel] = [("LR", scored.lr, None)]
    if name != "bicubic":
        enlarged = super_resolve(sr_models.build("bicubic", scale), to_float(scored.lr)).sr
        values = scorer.image(enlarged, to_float(scored.hr), to_float(scored.lr), failed={})  # its label lacks those
        panels.append(("bicubic", to_uint8(enlarged)[0], {m: float(values[m][0]) for m in metrics if m in values}))
    panels += [first_draw(label, scored, metrics), ("HR", scored.hr, None)]
    comparison(folder / f"{image}_comparison.png", title=title, panels=panels, protocol=row["protocol"])
    if not row["deterministic"]:
        if scored.by:
            draw_extremes(folder / f"{image}_draws.png", {name: scored}, title=title, metrics=[*metrics, scored.by])
        draw_l_std(folder / f"{image}_l_std.png", {name: scored}, title=title)
    draw_sigma(folder / f"{image}_sigma.png", scored, title=f"{title}, {label}")


def first_draw(label: str, scored: Scored, metrics: Sequence[str]) -> Panel:
    """A method's panel in a comparison: its first draw with that draw's scores."""
    assert scored.first is not None
    return label, to_uint8(scored.first.sr)[0], {metric: scored.row["per_draw"][metric][0] for metric in metrics}


def draw_extremes(path: Path, methods: Mapping[str, Scored], *, title: str, metrics: Sequence[str]) -> None:
    """The best and the worst draw of stochastic networks, all scored by one metric on one image.

    Args:
        metrics: what is printed of a draw, `Scored.by` among them.
    """
    drawn = {}
    for label, scored in methods.items():
        assert scored.best is not None and scored.worst is not None
        pictures = [scored.best.picture] * scored.row["draws"]  # only the best and the worst are looked at
        pictures[scored.worst.number] = scored.worst.picture
        drawn[label] = (pictures, {metric: scored.row["per_draw"][metric] for metric in metrics})
    best_and_worst(path, title=title, methods=drawn, hr=scored.hr, protocol=_protocols(methods), by=scored.by)


def draw_l_std(path: Path, methods: Mapping[str, Scored], *, title: str) -> None:
    """Where the draws of stochastic networks differ on one image, beside HR inside the protocol's border."""
    stds = {label: scored.spread.std()[0].permute(1, 2, 0).cpu().numpy() for label, scored in methods.items()}
    scored = next(iter(methods.values()))
    height, width = stds[next(iter(methods))].shape[:2]
    border = (scored.hr.shape[0] - height) // 2
    l_std_map(
        path,
        title=title,
        image=("HR", scored.hr[border : border + height, border : border + width]),
        maps=[(label, std, methods[label].row["l_std"]) for label, std in stds.items()],
        draws=scored.row["draws"],
        protocol=_protocols(methods),
    )


def _protocols(methods: Mapping[str, Scored]) -> str:
    """The protocol ids of all methods, each once: networks may have samplers of their own."""
    return " and ".join(dict.fromkeys(scored.row["protocol"] for scored in methods.values()))


def draw_sigma(path: Path, scored: Scored, *, title: str) -> None:
    """σ against the error made, of a network with a σ head; nothing of others."""
    assert scored.first is not None
    if scored.first.sigma is None:
        return
    sr, sigma = scored.first.sr.cpu(), scored.first.sigma.cpu()
    per_draw = scored.row["per_draw"]
    sigma_against_error(
        path,
        title=title,
        sigma=sigma.expand_as(sr)[0].permute(1, 2, 0).numpy(),
        error=(to_float(scored.hr) - sr).abs()[0].permute(1, 2, 0).numpy(),
        scores={metric: per_draw[metric][0] for metric in UNCERTAINTY if metric in per_draw},
        constant=scored.first.sigma_constant,
        flat=bool(is_constant(sigma, shave=0)),
        protocol=scored.row["protocol"],
    )


def draw_set(folder: Path, benchmark: Benchmark, rows: Sequence[dict[str, Any]], *, name: str) -> None:
    """Draw `violin_<metric>.png` into `folder` for each metric that every image has, over a test set's images."""
    for metric in rows[0]["per_draw"]:
        values = [row[metric] for row in rows if metric in row]
        if len(values) == len(rows) and any(map(math.isfinite, values)):
            violins(
                folder / f"violin_{metric}.png",
                {benchmark.name: {name: values}},
                metric=metric,
                title=f"{benchmark.name} ×{benchmark.scale}: {get_metric(metric).description}",
                protocol=rows[0]["protocol"],
            )
