"""The board of a run folder: per-image scores -> tables that compare like with like.

A score belongs to a column (scale, that of training, protocol, benchmark, LR inputs): rows are ordered inside a column,
by `statistics` beside this file, each kind of weights on its own; gains are over bicubic in the same column, and spread
is the sample standard deviation over seeds. A set of which images are missing is a column of its own. Needs neither
Ray, MLflow nor torch.
`python -m orchestrator.leaderboard RUN` prints it.
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
from eval.rows import CEILING, SET, read_rows
from orchestrator.leaderboard import drawn
from orchestrator.leaderboard.board import BICUBIC, Board, Column, Entry, Training, Value
from orchestrator.leaderboard.cost import ranges, trainings
from orchestrator.leaderboard.paper import print_beside
from orchestrator.leaderboard.statistics import Row, Standing, order, twins
from orchestrator.leaderboard.use import weights_folder
from orchestrator.plan.plan import only_at
from orchestrator.run.folder import RunDir
from orchestrator.run.records import WinnerRecord, read_board, read_evaluation, read_paper, read_plan, read_winners
from sr_models.errors import InputError

_SEARCH_COUNTED = (
    "run of an earlier version: the search's best run counts as the first seed, which favours rows that were searched"
)

_LIMIT = (
    "the test images' HR through that autoencoder and back, scored as SR is; what is drawn in its latent space can be "
    "expected to get no nearer; neither ranked nor ever the best"
)

# ---- reading a run folder


def boards(folder: Path, step: int | None = None) -> list[Board]:
    """One board for each scale, scale of training and protocol, by rising scale; bicubic is on each of its scale.

    How pictures were drawn makes no other board (`drawn`).

    Args:
        step: of the weights that winners have kept after so many steps (`train.snapshots`); None: their last ones.

    Raises:
        InputError: no run folder, no scores in it yet, a Parquet file that cannot be read; no scores after that step.
    """
    plan, winners = read_plan(folder), read_winners(RunDir(folder).winners)
    asked, baseline = read_evaluation(folder), read_board(folder).baseline
    scores = _scores(folder, winners, asked.seed) if step is None else _scores_at(step, folder, winners, asked.seed)
    groups = _groups(scores)
    costs = trainings(folder, plan, winners)
    if step is not None:
        costs = {name: Training(parameters=cost.parameters) for name, cost in costs.items()}  # the rest is of the end
    found = [
        _board(*where, asked.metrics, groups[where], costs, baseline, plan.metric.name) for where in sorted(groups)
    ]
    paper, ranged = read_paper(folder), ranges(folder, winners)
    for board in found:
        board.folder = folder
        for entry in board.entries:
            entry.folder = weights_folder(RunDir(folder), entry, step)
        if step is not None:
            board.notes.append(f"weights after {step} steps")
        elif paper:
            print_beside(board, paper, asked)
        board.notes += [
            f"not scored on {name}: {', '.join(ids)}, whose weights {only_at(board.scale)}"
            for name, ids in plan.unscored.items()
            if name in {f"{column[0]} x{board.scale}" for column in board.columns}
        ]
        there = {entry.combination for entry in board.entries}
        board.notes += [f"{name} is trained at {range_}" for name, range_ in ranged.items() if name in there]
        if step is None:
            board.fronts = {name: won.front for name, won in winners.items() if won.front and name in there}
        if any(w.search_run is None and w.number is not None and w.search.trials > 1 for w in winners.values()):
            board.notes.append(_SEARCH_COUNTED)
    return found


def _groups(scores: Iterable[dict[str, Any]]) -> dict[tuple[float, int, str], list[dict[str, Any]]]:
    """(scale, that of training if it is another one, else 0; protocol) -> the rows that stand on one board."""
    groups: dict[tuple[float, int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in scores:
        groups[row["scale"], row.get("trained_scale") or 0, row["protocol"]].append(row)
    for scale, trained, protocol in [where for where in groups if where[1]]:
        at = groups[scale, 0, protocol]
        groups[scale, trained, protocol] += [row for row in at if row["model"] == BICUBIC]
    elsewhere = {(scale, protocol) for scale, trained, protocol in groups if trained}
    return {
        (scale, trained, protocol): rows
        for (scale, trained, protocol), rows in groups.items()
        if trained or (scale, protocol) not in elsewhere or any(row["model"] != BICUBIC for row in rows)
    }


def _scores(folder: Path, winners: Mapping[str, WinnerRecord], noise_seed: int) -> list[dict[str, Any]]:
    """Every row once, but those of a combination's former winners and of noise that the config does not ask for."""
    key = ("combination", "fingerprint", "seed", "weights", "precision", "protocol", "benchmark", "kernel", "image",
           "lr_sha256")  # fmt: skip
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in read_rows(folder / "evaluation"):
        winner = winners.get(row["combination"])
        if row["fingerprint"] and winner is not None and row["fingerprint"] not in winner.fingerprints:
            continue
        if row.get("noise_seed") in (None, noise_seed):
            known = {"trial": row["fingerprint"] if winner is None else ""}
            found[tuple(row[name] for name in key)] = row | known
    if not found:
        raise InputError(f"{folder} holds no scores yet (evaluation/*.parquet)")
    return drawn.beside(found.values())


