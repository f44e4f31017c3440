"""A board in words: aligned plain text for a terminal, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from eval.protocol import STABILITY, all_metrics, get_metric
from orchestrator.leaderboard.board import BICUBIC, Board, Value
from sr_models.text_table import aligned

WIDTH = 120
"""Columns of the terminal table."""


def text(found: Sequence[Board]) -> str:
    """The boards as aligned plain text, at most `WIDTH` columns wide; what does not fit goes into further tables."""
    return "\n\n".join(_terminal(board) for board in found)


def markdown(found: Sequence[Board]) -> str:
    """The boards as Markdown tables with their captions as headings, a table a metric."""
    return "\n\n".join(_markdown(board) for board in found) + "\n"


def _terminal(board: Board) -> str:
    fixed, moving = _cells(board, board.metric)
    for metric in [name for name in board.metrics[1:] if name in board.asked or not name.startswith(STABILITY)]:
        for title, *cells in _cells(board, metric, gains=False)[1]:
            if any(cell != "-" for cell in cells):
                moving.append([f"{title} {metric}", *cells])
    lines, start = [_caption(board, board.metric)], 0
    while start < len(moving):
        chosen = list(fixed) if start == 0 else fixed[:2]
        first = len(chosen)
        while start < len(moving) and (len(chosen) == first or _width([*chosen, moving[start]]) <= WIDTH):
            chosen.append(moving[start])
            start += 1
        table = aligned(list(zip(*chosen, strict=True)), left={1})  # the names
        lines += ["", *table] if len(lines) > 1 else table
    if any(entry.tie for entry in board.entries):
        lines.append("≈ within the seeds' spread of the row above")
    for entry in board.entries:
        if set(entry.training.searched) & set(entry.training.params) and entry.weights in ("raw", "none"):
            best = ", ".join(f"{name}={_short(value)}" for name, value in entry.training.params.items())
            lines.append(f"  {entry.model} × {entry.objective}: {best} (trial #{entry.training.number})")
    lines = [line if len(line) <= WIDTH else line[: WIDTH - 1] + "…" for line in lines]
    for note in board.notes:
        lines += textwrap.wrap(note, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def _markdown(board: Board) -> str:
    """One table for each metric that was computed, the leading one first."""
    present = {name for entry in board.entries for cell in entry.cells.values() for name in cell}
    parts = []
    for metric in board.metrics:
        if metric not in present:
            continue
        fixed, moving = _cells(board, metric)
        table = [[cell.replace("|", "\\|") for cell in line] for line in zip(*fixed, *moving, strict=True)]
        lines = [f"| {' | '.join(line)} |" for line in table]
        parts.append(
            "\n".join([f"### {_caption(board, metric)}", "", lines[0], "|---" * len(table[0]) + "|", *lines[1:]])
        )
    return "\n\n".join([*parts, *(f"- {note}" for note in board.notes)])


def _caption(board: Board, metric: str) -> str:
    unit = f" ({get_metric(metric).unit})" if get_metric(metric).unit else ""
    order = f"ranked by mean {board.metric} over {', '.join(board.title(c) for c in board.lead)}"
    return f"×{board.scale}, {board.protocol}: {metric}{unit}, mean ± sd over seeds, (gain over bicubic); {order}"


def _cells(board: Board, metric: str, *, gains: bool = True) -> tuple[list[list[str]], list[list[str]]]:
    """The table's columns, header first: those about the row, and one a benchmark."""
    decimals = get_metric(metric).decimals
    entries = board.entries
    fixed = [
        ["#", *(f"{'≈' if e.tie else ''}{e.rank or '-'}" for e in entries)],
        ["model × objective", *(board.name(e) for e in entries)],
        ["seeds", *("-" if e.model == BICUBIC else str(e.seeds) for e in entries)],
        ["params", *(_count(e.training.parameters) for e in entries)],
        ["train s", *("-" if e.training.train_seconds is None else f"{e.training.train_seconds:.0f}" for e in entries)],
        ["trials", *("-" if e.training.trials is None else str(e.training.trials) for e in entries)],
    ]
    moving = [
        [board.title(column), *(_number(e.cells.get(column, {}).get(metric), decimals, gains) for e in entries)]
        for column in board.columns
    ]
    return fixed, moving


def _number(value: Value | None, decimals: int, gain: bool) -> str:
    if value is None:
        return "-"
    spread = "" if value.std is None else f" ±{value.std:.{decimals}f}"
    return f"{value.mean:.{decimals}f}{spread}" + (
        f" ({value.gain:+.{decimals}f})" if gain and value.gain is not None else ""
    )


def _count(number: int | None) -> str:
    if number is None:
        return "-"
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number / 1e3:.1f} k"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in columns) + 2 * (len(columns) - 1)


def csv_text(flat: Sequence[Mapping[str, Any]]) -> str:
    """`leaderboard.rows` as CSV: a line a row; a metric that was computed has <metric>, <metric>_std, <metric>_gain."""
    present = [name for name in all_metrics() if any(name in row["metrics"] for row in flat)]
    lines: list[dict[str, Any]] = []
    for row in flat:
        plain = {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items() if k != "metrics"}
        for name in present:
            value = row["metrics"].get(name, {})
            plain |= {name: value.get("mean"), f"{name}_std": value.get("std"), f"{name}_gain": value.get("gain")}
        lines.append(plain)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()
