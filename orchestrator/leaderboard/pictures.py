"""What a finished sweep shows beside its tables: pictures of its winners, and rung correlations.

Pictures: comparison grids, violins of scores over images, bars, training curves; of stochastic networks the best and
worst draw and where draws differ, of networks with a σ head its σ against the error made.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from eval.benchmarks import Benchmark
from eval.pictures.differences import Gap, differences, per_image
from eval.pictures.front import methods
from eval.pictures.panels import bars, training_curves, violins
from eval.pictures.style import Styles, attempt, method_styles
from eval.protocol import FIDELITY, PERCEPTION, get_metric, get_protocol, plain_metric
from eval.rows import SET, read_rows
from orchestrator.leaderboard import compare as leaderboard
from orchestrator.leaderboard import drawn, searched
from orchestrator.leaderboard.board import BICUBIC
from orchestrator.plan.plan import Plan
from orchestrator.run import journal
from orchestrator.run.bicubic import read_bicubic
from orchestrator.run.folder import RunDir
from orchestrator.run.winners import WinnerRecord, read_winners
from sr_models.files import replacing, write_text
from sr_models.hashing import digest
from sr_models.inference.super_resolve import Options

_DRAWN = "drawn"
"""Name of the file beside the pictures that says of what they were drawn."""

PANELS = 6
"""Methods in one picture beside bicubic and HR: the best ones, so that a page can hold them."""

_SCORES = 3  # a panel's label holds no more

FirstImages = Callable[[str], Mapping[str, Callable[[], Mapping[str, bytes]]]]
"""Begins to draw what is shown of each test set's first image, given what titles say of seeds; set and scale -> what to
call for its files, by name."""


def pictures(
    run: RunDir, plan: Plan, benchmarks: Mapping[tuple[str, float], Benchmark], first_images: FirstImages
) -> None:
    """Draw everything into `RUN/pictures`, unless that was done of the same scores; what fails is said, and no more."""
    attempt("pictures", lambda: _pictures(run, plan, benchmarks, first_images))


def _pictures(
    run: RunDir, plan: Plan, benchmarks: Mapping[tuple[str, float], Benchmark], first_images: FirstImages
) -> None:
    run.pictures.mkdir(exist_ok=True)
    winners = read_winners(run.winners)
    shown = _digest(run, plan, winners, benchmarks)
    mark = run.pictures / _DRAWN
    if mark.exists() and mark.read_text(encoding="utf-8") == shown:
        return

    scores = drawn.beside(read_rows(run.evaluation))  # once: a run may have a thousand files of them
    board = leaderboard.rows(run.path)
    seeds = _seeds(scores, winners)

    begun, whole = first_images(seeds), []
    styled = method_styles(f"{c.label} × {c.objective_label}" for c in plan.combinations)
    for scale in plan.config.scales:
        whole.append(attempt(f"training at x{scale}", partial(_training, run, plan, winners, scale, seeds, styled)))
        whole.append(attempt(f"the search's budget at x{scale}", partial(searched.spent, run, plan, scale)))
        whole.append(attempt(f"the search's trials at x{scale}", partial(searched.tried, run, plan, winners, scale)))
        whole.append(attempt(f"fronts of x{scale}", partial(searched.fronts, run, winners, scale)))
        scored = partial(_violins, run, plan, winners, scale, scores, board, seeds, styled)
        whole.append(attempt(f"violins of x{scale}", scored))
    whole.append(attempt("the board", partial(_bars, run, plan, board, styled)))
    whole.append(attempt("differences", partial(_differences, run, plan, board, styled)))
    whole.append(attempt("differences image by image", partial(_per_image, run, plan, winners, scores, styled)))
    whole.append(attempt("distortion and perception", partial(_planes, run, plan, board, styled)))
    for what, files in begun.items():
        whole.append(attempt(f"comparison of {what}", partial(_keep, run, files)))
    if all(whole):
        write_text(mark, shown)


def _keep(run: RunDir, files: Callable[[], Mapping[str, bytes]]) -> None:
    for name, content in files().items():
        with replacing(run.pictures / name) as part:
            part.write_bytes(content)


def _digest(
    run: RunDir, plan: Plan, winners: dict[str, WinnerRecord], benchmarks: Mapping[tuple[str, float], Benchmark]
) -> str:
    """Of everything that pictures show: the config, the winners, the rows of scores and the test images."""
    return digest(
        [
            plan.config.model_dump(mode="json"),
            {name: winner.fingerprints for name, winner in winners.items()},
            *[winner.front.model_dump(mode="json") for winner in winners.values() if winner.front],
            sorted((path.name, path.stat().st_size) for path in run.evaluation.glob("*.parquet")),
            {f"{name} x{scale}": bench.hash for (name, scale), bench in benchmarks.items()},
        ]
    )


def _seeds(scores: Sequence[Mapping[str, Any]], winners: dict[str, WinnerRecord]) -> str:
    """Says in a title which seeds are drawn: each winner's first."""
    drawn = {winner.fingerprints[0] for winner in winners.values()}
    seeds = sorted({row["seed"] for row in scores if row["fingerprint"] in drawn})
    return f", seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else ""


