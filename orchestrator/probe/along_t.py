"""How good guesses of x0 are along sampling, and how far they differ from draw to draw.

CCSR (https://arxiv.org/abs/2401.00877), Fig. 2, which argues from it where sampling may be cut short. The chain is the
network's own from pure noise, cut to --steps; stability is L-STD of the guesses, as boards have it of results.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval.pictures.charts import Chart, Line, charts
from eval.pictures.style import axis_label
from eval.probes.guesses import over_draws
from eval.protocol import get_metric
from orchestrator.probe.denoisers import LPIPS, Task, scene, some, tasks, watched
from orchestrator.probe.figures import PlaceOf, groups, mean, named
from orchestrator.probe.kept import Row, Unit
from orchestrator.probe.trials import Looked
from sr_models.diffusion.samplers import GUESSES
from sr_models.hyper.sampling import Sampling

METRICS = ("psnr_y", "ssim_y", LPIPS)
COLUMNS = (*METRICS, "l_std")


def units(looked: Looked) -> list[Unit]:
    """A unit a trial and test image.

    Raises:
        InputError: no diffusion network, or a chain that cannot be cut as asked.
    """
    return [task.unit(task.sampling(), _rows) for task in tasks("along_t", looked, METRICS)]


def _rows(task: Task, sampling: Sampling) -> list[Row]:
    """A row a t, from T down; None of what cannot be computed."""
    with scene(task) as there:
        chain = GUESSES[sampling.sampler](there.predict, there.process, there.noise, sampling)
        scored = {
            guess.t: over_draws(
                there.picture(guess.x0), there.pictures.hr_1CHW, there.pictures.lr_DCHW, task.scorer
            )
            for guess in chain
        }  # fmt: skip
    return [
        {
            **task.begun, "sampled": sampling.mark, "t": t, "gamma": there.process.gamma(t),
            **{name: scores.get(name) for name in COLUMNS},
        }
        for t, scores in scored.items()
    ]  # fmt: skip


# ---- what it looks like ----------------------------------------------------------------------------------------------


def computed(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """The columns that all rows have a number in."""
    return [name for name in columns if all(row[name] is not None for row in rows)]


def draw(_: Looked, rows: Sequence[Row], place: PlaceOf) -> list[Path]:
    """A chart a metric, one line for each row of the run."""
    paths = []
    for (scale,), own in groups(named(rows), "scale").items():
        shown = []
        for metric in computed(own, COLUMNS):
            lines = {}
            for (label,), of in groups(own, "label").items():
                at = {t: mean(found, metric) for (t,), found in sorted(groups(of, "t").items())}
                lines[label] = Line(x=list(at), y=list(at.values()))
            title = "stability: lower is steadier" if metric == "l_std" else ""
            shown.append(
                Chart(title=title, xlabel="t (sampling goes to the left)", ylabel=axis_label(metric), lines=lines)
            )
        paths.append(place(f"along_t_x{scale}"))
        charts(
            paths[-1],
            shown,
            title=f"Guesses of x0 along sampling, ×{scale}",
            caption=f"Mean over {watched(own)}; protocol {own[0]['protocol']}",
        )
    return paths


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line for some t of each row of the run."""
    metrics = computed(rows, COLUMNS)
    lines: list[tuple[str, ...]] = [("label", "t", *metrics)]
    for (label, scale), own in groups(named(rows), "label", "scale").items():
        for t in some([row["t"] for row in own]):
            here = [row for row in own if row["t"] == t]
            numbers = [f"{mean(here, metric):.{get_metric(metric).decimals}f}" for metric in metrics]
            lines.append((f"{label} ×{scale}", f"{t:,}", *numbers))
    return lines
