"""Whose weights are put to use: those of a run's row, a checkpoint folder, a released file; with how they are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import sr_models
from orchestrator.evaluate import entrants
from orchestrator.leaderboard import use
from orchestrator.leaderboard.compare import boards
from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.run.driver import visited
from orchestrator.run.folder import RunDir
from orchestrator.run.records import TRIAL, TrialRecord
from sr_models.checkpoints.folder import CheckpointInfo, load_checkpoint
from sr_models.checkpoints.parts import check_parts, packed_file
from sr_models.checkpoints.published import load_weights
from sr_models.diffusion.base import Denoiser
from sr_models.diffusion.samplers import settled
from sr_models.errors import InputError
from sr_models.hyper.sampling import Sampling, as_asked
from sr_models.inference.super_resolve import Options
from sr_models.networks.base import Network
from sr_models.networks.sigma import WithSigma, without_head


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A network, on the CPU, and how it computes its pictures."""

    model: Network | WithSigma
    name: str
    """The network's."""
    hyper: Mapping[str, Any]
    options: Options
    seed: int = 0
    """Of the noise that a run's evaluation drew first."""
    title: str
    """For people: what it is and where its weights lie."""
    folder: Path | None
    """Of the checkpoint; None: a file, or there are no weights."""
    practised: Sampling | None = None
    """On the noise levels that it has practised; None: on all, or it is no diffusion network."""

    def sampled(self, asked: Mapping[str, Any]) -> Options:
        """Its options, with fields of `Sampling` that were asked for.

        Raises:
            InputError: as `as_asked`, or something asked of a network that draws nothing.
        """
        net = without_head(self.model)
        if not isinstance(net, Denoiser):
            for name in asked:
                raise InputError(f"--{name.replace('_', '-')} goes with diffusion networks, and {self.name} is none")
            return self.options
        return replace(self.options, sampling=settled(net.process, as_asked(self.options.sampling, asked)))


def of_file(
    path: Path, *, model: str, scale: float, hyper: Mapping[str, Any], key: str | None, parts: Mapping[str, Path],
    sampler: str | None,
) -> Chosen:  # fmt: skip
    """Of a released file, with the files of its frozen parts; `sampler` as of `load_weights`.

    Raises:
        InputError: as `load_weights`, `check_parts`.
    """
    files, hashes = _packed(parts)
    hyper = {**hyper, **{f"{part}_sha256": sha256 for part, sha256 in hashes.items()}}
    check_parts(model, hyper, hashes)
    net = load_weights(path, model=model, scale=scale, hyper=hyper, key=key, parts=files, sampler=sampler)
    title = f"{sr_models.called(model, hyper)}, {path}"
    return Chosen(model=net, name=model, hyper=hyper, options=Options(), title=title, folder=None)


def of_checkpoint(folder: Path, scale: float | None, parts: Mapping[str, Path] | None) -> Chosen:
    """Of a checkpoint folder; of a network that practised some noise levels alone, on these.

    Args:
        parts: files of the frozen parts that it stands on; None: no picture is drawn, and none is asked for.

    Raises:
        InputError: as `load_checkpoint`, `check_parts`.
    """
    files, hashes = _packed(parts or {})
    if parts is not None:  # before its weights, which may be gigabytes
        told = CheckpointInfo.read(folder)
        check_parts(told.model, told.hyper, hashes)
    model, info = load_checkpoint(folder, scale=scale, parts=files)
    practised = _practised(folder, info)
    title = f"{sr_models.called(info.model, info.hyper)}, {folder}"
    return Chosen(
        model=model, name=info.model, hyper=info.hyper, options=Options(sampling=practised), title=title,
        folder=folder, practised=practised,
    )  # fmt: skip


def of_run(run: Path, root: str | None, *, row: str | None, scale: float | None) -> Chosen:
    """Of a run's row, as its evaluation had it computed: the first seed's.

    Args:
        run: the run folder.
        root: URI below which it lives; None: in its folder alone.
        row, scale: as `use.chosen` takes them; a network that works at any scale is taken to `scale`.

    Raises:
        InputError: no run, no such row, or weights that cannot be used.
    """
    home = visited(RunDir(run.absolute()), root, "RUN")
    board, entry = use.chosen(boards(home.run.path), row, scale)
    plan = make_plan(load(home.run.config))
    evaluation, at = plan.config.evaluation, board.scale if scale is None else scale
    fingerprint = use.first_trial(entry)
    if not fingerprint:
        with torch.random.fork_rng(devices=[]):
            net = sr_models.build(entry.model, at)
        return Chosen(model=net, name=entry.model, hyper={}, options=Options(), title=entry.title, folder=None)
    whole = fingerprint.partition("@")[0]
    home.pull_weights(whole)
    found = entrants.trials(home, plan, whole) if entry.trial else entrants.winners(home.run, plan)
    wanted = entry.combination, entry.weights, whole
    for entrant in found:
        who = entrant.identity
        if (who.combination, who.weights, who.fingerprint.partition("@")[0]) == wanted and entrant.checkpoint:
            folder = home.run.at(entrant.checkpoint)
            known = CheckpointInfo.read(folder)
            model, info = load_checkpoint(folder, scale=at, parts=home.access.parts(known.model, known.hyper))
            title = f"{board.name(entry)} (seed {who.seed}, {entry.weights} weights), {folder}"
            options = entrants.options_of(entrant, evaluation)
            return Chosen(
                model=model, name=info.model, hyper=info.hyper, options=options, seed=evaluation.seed, title=title,
                folder=folder, practised=_practised(folder, info),
            )  # fmt: skip
    raise InputError(f"--row: the {entry.weights} weights of {board.name(entry)} are gone ({entry.folder})")


def _practised(folder: Path, info: CheckpointInfo) -> Sampling | None:
    """As `Chosen` has it."""
    record = folder.parent / TRIAL
    if info.sampling is None and record.exists():  # a folder of before `model.json` said it
        return TrialRecord.read(record).trial_config().objective.practised
    return info.sampling


def _packed(parts: Mapping[str, Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """Frozen parts as files that can be loaded, and their hashes."""
    packed = {name: packed_file(path, name) for name, path in parts.items()}
    return {name: file for name, (_, file) in packed.items()}, {name: sha256 for name, (sha256, _) in packed.items()}
