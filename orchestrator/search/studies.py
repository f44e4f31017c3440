"""The search's only memory: one Optuna study per combination, in storage that outlives the driver.

What was asked, reported and told is in the studies and nowhere else, so a killed search goes on by opening them again:
trials left RUNNING are handed out first, with their parameters, also those that their environment ended (no memory, a
lost worker): no study hears of that. Stopping is asynchronous successive halving (Li et al. 2018,
https://arxiv.org/abs/1810.05934) by one of the metrics, a pure function of the study: it compares within a combination
only. Where several metrics steer, a study has as many directions, and its trials are no order but a front (`pareto`).
The first proposal of each is what the config says, and a finite space is walked without a repetition.
"""

from __future__ import annotations

import math
import random
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from cluster.secrets import shown
from orchestrator.plan.combination import Combination
from orchestrator.plan.plan import Plan, first_rung, higher_is_better
from orchestrator.plan.trial import TrialConfig
from orchestrator.run.folder import RunDir
from orchestrator.run.winners import FrontRecord, SearchCounts
from orchestrator.search import pareto
from orchestrator.search.halving import falls_behind
from orchestrator.search.record import adopt, keep, search_key
from sr_models.errors import InputError, LostError, chain
from sr_models.hashing import digest

LOCK_SECONDS = 60
"""How long a write waits for another reader or writer of the study's database, optuna-dashboard for one."""

DRAWS = 50
"""Proposals of the sampler that are looked at for one that was not tried yet, before any such point is taken."""

MakeConfig = Callable[[Combination, dict[str, Any]], TrialConfig]


@dataclass
class Assignment:
    """One planned trial that was handed out: its place in its study and what it computes."""

    combination: Combination
    trial: Trial
    config: TrialConfig
    reported: set[int] = field(default_factory=set)

    @property
    def number(self) -> int:
        return self.trial.number


