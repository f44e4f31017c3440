"""What a paper prints, beside a board's own numbers: in the values of its rows, and as a table."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace

from eval.protocol import get_metric
from orchestrator.leaderboard.board import Board, Entry, Value
from orchestrator.plan.evaluation import EvaluationConfig
from orchestrator.plan.paper import PaperConfig


def print_beside(board: Board, paper: PaperConfig, asked: EvaluationConfig) -> None:
    """Fill in what is printed: for a cell, for the lead where all its columns are, for the cost.

    Nothing happens to a board of another protocol than the config's; noise on its inputs is a test set's own, and tiles
    are not another one.
    """
    if re.sub(r"(-noise[^+]+)?(\+tile\d+o\d+)?$", "", board.protocol) != asked.full_protocol.id(board.scale):
        return
    board.paper = paper
    for entry in board.entries:
        for (test_set, _), cell in entry.cells.items():
            for metric, value in cell.items():
                cell[metric] = replace(value, paper=paper.score(entry.combination, test_set, metric))
        lead = [paper.score(entry.combination, test_set, board.metric) for test_set, _ in board.lead]
        printed = [value for value in lead if value is not None]
        if entry.lead and len(printed) == len(lead):
            entry.lead = replace(entry.lead, paper=statistics.fmean(printed))
        if count := paper.parameters.get(entry.combination):
            entry.training = replace(entry.training, paper_parameters=count)
        if seconds := paper.seconds.get(entry.combination):
            entry.training = replace(entry.training, picture_seconds=entry.seconds, paper_seconds=seconds)


def beside_paper(board: Board) -> tuple[str, list[str], list[list[list[str]]]] | None:
    """Caption, names and groups of three columns: ours, what is printed, the difference; of the rows that have it.

    None where nothing is printed of what was scored.
    """
    rows = [entry for entry in board.entries if any(value.paper is not None for value in _values(entry))]
    if not rows or not board.paper:
        return None
    groups = []
    for metric in board.metrics:
        for column in board.columns:
            values = [entry.cells.get(column, {}).get(metric) for entry in rows]
            if any(value and value.paper is not None for value in values):
                title = board.title(column) if metric == board.metric else f"{board.title(column)} {metric}"
                benchmark = board.paper.benchmark(column[0])
                heads = [title, "paper" if benchmark == column[0] else f"paper {benchmark}", "difference"]
                lines = [_cells(value, get_metric(metric).decimals) for value in values]
                groups.append([[head, *cells] for head, *cells in zip(heads, *lines, strict=True)])
    caption = f"{board.at}, beside the paper: {board.paper.source}"
    if board.paper.scaled_down:
        caption += "; scaled down: images, steps and channels are not the paper's, so the differences say nothing of it"
    return caption, ["model × objective", *map(board.name, rows)], groups


def printed_only(board: Board) -> tuple[str, list[str], list[list[str]]] | None:
    """Caption, names and columns of the paper's rows that the sweep has not; None where there are none.

    They are in no order but the config's, and in no file but those that hold tables.
    """
    if not board.paper or not board.paper.printed_only:
        return None
    rows = board.paper.printed_only
    places = {(at, metric): None for row in rows.values() for at, of in row.scores.items() for metric in of}
    columns = [
        [f"{at} {metric}", *(_printed(row.scores.get(at, {}).get(metric)) for row in rows.values())]
        for at, metric in places
    ]
    columns += [
        ["parameters", *("-" if row.parameters is None else f"{row.parameters / 1e6:.2f} M" for row in rows.values())],
        ["s/picture", *(_printed(row.seconds) for row in rows.values())],
    ]
    caption = (
        f"{board.at}, printed only: rows of the paper that nothing here has trained or scored: {board.paper.source}"
    )
    return caption, ["row", *rows], [column for column in columns if set(column[1:]) != {"-"}]


def _printed(value: float | None) -> str:
    return "-" if value is None else str(value)


def _values(entry: Entry) -> list[Value]:
    return [value for cell in entry.cells.values() for value in cell.values()]


def _cells(value: Value | None, digits: int) -> list[str]:
    """Ours, the paper's in all the digits that it has, the difference."""
    if value is None:
        return ["-", "-", "-"]
    ours = f"{value.mean:.{digits}f}"
    if value.paper is None or value.over_paper is None:
        return [ours, "-", "-"]
    return [ours, max(f"{value.paper:.{digits}f}", str(value.paper), key=len), f"{value.over_paper:+.{digits}f}"]
