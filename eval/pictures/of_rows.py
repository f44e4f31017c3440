"""The pictures of one evaluation: each image compared, where its draws differ, what σ says of the error, the whole set.

How they look is `panels` and `spread` beside this file; best and worst draw and the map of L-STD are shown as in CCSR
(https://arxiv.org/abs/2401.00877).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sr_models
from eval.benchmarks import Benchmark
from eval.metrics.scorer import Scorer
from eval.pictures import panels as pictures
from eval.pictures import spread as spread_pictures
from eval.protocol import get_metric
from eval.score import Scored
from sr_models.images.operators import to_float, to_uint8
from sr_models.inference.super_resolve import super_resolve

_SHOWN_SCORES = 3  # a label holds no more


def draw_image(folder: Path, benchmark: Benchmark, scored: Scored, *, name: str, scorer: Scorer) -> None:
    """Draw one image of a test set, scored by one model, into `folder`.

    `<image>_comparison.png`: LR, bicubic, the model's first draw and HR. Of a stochastic network also
    `<image>_draws.png`, its best and worst draw, and `<image>_l_std.png`; with a σ head `<image>_sigma.png`.
    """
    assert scored.first is not None
    row, scale = scored.row, benchmark.scale
    title, protocol = f"{benchmark.name} ×{scale}: {row['image']}", row["protocol"]
    shown = dict(list(row["per_draw"].items())[:_SHOWN_SCORES])
    label = name if row["deterministic"] else f"{name}, draw 0 of {row['draws']}"
    first = to_uint8(scored.first.sr)[0]
    panels: list[pictures.Panel] = [("LR", scored.lr, None)]
    if scale in sr_models.spec("bicubic").scales and name != "bicubic":
        enlarged = super_resolve(sr_models.build("bicubic", scale), to_float(scored.lr)).sr
        values = scorer.image(enlarged, to_float(scored.hr), to_float(scored.lr), None)
        panels.append(("bicubic", to_uint8(enlarged)[0], {m: float(values[m][0]) for m in shown if m in values}))
    panels += [(label, first, {metric: values[0] for metric, values in shown.items()}), ("HR", scored.hr, None)]
    pictures.comparison(folder / f"{row['image']}_comparison.png", title=title, panels=panels, protocol=protocol)

    if scored.best is not None and scored.worst is not None and not row["deterministic"]:
        draws = [first] * row["draws"]  # only the best and the worst are looked at
        draws[scored.best.number], draws[scored.worst.number] = scored.best.picture, scored.worst.picture
        spread_pictures.best_and_worst(
            folder / f"{row['image']}_draws.png",
            title=title,
            methods={name: (draws, shown | {scored.by: row["per_draw"][scored.by]})},
            hr=scored.hr,
            protocol=protocol,
            by=scored.by,
        )
    if not row["deterministic"]:
        std = scored.spread.std()[0].permute(1, 2, 0).cpu().numpy()
        border = (scored.hr.shape[0] - std.shape[0]) // 2
        inside = scored.hr[border : border + std.shape[0], border : border + std.shape[1]]
        spread_pictures.l_std_map(
            folder / f"{row['image']}_l_std.png",
            title=title,
            image=("HR", inside),
            maps=[(name, std, row["l_std"])],
            draws=row["draws"],
            protocol=protocol,
        )
    if scored.first.sigma is not None:
        error = (to_float(scored.hr) - scored.first.sr.cpu()).abs()
        scores = {metric: row["per_draw"][metric][0] for metric in ("psnr_sigma", "pll") if metric in row["per_draw"]}
        spread_pictures.sigma_against_error(
            folder / f"{row['image']}_sigma.png",
            title=f"{title}, {label}",
            sigma=scored.first.sigma[0].permute(1, 2, 0).cpu().numpy(),
            error=error[0].permute(1, 2, 0).numpy(),
            scores=scores,
            protocol=protocol,
        )


def draw_set(folder: Path, benchmark: Benchmark, rows: Sequence[dict[str, Any]], *, name: str) -> None:
    """Draw `violin_<metric>.png` into `folder` for each metric that every image has, over a test set's images."""
    for metric in rows[0]["per_draw"]:
        values = [row[metric] for row in rows if metric in row]
        if len(values) == len(rows) and any(map(math.isfinite, values)):
            pictures.violins(
                folder / f"violin_{metric}.png",
                {benchmark.name: {name: values}},
                metric=metric,
                title=f"{benchmark.name} ×{benchmark.scale}: {get_metric(metric).description}",
                protocol=rows[0]["protocol"],
            )
