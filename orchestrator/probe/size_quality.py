"""What a network costs against what it scores, from the boards of runs.

Parameters as in He and Cheng (https://arxiv.org/abs/2201.10084), Fig. 4; multiply-adds and measured time as in IMDN
(https://arxiv.org/abs/1909.11856), Fig. 6 and 9. Multiply-adds are those of one forward pass that gives 1280x720
pixels, time is the evaluation's mean over a set's images, on whatever machine it ran.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import sr_models
from eval.pictures.charts import Chart, Line, charts
from eval.pictures.style import axis_label
from eval.protocol import get_metric
from eval.rows import SET, read_rows
from orchestrator.leaderboard import compare
from orchestrator.leaderboard.board import Board, Entry
from orchestrator.plan.combination import Combination
from orchestrator.probe.figures import PlaceOf, groups
from orchestrator.probe.folders import Probed
from orchestrator.probe.kept import Row, Unit
from orchestrator.probe.trials import Looked

PIXELS_720P = 1280 * 720

COSTS = {
    "parameters": ("parameters (thousands)", 1e3),
    "multiply_adds": ("multiply-adds at 1280×720 (G)", 1e9),
    "seconds": ("time an image (ms)", 1e-3),
}
"""What an axis shows -> its label, and what one unit of it is."""


def units(looked: Looked) -> list[Unit]:
    """A unit a run.

    Raises:
        InputError: a run without scores.
    """
    several = len(looked.runs) > 1
    return [Unit(key=None, rows=partial(_rows, probed, looked, several)) for probed in looked.runs]


def _rows(probed: Probed, looked: Looked, several: bool) -> list[Row]:
    """A row for each row of a board, test set and metric."""
    planned = {combination.id: combination for combination in probed.plan.combinations}
    seconds = _seconds(probed.run.evaluation)
    asked, found = looked.asked, []
    for board in compare.boards(probed.run.path):
        metric = asked.metric or board.metric
        get_metric(metric, "--metric")
        trained = f" (trained ×{board.trained_scale})" if board.trained_scale else ""
        for entry in board.entries:
            if asked.only and not any(fnmatchcase(entry.combination, pattern) for pattern in asked.only):
                continue
            name = board.name(entry) + (f" ({probed.run.name})" if several else "")
            cost = _cost(planned.get(entry.combination), entry, board.scale)
            for row in _cells(board, entry, metric):
                took = seconds.get((entry.combination, entry.weights, row["benchmark"]))
                row["benchmark"] += trained
                found.append({"run": probed.run.name, "label": name, **row, **cost, "seconds": took})
    return found


def _cells(board: Board, entry: Entry, metric: str) -> Iterator[Row]:
    for column in board.columns:
        value = entry.cells.get(column, {}).get(metric)
        if value is not None:
            yield {
                "scale": board.scale, "protocol": board.protocol, "combination": entry.combination,
                "weights": entry.weights, "benchmark": board.title(column), "metric": metric, "value": value.mean,
                "low": min(value.by_seed.values()), "high": max(value.by_seed.values()), "seeds": len(value.by_seed),
            }  # fmt: skip


def _cost(planned: Combination | None, entry: Entry, scale: float) -> dict[str, Any]:
    """Parameters and multiply-adds of the network that is deployed; None of what the plan does not hold, multiply-adds
    at a scale that is a fraction."""
    made: dict[str, Any] = {"parameters": entry.training.parameters, "multiply_adds": None}
    if planned is not None and isinstance(scale, int):
        an_lr_pixel = sr_models.multiply_adds(planned.network, scale, planned.hyper)
        made["multiply_adds"] = an_lr_pixel * PIXELS_720P / scale**2
    return made


def _seconds(folder: Path) -> Mapping[tuple[str, str, str], float]:
    """(combination, weights, test set) -> seconds an image."""
    rows = [row for row in read_rows(folder) if row["image"] != SET]
    return {
        (str(of[0]), str(of[1]), str(of[2])): statistics.fmean(row["seconds"] for row in own)
        for of, own in groups(rows, "combination", "weights", "benchmark").items()
    }


# ---- what it looks like ----------------------------------------------------------------------------------------------


def draw(_: Looked, rows: Sequence[Row], place: PlaceOf) -> list[Path]:
    """For each scale, protocol and test set, a chart a kind of cost; the bars are from the worst seed to the best."""
    paths = []
    every = groups(rows, "scale", "protocol", "benchmark")
    for (scale, protocol, benchmark), own in every.items():
        ends = [row[end] for row in own for end in ("low", "high")]
        room = 0.06 * (max(ends) - min(ends)) or 0.1
        shown = []
        for cost, (text, unit) in COSTS.items():
            lines = {
                row["label"]: Line(x=[row[cost] / unit], y=[row["value"]], low=[row["low"]], high=[row["high"]])
                for row in own
                if row[cost]
            }
            if lines:
                shown.append(
                    Chart(
                        title="", xlabel=text, ylabel=axis_label(own[0]["metric"]), lines=lines, points=True,
                        log_x=_wide(lines), y_range=(min(ends) - room, max(ends) + room),
                    )
                )  # fmt: skip
        beside = f"_{benchmark.replace('/', '_')}" if len({of[2] for of in every if of[0] == scale}) > 1 else ""
        name = f"size_quality_x{scale}{beside}"
        stamp = f"_{protocol}" if len({of[1] for of in every if of[0] == scale}) > 1 else ""
        paths.append(place(name + stamp))
        charts(
            paths[-1],
            shown,
            title=f"Cost and quality on {benchmark}, ×{scale}",
            caption="Bars: the worst to the best seed; time is the evaluation's mean over the set's images, on the "
            f"machine that scored them; protocol {protocol}",
            columns=3,
        )
    return paths


def _wide(lines: Mapping[str, Line]) -> bool:
    """Whether costs differ so much that only a logarithmic axis shows them."""
    values = [line.x[0] for line in lines.values()]
    return max(values) > 10 * min(values)


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line a row of a board and test set, by rising parameters."""
    lines: list[tuple[str, ...]] = [("label", "test set", "parameters", "mult-adds 720p", "ms an image", "score")]
    for row in sorted(rows, key=lambda row: (row["scale"], row["benchmark"], row["parameters"] or 0)):
        lines.append((
            row["label"], f"{row['benchmark']} ×{row['scale']}",
            f"{row['parameters']:,}" if row["parameters"] else "-",
            f"{row['multiply_adds'] / 1e9:,.1f} G" if row["multiply_adds"] else "-",
            f"{1000 * row['seconds']:.1f}" if row["seconds"] else "-",
            f"{row['value']:.{get_metric(row['metric']).decimals}f}",
        ))  # fmt: skip
    return lines
