"""Weights that trials begin with: a model's start, the frozen parts it stands on, and the teacher of kd and ECO."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch

import sr_models
from orchestrator.plan.combination import Combination
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.graph import refuse_drawn
from orchestrator.plan.plan import Plan
from orchestrator.plan.teacher import TeacherConfig
from orchestrator.run import journal
from orchestrator.run.budget import Meter
from orchestrator.run.driver import Home
from orchestrator.run.folder import SHARED, TRIALS
from orchestrator.run.progress import bar, moves, say
from orchestrator.run.records import TRIAL, TrialRecord, exported
from orchestrator.run.roles import Roles
from orchestrator.training import centroids, products
from orchestrator.training import in_full as workers
from orchestrator.training.products import Room
from sr_models.checkpoints import published, zoo
from sr_models.checkpoints.folder import load_checkpoint, save_checkpoint
from sr_models.checkpoints.parts import packed
from sr_models.diffusion.base import Denoiser
from sr_models.errors import InputError
from sr_models.files import replacing


def finished_trial(home: Home, beginning: str, where: str) -> str:
    """The fingerprint of a trial of the output that has come to its end; its weights are then on this machine.

    Args:
        beginning: of its fingerprint, 8 digits or more.
        where: begins what is refused.

    Raises:
        InputError: no such trial, several, or one that has not come to its end.
    """
    names = sorted(name for name in home.access.entries(TRIALS) if name.startswith(beginning[:16]))
    if len(names) != 1:
        found = f"{len(names)} trials begin so: {', '.join(names)}" if names else "it has none that begins so"
        raise InputError(f"{where}: no trial {beginning!r} in {home.run.output / SHARED}; {found}")
    home.pull_weights(names[0])
    folder = home.run.trial(names[0])
    result = journal.outcome(journal.read(folder / journal.JOURNAL))
    if result is None or result.status != "complete" or not (folder / TRIAL).exists():
        raise InputError(f"{where}: trial {names[0]} has not come to its end ({result.status if result else 'no end'})")
    fingerprint = TrialRecord.read(folder / TRIAL).fingerprint
    if not fingerprint.startswith(beginning):
        raise InputError(f"{where}: no trial {beginning!r}; the one whose name begins so is {fingerprint}")
    return fingerprint


def check_start(one: Combination, source: Combination) -> None:
    """Hold that the network of a combination can start from another one's.

    Raises:
        InputError: it cannot.
    """
    with torch.random.fork_rng(devices=[]):  # weights are drawn and thrown away
        state = sr_models.build(source.network, source.scale, **source.hyper).state_dict()
        net = sr_models.build(one.network, one.scale, **one.hyper)
    try:
        published.initialise(net, state)
    except InputError as error:
        raise InputError(f"models.{one.label}.init: {one.id} from {source.id}: {error}") from None


def start_weights(config: SweepConfig, home: Home, label: str, path: Path, scale: int) -> str:
    """The hash of the weights that a model starts from; afterwards they lie in the run folder, and they fit.

    Raises:
        InputError: weights that cannot be read, or are of another network.
    """
    sha, payload = start_of(config, label, path, scale)
    with replacing(home.run.init(sha)) as part:
        part.write_bytes(payload)
    return sha


def start_of(config: SweepConfig, label: str, path: Path, scale: int) -> tuple[str, bytes]:
    """The hash of the weights that a model starts from, and they as safetensors. Raises as `start_weights`."""
    network, given, _train = config.network(label)
    try:
        state = published.read(path, model=network)
        published.initialise(sr_models.build(network, scale, **given), state)
    except InputError as error:
        raise InputError(f"models.{label}.init at x{scale}: {error}") from None
    payload = safetensors.torch.save({key: value.contiguous() for key, value in state.items()})
    return hashlib.sha256(payload).hexdigest(), payload


def keep_part(config: SweepConfig, home: Home, label: str, name: str, path: Path, scale: int) -> str:
    """The hash of a frozen part that a model stands on; afterwards it lies in the run folder, and can be used.

    Raises:
        InputError: it cannot be read, or is no such part.
    """
    where = f"models.{label}.{name} at x{scale}"
    network, given, _train = config.network(label)
    try:
        sha, payload = packed(path, name)
        with replacing(home.run.init(sha)) as part:
            part.write_bytes(payload)
        with torch.device("meta"):
            net = sr_models.build(network, scale, parts={name: home.run.init(sha)}, **given)
        if isinstance(net, Denoiser):
            net.check_part(name)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return sha


def teach(
    plan: Plan,
    home: Home,
    roles: Roles,
    scale: int,
    data_hash: str,
    room: Callable[[], Room],
    device: str,
    given: Path | None,
    meter: Meter,
) -> str:
    """The name of the teacher's centroids at `scale` (`TeacherConfig.centroids`); afterwards they are in the store.

    Args:
        data_hash: of the scale's images.
        room: what training it, and its outputs, may hold; asked if there is something to do.
        given: its weights; None: it is trained first.

    Raises:
        InputError: weights that do not fit, a training that failed; as `products.bring`.
    """
    teacher = plan.config.teacher
    assert teacher is not None  # the plan refuses objectives that need one otherwise
    if given is None:
        name = _trained(plan, home, roles, scale, data_hash, room, device, meter)
    elif given.is_relative_to(home.run.output / SHARED):
        name = home.run.name_of(given)
    else:
        name = _kept(teacher, home, scale, given)
    _, info = load_checkpoint(home.run.at(name))
    if info.scale != scale:
        raise InputError(f"teacher.weights: {given} is a x{info.scale} network, needed at x{scale}")
    refuse_drawn(info.model)
    home.push()
    job = centroids.Job(
        access=home.access.for_workers(),
        checkpoint=name,
        name=teacher.centroids(info.weights_sha256),
        data_hash=data_hash,
        tile=teacher.tile,
        tile_overlap=teacher.tile_overlap,
        device=device,
    )
    products.bring(job, home.access, room, f"centroids x{scale}", meter)
    return job.name


def _kept(teacher: TeacherConfig, home: Home, scale: int, source: Path) -> str:
    """The folder, by its name in the run, of weights from elsewhere: kept there as a checkpoint of ours."""
    name = f"teacher/x{scale}"
    if source.is_dir():
        load_checkpoint(source)  # refuses what is no checkpoint of ours
        shutil.copytree(source, home.run.path / name, dirs_exist_ok=True)
        return name
    model, hyper = teacher.model, teacher.hyper
    try:
        net = published.load_weights(source, model=model, scale=scale, hyper=hyper)
    except InputError as error:
        if teacher.hyper or model != TeacherConfig.model_fields["model"].default:
            raise
        try:
            found, _ = zoo.read(source)
        except InputError as other:
            raise InputError(f"{error}; nor is it another project's: {other}") from None
        say(f"teacher.weights: {source} is no {model}; by spandrel it is {found.architecture} x{found.factor}")
        model, hyper = sr_models.ZOO.name, found.model_dump()
        net = published.load_weights(source, model=model, scale=scale, hyper=hyper)
    save_checkpoint(
        home.run.path / name,
        net,
        model=model,
        scale=scale,
        hyper=hyper,
        sigma=None,
        ema=False,
        fingerprint=None,
    )
    return name


def _trained(
    plan: Plan,
    home: Home,
    roles: Roles,
    scale: int,
    data_hash: str,
    room: Callable[[], Room],
    device: str,
    meter: Meter,
) -> str:
    """The folder, by its name, of a teacher that the sweep trains itself."""
    trial = plan.teacher_trial(scale, data_hash)
    roles.add(trial, combination=None, role="teacher")
    result = home.access.result(trial.fingerprint)
    if result is None or result.status != "complete" or not home.access.measures(trial, steered=False):
        resources = room().resources
        with bar(f"teacher x{scale}", trial.train.steps, "step", cost=lambda: meter.spent.rate) as made:
            [result] = workers.run_in_full(
                [trial], home.access, resources, device, moves(made), meter, at_a_time=lambda: 1
            )
    if result.status != "complete":
        cure = "change teacher.train" if result.is_final else "the same command tries it again"
        raise InputError(f"teacher: training at x{scale} failed at step {result.step}: {result.cause}; {cure}")
    home.pull_weights(trial.fingerprint)
    return home.run.name_of(exported(home.run, trial.fingerprint))
