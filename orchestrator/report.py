"""What a finished sweep shows beside its tables: comparison grids, bars, training curves, rung correlations."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

import sr_models
from eval import pictures as draw
from eval.benchmarks import Benchmark
from eval.fidelity import score
from eval.protocol import get_metric, get_protocol
from orchestrator import journal, leaderboard
from orchestrator.plan import Combination, Plan
from orchestrator.rundir import RunDir, read_json
from sr_models import weights
from sr_models.imaging import to_float, to_uint8
from sr_models.inference import super_resolve
from sr_models.network import SRNetwork
from sr_models.sigma import WithSigma

PANELS = 6
"""Methods in one comparison grid beside bicubic and HR: the best ones, so that a page can hold them."""


def higher_is_better(metric: str) -> bool:
    """Which end of a validation metric wins; an average's metric is the metric it averages."""
    return get_metric(metric.removeprefix("ema.")).higher_is_better


def parameters(one: Combination) -> int:
    """Trainable parameters of a combination's network, without the σ head that inference drops."""
    net = sr_models.build(one.network, one.scale, **one.hyper)
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def pictures(run: RunDir, plan: Plan, benchmarks: dict[tuple[str, int], Benchmark]) -> None:
    """Draw everything into `RUN/pictures`."""
    run.pictures.mkdir(exist_ok=True)
    winners = read_json(run.winners)
    for (name, scale), bench in benchmarks.items():
        _comparison(run, plan, winners, name, scale, bench)
    for scale in plan.config.scales:
        _curves(run, plan, winners, scale)
    _bars(run, plan)


def rungs_text(run: Path) -> str:
    """How well the order at each validation predicts the final one: early stopping can favour fast schedules."""
    found: dict[str, list[str]] = defaultdict(list)
    missing: dict[str, str] = {}
    for row in leaderboard.rung_correlation(run):
        if row["spearman"] is None:
            missing[row["combination"]] = row["reason"]
        else:
            found[row["combination"]].append(f"step {row['step']} {row['spearman']:+.2f} (n = {row['n']})")
    lines = ["rank correlation (Spearman) of a combination's trials between a validation and the end of the run:"]
    lines += [f"  {name}: {', '.join(values)}" for name, values in found.items()]
    silent = {name: reason for name, reason in missing.items() if name not in found}
    for reason in sorted(set(silent.values())):
        names = [name for name, why in silent.items() if why == reason]
        lines.append(f"  not computed for {len(names)} combinations: {reason}")
    return "\n".join(lines)


def _comparison(run: RunDir, plan: Plan, winners: dict[str, Any], name: str, scale: int, bench: Benchmark) -> None:
    """LR, bicubic, the best winners' first seeds and HR on a set's first image, zoomed where methods disagree most."""
    protocol, metric = get_protocol(plan.config.evaluation.protocol), plan.config.evaluation.metrics[0]
    lr, hr = bench.read(0)
    panels: list[tuple[str, np.ndarray, dict[str, float] | None]] = [("LR", lr, None)]
    scored: list[tuple[str, np.ndarray, dict[str, float]]] = []
    nets: list[tuple[str, SRNetwork | WithSigma]] = [("bicubic", sr_models.build("bicubic", scale))]
    for one in plan.combinations:
        if one.scale == scale and one.id in winners:
            folder = run.trial(winners[one.id]["fingerprints"][0]) / "model"
            nets.append((f"{one.label}\n× {one.objective_label}", weights.load(folder)[0]))
    for label, net in nets:
        sr = super_resolve(net, to_float(lr)).sr
        value = score(sr, to_float(hr), scale=scale, protocol=protocol, metrics=[metric])[metric][0]
        scored.append((label, to_uint8(sr)[0], {metric: value}))
    best = sorted(scored[1:], key=lambda panel: panel[2][metric], reverse=get_metric(metric).higher_is_better)[:PANELS]
    panels += [scored[0], *best, ("HR", hr, None)]
    draw.comparison(
        run.pictures / f"comparison_{name}_x{scale}.png",
        title=f"{name} ×{scale}: {bench.pairs[0].name}",
        panels=panels,
        protocol=protocol.id(scale),
    )


def _curves(run: RunDir, plan: Plan, winners: dict[str, Any], scale: int) -> None:
    """The steering metric over training, one line a winner."""
    metric = plan.config.search.metric
    series = {}
    for one in plan.combinations:
        if one.scale == scale and one.id in winners:
            path = run.trial(winners[one.id]["fingerprints"][0]) / journal.JOURNAL
            points = [(entry["step"], entry["metrics"][metric]) for entry in journal.steps(journal.read(path))]
            series[f"{one.label} × {one.objective_label}"] = ([x for x, _ in points], [y for _, y in points])
    if series:
        unit = get_metric(metric.removeprefix("ema.")).unit
        draw.curves(
            run.pictures / f"validation_x{scale}.png",
            series,
            xlabel="optimiser steps",
            ylabel=f"{metric} ({unit})" if unit else metric,
            title=f"Validation of the winners, ×{scale}",
            caption=get_protocol(plan.config.evaluation.protocol).id(scale),
        )


def _bars(run: RunDir, plan: Plan) -> None:
    """The board's leading metric per benchmark and scale, bars from bicubic's score."""
    metric, seeds = plan.config.evaluation.metrics[0], plan.config.seeds
    spread = f"mean ± spread over {seeds} seeds" if seeds > 1 else "one seed"
    boards: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in leaderboard.rows(run.path):
        if row["weights"] in ("raw", "none"):
            boards[row["benchmark"], row["scale"]].append(row)
    for (name, scale), found in boards.items():
        base = next(row for row in found if row["model"] == "bicubic")
        bars = [
            (
                f"{row['model']} × {row['objective']}",
                row["metrics"][metric]["mean"],
                row["metrics"][metric]["std"] or 0.0,
            )
            for row in found
            if row is not base
        ]
        if bars:
            draw.bars(
                run.pictures / f"board_{name}_x{scale}.png",
                bars,
                xlabel=f"{metric} ({get_metric(metric).unit or 'no unit'})",
                title=f"{name} ×{scale}",
                baseline=("bicubic", base["metrics"][metric]["mean"]),
                decimals=get_metric(metric).decimals,
                caption=f"{found[0]['protocol']}; {spread}",
            )
