"""The figures of probes, drawn from their rows alone: a figure a scale, its charts by step or by measure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.pictures.charts import Chart, Line, charts
from orchestrator.probe.kept import Row
from orchestrator.probe.trials import Looked

PlaceOf = Callable[[str], Path]
"""Name of a figure, such as "spectrum_x2" -> the file to draw."""

MOST_BANDS = 4
"""That can be told apart in one chart."""


def groups(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of some keys, in the order in which they come."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def named(rows: Iterable[Row]) -> list[Row]:
    """The rows with seed and update in their label where it would stand for several."""
    rows = list(rows)
    seeds, updates = groups(rows, "scale", "label", "seed"), {row.get("update") for row in rows}
    several = {pair[:2] for pair in seeds if sum(other[:2] == pair[:2] for other in seeds) > 1}
    found = []
    for row in rows:
        more = [f"seed {row['seed']}"] if (row["scale"], row["label"]) in several else []
        more += [f"update {row['update']}"] if len(updates) > 1 else []
        found.append(row | {"label": f"{row['label']} ({', '.join(more)})" if more else row["label"]})
    return found


def shown_steps(rows: Sequence[Row]) -> list[int]:
    """The first, the middle and the last step of some rows."""
    steps = sorted({row["step"] for row in rows})
    return sorted({steps[0], steps[len(steps) // 2], steps[-1]})


def mean(rows: Iterable[Row], name: str) -> float:
    """The mean of one number over rows."""
    return statistics.fmean(row[name] for row in rows)


def over_steps(rows: Sequence[Row], name: str) -> dict[str, Line]:
    """Label -> the mean of a value at each step."""
    lines = {}
    for (label,), own in groups(rows, "label").items():
        at = {step: mean(found, name) for (step,), found in sorted(groups(own, "step").items())}
        lines[label] = Line(x=list(at), y=list(at.values()))
    return lines


# ---- spectrum --------------------------------------------------------------------------------------------------------


def spectrum(_: Looked, rows: Sequence[Row], place: PlaceOf) -> list[Path]:
    """Power by frequency at up to three steps, and over steps the share beyond what LR holds."""
    paths = []
    for (scale,), of_scale in groups(named(rows), "scale").items():
        nyquist = 0.5 / scale
        shown = []
        for step in shown_steps(of_scale):
            here = groups([row for row in of_scale if row["step"] == step and not row["corner"]], "label")
            shown.append(
                Chart(
                    title=f"step {step:,} of {of_scale[0]['steps']:,}",
                    xlabel="spatial frequency (cycles per HR pixel)",
                    ylabel="power (1: mean of L1's)",
                    lines={
                        label: Line(x=[row["frequency"] for row in own], y=[row["power"] for row in own])
                        for (label,), own in here.items()
                    },
                    log_y=True,
                    verticals={"LR's Nyquist": nyquist},
                )
            )
        if len({row["step"] for row in of_scale}) > 1:
            shown.append(
                Chart(
                    title="beyond LR's Nyquist frequency",
                    xlabel="optimiser steps",
                    ylabel="share of the power",
                    lines=over_steps(of_scale, "share_beyond_lr"),
                )
            )
        path = place(f"spectrum_x{scale}")
        charts(
            path,
            shown,
            title=f"Where the loss gradient with respect to the SR image lives, ×{scale}",
            caption="Fourier power of the gradient of each sample's loss, times its number of elements; mean over "
            f"rings, channels and the training patches that came next; {of_scale[0]['weights']} weights",
        )
        paths.append(path)
    return paths


def spectrum_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line a trial and step."""
    lines: list[tuple[str, ...]] = [("label", "step", "share beyond LR's Nyquist")]
    for (label, _, step), own in groups(named(rows), "label", "scale", "step").items():
        lines.append((label, f"{step:,}", f"{own[0]['share_beyond_lr']:.3f}"))
    return lines


# ---- landscape -------------------------------------------------------------------------------------------------------


def landscape(_: Looked, rows: Sequence[Row], place: PlaceOf) -> list[Path]:
    """The loss with its range, that range, the largest gradient difference and the smoothness, over steps."""
    paths = []
    starts = [row for row in rows if row["length"] == 0]
    for (scale,), own in groups(named(starts), "scale").items():
        own = [row | {"range": (row["high"] - row["low"]) / row["loss"] if row["loss"] else 0.0} for row in own]
        lengths = sorted({row["length"] for row in rows if row["length"]})
        low, high = over_steps(own, "low"), over_steps(own, "high")
        lines = over_steps(own, "loss")
        if len(lines) <= MOST_BANDS:
            lines = {label: replace(line, low=low[label].y, high=high[label].y) for label, line in lines.items()}
        batches = len({row["batch"] for row in own})
        path = place(f"landscape_x{scale}")
        steps = "optimiser steps"
        charts(
            path,
            [
                Chart(
                    title="loss" + ", and its range along the gradient" * (len(lines) <= MOST_BANDS), xlabel=steps,
                    ylabel="loss", lines=lines,
                ),
                Chart(
                    title="range of the loss", xlabel=steps, ylabel="(highest − lowest) / loss",
                    lines=over_steps(own, "range"), log_y=True,
                ),
                Chart(
                    title="largest change of the gradient", xlabel=steps, ylabel="L2 of the difference",
                    lines=over_steps(own, "largest_difference"), log_y=True,
                ),
                Chart(
                    title="effective smoothness (lower is smoother)", xlabel=steps,
                    ylabel="L2 of the difference / distance", lines=over_steps(own, "smoothness"), log_y=True,
                ),
            ],
            title=f"The loss down its own gradient, ×{scale}",
            caption=f"Step lengths: {', '.join(f'{length:g}' for length in lengths)} of the L2 norm of all weights; "
            f"mean of the {batches} batch{'es' * (batches != 1)} that came next; {own[0]['weights']} weights",
        )  # fmt: skip
        paths.append(path)
    return paths


def landscape_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line a trial and step."""
    lines: list[tuple[str, ...]] = [("label", "step", "loss", "lowest", "highest", "gradient change", "smoothness")]
    starts = [row for row in rows if row["length"] == 0]
    for (label, _, step), own in groups(named(starts), "label", "scale", "step").items():
        numbers = [mean(own, name) for name in ("loss", "low", "high", "largest_difference", "smoothness")]
        lines.append((label, f"{step:,}", *(f"{number:.4g}" for number in numbers)))
    return lines
