"""The boards of run folders: per-image scores -> tables that compare like with like.

A score belongs to a column (scale, that of training, protocol, benchmark, LR inputs): rows are ordered inside a column,
by `statistics` beside this file, each kind of weights on its own; gains are over bicubic in the same column, and spread
is the sample standard deviation over seeds. A set of which images are missing is a column of its own. Needs neither
Ray, MLflow nor torch.
`python -m orchestrator.leaderboard RUN…` prints them.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.protocol import METRICS, STABILITY, get_metric
from eval.rows import CEILING, SET
from orchestrator.leaderboard import drawn
from orchestrator.leaderboard.board import BICUBIC, Board, Column, Entry, Training, Value
from orchestrator.leaderboard.cost import ranges, trainings
from orchestrator.leaderboard.paper import print_beside
from orchestrator.leaderboard.scores import RunScores, Where, by_board, networks, read_runs
from orchestrator.leaderboard.statistics import Row, Standing, order, twins
from orchestrator.leaderboard.use import upscale_line, weights_folder
from orchestrator.plan.plan import only_at
from orchestrator.run.folder import RunDir
from sr_models.plugins import plugins_text

_SEARCH_COUNTED = (
    "run of an earlier version: the search's best run counts as the first seed, which favours rows that were searched"
)

_LIMIT = (
    "the test images' HR through that autoencoder and back, scored as SR is; what is drawn in its latent space can be "
    "expected to get no nearer; neither ranked nor ever the best"
)

# ---- boards of run folders


def boards(*folders: Path, step: int | None = None) -> list[Board]:
    """One board for each scale, scale of training and protocol, by rising scale; bicubic is on each of its scale.

    Of several runs, also for each set of training and validation images, and rows say whose they are. How pictures
    were drawn makes no other board (`drawn`).

    Args:
        step: of the weights that winners have kept after so many steps (`train.snapshots`); None: their last ones.

    Raises:
        InputError: as `scores.read_runs`.
    """
    runs = read_runs(folders, step)
    groups, names = by_board(runs), networks(runs)
    costs: dict[tuple[str, str], Training] = {}
    for run in runs:
        for combination, cost in trainings(run.folder, run.plan, run.winners).items():
            costs[run.label, combination] = cost if step is None else Training(parameters=cost.parameters)
    if len({run.plan.metric.name for run in runs}) > 1:  # values of different metrics are no column
        costs = {key: replace(cost, search_value=None) for key, cost in costs.items()}
    asked = list(dict.fromkeys(name for run in runs for name in run.asked.metrics))
    found = []
    for where, scores in groups.items():
        there = {row["run"] for row in scores if row["model"] != BICUBIC}
        own = [run for run in runs if run.label in there] or runs
        baseline = own[0].baseline if len({run.baseline for run in own}) == 1 else None
        board = _board(where, asked, scores, costs, baseline, runs[0].plan.metric.name, names)
        board.runs = {run.label: run.folder.resolve().name for run in runs if run.label}
        board.folders = {run.label: run.folder for run in runs}
        stamps = {(run.label, c.id): plugins_text(c.plugins) for run in runs for c in run.plan.combinations}
        for entry in board.entries:
            entry.plugins = stamps.get((entry.run, entry.combination), "")
            entry.folder = weights_folder(RunDir(board.folders[entry.run]), entry, step) if entry.trained else ""
        if step is not None:
            board.notes.append(f"weights after {step} steps")
        elif any(run.paper for run in own):
            _print_beside(board, own)
        _tell_of_runs(board, own, with_fronts=step is None)
        found.append(board)
    return found


def _tell_of_runs(board: Board, runs: Sequence[RunScores], *, with_fronts: bool) -> None:
    """Add what the runs of a board say: who is not on it, fronts, and how an earlier version scored."""
    there = {(entry.run, entry.combination) for entry in board.entries}
    titles = {f"{column[0]} x{board.scale}" for column in board.columns}
    if len({run.baseline for run in runs}) > 1:
        board.notes.append("no differences to a baseline: the runs name different ones (board.baseline)")
    for group in peers(board.entries):
        bases = [entry for entry in group if entry.objective == board.baseline and not entry.twin_of]
        for network in dict.fromkeys(entry.network for entry in bases):
            names = [board.name(entry) for entry in by_id(bases) if entry.network == network]
            if len(names) > 1:
                board.notes.append(f"differences to {board.baseline} are to {names[0]}, not {', '.join(names[1:])}")
    for run in runs:
        said = f"{run.label}: " if run.label else ""
        board.notes += [f"{said}{line}" for line in _plugin_notes(board, run)]
        board.notes += [
            f"{said}not scored on {name}: {', '.join(ids)}, whose weights {only_at(board.scale)}"
            for name, ids in run.plan.unscored.items()
            if name in titles
        ]
        board.notes += [
            f"{said}{name} is trained at {range_}"
            for name, range_ in ranges(run.folder, run.winners).items()
            if (run.label, name) in there
        ]
        if with_fronts:
            own = {name: won.front for name, won in run.winners.items() if won.front and (run.label, name) in there}
            board.fronts |= {f"{name} ({run.label})" if run.label else name: front for name, front in own.items()}
        if any(w.search_run is None and w.number is not None and w.search.trials > 1 for w in run.winners.values()):
            board.notes.append(f"{said}{_SEARCH_COUNTED}")


def _plugin_notes(board: Board, run: RunScores) -> list[str]:
    """A line on the rows that stand on the same plug-ins, and one on each metric of one."""
    rows: dict[str, list[str]] = defaultdict(list)
    for entry in board.entries:
        if entry.run == run.label and entry.plugins:
            rows[entry.plugins].append(board.name(entry))
    lines = [f"{', '.join(dict.fromkeys(names))}: by plug-ins, {stamps}" for stamps, names in rows.items()]
    metrics = {row: stamp for row, stamp in run.plan.plugins.items() if row.startswith("metric ")}
    return lines + ([f"by plug-ins, {plugins_text(metrics)}"] if metrics else [])


def _print_beside(board: Board, runs: Sequence[RunScores]) -> None:
    """Put beside the rows what a paper prints, where all the board's runs mean the same one."""
    papers = [run.paper for run in runs]
    if papers[0] and all(paper == papers[0] for paper in papers):
        print_beside(board, papers[0], runs[0].asked)
    else:
        sources = ", ".join(dict.fromkeys(paper.source for paper in papers if paper))
        board.notes.append(f"printed numbers ({sources}) stand on the board of their own run alone")