def _options(plan: Plan) -> Options:
    """How the run computes pictures."""
    return Options(tile=plan.config.evaluation.tile, overlap=plan.config.evaluation.tile_overlap)


def stamp(plan: Plan, scale: float, benchmark: str | None = None) -> str:
    """What the run's rows have as their protocol: those of a test set, or of all that have no noisy inputs."""
    noise = plan.config.data.test[benchmark].noise if benchmark else None
    protocol = plan.config.evaluation.full_protocol.model_copy(update={"lr_noise": noise})
    return protocol.id(scale) + _options(plan).marks


def shown_metrics(plan: Plan) -> list[str]:
    """The metrics that pictures name: those of the config that need no weights, or else PSNR."""
    return [name for name in plan.config.evaluation.metrics if name in FIDELITY][:_SCORES] or ["psnr_y"]


def _training(
    run: RunDir, plan: Plan, winners: dict[str, WinnerRecord], scale: int, seeds: str, styled: Styles
) -> None:
    """What each validation measured over training, one line a winner; of averaged weights beside, dotted."""
    labels = dict(styled)
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = defaultdict(dict)
    for combination in plan.combinations:
        if combination.scale == scale and combination.id in winners:
            path = run.trial(winners[combination.id].fingerprints[0]) / journal.JOURNAL
            entries = journal.steps(journal.read(path))
            for name in [name for name in entries[-1]["metrics"] if not name.startswith("train.")]:
                metric = plain_metric(name)
                label = f"{combination.label} × {combination.objective_label}"
                if name != metric:
                    labels[f"{label} (ema)"] = (":", labels[label][1])
                    label = f"{label} (ema)"
                points = [(entry["step"], entry["metrics"][name]) for entry in entries]
                panels[metric][label] = ([x for x, _ in points], [y for _, y in points])
    if panels:
        training_curves(
            run.pictures / f"validation_x{scale}.png",
            panels,
            xlabel="optimiser steps",
            title=f"Validation of the winners, ×{scale}{seeds}",
            protocol=get_protocol(plan.config.evaluation.protocol).id(scale) + _options(plan).marks,
            styled=labels,
            bicubic=read_bicubic(run).get(f"x{scale}", {}),
        )


def _violins(
    run: RunDir,
    plan: Plan,
    winners: dict[str, WinnerRecord],
    scale: int,
    scores: Sequence[Mapping[str, Any]],
    board: Sequence[Mapping[str, Any]],
    seeds: str,
    styled: Styles,
) -> None:
    """Each metric over the images of each set: bicubic and the best winners' first seeds."""
    protocol, base = stamp(plan, scale), f"x{scale}/bicubic/-"
    label = {c.id: f"{c.label} × {c.objective_label}" for c in plan.combinations} | {base: "bicubic"}
    first = {name: winner.fingerprints[0] for name, winner in winners.items()} | {base: ""}
    rows = [
        row
        for row in scores
        if (row["protocol"], row["scale"], row["weights"] != "ema") == (protocol, scale, True)
        and row["image"] != SET
        and row.get("trained_scale") is None
        and first.get(row["combination"]) == row["fingerprint"]
        and row.get("noise_seed") in (None, plan.config.evaluation.seed)
    ]
    order = [row["combination"] for row in board if row["lead"]]
    kept = [base, *[name for name in dict.fromkeys(order) if name in first and name != base][:PANELS]]
    for metric in [name for name in plan.config.evaluation.metrics if get_metric(name).level != "set"]:
        shown: dict[str, dict[str, list[float]]] = defaultdict(dict)
        for name in plan.config.data.test:
            for combination in kept:
                own = [row[metric] for row in rows if (row["benchmark"], row["combination"]) == (name, combination)]
                if any(value is not None and math.isfinite(value) for value in own):
                    shown[name][label[combination]] = [value for value in own if value is not None]
        if shown:
            violins(
                run.pictures / f"violin_{metric}_x{scale}.png",
                shown,
                metric=metric,
                title=f"×{scale}: {get_metric(metric).description}{seeds}",
                protocol=protocol,
                styled=styled,
            )


