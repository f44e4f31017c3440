"""What a row cost: parameters, images seen, the search, the teacher; from the plan, the winners and the journals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.leaderboard.board import Training
from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.records import PlanRecord, TrialRecord, WinnerRecord


@dataclass(frozen=True)
class _Trial:
    """A trial as far as it ran."""

    record: TrialRecord
    steps: int
    searched: int
    """Steps that the search took of it: up to its stop, after which an audit may have gone on."""
    metrics: Mapping[str, float]
    """Of its last validation."""

    @property
    def images(self) -> int | None:
        batch = (self.record.config.get("train") or {}).get("batch_size")
        return self.steps * batch if batch else None


def trainings(folder: Path, plan: PlanRecord, winners: Mapping[str, WinnerRecord]) -> dict[str, Training]:
    """Combination -> what it cost."""
    trials = {}
    for path in RunDir(folder).trial_records:
        record, entries = TrialRecord.read(path), journal.read(path.parent / journal.JOURNAL)
        if steps := journal.steps(entries):
            last = steps[-1]["step"]
            stops = [entry["step"] for entry in entries if entry["kind"] == "end" and entry["status"] == "stopped"]
            trials[record.fingerprint] = _Trial(record, last, min([last, *stops]), steps[-1]["metrics"])
    teachers = {t.record.config.get("scale"): t for t in trials.values() if t.record.role == "teacher"}

    found = {}
    for combination in plan.combinations:
        own = [t for t in trials.values() if t.record.combination == combination.id]
        made = Training(
            parameters=combination.parameters,
            trained_parameters=combination.trained_parameters,
            searched=list(combination.searched),
            trials_at_a_time=plan.trials_at_a_time,
            search_steps=sum(t.searched for t in own if t.record.role == "search") if own else None,
        )
        if winner := winners.get(combination.id):
            runs = [trials[name] for name in winner.fingerprints if name in trials]
            made = replace(
                made, number=winner.number, params=winner.params, train_seconds=winner.train_seconds,
                run_images=runs[0].images if runs else None, **vars(winner.search),
            )  # fmt: skip
            if best := trials.get(winner.search_run or ""):
                made = replace(made, search_value=best.metrics.get(plan.metric.name))
            seconds = [t.metrics["train.seconds"] / t.steps for t in runs if "train.seconds" in t.metrics]
            if plan.trials_at_a_time == 1 and seconds:
                made = replace(made, seconds_per_step=statistics.fmean(seconds))
        teacher = teachers.get(combination.scale)
        if teacher and any(t.record.config.get("teacher") for t in own):
            made = replace(
                made, teacher_images=teacher.images, teacher_seconds=teacher.metrics.get("train.seconds")
            )  # fmt: skip
        found[combination.id] = made
    return found
