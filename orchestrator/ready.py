"""What a sweep needs before it starts, looked at by a dry run and in the first second of a run: the same function.

Settings that are ignored (`orchestrator.plan.idle`), images by their headers (`orchestrator.data.look`), files of
weights by their names, what a trial holds against what is here, disk. Nothing heavy is imported: a run says what is
wrong before Ray or torch are.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.here import Machine, gpus_text, machine
from cluster.ray_runtime import Resources
from orchestrator import backbones
from orchestrator.data.look import Looked, look
from orchestrator.plan.cost import kept_bytes
from orchestrator.plan.idle import idle
from orchestrator.plan.plan import Plan
from orchestrator.plan.plugins import try_out
from orchestrator.plan.read import expand
from orchestrator.plan.resources import ResourceConfig, device_text, most_trials, resolved
from orchestrator.plan.services import Services
from orchestrator.run.folder import STORES, RunDir
from sr_models.checkpoints.located import located
from sr_models.errors import InputError, LostError
from sr_models.files import unwritable
from sr_models.text_table import counted


@dataclass(frozen=True, kw_only=True)
class Ready:
    """How things stand."""

    plan: Plan
    """With `resources: auto` replaced, where it is known by what."""
    device: str | None
    """What trials run on, in a line; None: not known before a cluster is joined, or not to be had."""
    cores: int
    """CPU cores in use at a time."""
    gpus: float
    """GPUs in use at a time."""
    lines: tuple[str, ...]
    """On images, frozen parts at the hub, and disk."""
    left_out: tuple[str, ...]
    """Images that are there and not used, settings that a part of the sweep ignores."""
    faults: tuple[str, ...]
    """For what a run is refused, the first thing first."""


def ready(plan: Plan, folder: Path, services: Services, *, join: bool = False) -> Ready:
    """Look at everything that a sweep needs, as far as that costs a second.

    Args:
        folder: of the run.
        join: whether to ask a cluster that `services` names, which takes seconds; a run does so a little later.
    """
    faults: list[str] = []
    here = machine()
    cluster: Resources | None = here.resources
    if services.address:
        cluster = None
        if join:
            try:
                cluster = _nodes(services)
            except (InputError, LostError) as error:
                faults.append(str(error))
    elif here.may_have_more and plan.config.resources.auto:
        cluster = None  # of GPUs that Ray alone counts, which settles `auto` as it starts
    device, cores, gpus = None, here.cpus, 0.0
    if cluster:
        resources = resolved(plan.config.resources, cluster)
        plan = replace(plan, config=plan.config.model_copy(update={"resources": resources}))
        try:
            held = most_trials(cluster, resources) * resources.workers_per_trial
            device = device_text(resources, cluster, None if services.address else here)
            cores, gpus = held * resources.cpus_per_worker, held * resources.gpus_per_worker
        except InputError as error:
            if services.address:
                faults.append(str(error))
            elif not (here.may_have_more and resources.gpus_per_worker):
                faults.append(_too_little(resources, here))
    try:
        backbones.check(plan.config)
        try_out(plan)
    except InputError as error:
        faults.append(str(error))
    looked = look(plan.config, plan.patches)
    lacking_weights, at_hub = _weights(plan)
    faults = [*looked.faults, *lacking_weights, *faults]
    disk, lacking = _disk(plan, folder, looked)
    if lacking:
        faults.append(lacking)
    if line := unwritable(folder, "--output"):
        faults.append(line)
    return Ready(
        plan=plan, device=device, cores=cores, gpus=gpus, lines=(*looked.images, *at_hub, disk),
        left_out=(*idle(plan), *looked.left_out), faults=tuple(faults),
    )  # fmt: skip


def refusal(faults: tuple[str, ...]) -> InputError:
    """What a run ends with: the first fault, and how many more a dry run lists."""
    more = f" (and {len(faults) - 1} more, which --dry-run lists)" if len(faults) > 1 else ""
    return InputError(f"{faults[0]}{more}")


def _weights(plan: Plan) -> tuple[list[str], list[str]]:
    """Why files that networks start from, stand on or are taught by cannot be used; a line on each part at the hub.

    Whether they hold what they should is known once they are read, after the images.
    """
    faults: dict[str, None] = {}  # several scales may name one file
    at_hub: dict[str, None] = {}
    for key, part, scale, weights in plan.given:
        if weights.kind != "file":
            continue
        try:
            if located(Path(expand(weights.name, key, scale)), part) is None:
                at_hub[f"{key}: no {weights.name} is here, so a run takes it from the hub, or from its cache"] = None
        except InputError as error:
            faults[f"{key}: {str(error).removeprefix(f'{key}: ')}"] = None
    return [*faults], [*at_hub]


def _nodes(services: Services) -> Resources:
    """What a cluster offers. Raises InputError, LostError: it does not let us in."""
    from cluster import ray_runtime

    with ray_runtime.connect(
        services.address, allow_anonymous=services.allow_anonymous, may_add=services.may_add
    ) as found:
        return found


def _too_little(resources: ResourceConfig, here: Machine) -> str:
    """Why a trial does not fit on this machine, and what does."""
    workers, gpus = resources.min_workers or resources.workers_per_trial, resources.gpus_per_worker
    needs = f"{counted(resources.cpus_per_worker, 'CPU core')} and {counted(gpus, 'GPU')}"
    needs = f"{workers} workers with {needs} each" if workers > 1 else needs
    has = gpus_text(here.gpus) if here.gpus else "no GPU"
    return (
        f"resources: a trial needs {needs}, and this machine has {counted(here.cpus, 'core')} and {has}"
        f"{f' ({here.unusable})' * bool(here.unusable)}; set resources.cpus_per_worker and gpus_per_worker, or let "
        "`resources: auto` do so, or name a cluster by --address"
    )


def _disk(plan: Plan, folder: Path, looked: Looked) -> tuple[str, str | None]:
    """A line on the disk that stores and trials take, and why that cannot be, where it surely cannot.

    Sure is what decoded images take, which are stored as they are; a sweep that goes on may have them already.
    """
    stores = 0
    for scale, (every, trained) in looked.store_bytes.items():
        stores += every + (trained if scale in plan.teacher_scales else 0)
    kept = kept_bytes(plan)
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    line = (
        f"disk: {_size(stores)} for decoded images, up to about {_size(kept)} for weights and checkpoints; "
        f"{_size(free)} free at {place}"
    )
    built = RunDir(folder).at(STORES)
    if stores > free and not (built.exists() and any(built.iterdir())):
        return line, f"--output: decoded images take {_size(stores)}, and {_size(free)} are free at {place}"
    return (f"{line}: it may become full" if stores + kept > free else line), None


def _size(count: float) -> str:
    """Bytes as people say them."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= one:
            return f"{count / one:.3g} {unit}"
    return "under 1 MB"
