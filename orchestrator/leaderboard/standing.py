"""Where a run stands that need not be finished: its trials, the best of each search so far, and what is left to do.

From plan, roles and journals alone, while a sweep writes them or after it was cut. Ours, no paper.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.protocol import get_metric, plain_metric
from orchestrator.leaderboard.scores import lacking
from orchestrator.plan.cost import duration
from orchestrator.plan.read import read_yaml
from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL
from orchestrator.run.records import PlanRecord, read_plan
from orchestrator.run.roles import RoleRecord, read_roles
from orchestrator.run.winners import read_winners
from sr_models.text_table import aligned, counted

Status = Literal["waiting", "under way", "complete", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that the run makes use of, as far as it has come."""

    role: RoleRecord
    status: Status
    step: int
    """Of its last validation; 0 before the first."""
    of: int
    metrics: Mapping[str, float]
    """Of that one."""

    @property
    def ended(self) -> bool:
        return self.status in ("complete", "stopped", "failed")

    @property
    def step_seconds(self) -> float | None:
        """Seconds that a step of its training took; None before the first validation."""
        seconds = self.metrics.get("train.seconds")
        return seconds / self.step if seconds and self.step else None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A combination."""

    id: str
    planned: int
    """Proposals of its search."""
    seeds: int
    """Full runs that it is to have."""
    steps: int
    step_seconds: float | None
    """That the plan expects of a step; None in plans of earlier versions."""
    search: tuple[Trial, ...]
    full: tuple[Trial, ...]
    to_score: int
    """Full runs that have come to their end and are to be scored."""
    scored: int
    """Those of them that have all their scores."""
    best: Trial | None
    """The best by the steering metric of those of the search that have come furthest."""
    has_winner: bool

    @property
    def left(self) -> int:
        """Steps to go, if no trial is stopped early."""
        if self.has_winner:
            return 0
        done = sum(trial.of if trial.ended else trial.step for trial in (*self.search, *self.full))
        return max((self.planned + self.seeds) * self.steps - done, 0)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A run as it stands."""

    name: str
    metric: str
    rows: tuple[Row, ...]
    teachers: tuple[Trial, ...]
    at_a_time: int
    """Trials that share the machines."""

    @property
    def finished(self) -> bool:
        """Whether every combination has its winner, and these have their scores."""
        return all(row.has_winner and row.scored == row.to_score for row in self.rows)

    @property
    def under_way(self) -> list[Trial]:
        """Trials that have begun and not ended."""
        rows = [trial for row in self.rows for trial in (*row.search, *row.full)]
        return [trial for trial in (*self.teachers, *rows) if trial.status == "under way"]

    @property
    def seconds_left(self) -> float | None:
        """Of training, if no trial is stopped early; None while no step is known, 0 where nothing is left.

        Steps of a row without a validation are taken to be as much slower than the plan expects as those of the others
        are (the middle one of them); of a plan that expects nothing, as slow as those.
        """
        known = {row.id: rate for row in self.rows if (rate := _rate([*row.search, *row.full])) is not None}
        left = [row for row in self.rows if row.left]
        if left and not known:
            return None
        usual = statistics.fmean(known.values()) if known else 0.0
        paces = [known[row.id] / row.step_seconds for row in self.rows if row.id in known and row.step_seconds]
        pace = statistics.median(paces) if paces else None

        def expected(row: Row) -> float:
            return pace * row.step_seconds if pace and row.step_seconds else usual

        return sum(row.left * known.get(row.id, expected(row)) for row in left) / self.at_a_time


def standing(folder: Path) -> Standing:
    """Where the run in a folder stands.

    Raises:
        InputError: no run folder, or a file of it that cannot be read.
    """
    run, plan = RunDir(folder), read_plan(folder)
    config = read_yaml(run.config) if run.config.exists() else {}
    steps, winners = int((config.get("train") or {}).get("steps", 0)), read_winners(run.winners)
    unscored = lacking(folder)
    trials = [_trial(run, role) for role in read_roles(run)]
    rows = []
    for combination in plan.combinations:
        own = [trial for trial in trials if trial.role.combination == combination.id]
        search = tuple(trial for trial in own if trial.role.role == "search")
        full = tuple(trial for trial in own if trial.role.role == "final")
        rows.append(
            Row(
                id=combination.id,
                planned=combination.trials,
                seeds=int(config.get("seeds", 0)),
                steps=max([trial.of for trial in own] + [0]) or combination.steps or steps,
                step_seconds=combination.step_seconds,
                search=search,
                full=full,
                to_score=(runs := len(winners[combination.id].fingerprints) if combination.id in unscored else 0),
                scored=runs - len(unscored.get(combination.id, ())),
                best=_best(search, plan),
                has_winner=combination.id in winners,
            )
        )
    teachers = tuple(trial for trial in trials if trial.role.role == "teacher")
    running = sum(trial.status == "under way" for trial in trials)
    most = max(plan.trials_at_a_time or 1, running, 1)
    return Standing(
        name=folder.absolute().name, metric=plan.metric.name, rows=tuple(rows), teachers=teachers, at_a_time=most
    )


