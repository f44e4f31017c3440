"""A row of a board put to use: where its weights lie, and the line that enlarges photographs with them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from orchestrator.leaderboard.board import Board, Entry
from orchestrator.run.folder import SNAPSHOTS, WEIGHTS, RunDir
from sr_models.errors import InputError
from sr_models.params import nearest


def first_trial(entry: Entry) -> str:
    """Fingerprint, with "@" and the step of weights along training, of a row's first seed; "" where none made it."""
    return next((found for _, found in sorted(entry.fingerprints.items()) if found), "")


def weights_folder(run: RunDir, entry: Entry, step: int | None = None) -> str:
    """Name, as `RunDir.at` finds it, of the weights of a row's first seed; "" of a row that no trial made.

    Args:
        step: that the whole board's weights are of; None: their last one, or what the fingerprint says.
    """
    fingerprint, at, kept = first_trial(entry).partition("@")
    if not fingerprint:
        return ""
    kind, trial = WEIGHTS[entry.weights], run.trial(fingerprint)
    if step is not None or at:
        along = trial / SNAPSHOTS / str(step or kept)
        scored = run.path / SNAPSHOTS / f"{trial.name}@{kept}"  # of a trial that was under way
        return run.name_of((scored if at and not along.exists() else along) / kind)
    return run.name_of(trial / kind)


def best(board: Board) -> Entry | None:
    """The first row that a trial made."""
    return next((entry for entry in board.entries if entry.trained), None)


def row_name(board: Board, entry: Entry) -> str:
    """What `--row` takes: the combination, with more of the row's id where the board has several of it."""
    several = sum(other.combination == entry.combination for other in board.entries) > 1
    return entry.id if several else entry.combination


def upscale_line(board: Board, entry: Entry) -> str:
    """The command that enlarges photographs by a row."""
    scale = f" --scale {board.scale}" if board.trained_scale else ""
    row = shlex.quote(row_name(board, entry))
    return (
        f"python -m orchestrator.upscale {shlex.quote(str(board.folders[entry.run]))} PHOTOS -o OUT --row {row}{scale}"
    )


def lines(board: Board) -> list[str]:
    """What a board says of its rows' use; nothing where no trial made any. The last line is a command, not to break."""
    first = best(board)
    if first is None or not board.folders:
        return []
    listed = [f"{board.name(entry)} = {entry.folder}" for entry in board.entries if entry.folder]
    outputs = dict.fromkeys(str(RunDir(folder).output) for folder in board.folders.values())
    return [
        f"weights of the first seed, below {' or '.join(outputs)}: {', '.join(listed)}",
        f"photographs by {board.name(first)}:",
        upscale_line(board, first),
    ]


def chosen(found: Sequence[Board], row: str | None, scale: float | None) -> tuple[Board, Entry]:
    """The row that is asked for, on its board.

    Args:
        row: its place on the board, from 1; its id or combination; None: the best that a trial made.
        scale: of the board; None: the only one there is.

    Raises:
        InputError: no such row, or boards of several scales to choose from.
    """
    there = [board for board in found if scale in (None, board.scale)] or (list(found) if row else [])
    if not there:
        raise InputError(f"--scale: no board at ×{scale:g}; there are {_scales(found)}")
    if row is not None and not row.isdecimal():
        for board in there:
            for entry in board.entries:
                if row in (entry.id, entry.combination):
                    return board, entry
        names = [row_name(board, entry) for board in there for entry in board.entries]
        raise InputError(f"--row: no row {row!r}{nearest(row, names)}")
    if len({board.scale for board in there}) > 1:
        raise InputError(f"--scale: boards at {_scales(there)} have rows of their own; name one, or a row by its id")
    board = there[0]
    if row is None:
        if (first := best(board)) is None:
            raise InputError("--row: no trial has a row on this board yet; --row 1 takes what needs none")
        return board, first
    if not 1 <= int(row) <= len(board.entries):
        raise InputError(f"--row: the board at {board.at} has rows 1 to {len(board.entries)}, got {row}")
    return board, board.entries[int(row) - 1]


def _scales(boards: Sequence[Board]) -> str:
    return ", ".join(f"×{scale:g}" for scale in sorted({board.scale for board in boards}))
