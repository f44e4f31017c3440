"""How wrong guesses of x0 are where training asks for them, and where sampling does: the gap that DREAM is about.

DREAM (https://arxiv.org/abs/2312.00210), Fig. 3. Training: from a noisy state of the true picture at t. Sampling: at
the same t of the network's own chain from pure noise, which is cut to --steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from eval.pictures.charts import Chart, Line, charts
from eval.probes.guesses import mean_square, trained
from eval.protocol import Protocol
from orchestrator.probe.denoisers import LPIPS, Task, scene, some, tasks, watched
from orchestrator.probe.figures import MOST_BANDS, PlaceOf, groups, named
from orchestrator.probe.kept import Row, Unit
from orchestrator.probe.trials import Looked
from sr_models.diffusion.samplers import GUESSES, Guess
from sr_models.hyper.sampling import Sampling

SETTINGS = ("training", "sampling")
MEASURES = {"mse": "MSE of x̂0 (RGB in [0, 1])", "lpips": "LPIPS (AlexNet) of x̂0"}


def units(looked: Looked) -> list[Unit]:
    """A unit a trial and test image.

    Raises:
        InputError: no diffusion network, or a chain that cannot be cut as asked.
    """
    return [task.unit(task.sampling(), _rows) for task in tasks("gap", looked, [LPIPS], _whole)]


def _whole(protocol: Protocol) -> Protocol:
    """LPIPS of whole pictures that are not rounded, as the mean square is."""
    return protocol.model_copy(update={"border": 0, "uint8": False})


def _rows(task: Task, sampling: Sampling) -> list[Row]:
    """A row a t, from T down: of both settings a number a draw; None of what cannot be computed."""
    with scene(task) as there:
        hr = there.pictures.hr_1CHW

        def measured(guess: Guess) -> dict[str, list[float] | None]:
            picture = there.picture(guess.x0)
            scores = task.scorer.image(picture, hr.expand_as(picture))
            lpips = scores[LPIPS].tolist() if LPIPS in scores else None
            return {"mse": mean_square(picture, hr), "lpips": lpips}

        process = there.process
        chain = GUESSES[sampling.sampler](there.predict, process, there.noise, sampling)
        own = {guess.t: measured(guess) for guess in chain}
        true = {guess.t: measured(guess) for guess in trained(there.predict, process, there.x0, there.noise, [*own])}
    return [
        {
            **task.begun, "sampled": sampling.mark, "t": t, "gamma": process.gamma(t),
            **{f"{setting}_{name}": of[t][name] for setting, of in zip(SETTINGS, (true, own), strict=True)
               for name in MEASURES},
        }
        for t in own
    ]  # fmt: skip


# ---- what it looks like ----------------------------------------------------------------------------------------------


def _values(rows: Sequence[Row], column: str) -> list[float]:
    """Of all images and draws."""
    return [value for row in rows for value in row[column]]


def _line(rows: Sequence[Row], column: str, band: bool) -> Line:
    """Mean over images and draws at each t, and one standard deviation to each side, but not below nothing."""
    at = {t: _values(own, column) for (t,), own in sorted(groups(rows, "t").items())}
    means = [statistics.fmean(values) for values in at.values()]
    if not band:
        return Line(x=list(at), y=means)
    ends = [(mean, statistics.pstdev(values)) for mean, values in zip(means, at.values(), strict=True)]
    return Line(x=list(at), y=means, low=[max(m - s, 0.0) for m, s in ends], high=[m + s for m, s in ends])


def _differences(rows: Sequence[Row], measure: str) -> dict[int, float]:
    """t -> what sampling has more than training, mean over images and draws."""
    return {
        t: statistics.fmean(_values(own, f"sampling_{measure}")) - statistics.fmean(_values(own, f"training_{measure}"))
        for (t,), own in sorted(groups(rows, "t").items())
    }


def _computed(rows: Sequence[Row]) -> list[str]:
    return [measure for measure in MEASURES if all(row[f"training_{measure}"] is not None for row in rows)]


def draw(_: Looked, rows: Sequence[Row], place: PlaceOf) -> list[Path]:
    """For each measure the two settings over t, on one scale, then their difference."""
    paths = []
    for (scale,), own in groups(named(rows), "scale").items():
        labelled, shown = groups(own, "label"), []
        band = len(labelled) <= MOST_BANDS
        for measure in _computed(own):
            both = {
                setting: {label: _line(of, f"{setting}_{measure}", band) for (label,), of in labelled.items()}
                for setting in SETTINGS
            }
            most = max(value for lines in both.values() for line in lines.values() for value in line.high or line.y)
            gaps = {label: _differences(of, measure) for (label,), of in labelled.items()}
            x, y = "t (sampling goes to the left)", MEASURES[measure]
            shown += [
                Chart(title=setting, lines=lines, xlabel=x, ylabel=y, y_range=(0.0, 1.05 * most or 1.0))
                for setting, lines in both.items()
            ]
            lines = {label: Line(x=list(gap), y=list(gap.values())) for label, gap in gaps.items()}
            shown.append(Chart(title="gap: sampling − training", xlabel=x, ylabel=y, lines=lines))
        paths.append(place(f"gap_x{scale}"))
        absent = "" if "lpips" in _computed(own) else "; LPIPS is not computed, for want of its weights"
        charts(
            paths[-1],
            shown,
            title=f"Guesses of x0 in training and in sampling, ×{scale}",
            caption=f"Mean{' ± standard deviation' * band} over {watched(own)}{absent}",
            columns=3,
        )
    return paths


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Some t of each trial with both settings, mean ± standard deviation, and the gap; then its mean over all t."""
    measures = _computed(rows)
    lines: list[tuple[str, ...]] = [
        ("label", "t", *(f"{m} {of}" for m in map(str.upper, measures) for of in (*SETTINGS, "gap")))
    ]
    for (label, scale), own in groups(named(rows), "label", "scale").items():
        for t in some([row["t"] for row in own]):
            lines.append((f"{label} ×{scale}", f"{t:,}", *_cells([row for row in own if row["t"] == t], measures)))
        lines.append((f"{label} ×{scale}", "all", *_cells(own, measures)))
    return lines


def _cells(rows: Sequence[Row], measures: Sequence[str]) -> list[str]:
    found = []
    for measure in measures:
        both = [_values(rows, f"{setting}_{measure}") for setting in SETTINGS]
        found += [f"{statistics.fmean(values):.3g} ± {statistics.pstdev(values):.2g}" for values in both]
        found.append(f"{statistics.fmean(both[1]) - statistics.fmean(both[0]):+.3g}")
    return found
