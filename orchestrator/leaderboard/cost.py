"""What a row cost: parameters, images seen, the search, the teacher; from the plan, the winners and the journals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.leaderboard.board import Training
from orchestrator.plan.space import STEPS
from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.records import TRIAL, PlanRecord, TrialRecord
from orchestrator.run.roles import read_roles
from orchestrator.run.winners import WinnerRecord


@dataclass(frozen=True)
class _Trial:
    """A trial as far as it ran."""

    steps: int
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    """Of its last validation."""

    @property
    def images(self) -> int | None:
        batch = (self.config.get("train") or {}).get("batch_size")
        return self.steps * batch if batch else None


def trainings(folder: Path, plan: PlanRecord, winners: Mapping[str, WinnerRecord]) -> dict[str, Training]:
    """Combination -> what it cost."""
    run = RunDir(folder)
    taught = [_trial(run, role.fingerprint) for role in read_roles(run) if role.role == "teacher"]
    teachers = {teacher.config.get("scale"): teacher for teacher in taught if teacher}

    found = {}
    for combination in plan.combinations:
        made = Training(
            parameters=combination.parameters,
            trained_parameters=combination.trained_parameters,
            searched=list(combination.searched),
            trials_at_a_time=plan.trials_at_a_time,
        )
        if winner := winners.get(combination.id):
            runs = [trial for name in winner.fingerprints if (trial := _trial(run, name))]
            counts = winner.search
            made = replace(
                made, number=winner.number, params=winner.params, train_seconds=winner.train_seconds,
                run_images=runs[0].images if runs else None, trials=counts.trials, pruned=counts.pruned,
                failed=counts.failed, search_steps=counts.steps,
            )  # fmt: skip
            made = replace(made, search_value=_search_value(run, winner, plan.metric.name))
            seconds = [t.metrics["train.seconds"] / t.steps for t in runs if "train.seconds" in t.metrics]
            if plan.trials_at_a_time == 1 and seconds:
                made = replace(made, seconds_per_step=statistics.fmean(seconds))
            teacher = teachers.get(combination.scale)
            if source := plan.weights_from.get(f"teacher x{combination.scale}"):
                teacher = _trial(run, source)
            if any(trial.config.get("teacher") for trial in runs):
                made = replace(made, centroid_seconds=plan.centroid_seconds.get(f"x{combination.scale}"))
                if teacher:
                    made = replace(
                        made, teacher_images=teacher.images, teacher_seconds=teacher.metrics.get("train.seconds")
                    )  # fmt: skip
        found[combination.id] = made
    return found


def ranges(folder: Path, winners: Mapping[str, WinnerRecord]) -> dict[str, str]:
    """Combination -> between which scales its steps were, of those with a scale a step (`train.scales`)."""
    run, found = RunDir(folder), {}
    for name, winner in winners.items():
        for path in [run.trial(fingerprint) / TRIAL for fingerprint in winner.fingerprints[:1]]:
            train = TrialRecord.read(path).config.get("train") if path.exists() else None
            if scales := (train or {}).get("scales"):
                found[name] = f"×{scales['low']:g} to ×{scales['high']:g}"
    return found


def _search_value(run: RunDir, winner: WinnerRecord, metric: str) -> float | None:
    """The steering metric at the end of the search's best run; None where nothing here says so any more.

    A trial that differs in sampling steps alone has begun anew in its folder, if it came later.
    """
    if winner.front is not None:
        return next(point.values[0] for point in winner.front.points if point.number == winner.number)
    best = _trial(run, winner.search_run) if winner.search_run else None
    steps = winner.params.get(STEPS)
    if best is None or (steps is not None and best.config["sampling"]["steps"] != steps):
        return None
    return best.metrics.get(metric)


def _trial(run: RunDir, fingerprint: str) -> _Trial | None:
    """A trial that has been validated at least once; None: it is not here, or has not."""
    folder = run.trial(fingerprint)
    steps = journal.steps(journal.read(folder / journal.JOURNAL))
    if not steps or not (folder / TRIAL).exists():
        return None
    return _Trial(steps[-1]["step"], TrialRecord.read(folder / TRIAL).config, steps[-1]["metrics"])