# ---- comparing


def _board(
    where: Where,
    asked: Sequence[str],
    scores: Sequence[Mapping[str, Any]],
    costs: Mapping[tuple[str, str], Training],
    baseline: str | None,
    steering: str,
    names: Mapping[tuple[str, str], str],
) -> Board:
    metrics, sizes = _metrics(asked, scores), _sizes(scores)
    made: dict[tuple[str, ...], dict[tuple[str, str, int, str], list[Mapping[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in scores:
        run = row["run"] if row["model"] != BICUBIC else ""  # which is one row, whatever runs have scored it
        by_seed = made[run, row["combination"], row["weights"], row["precision"], row["trial"]]
        by_seed[row["benchmark"], row["kernel"], row["seed"], row["run"]].append(row)

    entries: list[Entry] = []
    for (run, combination, weights, precision, trial), parts in made.items():
        row = next(iter(parts.values()))[0]
        entry = Entry(combination, row["model"], row["objective"], row["target"], row["loss"], weights, precision)
        entry.trial, entry.training, entry.drawn = trial, costs.get((run, combination), Training()), row["drawn"]
        taken = [row["seconds"] for found in parts.values() for row in found if row["image"] != SET]
        entry.seconds = statistics.median(taken) if taken else None
        entry.run, entry.network = run, names.get((run, combination.rpartition("/")[0]), row["model"])
        values: dict[Column, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        pixels: dict[Column, dict[str, dict[str, list[float]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for (benchmark, _, seed, _), found in sorted(parts.items(), key=lambda one: one[0][2]):
            images = [row for row in found if row["image"] != SET]
            column = (benchmark, _inputs(images))
            entry.images[column] = len(images)
            entry.fingerprints[seed] = found[0]["fingerprint"]
            for name in metrics:
                of_set = get_metric(name).level == "set"
                rows = [row for row in found if row["image"] == SET] if of_set else images
                if rows and all(row.get(name) is not None for row in rows):
                    values[column][name][seed] = statistics.fmean(row[name] for row in rows)
                    for row in [] if of_set else rows:
                        pixels[column][name][row["image"]].append(row[name])
        for column, by_metric in values.items():
            entry.cells[column] = {
                name: _value(by_seed, None, {i: statistics.fmean(own) for i, own in pixels[column][name].items()})
                for name, by_seed in by_metric.items()
            }
        entries.append(entry)

    base = next((entry for entry in entries if entry.model == BICUBIC), None)
    for entry in entries:
        for column, cell in entry.cells.items():
            reference = base.cells.get(column, {}) if base else {}
            entry.cells[column] = {m: _value(v.by_seed, reference.get(m), v.by_image) for m, v in cell.items()}
    counts = {column: entry.images[column] for entry in entries for column in entry.cells}
    missing = {column: (n, sizes[column[0]]) for column, n in counts.items() if n < sizes[column[0]]}
    columns = sorted(counts, key=lambda column: (column in missing, column))
    scored = [entry for entry in entries if entry.weights != CEILING]
    lead = _leading_columns([c for c in columns if c not in missing] or columns, scored, metrics[0])
    notes = [*drawn.note(scores), *_notes(asked, scores)]
    if limits := sorted(entry.title for entry in entries if entry.weights == CEILING):
        notes.append(f"{', '.join(limits)}: {_LIMIT}")
    board = Board(
        where.scale, where.protocol, metrics[0], columns, lead, entries, metrics, list(asked), missing, notes, baseline,
        steering, trained_scale=where.trained_scale or None, data=where.data,
    )  # fmt: skip
    _lead(board, base)
    _stand(board)
    board.entries = by_mean(board.entries, lambda entry: entry.lead, board.metric)
    return board


def _metrics(asked: Sequence[str], scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """The config's metrics, then what else was scored; spreads over draws where there were several."""
    spread = any(row.get("deterministic") is False for row in scores)
    further = [name for name in METRICS if name != "l_std" and any(row.get(name) is not None for row in scores)]
    names = [*asked, *further]
    if spread:
        names += [f"{STABILITY}{name}" for name in names if get_metric(name).level == "image"] + ["l_std"]
    return list(dict.fromkeys(names))


def _sizes(scores: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many images each benchmark has, as far as rows say."""
    sizes: dict[str, int] = defaultdict(int)
    for row in scores:
        sizes[row["benchmark"]] = max(sizes[row["benchmark"]], row.get("images") or 0)
    return sizes


def _notes(metrics: Sequence[str], scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why metrics lack, and what to know of those of whole sets."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for metric in metrics:
        base = metric.removeprefix(STABILITY)
        found = list(dict.fromkeys(row["not_computed"][base] for row in scores if base in row["not_computed"]))
        if len(found) > 1 and base in METRICS.added:  # which names the image, and may fail on every one
            found = [f"{found[0]} (and {len(found) - 1} more like it)"]
        for why in found:
            reasons[why].append(metric)
    warnings = [about["warning"] for row in scores for about in row["details"].values() if about.get("warning")]
    notes = []
    for why, names in reasons.items():
        somewhere = any(row.get(name) is not None for row in scores for name in names)
        notes.append(f"{', '.join(names)} {'in part ' if somewhere else ''}not computed: {why}")
    return notes + list(dict.fromkeys(warnings))


def _inputs(images: Iterable[Mapping[str, Any]]) -> str:
    """Names what was super-resolved: the images and their LR pixels."""
    listed = sorted((image["image"], image["lr_sha256"]) for image in images)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:8]


def _value(by_seed: Mapping[int, float], base: Value | None, by_image: Mapping[str, float]) -> Value:
    values = list(by_seed.values())
    mean = statistics.fmean(values)
    std = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
    gain = None if base is None else mean - base.mean
    return Value(mean, std, gain, dict(sorted(by_seed.items())), dict(sorted(by_image.items())))


def _leading_columns(columns: Sequence[Column], entries: Sequence[Entry], metric: str) -> list[Column]:
    """The columns that all rows have; if there is none, the one that most have."""
    holders = {column: sum(metric in entry.cells.get(column, {}) for entry in entries) for column in columns}
    shared = [column for column in columns if holders[column] == len(entries)]
    return shared or [max(columns, key=lambda column: holders[column])]


def _lead(board: Board, base: Entry | None) -> None:
    """Fill each row's `lead`, seed by seed; a row without all leading columns has none."""
    for entry in [base, *board.entries] if base else board.entries:
        cells = [
            entry.cells[column][board.metric] for column in board.lead if board.metric in entry.cells.get(column, {})
        ]
        seeds = set.intersection(*(set(cell.by_seed) for cell in cells)) if len(cells) == len(board.lead) else set()
        if seeds:
            by_seed = {seed: statistics.fmean(cell.by_seed[seed] for cell in cells) for seed in seeds}
            entry.lead = _value(by_seed, base.lead if base else None, {})
    if base and base.lead:
        base.lead = _value(base.lead.by_seed, base.lead, {})


def _stand(board: Board) -> None:
    """Fill in where each row stands, in each column by each metric and by the lead, and whose twin it is."""
    board.entries = by_id(board.entries)  # so that of twins it is always the same that comes first
    trained = [entry for entry in board.entries if entry.trained]
    first = firsts(trained)
    for entry in trained:
        entry.twin_of = first[entry.id] if first[entry.id] != entry.id else ""
    for column in board.columns:
        for metric in board.metrics:
            found = {e.id: e.cells[column][metric] for e in board.entries if metric in e.cells.get(column, {})}
            standings = _standings(board, found, metric)
            for entry in board.entries:
                if entry.id in standings:
                    cell = entry.cells[column]
                    cell[metric] = replace(cell[metric], standing=standings[entry.id])
    standings = _standings(board, {e.id: e.lead for e in board.entries if e.lead}, board.metric)
    for entry in board.entries:
        if entry.lead and entry.id in standings:
            entry.lead = replace(entry.lead, standing=standings[entry.id])


def _standings(board: Board, values: Mapping[str, Value], metric: str) -> dict[str, Standing]:
    """Id -> where it stands among the rows of its kind of weights; those of no winner are apart, too."""
    found: dict[str, Standing] = {}
    for group in peers([entry for entry in board.entries if entry.id in values]):
        first = firsts(group)
        rows = [Row(e.id, e.network, values[e.id].by_seed) for e in group if first[e.id] == e.id]
        higher = get_metric(metric).higher_is_better
        ordered = order(rows, higher_is_better=higher, baseline=baselines(group, board.baseline))
        standings = {standing.id: standing for standing in ordered.standings}
        found |= {name: standings[one] for name, one in first.items()}
    return found


def firsts(group: Sequence[Entry]) -> dict[str, str]:
    """Id -> id of the first row with the same weights, which is the one that counts."""
    same = twins({entry.id: entry.method for entry in group})
    return {name: one for one, others in same.items() for name in (one, *others)}


def baselines(group: Sequence[Entry], objective: str | None) -> dict[str, str]:
    """Network -> id of the row that its rows are compared with."""
    first, networks = firsts(group), {entry.id: entry.network for entry in group}
    return {networks[first[e.id]]: first[e.id] for e in reversed(group) if e.objective == objective}


def peers(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Rows that are compared with each other: what trials made, each kind of weights, winners and others apart."""
    found: dict[tuple[str, bool], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.trained:
            found[entry.weights, bool(entry.trial)].append(entry)
    return list(found.values())


def by_id(entries: Sequence[Entry]) -> list[Entry]:
    """The rows in the order that settles which comes first of twins and of baselines."""
    return sorted(entries, key=lambda entry: entry.id)


def by_mean(entries: Sequence[Entry], value: Callable[[Entry], Value | None], metric: str) -> list[Entry]:
    """Best mean first; after all others those that lack a seed, then those without a value, then ceilings."""
    sign = -1 if get_metric(metric).higher_is_better else 1
    seeds = max((s.seeds for e in entries if (v := value(e)) and (s := v.standing)), default=0)

    def key(entry: Entry) -> tuple[bool, bool, bool, float, str]:
        found = value(entry)
        fewer = bool(found and found.standing and found.standing.seeds < seeds)
        return entry.weights == CEILING, found is None, fewer, sign * found.mean if found else 0.0, entry.id

    return sorted(entries, key=key)


# ---- for files


def rows(folder: Path) -> list[dict[str, Any]]:
    """One row for each combination, kind of weights and column, the best mean of the leading metric first.

    Keys: scale, trained_scale (where it is another one), run and data (of several runs), protocol, benchmark,
    lr_inputs, images, of_images (the set has), trial (of a row that is of no winner), twin_of (id of an earlier row
    with the same weights), combination, model, objective, target, loss, weights, precision, weights_folder (of the
    first seed, as `RunDir.at` finds it), upscale (the line that enlarges photographs by it), plugins (of a row that
    stands on some), seeds, what plan, winners and journals say (`Training`), lead (over the leading columns) and
    metrics {name: `Value.numbers`}.
    """
    return rows_of_boards(boards(folder))


def rows_of_boards(found: Iterable[Board]) -> list[dict[str, Any]]:
    """A flat row for each entry of each column, as `leaderboard.csv` and `.json` have them."""
    return [row for board in found for column in board.columns for row in _column_rows(board, column)]


def _column_rows(board: Board, column: Column) -> Iterable[dict[str, Any]]:
    holders = [entry for entry in board.entries if column in entry.cells]
    for entry in by_mean(holders, lambda entry: entry.cells[column].get(board.metric), board.metric):
        cells = entry.cells[column]
        yield {
            "scale": board.scale, **({"trained_scale": board.trained_scale} if board.trained_scale else {}),
            **({"run": entry.run} if entry.run else {}), **({"data": board.data} if board.data else {}),
            "protocol": board.protocol, "benchmark": column[0], "lr_inputs": column[1],
            "images": entry.images[column], "of_images": board.missing.get(column, (0, entry.images[column]))[1],
            "trial": entry.trial, "twin_of": entry.twin_of, "combination": entry.combination, "model": entry.model,
            "objective": entry.objective, "target": entry.target, "loss": entry.loss, "weights": entry.weights,
            "precision": entry.precision, "weights_folder": entry.folder,
            "upscale": upscale_line(board, entry) if entry.folder else "",
            **({"plugins": entry.plugins} if entry.plugins else {}),
            "seeds": max(len(value.by_seed) for value in cells.values()),
            **vars(entry.training), "lead": entry.lead and entry.lead.numbers,
            "metrics": {name: value.numbers for name, value in cells.items()},
        }  # fmt: skip
