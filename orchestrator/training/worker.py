"""What a worker does for a trial of a run, and what Ray sets aside for it."""

from __future__ import annotations

import functools
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from cluster.ray_runtime import TRIAL_SLOT
from eval.protocol import needs_backbone
from orchestrator.plan.resources import ResourceConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.run.access import Access
from orchestrator.run.journal import TrialResult
from orchestrator.training.loop import Reporter, run_trial
from sr_models.files import full_disk


def execute(
    trial: dict[str, Any],
    access: Access,
    *,
    device: str,
    threads: int,
    report: Reporter,
    rank: int = 0,
    world: int = 1,
    micro_batch: int | None = None,
    max_bytes: int | None = None,
    steered: bool,
    claimed: bool = False,
) -> TrialResult:
    """Run one trial of a run in this process, or this process's part of it, with its own number of threads.

    Args:
        claimed: whether who started this worker holds the trial already (`Access.claimed`), as `fit` does for a group,
            of which a single worker may be left.

    Raises:
        DiskFullError: of this node; the trial's journal says nothing of it.
    """
    import torch

    torch.set_num_threads(threads)
    config = TrialConfig.model_validate(trial)
    folder = access.trial_folder(config.fingerprint, rank)
    measured_by_networks = config.objective.perceives or needs_backbone(config.metrics)
    try:
        with nullcontext() if claimed else access.claimed(config.fingerprint):
            return run_trial(
                config,
                access.open_store(config.data_hash),
                report,
                device=device,
                rank=rank,
                world=world,
                out_dir=folder,
                init=access.init(config.init),
                parts=access.parts(config.model, config.hyper),
                micro_batch=micro_batch,
                max_bytes=max_bytes,
                weights_dir=access.weights_dir() if measured_by_networks else None,
                run=access.run.name,
                steered=steered,
                pull=functools.partial(access.pull_trial, config.fingerprint, rank),
                kept=functools.partial(access.push_trial, config.fingerprint),
            )
    except Exception as error:  # libraries wrap a full disk in errors of their own; all others go on as they are
        if full := full_disk(error, (folder,)):  # known here: what travels to the driver is less
            raise full from None
        raise
    finally:
        if folder != access.run.trial(config.fingerprint):
            shutil.rmtree(folder, ignore_errors=True)


def reserved_for_trial(resources: ResourceConfig) -> dict[str, Any]:
    """What Ray sets aside for a trial, in `ray.remote`'s words: its cores, or a slot where its workers hold them."""
    if resources.workers_per_trial > 1:
        return {"num_cpus": 0, "resources": {TRIAL_SLOT: 1}}
    return {"num_cpus": resources.cpus_per_worker, "num_gpus": resources.gpus_per_worker}


@dataclass(frozen=True)
class Crew:
    """What the trials of a run have in common: how they find it, what one of them holds, who decides about it."""

    access: Access
    resources: ResourceConfig
    device: str
    steered: bool
    """Whether they are compared by their validations."""
    verdicts: Any = None
    """Asked after each report whether the trial goes on; None: it does."""
