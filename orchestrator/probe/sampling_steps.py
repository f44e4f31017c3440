"""What more steps of sampling buy: scores and time of the same weights, drawn in few steps and in many.

DREAM (https://arxiv.org/abs/2312.00210), Fig. 8, 13 and 14. The sampler is the run's own (`evaluation.sampling`), cut
to each of --steps; the paper does not say how it cuts chains, so calls of the network stand beside them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from eval.pictures.charts import Chart, charts
from eval.pictures.style import axis_label
from eval.probes.guesses import over_draws
from eval.protocol import get_metric
from orchestrator.plan.cost import calls
from orchestrator.plan.evaluation import sampling
from orchestrator.probe.along_t import computed
from orchestrator.probe.curves import bands
from orchestrator.probe.denoisers import LPIPS, Task, tasks
from orchestrator.probe.figures import PlaceOf, groups, mean
from orchestrator.probe.kept import Row, Unit
from orchestrator.probe.trials import Looked
from sr_models.diffusion.samplers import settled
from sr_models.errors import InputError
from sr_models.hyper.sampling import Sampling
from sr_models.inference.super_resolve import Options, super_resolve

STEPS = (5, 10, 20, 50, 100)
METRICS = ("psnr_y", "ssim_y", "consistency", LPIPS)
COLUMNS = (*METRICS, "l_std")


def units(looked: Looked) -> list[Unit]:
    """A unit a trial, test image and number of steps.

    Raises:
        InputError: no diffusion network, or one with fewer steps than are asked for.
    """
    return [task.unit(drawn, _rows) for task in tasks("sampling_steps", looked, METRICS) for drawn in _ways(task)]


def _ways(task: Task) -> list[Sampling]:
    """The run's sampling in each number of steps that is asked for, or in those of `STEPS` that fit the process."""
    found, asked = [], task.asked.steps
    for steps in asked or STEPS:
        drawn = sampling(task.subject.config.objective, task.subject.probed.plan.config.evaluation, steps)
        assert drawn is not None
        try:
            found.append(settled(task.process, drawn))
        except InputError as error:
            if asked:
                raise InputError(f"--steps: {task.subject.label}: {error}") from None
    return found


def _rows(task: Task, drawn: Sampling) -> list[Row]:
    """The row of one image in one number of steps: means over draws, and the seconds of one."""
    net, pictures, most = task.network(), task.pictures(), task.asked.at_once
    found, seconds = [], 0.0
    for start in range(0, len(pictures.seeds), most):
        part = slice(start, start + most)
        _finish(task.asked.device)
        begun = time.perf_counter()
        options = Options(sampling=drawn)
        found.append(super_resolve(net, pictures.lr_DCHW[part], seeds=pictures.seeds[part], options=options).sr)
        _finish(task.asked.device)
        seconds += time.perf_counter() - begun
    scores = over_draws(torch.cat(found), pictures.hr_1CHW, pictures.lr_DCHW, task.scorer)
    return [{
        **task.begun, "sampler": drawn.sampler, "steps": drawn.steps, "calls": calls(drawn, task.process),
        "seconds": seconds / len(pictures.seeds), **{name: scores.get(name) for name in COLUMNS},
    }]  # fmt: skip


def _finish(device: str) -> None:
    """Wait for what a GPU has still to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


# ---- what it looks like ----------------------------------------------------------------------------------------------


def over_images(rows: Sequence[Row]) -> list[Row]:
    """A row a trial, test set and number of steps: means over images of all that is a measurement."""
    measured = [*computed(rows, COLUMNS), "seconds"]
    return [
        own[0] | {name: mean(own, name) for name in measured} | {"images": len(own)}
        for own in groups(rows, "run", "combination", "fingerprint", "benchmark", "steps").values()
    ]


def draw(_: Looked, rows: Sequence[Row], place: PlaceOf) -> list[Path]:
    """For each scale and test set a chart a metric; bands are from the worst seed to the best."""
    paths, means = [], over_images(rows)
    several = len(groups(rows, "benchmark")) > 1
    for (scale, benchmark), own in groups(means, "scale", "benchmark").items():
        shown = [
            Chart(
                title="", xlabel="steps of sampling", ylabel=axis_label(metric),
                lines=bands([row | {"value": row[metric]} for row in own], "steps"), log_x=True,
            )
            for metric in computed(own, COLUMNS)
        ]  # fmt: skip
        path = place(f"sampling_steps_x{scale}" + f"_{benchmark.replace('/', '_')}" * several)
        seeds = max(len(groups(of, "run", "seed")) for of in groups(own, "label").values())
        samplers = ", ".join(dict.fromkeys(row["sampler"] for row in own))
        charts(
            path,
            shown,
            title=f"Steps of sampling, {benchmark} ×{scale}",
            caption=f"Line: mean of {seeds} seed{'s' * (seeds > 1)}{'; band: the worst to the best' * (seeds > 1)}; "
            f"mean over {own[0]['images']} image{'s' * (own[0]['images'] > 1)}, {own[0]['draws']} "
            f"draw{'s' * (own[0]['draws'] > 1)} of each under the same noise for all; {samplers}; "
            f"{own[0]['weights']} weights; protocol {own[0]['protocol']}",
        )
        paths.append(path)
    return paths


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line a row of the run, test set and number of steps: means over images and seeds."""
    metrics = computed(rows, COLUMNS)
    lines: list[tuple[str, ...]] = [("label", "test set", "steps", "calls", "s an image", "seeds", *metrics)]
    for (label, scale, of, steps), own in groups(over_images(rows), "label", "scale", "benchmark", "steps").items():
        numbers = [f"{mean(own, metric):.{get_metric(metric).decimals}f}" for metric in metrics]
        counts = (f"{steps:,}", f"{own[0]['calls']:,}", f"{mean(own, 'seconds'):.3g}", str(len(own)))
        lines.append((f"{label} ×{scale}", of, *counts, *numbers))
    return lines
