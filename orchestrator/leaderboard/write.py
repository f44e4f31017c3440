"""Boards as files: CSV, Markdown, JSON, LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.protocol import get_metric
from orchestrator.leaderboard import text as board_text
from orchestrator.leaderboard.board import Board
from orchestrator.leaderboard.compare import boards, rows_of_boards
from orchestrator.leaderboard.latex import latex
from orchestrator.leaderboard.use import best, upscale_line
from sr_models.files import write_json, write_text


def write(folder: Path, width: int = board_text.WIDTH, unfinished: str | None = None) -> str:
    """Write leaderboard.csv, .md, .json and .tex into the run folder; returns the terminal table of `width` columns.

    Args:
        unfinished: what stopped the sweep before its end; leaderboard.json says it.
    """
    found = boards(folder)
    write_files(found, folder, {"run": folder.resolve().name} | ({"unfinished": unfinished} if unfinished else {}))
    return board_text.text(found, width)


def write_files(found: Sequence[Board], folder: Path, origin: dict[str, Any]) -> None:
    """Write some boards into a folder, which is made if need be.

    Args:
        origin: what leaderboard.json begins with: "run", or "runs" of several.
    """
    flat = rows_of_boards(found)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "leaderboard.csv", board_text.csv_text(flat))
    write_text(folder / "leaderboard.md", board_text.markdown(found))
    write_text(folder / "leaderboard.tex", latex(found))
    metric = found[0].metric
    head: dict[str, Any] = {
        **origin, "metric": metric, "higher_is_better": get_metric(metric).higher_is_better,
        "baseline": found[0].baseline, "steering": found[0].steering,
    }  # fmt: skip
    if fronts := {name: front.model_dump(mode="json") for board in found for name, front in board.fronts.items()}:
        head["fronts"] = fronts
    if paper := next((board.paper for board in found if board.paper), None):
        head["paper"] = paper.source
    head["upscale"] = [upscale_line(board, first) for board in found if (first := best(board))]
    rows = [{key: value for key, value in row.items() if key != "upscale"} for row in flat]  # equal in any folder
    write_json(folder / "leaderboard.json", _finite({**head, "rows": rows}))


def _finite(value: Any) -> Any:
    """The same, with null for numbers that JSON has no word for (PSNR of equal images is infinite)."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
