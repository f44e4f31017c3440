"""A board's row as MLflow's run has it: its name among all of a sweep's, numbers, params, tags."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from orchestrator.leaderboard.board import Board, Entry


def key(board: Board, entry: Entry) -> str:
    """Tells a row from all others of its run folder."""
    elsewhere = f"x{board.scale}" if board.trained_scale else ""  # a protocol's id need not say the scale
    more = filter(None, [entry.trial, elsewhere])
    return "/".join([entry.combination, entry.weights, entry.precision, board.protocol, *more])


def name(board: Board, entry: Entry, boards: Sequence[Board]) -> str:
    """For people: with scale and protocol where the boards have several."""
    suffix = f" {board.at}" if len({b.at for b in boards}) > 1 else ""
    suffix += f" [{board.protocol}]" if sum(b.at == board.at for b in boards) > 1 else ""
    return board.name(entry) + suffix


def numbers(board: Board, entry: Entry) -> dict[str, Any]:
    """Its cost, the lead's numbers and each benchmark's, the means without a suffix."""
    named = [(board.metric, entry.lead)] if entry.lead else []
    named += [(f"{m}.{board.title(c)}", value) for c, cell in entry.cells.items() for m, value in cell.items()]
    found: dict[str, Any] = {name: v for name, v in vars(entry.training).items() if name != "number"}
    for metric, value in named:
        found |= {metric if k == "mean" else f"{metric}.{k}": v for k, v in value.numbers.items()}
    return found


def params(board: Board, entry: Entry) -> dict[str, Any]:
    """What MLflow groups and compares rows by: the combination, and what the search chose."""
    names = ("model", "objective", "target", "loss", "weights")
    return {**{name: getattr(entry, name) for name in names}, "scale": board.scale, **entry.training.params}


def tags(board: Board, entry: Entry) -> dict[str, Any]:
    """What the row and each of its seeds' runs are tagged with."""
    names = ("combination", "model", "objective", "target", "loss", "weights", "precision")
    trained = {"trained_scale": board.trained_scale} if board.trained_scale else {}
    own = {name: getattr(entry, name) for name in names} | {"weights_folder": entry.folder}
    return {**own, "scale": board.scale, **trained, "protocol": board.protocol}


def of_row(board: Board, entry: Entry) -> dict[str, Any]:
    """What the row alone is tagged with; its note is the description that MLflow shows."""
    standing = entry.lead.standing if entry.lead else None
    return {
        **tags(board, entry), "role": "row", "mlflow.note.content": _note(entry), "baseline": board.baseline,
        "twin_of": entry.twin_of, "unranked": standing.unranked if standing else "",
    }  # fmt: skip


def _note(entry: Entry) -> str:
    best = ", ".join(
        f"{name} = {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in entry.training.params.items()
    )
    number = entry.training.number
    return f"winner: {'' if number is None else f'trial #{number} '}({best})" if best else ""