def text(found: Standing) -> str:
    """The standing in lines: what is done of each stage, a table of combinations, and what is under way."""
    search = [trial for row in found.rows for trial in row.search]
    planned, seeds = sum(row.planned for row in found.rows), sum(row.seeds for row in found.rows)
    full = [trial for row in found.rows for trial in row.full]
    lines = [f"run {found.name}: {_done('search', search, planned)}; {_done('full runs', full, seeds)}"]
    if found.teachers:
        lines[0] += f"; {_done('teachers', found.teachers, len(found.teachers))}"
    if to_score := sum(row.to_score for row in found.rows):
        lines[0] += f"; scored {sum(row.scored for row in found.rows)} of {to_score}"
    lines.append(_left(found))
    unit = f" ({get_metric(plain_metric(found.metric)).unit})" if get_metric(plain_metric(found.metric)).unit else ""
    head = ["combination", "search", f"best {found.metric}{unit} so far", "at step", "full runs", "values"]
    table = [head, *(_line(row, found.metric) for row in found.rows)]
    lines += ["", *aligned(table, left={0, 5})]
    if now := found.under_way:
        lines += [
            "",
            "under way: " + ", ".join(f"{_name(trial)} at {trial.step} of {trial.of or '?'}" for trial in now),
        ]
    return "\n".join(lines)


def _trial(run: RunDir, role: RoleRecord) -> Trial:
    entries = journal.read(run.trial(role.fingerprint) / JOURNAL)
    validated, end = journal.steps(entries), journal.end(entries)
    status: Status = "waiting"
    if end is not None:
        status = end["status"]
    elif entries or (run.trial(role.fingerprint) / "trial.json").exists():
        status = "under way"
    last: dict[str, Any] = validated[-1] if validated else {"step": 0, "of": 0, "metrics": {}}
    return Trial(role=role, status=status, step=last["step"], of=last["of"], metrics=last["metrics"])


def _best(search: Sequence[Trial], plan: PlanRecord) -> Trial | None:
    """Of those that have come furthest, as values at different steps say little of each other."""
    name, sign = plan.metric.name, 1 if plan.metric.higher_is_better else -1
    known = [trial for trial in search if name in trial.metrics and trial.status != "failed"]
    furthest = max((trial.step for trial in known), default=0)
    there = [trial for trial in known if trial.step == furthest]
    return max(there, key=lambda trial: sign * trial.metrics[name], default=None)


def _rate(trials: Sequence[Trial]) -> float | None:
    rates = [rate for trial in trials if (rate := trial.step_seconds) is not None]
    return statistics.fmean(rates) if rates else None


def _done(what: str, trials: Sequence[Trial], planned: int) -> str:
    ended = sum(trial.ended for trial in trials)
    counts = {status: sum(trial.status == status for trial in trials) for status in ("stopped", "failed", "under way")}
    more = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{what} {ended} of {planned}" + (f" ({more})" if more else "")


def _left(found: Standing) -> str:
    seconds = found.seconds_left
    if all(row.has_winner for row in found.rows):
        return "every combination has its winner" + ("" if found.finished else "; scores are lacking, or were refused")
    if seconds is None:
        return "time left: not known before a first validation"
    return (
        f"about {duration(seconds)} of training left, with {counted(found.at_a_time, 'trial')} at a time and "
        "none stopped early"
    )


def _line(row: Row, metric: str) -> list[str]:
    best, digits = row.best, get_metric(plain_metric(metric)).decimals
    params = best.role.params.items() if best else ()
    values = ", ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in params
    )
    return [
        row.id,
        f"{sum(trial.ended for trial in row.search)}/{row.planned}" if row.planned else "-",
        f"{best.metrics[metric]:.{digits}f}" if best else "-",
        f"{best.step}/{best.of}" if best else "-",
        f"{sum(trial.status == 'complete' for trial in row.full)}/{row.seeds}",
        f"#{best.role.number} {values}" if best else "",
    ]


def _name(trial: Trial) -> str:
    role = trial.role
    if role.role == "search":
        return f"{role.combination}#{role.number}"
    return f"{role.combination or 'teacher'} seed {role.seed}"
