"""What a finished sweep shows beside its tables: pictures of its winners, and rung correlations.

Pictures: comparison grids, violins of scores over images, bars, training curves; of stochastic networks the best and
worst draw and where draws differ, of networks with a σ head its σ against the error made.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import sr_models
from eval.benchmarks import Benchmark
from eval.metrics.scorer import Scorer
from eval.pictures import panels as draw
from eval.pictures import spread as spread_pictures
from eval.protocol import FIDELITY, Protocol, get_metric, get_protocol
from eval.rows import SET, read_rows
from eval.score import Scored, score_image
from orchestrator.leaderboard import compare as leaderboard
from orchestrator.plan.plan import Plan
from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.records import WinnerRecord, read_winners
from sr_models.checkpoints import folder as weights
from sr_models.images.operators import to_float, to_uint8
from sr_models.networks.base import SRNetwork
from sr_models.networks.sigma import WithSigma

PANELS = 6
"""Methods in one picture beside bicubic and HR: the best ones, so that a page can hold them."""

_SCORES = 3  # a panel's label holds no more

Network = SRNetwork | WithSigma


def pictures(run: RunDir, plan: Plan, benchmarks: dict[tuple[str, int], Benchmark]) -> None:
    """Draw everything into `RUN/pictures`."""
    run.pictures.mkdir(exist_ok=True)
    winners = read_winners(run.winners)
    for (_, scale), bench in benchmarks.items():
        _one_image(run, plan, _networks(run, plan, winners, scale), bench)
    for scale in plan.config.scales:
        _training(run, plan, winners, scale)
        _violins(run, plan, winners, scale)
    _bars(run, plan)


def _networks(run: RunDir, plan: Plan, winners: dict[str, WinnerRecord], scale: int) -> dict[str, Network]:
    """Bicubic and each winner's first seed, by the label that pictures give them."""
    nets: dict[str, Network] = {"bicubic": sr_models.build("bicubic", scale)}
    for one in plan.combinations:
        if one.scale == scale and one.id in winners:
            folder = run.trial(winners[one.id].fingerprints[0]) / "model"
            nets[f"{one.label}\n× {one.objective_label}"] = weights.load(folder)[0]
    return nets


def _one_image(run: RunDir, plan: Plan, nets: dict[str, Network], bench: Benchmark) -> None:
    """Everything that is shown on a set's first image."""
    protocol, metrics = _protocol(plan), _shown(plan)
    scorer = Scorer(protocol, [*metrics, "pll", "psnr_sigma"], scale=bench.scale, kernel=bench.kernel)
    scored = {
        label: score_image(net, bench, 0, scorer=scorer, draws=protocol.draws, seed=plan.config.evaluation.seed)
        for label, net in nets.items()
    }
    base = scored.pop("bicubic")
    name = f"{bench.name}_x{bench.scale}"
    title, stamp = f"{bench.name} ×{bench.scale}: {bench.pairs[0].name}", base.row["protocol"]

    def panel(label: str, one: Scored) -> draw.Panel:
        values = {metric: one.row["per_draw"][metric][0] for metric in metrics}
        note = "" if one.row["deterministic"] else f"\ndraw 0 of {one.row['draws']}"
        return label + note, _first(one), values

    lead = get_metric(metrics[0])
    best = sorted(scored, key=lambda label: scored[label].row[metrics[0]], reverse=lead.higher_is_better)[:PANELS]
    shown: list[draw.Panel] = [("LR", base.lr, None), panel("bicubic", base)]
    shown += [*(panel(label, scored[label]) for label in best), ("HR", base.hr, None)]
    draw.comparison(run.pictures / f"comparison_{name}.png", title=title, panels=shown, protocol=stamp)

    several = {label.replace("\n", " "): one for label, one in scored.items() if not one.row["deterministic"]}
    if several:
        _draws(run.pictures / f"draws_{name}.png", several, metrics, title, stamp)
        maps = [(label, _inside_std(one), one.row["l_std"]) for label, one in several.items()]
        shave = protocol.shave(bench.scale)
        spread_pictures.l_std_map(
            run.pictures / f"l_std_{name}.png",
            title=title,
            image=("HR", base.hr[shave : base.hr.shape[0] - shave, shave : base.hr.shape[1] - shave]),
            maps=maps,
            draws=protocol.draws,
            protocol=stamp,
        )
    for label, one in scored.items():
        assert one.first is not None
        if one.first.sigma is not None:
            plain = label.replace("\n", " ")
            spread_pictures.sigma_against_error(
                run.pictures / f"sigma_{name}_{plain.replace(' × ', '_')}.png",
                title=f"{title}, {plain}",
                sigma=one.first.sigma.expand_as(one.first.sr)[0].permute(1, 2, 0).numpy(),
                error=(to_float(one.hr) - one.first.sr).abs()[0].permute(1, 2, 0).numpy(),
                scores={metric: one.row["per_draw"][metric][0] for metric in ("psnr_sigma", "pll")},
                protocol=stamp,
            )


