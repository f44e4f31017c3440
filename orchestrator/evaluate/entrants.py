"""Whose scores a run's evaluation computes: bicubic, every winner's seeds, or any trial, also one that still trains."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

import sr_models
from eval.benchmarks import Benchmark
from eval.rows import CEILING, Identity, Subject, plugins_of
from orchestrator.data.inputs import Inputs
from orchestrator.evaluate.work import Job, weights_folder
from orchestrator.plan.combination import Combination
from orchestrator.plan.evaluation import EvaluationConfig, sampling
from orchestrator.plan.plan import Plan
from orchestrator.plan.read import expand
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.plan.space import STEPS
from orchestrator.run import checkpoint, journal
from orchestrator.run.access import Access
from orchestrator.run.checkpoint import BEFORE, CHECKPOINT
from orchestrator.run.driver import Home
from orchestrator.run.folder import SNAPSHOTS, RunDir
from orchestrator.run.journal import JOURNAL
from orchestrator.run.progress import say
from orchestrator.run.records import TRIAL, TrialRecord
from orchestrator.run.roles import read_roles
from orchestrator.run.winners import WinnerRecord, read_winners
from orchestrator.training.network import build_network, export
from sr_models.checkpoints.folder import CheckpointInfo
from sr_models.diffusion.samplers import settled
from sr_models.errors import InputError
from sr_models.hyper.process import AnyProcess
from sr_models.hyper.sampling import Sampling
from sr_models.inference.super_resolve import Options
from sr_models.params import nearest

KINDS = {"model": "raw", "model_ema": "ema"}
"""Folder of a trial's weights -> what kind they are."""


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One set of weights: whose they are, their folder in the run, their hash and hyperparameters (JSON); "" for those
    of a σ head where there is none."""

    identity: Identity
    checkpoint: str | None
    weights_sha256: str | None
    hyper: str
    sigma: str = ""
    process: AnyProcess | None = None
    """The noise of a diffusion network."""
    sampled: Callable[[EvaluationConfig], Sampling | None] = lambda _: None
    """How such a one is sampled, where an evaluation says how they all are."""


def jobs(entrants: Sequence[Entrant], evaluation: EvaluationConfig, inputs: Inputs, access: Access) -> list[Job]:
    """Every entrant on every test set of its scale, and on those of a scale of their own that its weights take.

    Raises:
        InputError: `evaluation.weights_dir` uses an environment variable that is not set; a process that cannot be
            sampled as the evaluation says.
    """
    made = []
    for (name, scale), bench in inputs.benchmarks.items():
        source = access.test_set(inputs, name, scale)
        own = inputs.data.test[name].scale is not None
        taking = [found for entrant in entrants if (found := _at(entrant, scale, any_scale=own)) is not None]
        made += [_job(entrant, evaluation, bench, source) for entrant in taking]
    return made


def bicubic(scale: float) -> Entrant:
    """The row that gains are measured from."""
    who = Identity(f"x{scale}/bicubic/-", "bicubic", "-", "-", "-", scale, "", -1, "none", "bicubic")
    hyper = json.dumps(sr_models.check("bicubic", scale, {}).model_dump(), sort_keys=True)
    return Entrant(identity=who, checkpoint=None, weights_sha256=None, hyper=hyper)


def ceilings(run: RunDir, plan: Plan, found: Mapping[str, WinnerRecord]) -> Iterator[Entrant]:
    """What each autoencoder makes of HR itself, of those that a winner's network that gives SR works in.

    Args:
        found: combination -> its winner.
    """
    seen: set[tuple[str, int]] = set()
    for one in [each for each in plan.combinations if each.gives_sr and "autoencoder" in each.parts]:
        for fingerprint in found[one.id].fingerprints if one.id in found else ():
            config = TrialRecord.read(run.trial(fingerprint) / TRIAL).trial_config()
            sha256 = sr_models.part_hashes(config.model, config.hyper)["autoencoder"]
            if (which := (sha256, one.scale)) in seen:
                continue
            seen.add(which)
            weights = one.parts["autoencoder"]
            label, objective = weights.name.split("/")[1:] if weights.kind == "from" else (sha256[:8], "-")
            who = Identity(
                f"x{one.scale}/{CEILING} of {label}/{objective}", f"{CEILING} of {label}", objective, "-", "-",
                one.scale, "", -1, CEILING, config.model,
            )  # fmt: skip
            hyper = json.dumps(config.hyper, sort_keys=True)
            yield Entrant(identity=who, checkpoint=None, weights_sha256=f"{sha256}:{CEILING}", hyper=hyper)


def winners(run: RunDir, plan: Plan) -> Iterator[Entrant]:
    """Bicubic at each scale of a test set; ceilings; every finished seed, raw and averaged, of winners that give SR.

    Raises:
        InputError: there are no winners yet.
    """
    if not run.winners.exists():
        raise InputError(f"{run.path} has no winners yet; name trials with --trial")
    found = read_winners(run.winners)
    yield from map(bicubic, plan.config.scored_scales)
    yield from ceilings(run, plan, found)
    for combination in [each for each in plan.combinations if each.gives_sr]:
        for fingerprint in found[combination.id].fingerprints if combination.id in found else ():
            folder = run.trial(fingerprint)
            for name in KINDS:  # no average was kept, or that seed failed (reported when it did)
                if (folder / name / "model.json").exists():
                    trial, steps = TrialRecord.read(folder / TRIAL), found[combination.id].params.get(STEPS)
                    yield _entrant(run, folder / name, trial, combination, steps)


def trials(home: Home, plan: Plan, named: str) -> Iterator[Entrant]:
    """A trial's weights, raw and averaged; those of one that is not finished as they stand, in a snapshot of the run.

    Args:
        named: the trial's fingerprint, or enough of its beginning to tell it from the others.

    Raises:
        InputError: no such trial or several; one without a checkpoint yet, or that learns something else than SR.
    """
    run = home.run
    roles = {run.trial(role.fingerprint).name: role for role in reversed(read_roles(run))}
    known = list(roles)
    matching = [name for name in known if named and (name.startswith(named) or named.startswith(name))]
    if len(matching) != 1:
        if matching:
            raise InputError(f"--trial: {named!r} is the beginning of {len(matching)} trials: {', '.join(matching)}")
        raise InputError(f"--trial: {run.name} has no trial {named!r}{nearest(named, known)}")
    role = roles[matching[0]]
    home.pull_weights(role.fingerprint)
    folder = run.trial(role.fingerprint)
    if not (folder / TRIAL).exists():
        raise InputError(f"--trial: {matching[0]} has not begun yet")
    trial = TrialRecord.read(folder / TRIAL)
    if not trial.trial_config().gives_sr:
        raise InputError(
            f"--trial: what {matching[0]} gives is no SR, so there is nothing to score; its losses are in "
            f"{folder / JOURNAL}"
        )
    combination = next((found for found in plan.combinations if found.id == role.combination), None)
    end = journal.end(journal.read(folder / JOURNAL))
    if end is None or end["status"] != "complete":
        folder, step = _snapshot(home, trial)
        trial = trial.model_copy(update={"fingerprint": f"{trial.fingerprint}@{step}"})
    for name in KINDS:
        if (folder / name / "model.json").exists():
            yield _entrant(run, folder / name, trial, combination, role.params.get(STEPS))


def snapshots(home: Home, entrant: Entrant) -> Iterator[Entrant]:
    """The weights that an entrant's trial has kept along its training, by rising step, raw and averaged.

    Raises:
        InputError: it keeps none, or one that its journal is past is gone.
    """
    fingerprint = entrant.identity.fingerprint.partition("@")[0]
    folder = home.run.trial(fingerprint)
    home.access.pull(home.run.name_of(folder), [TRIAL, JOURNAL, f"{SNAPSHOTS}/*"])
    steps = TrialRecord.read(folder / TRIAL).trial_config().train.snapshot_steps
    if not steps:
        raise InputError(
            f"--snapshots: {fingerprint[:16]} has kept none; run the sweep again with train.snapshots=[0.25,0.5,0.75]"
        )
    reached = journal.last_step(journal.read(folder / JOURNAL))
    for step in steps:
        at = folder / SNAPSHOTS / str(step)
        own = [at / kind for kind in KINDS if (at / kind / "model.json").exists()]
        if not own and reached > step:
            raise InputError(f"--snapshots: {at} is gone; delete {folder} and run the sweep again")
        for kept in own:
            info = CheckpointInfo.read(kept)
            yield replace(
                entrant,
                identity=replace(entrant.identity, fingerprint=f"{fingerprint}@{step}", weights=KINDS[kept.name]),
                checkpoint=home.run.name_of(kept),
                weights_sha256=info.weights_sha256,
                sigma=json.dumps(info.sigma, sort_keys=True) if info.sigma else "",
            )


def _at(entrant: Entrant, scale: float, *, any_scale: bool) -> Entrant | None:
    """An entrant at a scale of test sets; None where it is not scored there.

    Args:
        any_scale: whether weights of another scale are asked for; bicubic, which has none, is there at each.
    """
    who = entrant.identity
    if who.scale == scale:
        return entrant
    if not any_scale or entrant.checkpoint is None or not sr_models.spec(who.network).takes(scale):
        return None
    return replace(entrant, identity=replace(who, scale=scale, trained_scale=who.scale))


def options_of(entrant: Entrant, evaluation: EvaluationConfig) -> Options:
    """How an evaluation has an entrant compute its pictures."""
    drawn = entrant.sampled(evaluation)
    if drawn is not None and entrant.process is not None:
        drawn = settled(entrant.process, drawn)
    crops = None if drawn is None else evaluation.crops
    return Options(tile=evaluation.tile, overlap=evaluation.tile_overlap, sampling=drawn, crops=crops)


def _job(entrant: Entrant, evaluation: EvaluationConfig, bench: Benchmark, source: BenchmarkSource) -> Job:
    protocol = evaluation.full_protocol.model_copy(update={"lr_noise": source.noise})
    folder = evaluation.weights_dir and expand(evaluation.weights_dir, "evaluation.weights_dir")
    options = options_of(entrant, evaluation)
    subject = Subject(
        identity=entrant.identity,
        weights_sha256=entrant.weights_sha256,
        hyper=entrant.hyper,
        benchmark=bench.name,
        kernel=bench.kernel,
        protocol=protocol.id(bench.scale) + options.marks,
        seed=evaluation.seed,
        options=options,
        sigma=entrant.sigma,
        process=entrant.process.model_dump_json() if entrant.process else "",
        plugins=plugins_of(entrant.identity.network, evaluation.metrics),
    )
    return Job(
        subject=subject,
        checkpoint=entrant.checkpoint,
        source=source,
        protocol=protocol,
        metrics=evaluation.metrics,
        weights_dir=weights_folder(folder),
    )


def _entrant(
    run: RunDir, folder: Path, trial: TrialRecord, combination: Combination | None, steps: int | None
) -> Entrant:
    """A trial's weights in `folder`; `combination` is the cell of the table that it belongs to, a teacher to none.

    Args:
        steps: what its search chose to draw pictures in; None: the combination's own, if any, or all evaluation's.
    """
    steps = steps or (combination.steps if combination else None)
    config, info = trial.trial_config(), CheckpointInfo.read(folder)
    who = Identity(
        combination=combination.id if combination else f"x{config.scale}/teacher/{config.model}",
        model=combination.label if combination else f"teacher {config.model}",
        objective=combination.objective_label if combination else "-",
        target=config.objective.target.kind,
        loss=config.objective.loss.kind,
        scale=config.scale,
        fingerprint=trial.fingerprint,
        seed=config.seed,
        weights=KINDS[folder.name],
        network=config.model,
    )
    return Entrant(
        identity=who,
        checkpoint=run.name_of(folder),
        weights_sha256=info.weights_sha256,
        hyper=json.dumps(info.hyper, sort_keys=True),
        sigma=json.dumps(info.sigma, sort_keys=True) if info.sigma else "",
        process=info.process,
        sampled=partial(sampling, config.objective, steps=steps),
    )


def _snapshot(home: Home, trial: TrialRecord) -> tuple[Path, int]:
    """The weights in a trial's checkpoint as checkpoint folders, and the step that they are of."""
    config = trial.trial_config()
    own = home.run.trial(config.fingerprint)
    home.access.pull(home.run.name_of(own), [BEFORE, CHECKPOINT])
    state, passed_over = checkpoint.newest(own)
    for reason in passed_over.values():
        say(reason)
    if state is None:
        raise InputError(f"--trial: {config.fingerprint[:16]} has no checkpoint yet")
    step = int(state["step"])
    name = f"{SNAPSHOTS}/{own.name}@{step}"
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn and thrown away
        net = build_network(config, home.access.parts(config.model, config.hyper))
    net.load_state_dict(state["model"])
    export(home.run.path / name, net, config, state["ema"], None)
    home.access.push(name, ["*"])
    return home.run.path / name, step
