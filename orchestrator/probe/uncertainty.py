"""What the σ of a trial is worth on the run's test sets: along training, beside the best constant, and as intervals.

He and Cheng (https://arxiv.org/abs/2201.10084): σ over training (Fig. 2), PLL and PSNR of σ against |y - μ| beside the
best constant (Table 7, Fig. 5 to 7). PSNR is of luma, PLL of R, G and B: `eval.metrics.uncertainty` says why.
Calibration and sparsification (`eval.probes.calibration`) are over pixels and channels of each image, then over images.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from eval.benchmarks import Benchmark
from eval.metrics.fidelity import inside
from eval.metrics.uncertainty import SIGMA_FLOOR, is_constant, pll, psnr_sigma, sigma_r
from eval.pictures.charts import Chart, Line, charts
from eval.probes.calibration import LEVELS, REMOVED, coverage, sparsification
from eval.protocol import get_protocol
from eval.score import sample
from orchestrator.probe.figures import PlaceOf, groups, mean, named, over_steps
from orchestrator.probe.kept import Row, Unit
from orchestrator.probe.kinds import Asked
from orchestrator.probe.trials import Looked, Subject, Weights, loaded
from sr_models.errors import InputError
from sr_models.images.operators import to_float
from sr_models.inference.super_resolve import Options

_LEAST = SIGMA_FLOOR / 10
"""A smaller σ is drawn as large as this."""

_CONSTANT = "best constant of "
"""How the row is called that σ must beat."""


def units(looked: Looked) -> list[Unit]:
    """A unit a trial, step and test image.

    Raises:
        InputError: no trial that is asked for has a σ branch.
    """
    found, asked = [], looked.asked
    for subject, weights in looked.points():
        if weights.info.sigma is None or not subject.config.gives_sr:
            continue
        evaluation = subject.probed.plan.config.evaluation
        options = Options(tile=evaluation.tile, overlap=evaluation.tile_overlap)
        shave = get_protocol(evaluation.protocol).shave(subject.config.scale)
        for (name, scale), bench in subject.probed.inputs.benchmarks.items():
            if scale != subject.config.scale:
                continue
            for i in range(min(len(bench), asked.images or len(bench))):
                facts = bench.facts(i)
                key = {
                    **subject.named(), "step": weights.step, "sha256": weights.info.weights_sha256, "benchmark": name,
                    "image": bench.pairs[i].name, "hr": facts.hr, "lr": facts.lr, "shave": shave,
                    "tile": options.tile, "overlap": options.overlap, "seed_of_noise": evaluation.seed,
                    "noise": subject.probed.plan.config.data.test[name].noise,
                }  # fmt: skip
                row = partial(_row, subject, weights, bench, i, options, shave, asked)
                found.append(Unit(key=key, rows=row))
    if not found:
        raise InputError("--kind uncertainty: no trial that is asked for has a σ branch (`sigma: {}` of an objective)")
    return found


def _row(
    subject: Subject, weights: Weights, bench: Benchmark, index: int, options: Options, shave: int, asked: Asked
) -> list[Row]:
    """The row of one image; what is None there is not: the constant of weights that have not measured it."""
    lr, hr = bench.read(index)
    net = loaded(subject, weights, asked.device)
    config = subject.probed.plan.config
    noise, seed = config.data.test[bench.name].noise, config.evaluation.seed
    drawn = sample(net, lr, draws=1, seed=seed, options=options, lr_noise=noise)  # of several the first one
    out = next(drawn).out
    assert out.sigma is not None
    sr, sigma, y = out.sr.cpu(), out.sigma.cpu().expand_as(out.sr), to_float(hr)
    error_N, sigma_N = (inside(x, shave).flatten() for x in ((y - sr).abs(), sigma))
    low, high = (float(sigma_N.kthvalue(max(round(part * len(sigma_N)), 1)).values) for part in (0.1, 0.9))
    row: Row = {
        **subject.named(), "weights": asked.weights, "step": weights.step, "steps": subject.config.train.steps,
        "benchmark": bench.name, "image": bench.pairs[index].name, "shave": shave,
        "mean_sigma": float(sigma_N.double().mean()), "sigma_p10": low, "sigma_p90": high,
        "mean_error": float(error_N.double().mean()), "is_constant": bool(is_constant(sigma, shave=shave)),
        "pll": float(pll(sr, y, sigma, shave=shave)), "psnr_sigma": float(psnr_sigma(sr, y, sigma, shave=shave)),
        "sigma_r": float(sigma_r(sr, y, sigma, shave=shave)), "constant": out.sigma_constant,
        "pll_constant": None, "psnr_constant": None,
        "nominal": list(LEVELS), "coverage": coverage(error_N, sigma_N).tolist(),
        "removed": list(REMOVED), "sparsification": sparsification(error_N, sigma_N).tolist(),
        "oracle": sparsification(error_N, error_N).tolist(),
    }  # fmt: skip
    if out.sigma_constant is not None:
        flat = torch.full_like(sr, out.sigma_constant)
        row["pll_constant"] = float(pll(sr, y, flat, shave=shave))
        row["psnr_constant"] = float(psnr_sigma(sr, y, flat, shave=shave))
    return [row]


# ---- what it looks like ----------------------------------------------------------------------------------------------


def draw(_: Looked, rows: Sequence[Row], place: PlaceOf) -> list[Path]:
    """σ over training, its size against the error's, calibration and sparsification at the last step."""
    paths = []
    for (scale,), own in groups(named(rows), "scale").items():
        own = [row | {"ratio": row["mean_sigma"] / row["mean_error"]} for row in own if row["mean_error"]]
        low, high = over_steps(own, "sigma_p10"), over_steps(own, "sigma_p90")
        sizes = {
            label: Line(x=line.x, y=_shown(line.y), low=_shown(low[label].y), high=_shown(high[label].y))
            for label, line in over_steps(own, "mean_sigma").items()
        }
        last = [row for row in own if row["step"] == row["steps"]]
        path = place(f"uncertainty_x{scale}")
        shown = [
            Chart(title="σ over training (band: 10 to 90 %)", xlabel="optimiser steps", ylabel="mean σ", lines=sizes,
                  log_y=True),
            Chart(title="its size against the error's", xlabel="optimiser steps", ylabel="mean σ / mean |y − μ|",
                  lines=over_steps(own, "ratio")),
        ]  # fmt: skip
        if last:
            shown += [
                Chart(title="calibration at the end", xlabel="nominal coverage, N(μ, σ²)", ylabel="empirical coverage",
                      lines=_curves(last, "nominal", "coverage"), diagonal="· · ·  as it says", y_range=(0, 1)),
                Chart(title="sparsification at the end", xlabel="share of values removed, largest σ first",
                      ylabel="mean |y − μ| of the rest, relative",
                      lines=_curves(last, "removed", "sparsification")
                      | _curves([row | {"label": f"{row['label']}: oracle"} for row in last], "removed", "oracle")),
            ]  # fmt: skip
        sets = ", ".join(dict.fromkeys(row["benchmark"] for row in own))
        charts(
            path,
            shown,
            title=f"What σ is worth, ×{scale}",
            caption=f"Mean over {len({(row['benchmark'], row['image']) for row in own})} images ({sets}), R, G and B, "
            f"{own[0]['shave']} pixels of border left out; σ below {_LEAST:g} is drawn there; the oracle removes the "
            f"largest errors first; {own[0]['weights']} weights",
        )
        paths.append(path)
    return paths