def _differences(run: RunDir, plan: Plan, board: Sequence[Mapping[str, Any]], styled: Styles) -> None:
    """Each row's difference to its network's baseline, with intervals that hold all at once, by benchmark and scale."""
    metric, baseline = plan.config.evaluation.metrics[0], plan.config.board.baseline
    boards: dict[tuple[str, int, int], dict[str, list[Gap]]] = defaultdict(lambda: defaultdict(list))
    for row in board:
        said = row["metrics"].get(metric)
        if row["weights"] == "raw" and said and said["over_baseline_low"] is not None and not row["trial"]:
            gap = Gap(
                label=f"{row['model']} × {row['objective']}", value=said["over_baseline"],
                low=said["over_baseline_low"], high=said["over_baseline_high"],
            )  # fmt: skip
            boards[row["benchmark"], row["scale"], row.get("trained_scale", 0)][row["model"]].append(gap)
    for (name, scale, trained), found in boards.items():
        differences(
            run.pictures / f"differences_{name}_x{scale}{f'_trained_x{trained}' if trained else ''}.png",
            list(found.values()),
            xlabel=f"{metric} minus {baseline}'s ({get_metric(metric).unit or 'no unit'})",
            title=f"{name} ×{scale}" + (f" (trained ×{trained})" if trained else "") + f": over {baseline}",
            caption="simultaneous intervals: all of them hold in 95 % of such columns, for these images and new seeds; "
            "thick where zero lies outside",
            decimals=get_metric(metric).decimals,
            styled=styled,
        )