def _scores_at(step: int, folder: Path, winners: Mapping[str, WinnerRecord], noise_seed: int) -> list[dict[str, Any]]:
    """`_scores` of what winners have kept after a step, as theirs, beside networks that nothing trains."""
    of = {fingerprint: name for name, winner in winners.items() for fingerprint in winner.fingerprints}
    found, steps = [], set()
    for row in _scores(folder, {}, noise_seed):
        fingerprint, at, kept = row["fingerprint"].partition("@")
        if at and fingerprint in of:
            steps.add(int(kept))
        if not row["fingerprint"] or (fingerprint in of and kept == str(step)):
            found.append(row | {"fingerprint": fingerprint, "trial": ""})
    if step not in steps:
        there = f"there are {', '.join(map(str, sorted(steps)))}" if steps else "there are none of any step"
        raise InputError(
            f"--step {step}: no weights after that step are scored; {there} (train.snapshots keeps them, "
            f"python -m orchestrator.evaluate --run {folder} --snapshots scores them)"
        )
    return found


# ---- comparing


def _board(
    scale: float,
    trained_scale: int,
    protocol: str,
    asked: Sequence[str],
    scores: list[dict[str, Any]],
    costs: Mapping[str, Training],
    baseline: str | None,
    steering: str,
) -> Board:
    metrics, sizes = _metrics(asked, scores), _sizes(scores)
    runs: dict[tuple[str, ...], dict[tuple[str, str, int], list[dict[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in scores:
        by_run = runs[row["combination"], row["weights"], row["precision"], row["trial"]]
        by_run[row["benchmark"], row["kernel"], row["seed"]].append(row)

    entries: list[Entry] = []
    for (combination, weights, precision, trial), by_run in runs.items():
        row = next(iter(by_run.values()))[0]
        entry = Entry(combination, row["model"], row["objective"], row["target"], row["loss"], weights, precision)
        entry.trial, entry.training, entry.drawn = trial, costs.get(combination, Training()), row["drawn"]
        values: dict[Column, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        pixels: dict[Column, dict[str, dict[str, list[float]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for (benchmark, _, seed), found in sorted(by_run.items(), key=lambda one: one[0][2]):
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
        scale, protocol, metrics[0], columns, lead, entries, metrics, list(asked), missing, notes, baseline, steering,
        trained_scale=trained_scale or None,
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
        for why in dict.fromkeys(row["not_computed"][base] for row in scores if base in row["not_computed"]):
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
    board.entries.sort(key=lambda entry: entry.id)  # so that of twins it is always the same that comes first
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
        rows = [Row(e.id, e.model, values[e.id].by_seed) for e in group if first[e.id] == e.id]
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
    first, networks = firsts(group), {entry.id: entry.model for entry in group}
    return {networks[first[e.id]]: first[e.id] for e in group if e.objective == objective}


def peers(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Rows that are compared with each other: what trials made, each kind of weights, winners and others apart."""
    found: dict[tuple[str, bool], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.trained:
            found[entry.weights, bool(entry.trial)].append(entry)
    return list(found.values())


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

    Keys: scale, trained_scale (where it is another one), protocol, benchmark, lr_inputs, images, of_images (the set
    has), trial (of a row that is of no winner), twin_of (id of an earlier row with the same weights), combination,
    model, objective, target, loss, weights, precision, weights_folder (of the first seed, as `RunDir.at` finds it),
    seeds, what plan, winners and journals say (`Training`), lead (over the leading columns) and metrics {name:
    `Value.numbers`}.
    """
    return rows_of_boards(boards(folder))


def rows_of_boards(found: Iterable[Board]) -> list[dict[str, Any]]:
    return [row for board in found for column in board.columns for row in _column_rows(board, column)]


def _column_rows(board: Board, column: Column) -> Iterable[dict[str, Any]]:
    holders = [entry for entry in board.entries if column in entry.cells]
    for entry in by_mean(holders, lambda entry: entry.cells[column].get(board.metric), board.metric):
        cells = entry.cells[column]
        yield {
            "scale": board.scale, **({"trained_scale": board.trained_scale} if board.trained_scale else {}),
            "protocol": board.protocol, "benchmark": column[0], "lr_inputs": column[1],
            "images": entry.images[column], "of_images": board.missing.get(column, (0, entry.images[column]))[1],
            "trial": entry.trial, "twin_of": entry.twin_of, "combination": entry.combination, "model": entry.model,
            "objective": entry.objective, "target": entry.target, "loss": entry.loss, "weights": entry.weights,
            "precision": entry.precision, "weights_folder": entry.folder,
            "seeds": max(len(value.by_seed) for value in cells.values()),
            **vars(entry.training), "lead": entry.lead and entry.lead.numbers,
            "metrics": {name: value.numbers for name, value in cells.items()},
        }  # fmt: skip