def _shown(values: Sequence[float]) -> list[float]:
    """On a logarithmic axis: a σ that has collapsed would leave no room for others."""
    return [max(value, _LEAST) for value in values]


def _curves(rows: Sequence[Row], x: str, y: str) -> dict[str, Line]:
    return {
        label: Line(x=own[0][x], y=[statistics.fmean(values) for values in zip(*(row[y] for row in own), strict=True)])
        for (label,), own in groups(rows, "label").items()
    }


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line a trial, test set and step, and at the end one of the constant in σ's place."""
    lines: list[tuple[str, ...]] = [("label", "test set", "step", "mean σ", "mean |y − μ|", "PLL", "PSNR(σ)", "r")]
    for (label, scale, name, step), own in groups(named(rows), "label", "scale", "benchmark", "step").items():
        where = (f"{name} ×{scale}", f"{step:,}")
        sizes = [f"{mean(own, size):.4f}" for size in ("mean_sigma", "mean_error")]
        flat = " (constant)" if all(row["is_constant"] for row in own) else ""
        scores = [f"{mean(own, 'pll'):.3f}", f"{mean(own, 'psnr_sigma'):.2f}", f"{mean(own, 'sigma_r'):.3f}{flat}"]
        lines.append((label, *where, *sizes, *scores))
        if step == own[0]["steps"] and own[0]["constant"] is not None:
            scores = [f"{mean(own, 'pll_constant'):.3f}", f"{mean(own, 'psnr_constant'):.2f}", "-"]
            lines.append((f"{_CONSTANT}{label}", *where, f"{own[0]['constant']:.4f}", sizes[1], *scores))
    return lines
