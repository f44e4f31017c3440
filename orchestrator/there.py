"""How much of a plan the runs of an output have trained already: what a sweep, or a dry run of it, need not do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.data.build import find_store
from orchestrator.data.inputs import Inputs
from orchestrator.plan.combination import Combination
from orchestrator.plan.plan import Plan
from orchestrator.plan.read import expand
from orchestrator.plan.trial import TrialConfig
from orchestrator.plan.weights import Weights
from orchestrator.run import journal
from orchestrator.run.folder import STORES, TRIALS, RunDir
from orchestrator.run.records import exported
from orchestrator.search.pareto import best, lifted
from orchestrator.search.record import SearchRecord, record_name, search_key
from sr_models.checkpoints.folder import CheckpointInfo
from sr_models.text_table import counted

Firsts = Mapping[str, str]
"""Combination -> fingerprint of its winner's first fresh seed, where that is there."""
MakeTrial = Callable[[Combination, Mapping[str, Any], int, Firsts], TrialConfig | None]
"""A combination's trial with these values and seed; None where it is not known yet what it starts from."""


@dataclass(frozen=True)
class There:
    """Trials of a plan that are there, and how many it has, for each of its three stages."""

    teachers: tuple[int, int] = (0, 0)
    search: tuple[int, int] = (0, 0)
    full: tuple[int, int] = (0, 0)
    unknown: int = 0
    """Combinations that need others which are not there yet: their trials are known once these are trained."""

    @property
    def text(self) -> str:
        """One line."""
        parts = {"teachers": self.teachers, "search": self.search, "full runs": self.full}
        there, of = (sum(both) for both in zip(*parts.values(), strict=True))
        each = ", ".join(f"{name} {known} of {all_}" for name, (known, all_) in parts.items() if all_)
        rows = counted(self.unknown, "row")
        later = f"; those of {rows} are known once what they need is trained" if self.unknown else ""
        return f"already there: {there} of {of} trials ({each}){later}"


ReadJournal = Callable[[str], list[dict[str, Any]]]
"""The journal of a trial, by its fingerprint."""


def there(plan: Plan, run: RunDir, make: MakeTrial, read_journal: ReadJournal, teachers: tuple[int, int]) -> There:
    """What is there of a plan; full runs of a search that is not whole count as new, whoever wins.

    Args:
        teachers: how many of the plan's teachers are trained, and of how many.
    """
    search = full = unknown = 0
    firsts: dict[str, str] = {}
    for combination in (one for level in plan.levels for one in level):
        configured = make(combination, {}, plan.config.seed, firsts)
        if configured is None:
            unknown += bool(combination.after)
            continue
        params: Mapping[str, Any] | None = {}
        if combination.trials:
            known, params = _searched(plan, run, combination, configured)
            search += known
        if params is not None:
            seeds = (make(combination, params, plan.config.seed + 1 + i, firsts) for i in range(plan.config.seeds))
            complete = [
                trial and _is_complete(read_journal(trial.fingerprint)) and trial.fingerprint for trial in seeds
            ]
            full += sum(map(bool, complete))
            if complete[0]:
                firsts[combination.id] = complete[0]
    return There(teachers, (search, plan.trials), (full, len(plan.combinations) * plan.config.seeds), unknown)


def there_in(plan: Plan, run: RunDir) -> There | None:
    """The same from what lies in the run's output alone, before anything is built; None where nothing does.

    What needs a teacher that is given as a file counts as new: its hash is known once it is read.

    Raises:
        InputError: images or starting weights that cannot be read.
    """
    if not run.at(STORES).exists():
        return None
    config, sources = plan.config, Inputs(plan.config).sources
    own_teachers = plan.teacher_scales if config.teacher and config.teacher.weights is None else ()
    data, taught, own = dict[int, str](), dict[int, str](), set[int]()

    def read_journal(fingerprint: str) -> list[dict[str, Any]]:
        return journal.read(run.trial(fingerprint) / journal.JOURNAL)

    for scale in config.scales:
        patch = plan.largest_patch(scale)
        store = find_store(run.at(STORES), **sources, scale=scale, on_bad=config.data.on_bad, patch=patch)
        if store is None:
            continue
        data[scale] = store.data_hash
        if scale in own_teachers:
            trial = plan.teacher_trial(scale, store.data_hash)
            if _is_complete(read_journal(trial.fingerprint)):
                folder = run.trial(trial.fingerprint) / ("model_ema" if trial.train.ema else "model")
                assert config.teacher is not None
                own.add(scale)
                taught[scale] = config.teacher.centroids(CheckpointInfo.read(folder).weights_sha256)

    def folder_of(weights: Weights, where: str, scale: int, firsts: Firsts) -> Path | None:
        """Where weights lie; None: a trial that is not on this machine."""
        if weights.kind == "file":
            return Path(expand(weights.name, where, scale))
        if weights.kind == "from":
            return exported(run, firsts[weights.name])
        names = [path.name for path in run.at(TRIALS).glob(f"{weights.name[:16]}*")]
        return exported(run, names[0]) if len(names) == 1 else None

    @cache
    def start(label: str, scale: int, path: Path) -> str:
        from orchestrator.training.teachers import start_of  # imports Ray

        return start_of(config, label, path, scale)[0]

    @cache
    def part_of(path: Path, name: str) -> str:
        from sr_models.checkpoints.parts import packed  # imports torch

        return packed(path, name)[0]

    def make(combination: Combination, values: Mapping[str, Any], seed: int, firsts: Firsts) -> TrialConfig | None:
        scale, init = combination.scale, combination.init
        if scale not in data or not firsts.keys() >= {*combination.after}:
            return None
        by = combination.teacher
        if by and by.kind != "file" and (folder := folder_of(by, "teacher", scale, firsts)):
            assert config.teacher is not None
            taught[scale] = config.teacher.centroids(CheckpointInfo.read(folder).weights_sha256)
        if "mu" in combination.spec.needs and scale not in taught:
            return None
        parts = {}
        for name, weights in combination.parts.items():
            path = folder_of(weights, f"models.{combination.label}.{name}", scale, firsts)
            if path is None:
                return None
            parts[name] = part_of(path, name)
        if init is None:
            return plan.trial(combination, values, seed, data[scale], taught.get(scale), parts=parts)
        path = folder_of(init, f"models.{combination.label}.init", scale, firsts)
        if path is None:
            return None
        sha = start(combination.label, scale, path)
        return plan.trial(combination, values, seed, data[scale], taught.get(scale), sha, parts)

    return there(plan, run, make, read_journal, (len(own), len(own_teachers)))


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
    metrics = plan.config.search.metrics
    return len(proposals), ended[best([lifted(one.last, metrics) for one in ended])].params


def _is_complete(entries: list[dict[str, Any]]) -> bool:
    result = journal.outcome(entries)
    return result is not None and result.status == "complete"