class Studies:
    """All studies of a sweep: one for each combination that has something to search.

    Args:
        url: an Optuna storage, e.g. "sqlite:////run/studies.db"; optuna-dashboard can open it.
        plan: the combinations and how many trials each gets.
        make_config: fills a combination's searched values into a trial config.
        run: the run folder whose trials these are; a database may hold the studies of many.

    Raises:
        InputError: a database that cannot be used, studies that belong to another run folder.
    """

    def __init__(self, url: str, plan: Plan, make_config: MakeConfig, run: RunDir) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.plan, self.config, self._make_config = plan, plan.config, make_config
        self.metrics = plan.config.search.metrics
        self.run = run
        self.storage = open_storage(url)
        self._studies = {
            combination.id: optuna.create_study(
                storage=self.storage,
                study_name=self._name(combination),
                load_if_exists=True,
                directions=["maximize" if higher_is_better(name) else "minimize" for name in self.metrics],
            )
            for combination in plan.combinations
            if combination.trials
        }
        self._asked = {}
        self.cut: list[Assignment] = []
        """Handed out by a driver that died, or ended by their environment: the first to come again."""
        self._left: dict[str, list[str]] = {combination.id: [] for combination in plan.combinations}
        self._searched = [combination for combination in plan.combinations if combination.trials]
        self._keys = {c.id: search_key(make_config(c, {}), c, self.config.search) for c in self._searched}
        for combination in self._searched:
            study = self._studies[combination.id]
            self._claim(study)
            if study.metric_names is None:
                with warnings.catch_warnings(category=ExperimentalWarning, action="ignore"):
                    study.set_metric_names(list(self.metrics))  # for optuna-dashboard
            adopt(study, run, self._keys[combination.id], combination.axes.distributions(), combination.trials)
            if not study.get_trials(deepcopy=False):
                study.enqueue_trial(combination.axes.configured)
            trials = study.get_trials(deepcopy=False)
            self._asked[combination.id] = sum(t.state != TrialState.WAITING for t in trials)
            self.cut += [self._reopen(combination, study, t) for t in trials if t.state == TrialState.RUNNING]

    def trials(self, combination: Combination) -> list[FrozenTrial]:
        """What the combination's study holds; nothing where there is nothing to search."""
        study = self._studies.get(combination.id)
        return study.get_trials(deepcopy=False) if study else []

    def told(self) -> Iterator[tuple[Combination, FrozenTrial, TrialConfig]]:
        """Every trial that has been told, with its config."""
        for combination in self._searched:
            for trial in self.trials(combination):
                if trial.state.is_finished():
                    yield combination, trial, self._make_config(combination, trial.params)

    def finished(self, combination: Combination) -> int:
        """Planned trials of a combination that have been told, however they ended."""
        return sum(trial.state.is_finished() for trial in self.trials(combination))

    @property
    def open(self) -> int:
        """Planned trials, over all combinations, that have neither been told nor left yet."""
        return sum(
            max(combination.trials - self.finished(combination) - len(self.left(combination)), 0)
            for combination in self._searched
        )

    def next(self) -> Assignment | None:
        """The next planned trial: those a dead driver left, then one of the combination that is furthest behind."""
        if self.cut:
            return self.cut.pop(0)
        behind = [combination for combination in self._searched if self._asked[combination.id] < combination.trials]
        if not behind:
            return None
        combination = min(behind, key=lambda c: self._asked[c.id] / c.trials)
        study = self._studies[combination.id]
        if combination.axes.size < math.inf and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            study.enqueue_trial(self._untried(combination, study))
        study.sampler = self._sampler(combination)
        trial = study.ask(combination.axes.distributions())
        self._asked[combination.id] += 1
        config = self._make_config(combination, trial.params)
        trial.set_user_attr("fingerprint", config.fingerprint)
        return Assignment(combination, trial, config)

    def record(self, assignment: Assignment, step: int, metrics: dict[str, float]) -> None:
        """Record the steering metrics of a validation; a step that was recorded before is not again."""
        if step not in assignment.reported:
            pareto.report(assignment.trial, step, tuple(metrics[name] for name in self.metrics))
            assignment.reported.add(step)

    def should_stop(self, assignment: Assignment) -> bool:
        """Whether asynchronous halving stops this trial at the step it has just reported."""
        combination, search = assignment.combination, self.config.search
        if search.halved_by is None:
            return False
        judge = self.metrics.index(search.halved_by)
        curves = [
            {step: values[judge] for step, values in pareto.reported(trial).items()}
            for trial in self.trials(combination)
        ]
        return falls_behind(
            curves[assignment.number],
            curves,
            first=first_rung(combination.train, search),
            reduction=search.reduction,
            higher_is_better=higher_is_better(search.halved_by),
        )

    def tell(self, assignment: Assignment, state: TrialState, cause: str | None = None) -> None:
        """Close a trial: COMPLETE with its last value, PRUNED with the values it had, or FAIL with its cause."""
        if cause:
            assignment.trial.set_user_attr("cause", cause)
        combination = assignment.combination
        reported = pareto.reported(self.trials(combination)[assignment.number])
        values = reported[max(reported)] if state == TrialState.COMPLETE else None
        self._studies[combination.id].tell(assignment.trial, values, state=state)
        metric = self.config.search.metric
        keep(self.trials(combination), self.run, self._keys[combination.id], combination.id, metric)

    def leave(self, assignment: Assignment, cause: str) -> None:
        """Let a trial that its environment ended stay RUNNING: who opens the studies next gets it again."""
        self._left[assignment.combination.id].append(cause)

    def left(self, combination: Combination) -> list[str]:
        """The causes of a combination's trials that are left to the next who opens the studies."""
        return self._left[combination.id]

    def winner(self, combination: Combination) -> FrozenTrial | None:
        """The best trial that ran its full budget, or None if none did or nothing is searched.

        Of a front, the best by the first metric that steers.
        """
        complete = [trial for trial in self.trials(combination) if trial.state == TrialState.COMPLETE]
        if not complete:
            return None
        if len(self.metrics) == 1:
            return self._studies[combination.id].best_trial
        return complete[pareto.best([pareto.lifted(tuple(trial.values), self.metrics) for trial in complete])]

    def front(self, combination: Combination) -> FrontRecord | None:
        """The front of a search by several metrics, if a trial has run in full; None of others."""
        if len(self.metrics) == 1 or self.winner(combination) is None:
            return None
        return pareto.front_of(self.trials(combination), self.metrics)

    def to_beat(self, combination: Combination) -> float | None:
        """The best end of a trial that ran its full budget by the metric that stops others; None: there is none."""
        judge = self.config.search.halved_by
        if judge is None or self.winner(combination) is None:
            return None
        ends = [
            trial.values[self.metrics.index(judge)]
            for trial in self.trials(combination)
            if trial.state == TrialState.COMPLETE
        ]
        return max(ends) if higher_is_better(judge) else min(ends)

    def counts(self, combination: Combination) -> SearchCounts:
        """How a combination's trials ended."""
        trials = self.trials(combination)
        states = [trial.state for trial in trials]
        return SearchCounts(
            trials=len(states),
            pruned=states.count(TrialState.PRUNED),
            failed=states.count(TrialState.FAIL) + len(self.left(combination)),
            steps=sum(map(pareto.last_step, trials)),
        )

    def pruned(self) -> list[tuple[str, int]]:
        """(fingerprint, last step) of every trial that was stopped early."""
        stopped = (
            t
            for combination in self.plan.combinations
            for t in self.trials(combination)
            if t.state == TrialState.PRUNED
        )
        return [(str(t.user_attrs["fingerprint"]), pareto.last_step(t)) for t in stopped]

    def stopped(self, combination: Combination) -> dict[int, FrozenTrial]:
        """A combination's trials that were stopped early, by their numbers."""
        return {t.number: t for t in self.trials(combination) if t.state == TrialState.PRUNED}

    def failures(self, combination: Combination) -> list[str]:
        """The causes of a combination's failed trials."""
        return [str(t.user_attrs.get("cause")) for t in self.trials(combination) if t.state == TrialState.FAIL]

    def _name(self, combination: Combination) -> str:
        return f"{self.run.name}/{combination.id}"

    def _claim(self, study: optuna.Study) -> None:
        """Hold that a study's trials lie in this run folder: with another one's record theirs would never be run."""
        owner = study.user_attrs.get("run_id")
        if owner is None:
            study.set_user_attr("run_id", self.run.id)
        elif owner != self.run.id:
            raise InputError(
                f"--studies-uri: the studies of {self.run.name} there belong to another run folder of this name; "
                "resume that combination, or take another name"
            )

    def _reopen(self, combination: Combination, study: optuna.Study, frozen: FrozenTrial) -> Assignment:
        study_id = self.storage.get_study_id_from_name(self._name(combination))
        trial = Trial(study, self.storage.get_trial_id_from_study_id_trial_number(study_id, frozen.number))
        # A driver that died inside `ask` may have stored only some of the parameters: asking again completes them.
        for name, found in combination.axes.distributions().items():
            if isinstance(found, CategoricalDistribution):
                trial.suggest_categorical(name, found.choices)
            elif isinstance(found, FloatDistribution):
                trial.suggest_float(name, found.low, found.high, log=found.log)
        config = self._make_config(combination, trial.params)
        trial.set_user_attr("fingerprint", config.fingerprint)
        return Assignment(combination, trial, config, set(pareto.reported(frozen)))

    def _untried(self, combination: Combination, study: optuna.Study) -> dict[str, Any]:
        """A point of a finite space that was not proposed yet: the first such of the sampler's, or else any."""
        trials = study.get_trials(deepcopy=False)
        tried = [trial.params for trial in trials]
        scratch = optuna.create_study(directions=study.directions, sampler=self._sampler(combination))
        scratch.add_trials(trials)  # a copy in memory, for a sampler's draws leave a trial each in their study
        for _ in range(DRAWS):
            if (point := scratch.ask(combination.axes.distributions()).params) not in tried:
                return point
        left = [point for point in combination.axes.points if point not in tried]
        return random.Random(self._seed(combination)).choice(left)

    def _sampler(self, combination: Combination) -> BaseSampler:
        """Of a combination's next proposal: seeded by what is asked for, not by what the process did before."""
        if self.config.search.sampler == "random":
            return RandomSampler(seed=self._seed(combination))
        startup = self.config.search.startup_trials
        return TPESampler(seed=self._seed(combination), n_startup_trials=startup, multivariate=True)

    def _seed(self, combination: Combination) -> int:
        """In [0, 2 ** 32): no two proposals of any two searches share theirs, and sweeps with one search do."""
        return int(digest([self._keys[combination.id], self._asked[combination.id]])[:8], 16)


_RESTARTS = "57P"
"""How PostgreSQL's codes begin that say its server goes down, or is not up yet."""


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Connect, and make the tables where they are missing: once, before any worker starts.

    Raises:
        InputError: there is no such database, or it does not let us in. LostError: its server is just starting again.
    """
    if url.startswith("sqlite"):
        return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}})
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except (SQLAlchemyError, ImportError) as error:
        reason = shown(" ".join(str(error).split()))[:200]
        state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
        kind = LostError if state.startswith(_RESTARTS) else InputError
        raise kind(f"--studies-uri {shown(url)!r}: {reason}") from None


def lost_database(error: BaseException) -> str | None:
    """A line on the database server whose connection broke and caused an error, None if that was something else.

    What was on its way then may be in the database or not, so nothing is tried again here: the same command reads it.
    """
    for link in chain(error):
        if isinstance(link, OperationalError | InterfaceError) and not isinstance(link.orig, sqlite3.Error):
            return f"the connection to the studies' database was lost: {' '.join(str(link.orig).split())[:200]}"
    return None


def damaged_database(error: BaseException) -> str | None:
    """What SQLite says of the damaged file that caused an error, None if that was something else."""
    return next((str(link) for link in chain(error) if type(link) is sqlite3.DatabaseError), None)