def _draws(path: Path, several: dict[str, Scored], metrics: Sequence[str], title: str, stamp: str) -> None:
    methods = {}
    for label, one in several.items():
        assert one.best is not None and one.worst is not None
        pictures = [one.best.picture] * one.row["draws"]  # only the best and the worst are looked at
        pictures[one.worst.number] = one.worst.picture
        methods[label] = (pictures, {name: one.row["per_draw"][name] for name in (one.by, *metrics)})
        by = one.by
    spread_pictures.best_and_worst(path, title=title, methods=methods, hr=one.hr, protocol=stamp, by=by)


def _first(one: Scored) -> np.ndarray:
    assert one.first is not None
    return to_uint8(one.first.sr)[0]


def _inside_std(one: Scored) -> np.ndarray:
    return one.spread.std()[0].permute(1, 2, 0).numpy()


def _protocol(plan: Plan) -> Protocol:
    """The run's protocol, with its draws."""
    evaluation = plan.config.evaluation
    protocol = get_protocol(evaluation.protocol)
    return protocol if evaluation.draws is None else protocol.model_copy(update={"draws": evaluation.draws})


def _shown(plan: Plan) -> list[str]:
    """The metrics that pictures name: those of the config that need no weights, or else PSNR."""
    return [name for name in plan.config.evaluation.metrics if name in FIDELITY][:_SCORES] or ["psnr_y"]


def _training(run: RunDir, plan: Plan, winners: dict[str, WinnerRecord], scale: int) -> None:
    """What each validation measured over training, one line a winner; of averaged weights beside the raw ones."""
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = defaultdict(dict)
    for one in plan.combinations:
        if one.scale == scale and one.id in winners:
            path = run.trial(winners[one.id].fingerprints[0]) / journal.JOURNAL
            entries = journal.steps(journal.read(path))
            for name in [name for name in entries[-1]["metrics"] if not name.startswith("train.")]:
                metric = name.removeprefix("ema.")
                label = f"{one.label} × {one.objective_label}" + (" (ema)" if name != metric else "")
                points = [(entry["step"], entry["metrics"][name]) for entry in entries]
                panels[metric][label] = ([x for x, _ in points], [y for _, y in points])
    if panels:
        draw.training_curves(
            run.pictures / f"validation_x{scale}.png",
            panels,
            xlabel="optimiser steps",
            title=f"Validation of the winners, ×{scale}",
            protocol=get_protocol(plan.config.evaluation.protocol).id(scale),
        )


def _violins(run: RunDir, plan: Plan, winners: dict[str, WinnerRecord], scale: int) -> None:
    """Each metric over the images of each set: bicubic and the best winners' first seeds."""
    stamp, base = _protocol(plan).id(scale), f"x{scale}/bicubic/-"
    label = {one.id: f"{one.label} × {one.objective_label}" for one in plan.combinations} | {base: "bicubic"}
    first = {name: winner.fingerprints[0] for name, winner in winners.items()} | {base: ""}
    rows = [
        row
        for row in read_rows(run.evaluation)
        if (row["protocol"], row["scale"], row["weights"] != "ema") == (stamp, scale, True)
        and row["image"] != SET
        and first.get(row["combination"]) == row["fingerprint"]
        and row["noise_seed"] in (None, plan.config.evaluation.seed)
    ]
    order = [row["combination"] for row in leaderboard.rows(run.path) if row["rank"]]
    kept = [base, *[name for name in dict.fromkeys(order) if name in first and name != base][:PANELS]]
    for metric in [name for name in plan.config.evaluation.metrics if get_metric(name).level != "set"]:
        scores: dict[str, dict[str, list[float]]] = defaultdict(dict)
        for name in plan.config.data.test:
            for one in kept:
                own = [row[metric] for row in rows if (row["benchmark"], row["combination"]) == (name, one)]
                if any(value is not None and math.isfinite(value) for value in own):
                    scores[name][label[one]] = [value for value in own if value is not None]
        if scores:
            draw.violins(
                run.pictures / f"violin_{metric}_x{scale}.png",
                scores,
                metric=metric,
                title=f"×{scale}: {get_metric(metric).description}",
                protocol=stamp,
            )


def _bars(run: RunDir, plan: Plan) -> None:
    """The board's leading metric per benchmark and scale, bars from bicubic's score."""
    metric, seeds = plan.config.evaluation.metrics[0], plan.config.seeds
    spread = f"mean ± spread over {seeds} seeds" if seeds > 1 else "one seed"
    boards: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in leaderboard.rows(run.path):
        if row["weights"] in ("raw", "none") and row["protocol"] == _protocol(plan).id(row["scale"]):
            boards[row["benchmark"], row["scale"]].append(row)
    for (name, scale), found in boards.items():
        base = next((row for row in found if row["model"] == "bicubic" and metric in row["metrics"]), None)
        if base is None:
            continue  # the metric was not computed, and the board says why
        bars = [
            (
                f"{row['model']} × {row['objective']}",
                row["metrics"][metric]["mean"],
                row["metrics"][metric]["std"] or 0.0,
            )
            for row in found
            if row is not base and metric in row["metrics"] and row["lr_inputs"] == base["lr_inputs"]
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
