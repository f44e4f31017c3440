"""The same differences over images, the seeds as they are: would an order hold on other pictures of this kind?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from eval.protocol import get_metric
from orchestrator.leaderboard.board import Board, Column, Entry, Value
from orchestrator.leaderboard.compare import baselines, firsts, peers
from orchestrator.leaderboard.statistics import (
    Difference,
    Margins,
    Standing,
    image_margins,
    rank_ranges,
    surely_better,
)
from orchestrator.leaderboard.text import WIDTH, group, tables, wrapped
from sr_models.text_table import counted

LEGEND = (
    "over images: would it hold on other pictures of this kind? Seeds are as they are and the images random: paired "
    "bootstrap of each image's mean over seeds. All of a column hold together for 95 % of such sets of images; few "
    "images say little (5 hardly establish an order), and nothing is said here of other training seeds"
)

_SEED = 0  # of the bootstrap


def over_images(board: Board, column: Column) -> dict[str, Value]:
    """Id -> the leading metric's value in a column, standing where images place it; no reference has a standing."""
    held = [entry for entry in board.entries if board.metric in entry.cells.get(column, {})]
    found = {entry.id: replace(entry.cells[column][board.metric], std=None, standing=None) for entry in held}
    for some in peers(held):
        standings = _standings(some, found, board)
        found |= {name: replace(found[name], standing=standing) for name, standing in standings.items()}
    return found


def _standings(some: Sequence[Entry], values: Mapping[str, Value], board: Board) -> dict[str, Standing]:
    """Id -> where the images place it among `some`."""
    first, bases = firsts(some), baselines(some, board.baseline)
    seeds = max(len(values[entry.id].by_seed) for entry in some)
    why = {entry.id: _unranked(values[entry.id], seeds) for entry in some}
    compared = [entry for entry in some if not why[entry.id] and first[entry.id] == entry.id]
    if len(compared) == 1:
        why = {name: said or "order not established: no other row to compare with" for name, said in why.items()}
    found = {
        entry.id: Standing(entry.id, entry.network, seeds, values[entry.id].mean, None, None, None, None, why[entry.id])
        for entry in some
    }
    if len(compared) < 2:
        return found
    scores = np.array([list(values[entry.id].by_image.values()) for entry in compared])
    means, apart = scores.mean(axis=-1), image_margins(scores, seed=_SEED)
    if not np.isfinite(apart).any():
        few = f"order not established: {counted(scores.shape[-1], 'image is', 'images are')} too few for it"
        return {name: replace(standing, unranked=standing.unranked or few) for name, standing in found.items()}
    better = surely_better(means, Margins(apart, apart.min(axis=-1) / 2), get_metric(board.metric).higher_is_better)
    best, last = (ends.tolist() for ends in rank_ranges(better))
    place = {entry.id: i for i, entry in enumerate(compared)}
    for name, one in first.items():
        if one in place:
            i, base, over = place[one], place.get(bases.get(compared[place[one]].network, "")), None
            if base is not None and base != i:
                gap, width = float(means[i] - means[base]), float(apart[i, base])
                over = Difference(gap, gap - width, gap + width) if math.isfinite(width) else None
            found[name] = replace(found[name], ranks=(best[i], last[i]), over_baseline=over)
    return found


def _unranked(value: Value, seeds: int) -> str:
    """Why a row cannot be compared; "" where it can."""
    if len(value.by_seed) < seeds:
        return f"{len(value.by_seed)} of {seeds} seeds"
    if len(value.by_image) < 2:
        return "order not established: fewer than two images"
    return "" if all(map(math.isfinite, value.by_image.values())) else "order not established: a value is not finite"


def text(found: Sequence[Board], width: int = WIDTH) -> str:
    """A table a board, of the leading metric, at most `width` columns wide."""
    parts = []
    for board in found:
        if get_metric(board.metric).level == "set":
            parts.append(f"{board.at}, {board.protocol}: {board.metric} is of whole sets, no image has one")
            continue
        names, groups = ["model × objective", *map(board.name, board.entries)], []
        reasons: dict[str, list[str]] = {}
        for column in board.columns:
            values = over_images(board, column)
            some = [values.get(entry.id) for entry in board.entries]
            images = max((len(value.by_image) for value in values.values()), default=0)
            title = f"{board.title(column)}: {counted(images, 'image')}"
            groups += group(title, some, board.metric, gains=False, baseline=board.baseline) if values else []
            for entry, value in zip(board.entries, some, strict=True):
                if value and value.standing and value.standing.unranked:
                    reasons.setdefault(f"{board.title(column)}, {value.standing.unranked}", []).append(
                        board.name(entry)
                    )
        lines = [
            *wrapped(f"{board.at}, {board.protocol}: {board.metric} {LEGEND}", width),
            *tables([names], groups, width),
        ]
        for why, of in reasons.items():
            lines += wrapped(f"{why}: {', '.join(of)}", width)
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
