"""Whose weights a probe looks at: each winner's first seeds, or named trials, along their training and at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from orchestrator.plan.combination import Combination
from orchestrator.plan.trial import TrialConfig
from orchestrator.probe.folders import OPTION, Probed
from orchestrator.probe.kinds import Asked
from orchestrator.run import journal
from orchestrator.run.folder import SNAPSHOTS, WEIGHTS
from orchestrator.run.journal import JOURNAL
from orchestrator.run.records import TRIAL, TrialRecord
from orchestrator.run.roles import RoleRecord, read_roles
from orchestrator.run.winners import read_winners
from sr_models.checkpoints.folder import CheckpointInfo, load_checkpoint
from sr_models.errors import InputError
from sr_models.networks.base import Network
from sr_models.networks.sigma import WithSigma
from sr_models.params import nearest

BATCH_SIZE = "train.batch_size"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A trial's weights after a step."""

    step: int
    folder: Path
    info: CheckpointInfo


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trial that is looked at."""

    probed: Probed
    combination: str
    label: str
    """Network and objective, with the run's name where several runs are looked into."""
    off_grid: str
    """The same without a batch size that is a grid's."""
    config: TrialConfig
    planned: Combination | None
    """Its row of the plan; None: a teacher's trial, say, has none."""

    @property
    def folder(self) -> Path:
        return self.probed.run.trial(self.config.fingerprint)

    def weights(self, kind: str) -> list[Weights]:
        """Those of its snapshots, by rising step, then those at its end.

        Raises:
            InputError: it has neither of that kind.
        """
        steps = self.config.train.snapshot_steps
        places = [(step, self.folder / SNAPSHOTS / str(step)) for step in steps]
        places.append((self.config.train.steps, self.folder))
        found = [
            Weights(step=step, folder=place / WEIGHTS[kind], info=CheckpointInfo.read(place / WEIGHTS[kind]))
            for step, place in places
            if (place / WEIGHTS[kind] / "model.json").exists()
        ]
        if not found:
            raise InputError(f"{self.label} {self.config.fingerprint[:16]} has kept no {kind} weights yet")
        return found

    def entries(self) -> list[dict[str, Any]]:
        """Its validations, from its journal."""
        return journal.steps(journal.read(self.folder / JOURNAL))

    def named(self) -> dict[str, Any]:
        """What every row on it begins with."""
        return {
            "run": self.probed.run.name,
            "scale": self.config.scale,
            "combination": self.combination,
            "label": self.label,
            "seed": self.config.seed,
            "fingerprint": self.config.fingerprint,
        }


@dataclass(frozen=True)
class Looked:
    """What a probe looks at."""

    runs: Sequence[Probed]
    asked: Asked

    @cached_property
    def subjects(self) -> list[Subject]:
        """The trials, as `subjects` finds them."""
        return subjects(self.runs, self.asked)

    def points(self) -> Iterator[tuple[Subject, Weights]]:
        """Every trial at every step of which it has weights."""
        for subject in self.subjects:
            for weights in subject.weights(self.asked.weights):
                yield subject, weights


def loaded(subject: Subject, weights: Weights, device: str) -> Network | WithSigma:
    """The network that a trial has trained, with these weights, on a device; the last one stays loaded."""
    info = weights.info
    parts = subject.probed.home.access.parts(info.model, info.hyper)
    return _loaded(weights.folder, info.weights_sha256, tuple(parts.items()), device)


@lru_cache(maxsize=1)
def _loaded(folder: Path, _sha256: str, parts: tuple[tuple[str, Path], ...], device: str) -> Network | WithSigma:
    return load_checkpoint(folder, parts=dict(parts))[0].to(device)


def subjects(runs: Sequence[Probed], asked: Asked) -> list[Subject]:
    """The trials that are asked for, in the order of the runs' combinations; their files are then here.

    Raises:
        InputError: a trial that no run has, or several; no winners yet; a pattern that fits no combination.
    """
    _check(runs, asked)
    found = [subject for probed in runs for subject in _of_run(probed, asked, several=len(runs) > 1)]
    if not found:
        raise InputError(f"{OPTION}: no trial that is asked for has begun")
    return found


def _of_run(probed: Probed, asked: Asked, *, several: bool) -> Iterator[Subject]:
    combinations = {combination.id: combination for combination in probed.plan.combinations}
    for name, fingerprint in _named(probed, asked) if asked.trials else _winners(probed, asked):
        probed.home.pull_weights(fingerprint)
        folder = probed.run.trial(fingerprint)
        probed.home.access.pull(probed.run.name_of(folder), [f"{SNAPSHOTS}/*"], only_read=True)
        if not (folder / TRIAL).exists():
            continue
        run = f" ({probed.run.name})" if several else ""
        planned = combinations.get(name)
        yield Subject(
            probed=probed,
            combination=name,
            label=(f"{planned.label} × {planned.objective_label}" if planned else name) + run,
            off_grid=(_off_grid(planned) if planned else name) + run,
            config=TrialRecord.read(folder / TRIAL).trial_config(),
            planned=planned,
        )


def _off_grid(combination: Combination) -> str:
    point = {name: value for name, value in combination.point.items() if name != BATCH_SIZE}
    return f"{combination.label} × {replace(combination, point=point).objective_label}"


def _winners(probed: Probed, asked: Asked) -> Iterator[tuple[str, str]]:
    """Combination and fingerprint of what is asked for of the winners."""
    won = read_winners(probed.run.winners)
    for combination in probed.plan.combinations:
        if combination.id in won and _is_asked(combination.id, asked):
            for fingerprint in won[combination.id].fingerprints[: asked.seeds]:
                yield combination.id, fingerprint


def _named(probed: Probed, asked: Asked) -> Iterator[tuple[str, str]]:
    """The same of trials that are named."""
    for role in _roles(probed).values():
        name = role.combination or f"teacher seed {role.seed}"
        if _is_asked(name, asked) and any(role.fingerprint.startswith(given) for given in asked.trials):
            yield name, role.fingerprint


def _check(runs: Sequence[Probed], asked: Asked) -> None:
    for given in asked.trials:
        known = {fingerprint: None for probed in runs for fingerprint in _roles(probed)}
        matching = [fingerprint for fingerprint in known if given and fingerprint.startswith(given)]
        if len(matching) > 1:
            short = ", ".join(fingerprint[:16] for fingerprint in matching)
            raise InputError(f"--trial: {given!r} is the beginning of {len(matching)} trials: {short}")
        if not matching:
            short_names = [fingerprint[:16] for fingerprint in known]
            raise InputError(f"--trial: no trial {given!r}{nearest(given, short_names)}")
    for pattern in asked.only:
        names = [combination.id for probed in runs for combination in probed.plan.combinations]
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"--only: {pattern!r} fits no combination{nearest(pattern, names)}")
    if not asked.trials:
        for probed in runs:
            if not probed.run.winners.exists():
                raise InputError(f"{OPTION}: {probed.run.path} has no winners yet; name trials with --trial")


def _roles(probed: Probed) -> dict[str, RoleRecord]:
    """Fingerprint -> its first role."""
    return {role.fingerprint: role for role in reversed(read_roles(probed.run))}


def _is_asked(combination: str, asked: Asked) -> bool:
    return not asked.only or any(fnmatchcase(combination, pattern) for pattern in asked.only)
