"""What is shown of a test set's first image: the SR of every winner, computed and drawn on a worker.

A sweep has a network per combination and a picture per test set and scale, so one process would be at it for hours.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ray
import torch

from eval.metrics.scorer import Scorer
from eval.pictures.crops import write_crops
from eval.pictures.of_rows import draw_extremes, draw_l_std, draw_sigma, first_draw
from eval.pictures.panels import Panel, comparison, magnified
from eval.pictures.style import scores_text
from eval.protocol import UNCERTAINTY, get_metric
from eval.score import Scored, score_draws
from orchestrator.data.inputs import Inputs
from orchestrator.evaluate import entrants
from orchestrator.evaluate.actors import benchmark_of, network_of, result_of, sample_job
from orchestrator.evaluate.work import Job
from orchestrator.leaderboard.pictures import PANELS, FirstImages, shown_metrics
from orchestrator.plan.plan import Plan
from orchestrator.run.access import Access
from orchestrator.run.folder import RunDir
from orchestrator.run.winners import read_winners


@dataclass(frozen=True, kw_only=True)
class FirstImage:
    """What to draw of one test set at one scale."""

    jobs: Mapping[str, Job]
    """A panel's label -> the network that it shows; "bicubic" among them."""
    metrics: tuple[str, ...]
    """Those that panels name; the first one orders them."""
    seeds: str
    """Says in a title whose weights are shown."""


def planned(run: RunDir, plan: Plan, inputs: Inputs, access: Access, seeds: str) -> dict[str, FirstImage]:
    """Test set and scale -> what to draw of it: bicubic and each winner's first seed."""
    first = {name: winner.fingerprints[0] for name, winner in read_winners(run.winners).items()}
    jobs: dict[str, dict[str, Job]] = {}
    for job in entrants.jobs(list(entrants.winners(run, plan)), plan.config.evaluation, inputs, access):
        who = job.subject.identity
        if who.weights == "none" or (who.weights == "raw" and first[who.combination] == who.fingerprint):
            label = "bicubic" if who.weights == "none" else f"{who.model}\n× {who.objective}"
            label += "" if who.trained_scale is None else f" (trained ×{who.trained_scale})"
            jobs.setdefault(f"{job.subject.benchmark} x{who.scale}", {})[label] = job
    metrics = tuple(shown_metrics(plan))
    return {what: FirstImage(jobs=found, metrics=metrics, seeds=seeds) for what, found in jobs.items()}


def on_workers(
    run: RunDir, plan: Plan, inputs: Inputs, access: Access, device: str, join: Callable[[], object]
) -> FirstImages:
    """Draws on the cluster, a task a set, with what a worker of a trial may hold; `join` is called if any is drawn."""
    resources = plan.config.resources

    def begin(seeds: str) -> dict[str, functools.partial[dict[str, bytes]]]:
        join()
        held = {"num_cpus": resources.cpus_per_worker, "num_gpus": resources.gpus_per_worker}
        task = ray.remote(draw).options(max_retries=resources.max_restarts, **held)
        common = access.for_workers(), resources.cpus_per_worker, device, resources.bound
        return {
            what: functools.partial(result_of, task.remote(shown, *common))
            for what, shown in planned(run, plan, inputs, access, seeds).items()
        }

    return begin


def draw(shown: FirstImage, access: Access, threads: int, device: str, max_bytes: int | None) -> dict[str, bytes]:
    """The pictures of a set's first image: name of a file -> its content.

    Raises:
        InputError: weights or the test set cannot be used on this node.
    """
    torch.set_num_threads(threads)
    scored = {label: _scored(job, shown, access, device, max_bytes) for label, job in shown.jobs.items()}
    with tempfile.TemporaryDirectory() as folder:
        _draw(shown, scored, Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _scored(job: Job, shown: FirstImage, access: Access, device: str, max_bytes: int | None) -> Scored:
    subject, asked = job.subject, (*shown.metrics, *UNCERTAINTY)
    scorer = Scorer(job.protocol, asked, scale=subject.identity.scale, kernel=subject.kernel, device=device)
    return score_draws(
        lambda lr: sample_job(network_of(access, job, device), lr, job, max_bytes),
        benchmark_of(job),
        0,
        scorer=scorer,
        draws=job.protocol.draws,
        seed=subject.seed,
        options=subject.options,
    )


def _draw(shown: FirstImage, scored: Mapping[str, Scored], folder: Path) -> None:
    bench, metrics = benchmark_of(shown.jobs["bicubic"]), list(shown.metrics)
    base, name = scored["bicubic"], f"{bench.name}_x{bench.scale}"
    title = f"{bench.name} ×{bench.scale}: {bench.pairs[0].name}{shown.seeds}"

    def panel(label: str) -> Panel:
        row = scored[label].row
        note = "" if row["deterministic"] else f"\ndraw 0 of {row['draws']}"
        return first_draw(label + note, scored[label], metrics[:1])  # one number tells them apart

    lead = get_metric(metrics[0])
    methods = [label for label in scored if label != "bicubic"]
    best = sorted(methods, key=lambda label: scored[label].row[metrics[0]], reverse=lead.higher_is_better)[:PANELS]
    panels: list[Panel] = [("LR", base.lr, None), *map(panel, ["bicubic", *best]), ("HR", base.hr, None)]
    path, protocol = folder / f"comparison_{name}.png", base.row["protocol"]
    box = comparison(path, title=title, panels=panels, protocol=protocol, errors=True)
    pieces = [
        (label.replace("\n", " "), magnified(image, base.hr, label), scores_text(scores))
        for label, image, scores in panels
    ]
    write_crops(folder / f"crops_{name}.json", benchmark=bench.name, scale=bench.scale, panels=pieces, box=box)

    flat = {label.replace("\n", " "): scored[label] for label in methods}
    stochastic = {label: image for label, image in flat.items() if not image.row["deterministic"]}
    if stochastic:
        draw_extremes(folder / f"draws_{name}.png", stochastic, title=title, metrics=[base.by, *metrics])
        draw_l_std(folder / f"l_std_{name}.png", stochastic, title=title)
    for label, image in flat.items():
        sigma = folder / f"sigma_{name}_{label.replace(' × ', '_')}.png"
        draw_sigma(sigma, image, title=f"{title}, {label}")