def _per_image(
    run: RunDir, plan: Plan, winners: dict[str, WinnerRecord], scores: Sequence[Mapping[str, Any]], styled: Styles
) -> None:
    """Each winner minus its network's baseline, or bicubic where the config names none, on every image of a set."""
    metric, baseline = plan.config.evaluation.metrics[0], plan.config.board.baseline
    if get_metric(metric).level == "set":
        return
    found: dict[tuple[str, float, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in scores:
        value, protocol = row.get(metric), stamp(plan, row["scale"], row["benchmark"])
        asked = row["weights"] != "ema" and row["protocol"] == protocol and row.get("trained_scale") is None
        mine = row["fingerprint"] in ("", *(winners[c].fingerprints if (c := row["combination"]) in winners else ()))
        if asked and mine and row["image"] != SET and value is not None:
            found[row["benchmark"], row["scale"], row["combination"]][row["image"]].append(value)
    means = {key: {image: statistics.fmean(values) for image, values in own.items()} for key, own in found.items()}
    shown: dict[tuple[str, float], dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    bases = {(c.label, c.scale): c.id for c in plan.combinations if c.objective_label == baseline}
    for combination in plan.combinations:
        base = bases.get((combination.label, combination.scale)) if baseline else f"x{combination.scale}/{BICUBIC}/-"
        for name in plan.config.data.test:
            own = means.get((name, combination.scale, combination.id), {})
            other = means.get((name, combination.scale, base or ""), {})
            apart = [own[image] - other[image] for image in own if image in other]
            finite = [value for value in apart if math.isfinite(value)]
            if combination.id != base and finite:
                label = f"{combination.label} × {combination.objective_label}"
                shown[name, combination.scale][combination.label][label] = finite
    for (name, scale), groups in shown.items():
        per_image(
            run.pictures / f"images_{name}_x{scale:g}.png",
            list(groups.values()),
            higher_is_better=get_metric(metric).higher_is_better,
            xlabel=f"{metric} minus {baseline or BICUBIC}'s ({get_metric(metric).unit or 'no unit'})",
            title=f"{name} ×{scale:g}: over {baseline or BICUBIC}, image by image",
            caption="a mark is an image, mean over seeds; the bar is the mean over images",
            decimals=get_metric(metric).decimals,
            styled=styled,
        )


def _planes(run: RunDir, plan: Plan, board: Sequence[Mapping[str, Any]], styled: Styles) -> None:
    """Every row by the first metric of distortion and the first of perception, where both were computed."""
    asked = plan.config.evaluation.metrics
    pair = [next((name for name in asked if name in kind), None) for kind in (FIDELITY, PERCEPTION)]
    if None in pair:
        return
    x, y = map(str, pair)
    shown: dict[float, dict[str, dict[str, tuple[float, float]]]] = defaultdict(lambda: defaultdict(dict))
    for row in board:
        of, name = row["metrics"], f"{row['model']} × {row['objective']}".removesuffix(" × -")
        here = row["weights"] != "ema" and row["protocol"] == stamp(plan, row["scale"], row["benchmark"])
        if here and name in styled and not row.get("trained_scale") and x in of and y in of:
            place = of[x]["mean"], of[y]["mean"]
            if all(map(math.isfinite, place)):
                shown[row["scale"]][row["benchmark"]][name] = place
    for scale, sets in shown.items():
        kept = {name: places for name, places in sets.items() if len(places) > 1}
        if kept:
            methods(
                run.pictures / f"plane_x{scale:g}.png",
                kept,
                (x, y),
                title=f"Distortion and perception, ×{scale:g}",
                caption="means over images and seeds; filled: no other method is better by both; hypervolume: of what "
                "these leave behind them, down to the set's worst values, in the product of the units",
                styled=styled,
            )


def _bars(run: RunDir, plan: Plan, board: Sequence[Mapping[str, Any]], styled: Styles) -> None:
    """The board's leading metric per benchmark and scale: means and comparison intervals, bars from bicubic's score."""
    metric, seeds, paper = plan.config.evaluation.metrics[0], plan.config.seeds, plan.config.paper
    over = f"mean over {seeds} seeds" if seeds > 1 else "one seed: order not established"
    boards: dict[tuple[str, float, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in board:
        if row["weights"] in ("raw", "none") and row["protocol"] == stamp(plan, row["scale"], row["benchmark"]):
            boards[row["benchmark"], row["scale"], row.get("trained_scale", 0)].append(row)
    for (name, scale, trained), found in boards.items():
        base = next((row for row in found if row["model"] == "bicubic" and metric in row["metrics"]), None)
        if base is None:
            continue  # the metric was not computed, and the board says why
        methods, printed, ranked = [], list[float | None](), False
        for row in found:
            if row is base or metric not in row["metrics"] or row["lr_inputs"] != base["lr_inputs"]:
                continue
            said = row["metrics"][metric]
            ends = None if said["low"] is None else (said["low"], said["high"])
            ranked = ranked or ends is not None
            methods.append((f"{row['model']} × {row['objective']}", said["mean"], ends))
            printed.append(None if paper and paper.scaled_down else said["paper"])
        if methods:
            what = "; whiskers are comparison intervals: rows of one network differ where they do not overlap"
            marked = f"; diamonds: {paper.source}" if paper and any(v is not None for v in printed) else ""
            bars(
                run.pictures / f"board_{name}_x{scale}{f'_trained_x{trained}' if trained else ''}.png",
                methods,
                xlabel=f"{metric} ({get_metric(metric).unit or 'no unit'})",
                title=f"{name} ×{scale}" + (f" (trained ×{trained})" if trained else ""),
                baseline=("bicubic", base["metrics"][metric]["mean"]),
                decimals=get_metric(metric).decimals,
                caption=f"{found[0]['protocol']}; {over}{what if ranked else ''}{marked}",
                printed=printed,
                styled=styled,
            )
