"""Scores over training, with bands over seeds: of any rows of a run, of ramps side by side, of a grid's points.

Those of validations from the journals, and those of test sets where weights were kept along training and scored. ECO
(https://arxiv.org/abs/2312.17526), Fig. 4 (batch sizes) and Fig. 5 (schedules of α): bands reach from the worst seed to
the best, lines are means over seeds. What is measured from a baseline: `crossing`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from eval.pictures.charts import Chart, Line, charts
from eval.pictures.style import axis_label
from eval.protocol import AVERAGED, get_metric, get_protocol, plain_metric
from eval.rows import SET, read_rows
from orchestrator.leaderboard import drawn
from orchestrator.leaderboard.pictures import stamp
from orchestrator.probe.crossing import crossings, key_of
from orchestrator.probe.figures import PlaceOf, groups, mean
from orchestrator.probe.folders import Probed
from orchestrator.probe.kept import Row, Unit
from orchestrator.probe.kinds import Asked
from orchestrator.probe.trials import BATCH_SIZE, Looked, Subject
from orchestrator.run.progress import say
from sr_models.errors import InputError
from sr_models.params import nearest

VALIDATION = "validation"
"""What a row of validation images has in the place of a test set."""


def units(looked: Looked) -> list[Unit]:
    """A unit a trial.

    Raises:
        InputError: an unknown metric, or no row of the baseline that is asked for.
    """
    if looked.asked.metric is not None:
        get_metric(plain_metric(looked.asked.metric), "--metric")
    _check_baseline(looked)
    scores = {probed.run.path: _evaluation(probed) for probed in looked.runs}
    return [
        Unit(key=None, rows=partial(_rows, subject, looked.asked, scores[subject.probed.run.path]))
        for subject in looked.subjects
    ]


def _check_baseline(looked: Looked) -> None:
    """Refuse a --baseline that no row is of; of a run's own that is not among the rows there is a line."""
    asked = looked.asked.baseline
    if any(_is_baseline(subject, asked) for subject in looked.subjects):
        return
    if asked is not None:
        known = [planned.objective_label for subject in looked.subjects if (planned := subject.planned)]
        raise InputError(f"--baseline: no row of {asked!r} among those that are asked for{nearest(asked, known)}")
    for probed in looked.runs:
        if (own := probed.plan.config.board.baseline) is not None:
            say(f"no row of the baseline {own} of {probed.run.name} is asked for, so no row is measured from it")


def _is_baseline(subject: Subject, asked: str | None) -> bool:
    planned, own = subject.planned, subject.probed.plan.config.board.baseline
    return planned is not None and planned.objective_label == (own if asked is None else asked)


def _evaluation(probed: Probed) -> list[Row]:
    """What was scored as the run's config says, brought here: of other protocols and noise there may be rows, too."""
    probed.home.access.pull("", ["evaluation/*.parquet"])
    if not probed.run.evaluation.exists():
        return []
    noise_seed, tests = probed.plan.config.evaluation.seed, probed.plan.config.data.test
    return [
        row
        for row in drawn.beside(read_rows(probed.run.evaluation))
        if row["benchmark"] in tests
        and row.get("trained_scale") is None
        and row["protocol"] == stamp(probed.plan, row["scale"], row["benchmark"])
        and row.get("noise_seed") in (None, noise_seed)
    ]


def batch_size_units(looked: Looked) -> list[Unit]:
    """The same, of a run whose batch sizes differ.

    Raises:
        InputError: they do not.
    """
    sizes = {subject.config.train.batch_size for subject in looked.subjects}
    if len(sizes) == 1:
        raise InputError(
            f"--kind batch_size: every trial has {sizes.pop()} patches a step; vary it with `grid: {{{BATCH_SIZE}: "
            "[8, 16]}` under an objective"
        )
    return units(looked)


def _rows(subject: Subject, asked: Asked, scores: Sequence[Row]) -> list[Row]:
    """A row a validation and metric, then a row a test set, step and metric."""
    batch_size, evaluation = subject.config.train.batch_size, subject.probed.plan.config.evaluation
    begun = {
        **subject.named(), "off_grid": subject.off_grid, "steps": subject.config.train.steps, "batch_size": batch_size,
        "protocol": get_protocol(evaluation.protocol).id(subject.config.scale),
        "network": subject.planned.label if subject.planned else subject.config.model,
        "is_baseline": _is_baseline(subject, asked.baseline),
    }  # fmt: skip
    validated = [
        (VALIDATION, entry["step"], name, value)
        for entry in subject.entries()
        for name, value in entry["metrics"].items()
        if not name.startswith("train.")
    ]
    return [
        {**begun, "set": of, "step": step, "images": step * batch_size, "metric": name, "value": value}
        for of, step, name, value in [*validated, *_scored(subject, scores)]
        if asked.metric in (None, name)
    ]


def _scored(subject: Subject, scores: Sequence[Row]) -> Iterator[tuple[str, int, str, float]]:
    """Test set, step, metric and mean over images, of sets on which more than the end was scored."""
    config, metrics = subject.config, subject.probed.plan.config.evaluation.metrics
    found: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in scores:
        fingerprint, _, at = row["fingerprint"].partition("@")
        if fingerprint == config.fingerprint and row["image"] != SET:
            prefix = AVERAGED if row["weights"] == "ema" else ""
            for name in metrics:
                if row.get(name) is not None:
                    found[row["benchmark"], prefix + name][int(at) if at else config.train.steps].append(row[name])
    for (benchmark, metric), by_step in found.items():
        if len(by_step) > 1:
            yield from ((benchmark, step, metric, fmean(values)) for step, values in sorted(by_step.items()))


