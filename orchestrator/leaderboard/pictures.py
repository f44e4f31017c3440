"""What a finished sweep shows beside its tables: pictures of its winners, and rung correlations.

Pictures: comparison grids, violins of scores over images, bars, training curves; of stochastic networks the best and
worst draw and where draws differ, of networks with a σ head its σ against the error made.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from eval.benchmarks import Benchmark
from eval.pictures.budget import budget
from eval.pictures.differences import Gap, differences
from eval.pictures.front import Plane, Trial, planes
from eval.pictures.panels import bars, training_curves, violins
from eval.pictures.style import Styles, attempt, method_styles
from eval.protocol import FIDELITY, Protocol, get_metric, get_protocol, plain_metric
from eval.rows import SET, read_rows
from orchestrator.leaderboard import compare as leaderboard
from orchestrator.leaderboard import drawn
from orchestrator.plan.plan import Plan
from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.roles import read_roles
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
        whole.append(attempt(f"the search's budget at x{scale}", partial(_budget, run, plan, scale)))
        whole.append(attempt(f"fronts of x{scale}", partial(_fronts, run, winners, scale)))
        scored = partial(_violins, run, plan, winners, scale, scores, board, seeds, styled)
        whole.append(attempt(f"violins of x{scale}", scored))
    whole.append(attempt("the board", partial(_bars, run, plan, board, styled)))
    whole.append(attempt("differences", partial(_differences, run, plan, board, styled)))
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


def _protocol(plan: Plan) -> Protocol:
    """The run's protocol, with its draws."""
    evaluation = plan.config.evaluation
    protocol = get_protocol(evaluation.protocol)
    return protocol if evaluation.draws is None else protocol.model_copy(update={"draws": evaluation.draws})


def _options(plan: Plan) -> Options:
    """How the run computes pictures."""
    return Options(tile=plan.config.evaluation.tile, overlap=plan.config.evaluation.tile_overlap)


def stamp(plan: Plan, scale: float, benchmark: str | None = None) -> str:
    """What the run's rows have as their protocol: those of a test set, or of all that have no noisy inputs."""
    noise = plan.config.data.test[benchmark].noise if benchmark else None
    return _protocol(plan).model_copy(update={"lr_noise": noise}).id(scale) + _options(plan).marks


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
        )


def _budget(run: RunDir, plan: Plan, scale: int) -> None:
    """Where halving let the search's steps go, of every combination that has several trials."""
    spent: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
    names = {c.id: f"{c.label} × {c.objective_label}" for c in plan.combinations if c.scale == scale}
    full = 0
    for role in read_roles(run) if run.roles.exists() else []:
        entries = journal.steps(journal.read(run.trial(role.fingerprint) / journal.JOURNAL))
        if role.role == "search" and role.combination in names and entries:
            end, full = entries[-1]["step"], max(full, entries[-1]["of"])
            many, steps = spent[names[role.combination]].get(end, (0, 0))
            spent[names[role.combination]][end] = (many + 1, steps + end)
    shown = {name: pieces for name, pieces in spent.items() if sum(many for many, _ in pieces.values()) > 1}
    if shown:
        budget(
            run.pictures / f"budget_x{scale}.png",
            shown,
            full=full,
            title=f"Where the searches spent their steps, ×{scale}",
            caption="numbers are trials; steps that other runs of this output had trained already are counted, too",
        )


def _fronts(run: RunDir, winners: dict[str, WinnerRecord], scale: int) -> None:
    """The trials of each search by several metrics, on the plane of every two of them."""
    shown = []
    for name, winner in winners.items():
        if winner.front is None or not name.startswith(f"x{scale}/"):
            continue
        found, metrics = winner.front, [metric.name for metric in winner.front.metrics]
        for i, j in itertools.combinations(range(len(metrics)), 2):
            trials = [
                Trial(number=point.number, x=point.values[i], y=point.values[j], on_front=point.on_front)
                for point in found.points
            ]
            reference = (found.reference[i], found.reference[j]) if len(metrics) == 2 else None
            title = f"{name.partition('/')[2]}: hypervolume {found.hypervolume:.4g}"
            shown.append(
                Plane(
                    title=title, x_metric=metrics[i], y_metric=metrics[j], trials=trials, chosen=found.chosen,
                    reference=reference,
                )
            )  # fmt: skip
    if shown:
        planes(
            run.pictures / f"front_x{scale}.png",
            shown,
            title=f"Trials of each search that ran in full, ×{scale}",
            caption="values of the search's own validations, by which it has selected, with one seed: no scores",
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
