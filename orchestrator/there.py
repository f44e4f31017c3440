"""How much of a plan the runs of an output have trained already: what a sweep, or a dry run of it, need not do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.data.build import find_store
from orchestrator.data.inputs import Inputs
from orchestrator.plan.plan import Combination, Plan, higher_is_better
from orchestrator.plan.trial import TrialConfig
from orchestrator.run import journal
from orchestrator.run.folder import STORES, RunDir
from orchestrator.search.record import SearchRecord, record_name, search_key
from sr_models.checkpoints.folder import CheckpointInfo

MakeTrial = Callable[[Combination, Mapping[str, Any], int], TrialConfig | None]
"""A combination's trial with these values and seed; None where it is not known yet what it starts from."""


@dataclass(frozen=True)
class There:
    """Trials of a plan that are there, and how many it has, for each of its three stages."""

    teachers: tuple[int, int] = (0, 0)
    search: tuple[int, int] = (0, 0)
    full: tuple[int, int] = (0, 0)

    @property
    def text(self) -> str:
        """One line."""
        parts = {"teachers": self.teachers, "search": self.search, "full runs": self.full}
        there, of = (sum(both) for both in zip(*parts.values(), strict=True))
        each = ", ".join(f"{name} {known} of {all_}" for name, (known, all_) in parts.items() if all_)
        return f"already there: {there} of {of} trials ({each})"


ReadJournal = Callable[[str], list[dict[str, Any]]]
"""The journal of a trial, by its fingerprint."""


def there(plan: Plan, run: RunDir, make: MakeTrial, read_journal: ReadJournal, teachers: tuple[int, int]) -> There:
    """What is there of a plan; full runs of a search that is not whole count as new, whoever wins.

    Args:
        teachers: how many of the plan's teachers are trained, and of how many.
    """
    search = full = 0
    for combination in plan.combinations:
        configured = make(combination, {}, plan.config.seed)
        if configured is None:
            continue
        params: Mapping[str, Any] | None = {}
        if combination.trials:
            known, params = _searched(plan, run, combination, configured)
            search += known
        if params is not None:
            seeds = (make(combination, params, plan.config.seed + 1 + i) for i in range(plan.config.seeds))
            full += sum(trial is not None and _is_complete(read_journal(trial.fingerprint)) for trial in seeds)
    return There(teachers, (search, plan.trials), (full, len(plan.combinations) * plan.config.seeds))


def there_in(plan: Plan, run: RunDir) -> There | None:
    """The same from what lies in the run's output alone, before anything is built; None where nothing does.

    What needs a teacher that is given as weights counts as new: their hash is known once they are read.

    Raises:
        InputError: images or starting weights that cannot be read.
    """
    if not run.at(STORES).exists():
        return None
    config, sources = plan.config, Inputs(plan.config).sources
    own_teachers = plan.teacher_scales if config.teacher and config.teacher.weights is None else ()
    data, taught = dict[int, str](), dict[int, str]()

    def read_journal(fingerprint: str) -> list[dict[str, Any]]:
        return journal.read(run.trial(fingerprint) / journal.JOURNAL)

    for scale in config.scales:
        patch = max((side for of, side in plan.patches if of == scale), default=1)
        store = find_store(run.at(STORES), **sources, scale=scale, on_bad=config.data.on_bad, patch=patch)
        if store is None:
            continue
        data[scale] = store.data_hash
        if scale in own_teachers:
            trial = plan.teacher_trial(scale, store.data_hash)
            if _is_complete(read_journal(trial.fingerprint)):
                folder = run.trial(trial.fingerprint) / ("model_ema" if trial.train.ema else "model")
                assert config.teacher is not None
                weights = CheckpointInfo.read(folder).weights_sha256
                taught[scale] = config.teacher.centroids(trial.model, trial.hyper, weights)

    def make(combination: Combination, values: Mapping[str, Any], seed: int) -> TrialConfig | None:
        scale, path = combination.scale, config.init(combination.label)
        if scale not in data or ("mu" in combination.spec.needs and scale not in taught):
            return None
        init = None
        if path:
            from orchestrator.training.teachers import start_of  # imports Ray

            init = start_of(config, combination.label, path, scale)[0]
        return plan.trial(combination, values, seed, data[scale], taught.get(scale), init)

    return there(plan, run, make, read_journal, (len(taught), len(own_teachers)))


def _searched(
    plan: Plan, run: RunDir, combination: Combination, configured: TrialConfig
) -> tuple[int, dict[str, Any] | None]:
    """How many of a combination's proposals are there, and the winner's values if all are."""
    path = run.at(record_name(search_key(configured, combination, plan.config.search)))
    if not path.exists():
        return 0, None
    proposals = SearchRecord.read(path).proposals[: combination.trials]
    ended = [one for one in proposals if one.status == "complete"]
    if len(proposals) < combination.trials or not ended:
        return len(proposals), None
    sign = 1 if higher_is_better(plan.config.search.metric) else -1
    return len(proposals), max(ended, key=lambda one: sign * one.values[max(one.values)]).params


def _is_complete(entries: list[dict[str, Any]]) -> bool:
    result = journal.outcome(entries)
    return result is not None and result.status == "complete"