def bands(rows: Sequence[Row], x: str, label: str = "label") -> dict[str, Line]:
    """Label -> mean over seeds with the least and the largest value, where all its seeds have one."""
    lines = {}
    for (name,), own in groups(rows, label).items():
        seeds = len(groups(own, "run", "combination", "seed")) // len(groups(own, "run", "combination"))
        at = {place: found for (place,), found in sorted(groups(own, x).items()) if len(found) >= seeds}
        values = {place: [row["value"] for row in found] for place, found in at.items()}
        lines[name] = Line(
            x=list(at),
            y=[mean(found, "value") for found in at.values()],
            low=[min(found) for found in values.values()] if seeds > 1 else None,
            high=[max(found) for found in values.values()] if seeds > 1 else None,
        )
    return lines


def draw(_: Looked, rows: Sequence[Row], place: PlaceOf) -> list[Path]:
    """A chart a metric; where batch sizes differ, also one over the images seen."""
    paths = []
    for (scale,), of_scale in groups(rows, "scale").items():
        shown = []
        axes = {"step": "optimiser steps"}
        if len({row["batch_size"] for row in of_scale}) > 1:
            axes["images"] = "LR patches seen"
        for (of, metric), own in groups(of_scale, "set", "metric").items():
            shown += [_chart(f"{of}, {_title(metric)}", metric, own, x, text) for x, text in axes.items()]
        paths.append(_save(place(f"curves_x{scale}"), shown, of_scale, f"Scores over training, ×{scale}"))
    return paths


def _chart(title: str, metric: str, rows: Sequence[Row], x: str, text: str) -> Chart:
    """Over steps with what is measured from a baseline: its end, and where each seed of a row has come as far."""
    found = crossings(rows) if x == "step" else {}
    levels, marks = {}, {}
    for (label,), own in groups(rows, "label").items():
        if crossing := found.get(key_of(own[0])):
            marks[label] = [(step, crossing.value) for step in crossing.at]
            levels[f"{crossing.of} in the end"] = crossing.value
    return Chart(
        title=title, xlabel=text, ylabel=axis_label(plain_metric(metric)), lines=bands(rows, x), horizontals=levels,
        marks=marks,
    )  # fmt: skip


def draw_batch_sizes(_: Looked, rows: Sequence[Row], place: PlaceOf) -> list[Path]:
    """The last validation against the batch size, one line for what else a row is."""
    paths = []
    validated = [row for row in rows if row["set"] == VALIDATION]
    for (scale,), of_scale in groups(last(validated), "scale").items():
        shown = [
            Chart(
                title=_title(metric), xlabel="batch size (LR patches)", ylabel=axis_label(plain_metric(metric)),
                lines=bands(own, "batch_size", "off_grid"), log_x=True,
            )
            for (metric,), own in groups(of_scale, "metric").items()
        ]  # fmt: skip
        title = f"Batch size and the last validation, equal steps, ×{scale}"
        paths.append(_save(place(f"batch_size_x{scale}"), shown, of_scale, title))
    return paths


def _title(metric: str) -> str:
    return "averaged weights" if metric.startswith(AVERAGED) else "raw weights"


def _save(path: Path, shown: Sequence[Chart], rows: Sequence[Row], title: str) -> Path:
    seeds = sorted({len(groups(own, "seed")) for own in groups(rows, "label").values()})
    count = " to ".join(map(str, seeds[:: max(len(seeds) - 1, 1)]))
    caption = f"Line: mean of {count} seed{'s' * (seeds[-1] > 1)}; band: the worst to the best of them; "
    if any(chart.horizontals for chart in shown):
        caption += "marks: where a seed is as good as the baseline in the end, and stays so; "
    charts(path, shown, title=title, caption=caption + f"protocol {rows[0]['protocol']}", columns=min(len(shown), 2))
    return path


def last(rows: Sequence[Row]) -> list[Row]:
    """Of each trial, set and metric the row of the last step."""
    return [own[-1] for own in groups(rows, "run", "fingerprint", "combination", "set", "metric").values()]


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line a row of the run and set: mean, worst and best after the last step; and how soon the baseline is met."""
    met = crossings(rows)
    more = ("as good as the baseline's end at", "speed-up") if met else ()
    lines: list[tuple[str, ...]] = [("label", "set", "metric", "step", "seeds", "mean", "least", "largest", *more)]
    found: Mapping[tuple[object, ...], list[Row]] = groups(last(rows), "label", "scale", "set", "metric")
    for (label, scale, of, metric), own in found.items():
        digits = get_metric(plain_metric(str(metric))).decimals
        values = [row["value"] for row in own]
        numbers = [f"{number:.{digits}f}" for number in (mean(own, "value"), min(values), max(values))]
        crossing = met.get(key_of(own[0]))
        cells = crossing.text if crossing else ("-", "-") if met else ()
        lines.append(
            (f"{label} ×{scale}", str(of), str(metric), f"{own[0]['step']:,}", str(len(own)), *numbers, *cells)
        )
    return lines
