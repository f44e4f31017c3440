"""The board of a run folder: per-image scores -> tables that compare like with like.

A score belongs to a column (scale, protocol, benchmark, LR inputs): rows are ranked inside a column, gains are over
bicubic in the same column, and spread is the sample standard deviation over seeds. A set of which images are missing is
a column of its own. Needs neither Ray, MLflow nor torch.
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
from eval.rows import SET, read_rows
from orchestrator.leaderboard.board import BICUBIC, Board, Column, Entry, Training, Value
from orchestrator.run.folder import RunDir
from orchestrator.run.records import (
    CombinationRecord,
    PlanRecord,
    WinnerRecord,
    read_evaluation,
    read_plan,
    read_winners,
)
from sr_models.errors import InputError

# ---- reading a run folder


def boards(folder: Path) -> list[Board]:
    """One board for each scale and protocol, by rising scale.

    Raises:
        InputError: no run folder, no scores in it yet, a Parquet file that cannot be read.
    """
    plan, winners = read_plan(folder), read_winners(RunDir(folder).winners)
    asked = read_evaluation(folder)
    groups: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in _scores(folder, winners, asked.seed):
        groups[row["scale"], row["protocol"]].append(row)
    return [
        _board(scale, protocol, asked.metrics, groups[scale, protocol], plan, winners)
        for scale, protocol in sorted(groups)
    ]


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
    return list(found.values())


# ---- comparing


def _board(
    scale: int,
    protocol: str,
    asked: Sequence[str],
    scores: list[dict[str, Any]],
    plan: PlanRecord,
    winners: Mapping[str, WinnerRecord],
) -> Board:
    planned = {combination.id: combination for combination in plan.combinations}
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
        entry.trial, entry.training = trial, _training(planned.get(combination), winners.get(combination))
        values: dict[Column, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        for (benchmark, _, seed), found in by_run.items():
            images = [row for row in found if row["image"] != SET]
            column = (benchmark, _inputs(images))
            entry.images[column] = len(images)
            entry.fingerprints[seed] = found[0]["fingerprint"]
            for name in metrics:
                rows = [row for row in found if row["image"] == SET] if get_metric(name).level == "set" else images
                if rows and all(row.get(name) is not None for row in rows):
                    values[column][name][seed] = statistics.fmean(row[name] for row in rows)
        entry.cells = {c: {m: _value(v, None) for m, v in by_metric.items()} for c, by_metric in values.items()}
        entries.append(entry)

    base = next((entry for entry in entries if entry.model == BICUBIC), None)
    for entry in entries:
        for column, cell in entry.cells.items():
            reference = base.cells.get(column, {}) if base else {}
            entry.cells[column] = {m: _value(v.by_seed, reference.get(m)) for m, v in cell.items()}
    counts = {column: entry.images[column] for entry in entries for column in entry.cells}
    missing = {column: (n, sizes[column[0]]) for column, n in counts.items() if n < sizes[column[0]]}
    columns = sorted(counts, key=lambda column: (column in missing, column))
    lead = _leading_columns([c for c in columns if c not in missing] or columns, entries, metrics[0])
    board = Board(
        scale, protocol, metrics[0], columns, lead, entries, metrics, list(asked), missing, _notes(asked, scores)
    )
    _order(board, base)
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


def _training(planned: CombinationRecord | None, winner: WinnerRecord | None) -> Training:
    found = Training()
    if planned:
        found = replace(found, parameters=planned.parameters, searched=list(planned.searched))
    if winner:
        found = replace(
            found, train_seconds=winner.train_seconds, number=winner.number, params=winner.params, **vars(winner.search)
        )
    return found


def _inputs(images: Iterable[Mapping[str, Any]]) -> str:
    """Names what was super-resolved: the images and their LR pixels."""
    listed = sorted((image["image"], image["lr_sha256"]) for image in images)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:8]


def _value(by_seed: Mapping[int, float], base: Value | None) -> Value:
    values = list(by_seed.values())
    mean = statistics.fmean(values)
    std = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
    return Value(mean, std, None if base is None else mean - base.mean, dict(sorted(by_seed.items())))


def _leading_columns(columns: Sequence[Column], entries: Sequence[Entry], metric: str) -> list[Column]:
    """The columns that all rows have; if there is none, the one that most have."""
    holders = {column: sum(metric in entry.cells.get(column, {}) for entry in entries) for column in columns}
    shared = [column for column in columns if holders[column] == len(entries)]
    return shared or [max(columns, key=lambda column: holders[column])]


def _order(board: Board, base: Entry | None) -> None:
    """Fill lead, rank and tie, and sort; a row without all leading columns comes last, unranked."""
    for entry in [base, *board.entries] if base else board.entries:
        cells = [
            entry.cells[column][board.metric] for column in board.lead if board.metric in entry.cells.get(column, {})
        ]
        seeds = set.intersection(*(set(cell.by_seed) for cell in cells)) if len(cells) == len(board.lead) else set()
        if seeds:
            by_seed = {seed: statistics.fmean(cell.by_seed[seed] for cell in cells) for seed in seeds}
            entry.lead = _value(by_seed, base.lead if base else None)
    if base and base.lead:
        base.lead = _value(base.lead.by_seed, base.lead)
    board.entries = _ranked(board.entries, lambda entry: entry.lead, board.metric)
    above: Entry | None = None
    for rank, entry in enumerate((e for e in board.entries if e.lead), start=1):
        assert entry.lead is not None
        entry.rank, entry.tie = rank, bool(above and above.lead and entry.lead.ties(above.lead))
        above = entry


def _ranked(entries: Sequence[Entry], value: Callable[[Entry], Value | None], metric: str) -> list[Entry]:
    sign = -1 if get_metric(metric).higher_is_better else 1

    def key(entry: Entry) -> tuple[bool, float, str, str]:
        found = value(entry)
        return found is None, sign * found.mean if found else 0.0, entry.combination, entry.weights

    return sorted(entries, key=key)


def rows(folder: Path) -> list[dict[str, Any]]:
    """One row for each combination, kind of weights and column, ranked by the leading metric within its column.

    Keys: scale, protocol, benchmark, lr_inputs, images, of_images (the set has), trial (of a row that is of no winner),
    rank, tie (with the row above), combination, model, objective, target, loss, weights, precision, seeds, what plan
    and winners say, and metrics {name: {mean, std, gain, by_seed}}.
    """
    return rows_of_boards(boards(folder))


def rows_of_boards(found: Iterable[Board]) -> list[dict[str, Any]]:
    return [row for board in found for column in board.columns for row in _column_rows(board, column)]


def _column_rows(board: Board, column: Column) -> Iterable[dict[str, Any]]:
    holders = [entry for entry in board.entries if column in entry.cells]
    above: Value | None = None
    ranked = _ranked(holders, lambda entry: entry.cells[column].get(board.metric), board.metric)
    for position, entry in enumerate(ranked, start=1):
        value = entry.cells[column].get(board.metric)
        tie = bool(value and above and value.ties(above))
        yield {
            "scale": board.scale, "protocol": board.protocol, "benchmark": column[0], "lr_inputs": column[1],
            "images": entry.images[column], "of_images": board.missing.get(column, (0, entry.images[column]))[1],
            "trial": entry.trial, "rank": position if value else None, "tie": tie,
            "combination": entry.combination, "model": entry.model, "objective": entry.objective,
            "target": entry.target, "loss": entry.loss, "weights": entry.weights, "precision": entry.precision,
            "seeds": max(len(v.by_seed) for v in entry.cells[column].values()), **vars(entry.training),
            "metrics": {name: vars(v) for name, v in entry.cells[column].items()},
        }  # fmt: skip
        above = value
