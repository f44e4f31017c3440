"""The boards as one self-contained page (`leaderboard.html`): sorted, filtered and opened in any browser, from a file.

What users name (labels, images, configs) goes into the page as JSON that no `<` is left in, and is shown as text alone;
a Content-Security-Policy lets the browser run the page's own script, by its hash, and fetch nothing from anywhere.
The script (`page/page.js`), the style and the frame lie in `page/` beside this file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from eval.protocol import get_metric
from orchestrator.leaderboard import behind
from orchestrator.leaderboard.board import Board, Entry, Value
from orchestrator.leaderboard.compare import boards
from orchestrator.leaderboard.text import below
from orchestrator.leaderboard.use import upscale_line
from orchestrator.run.bicubic import read_bicubic
from orchestrator.run.folder import RunDir
from sr_models.files import write_text

PAGE = "leaderboard.html"

_PARTS = Path(__file__).with_name("page")


def write_page(folder: Path) -> None:
    """Write leaderboard.html into a run folder: its boards, with the pictures that are there."""
    write_page_of(boards(folder), [folder], folder)


def write_page_of(found: Sequence[Board], folders: Sequence[Path], out: Path) -> None:
    """Write leaderboard.html of the boards of some runs into a folder, which is made if need be.

    Args:
        folders: the run folders, in the order that they were compared in.
    """
    out.mkdir(parents=True, exist_ok=True)
    labels = list(found[0].runs) or [""]
    write_text(out / PAGE, page(found, dict(zip(labels, folders, strict=True))))


def page(found: Sequence[Board], runs: Mapping[str, Path]) -> str:
    """The page.

    Args:
        runs: `Entry.run` -> its folder.

    Raises:
        InputError: a journal, trial or picture of a run folder is damaged.
    """
    names = {label: folder.resolve().name for label, folder in runs.items()}
    entries = [entry for board in found for entry in board.entries]
    trials = behind.trials(runs, entries)
    numbers = {key: i for i, key in enumerate(trials)}
    sets = sorted({column[0] for board in found for column in board.columns})
    pictures, crops, left_out = [], [], []
    for label, folder in runs.items():
        run = RunDir(folder.absolute())
        own, without_room = behind.pictures(run, label, sets)
        pictures += own
        left_out += without_room
        crops += behind.crops(run, label)
    data = {
        "runs": names,
        "bicubic": {label: read_bicubic(RunDir(folder.absolute())) for label, folder in runs.items()},
        "common": {label: numbers[label, "", ""] for label in runs},
        "behind": list(trials.values()),
        "boards": [_board(board, numbers, runs) for board in found],
        "pictures": pictures,
        "leftOut": left_out,
        "crops": crops,
    }
    return _filled(f"Leaderboard of {', '.join(names.values())}", data)


def _filled(title: str, data: Mapping[str, Any]) -> str:
    """The frame with style, script and data in it."""
    frame, style, script = (
        (_PARTS / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    said = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        said = said.replace(letter, f"\\u{ord(letter):04x}")
    parts = {"policy": policy, "title": escape(title), "style": style, "script": script, "data": said}
    head, *rest = frame.split("{{")  # filled in one pass, so that no part's text is taken for another's place
    return head + "".join(parts[name] + text for name, _, text in (part.partition("}}") for part in rest))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _board(board: Board, numbers: Mapping[tuple[str, str, str], int], runs: Mapping[str, Path]) -> dict[str, Any]:
    present = [m for m in board.metrics if any(m in cell for entry in board.entries for cell in entry.cells.values())]
    metrics = present or [board.metric]
    return {
        "at": board.at, "scale": board.scale, "protocol": board.protocol, "data": board.data,
        "lead": board.metric, "baseline": board.baseline,
        "sortedBy": [board.title(column) for column in board.lead],
        "sets": [{"name": column[0], "title": board.title(column)} for column in board.columns],
        "metrics": [
            {
                "name": name, "unit": get_metric(name).unit, "digits": get_metric(name).decimals,
                "higher": get_metric(name).higher_is_better, "about": get_metric(name).description,
            }
            for name in metrics
        ],
        "notes": [line.strip() for line in [*below(board), *board.notes]],
        "rows": [_row(board, entry, metrics, numbers, runs) for entry in board.entries],
    }  # fmt: skip


def _row(
    board: Board,
    entry: Entry,
    metrics: Sequence[str],
    numbers: Mapping[tuple[str, str, str], int],
    runs: Mapping[str, Path],
) -> dict[str, Any]:
    """One row; a cell [test set, metric] is a list of `_numbers`."""
    cells = [
        [i, metrics.index(name), _numbers(value, name)]
        for i, column in enumerate(board.columns)
        for name, value in entry.cells.get(column, {}).items()
    ]
    twin = next((board.name(other) for other in board.entries if other.id == entry.twin_of), "")
    cost = {name: value for name, value in vars(entry.training).items() if value not in (None, [], {})}
    return {
        "name": board.name(entry), "model": entry.model, "objective": entry.objective, "target": entry.target,
        "loss": entry.loss, "weights": entry.weights, "precision": entry.precision, "run": entry.run,
        "trained": entry.trained, "seeds": entry.seeds if entry.trained else None, "twin": twin, "drawn": entry.drawn,
        "fingerprints": [[seed, name] for seed, name in entry.fingerprints.items() if name],
        "folder": entry.folder, "use": upscale_line(board, entry) if entry.trained else "",
        "cost": {name: behind.plain(value) for name, value in cost.items()},
        "mean": _numbers(entry.lead, board.metric) if entry.lead else None, "cells": cells,
        "behind": numbers.get((entry.run, entry.combination, entry.trial)),
    }  # fmt: skip


def _numbers(value: Value, metric: str) -> list[Any]:
    """Mean, sd, gain, ends of the interval, first and last rank, difference to the baseline, its ends, the paper's; why
    there is no rank. What lacks at the end is left out."""
    digits = get_metric(metric).decimals + 6  # the page rounds once more, and is to say what the terminal says
    found = value.numbers
    names = ("mean", "std", "gain", "low", "high", "rank_first", "rank_last", "over_baseline", "over_baseline_low",
             "over_baseline_high", "paper")  # fmt: skip
    numbers: list[Any] = [_number(found[name], digits) for name in names] + [found["unranked"] or None]
    while numbers[-1] is None:
        numbers.pop()
    return numbers


def _number(value: float | None, digits: int) -> float | str | None:
    """Rounded; a word that JavaScript's `Number` understands for what JSON has no number for."""
    if value is None or isinstance(value, int):
        return value
    if math.isfinite(value):
        return round(value, digits)
    return "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"
