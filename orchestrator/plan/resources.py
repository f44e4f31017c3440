"""What one trial holds of a cluster: workers, cores, GPUs and memory; and how many trials that makes at a time."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cluster import capacity
from cluster.here import Machine, gpus_text
from cluster.ray_runtime import Resources
from orchestrator.plan.train import MOST_BATCH, MOST_COUNT
from sr_models.params import Params
from sr_models.text_table import counted

MOST_CORES = 4
"""CPU cores that `auto` gives a worker with a GPU: they make its batches, and more have nothing to do."""


class ResourceConfig(Params):
    """What one trial holds; in no fingerprint, though bit-equality needs the same machine, cores and workers.

    `resources: auto` stands for `{auto: true}`.
    """

    auto: bool = Field(
        default=False,
        exclude_if=lambda auto: not auto,
        description="a GPU for each worker, and its share of the cores, where there are GPUs; else a core and no GPU",
    )
    workers_per_trial: int = Field(
        default=1,
        ge=1,
        le=MOST_COUNT,
        description="processes of one trial, over as many nodes as it takes; they share each batch",
    )
    min_workers: int | None = Field(
        default=None,
        ge=1,
        le=MOST_COUNT,
        description="go on with this many while nodes are missing; null waits for all of them",
    )
    cpus_per_worker: int = Field(default=1, ge=1, le=MOST_COUNT, description="CPU cores and threads of one worker")
    gpus_per_worker: float = Field(
        default=0, ge=0, le=MOST_COUNT, description="GPUs of one worker; a fraction shares a GPU"
    )
    placement: Literal["pack", "spread"] = Field(
        default="pack", description="workers of a trial on few nodes (fast exchange) or on many (one loss costs less)"
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        le=MOST_BATCH,
        description="most patches in one forward pass of a worker; the rest of its share follows",
    )
    max_concurrent: int | None = Field(
        default=None, ge=1, le=MOST_COUNT, description="trials at a time; null lets the cluster's size decide"
    )
    max_restarts: int = Field(
        default=3, ge=0, le=MOST_COUNT, description="restarts of a trial whose worker or node was lost"
    )
    max_bytes: Literal["auto"] | Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="memory that one picture may take in a worker; larger ones are computed in tiles where these "
        "change nothing, refused before training elsewhere; auto: a worker's share of its node or GPU; null: any",
    )

    @property
    def bound(self) -> int | None:
        """`max_bytes`, once `orchestrator.session` has replaced auto by a number."""
        assert self.max_bytes != "auto"
        return self.max_bytes

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        if isinstance(given, str):
            if given != "auto":
                raise ValueError("give a mapping of keys to values, or auto")
            return {"auto": True}
        return given

    @model_validator(mode="after")
    def _possible(self) -> ResourceConfig:
        if self.auto and (self.cpus_per_worker, self.gpus_per_worker) != (1, 0):
            raise ValueError("auto decides on cpus_per_worker and gpus_per_worker; leave them out, or auto")
        if self.min_workers is not None and self.min_workers > self.workers_per_trial:
            raise ValueError(f"min_workers {self.min_workers} is more than workers_per_trial {self.workers_per_trial}")
        if self.gpus_per_worker % 1 and (self.gpus_per_worker > 1 or self.workers_per_trial > 1):
            raise ValueError(
                f"gpus_per_worker must be whole, or below 1 where a trial has one worker, got {self.gpus_per_worker:g}"
            )
        return self


def most_trials(cluster: Resources, resources: ResourceConfig) -> int:
    """Trials at a time: what the nodes hold, or fewer if the config says so.

    Raises:
        InputError: trials that no node could ever hold.
    """
    return capacity.trials_at_a_time(
        cluster,
        cpus=resources.cpus_per_worker,
        gpus=resources.gpus_per_worker,
        workers=resources.workers_per_trial,
        min_workers=resources.min_workers,
        most=resources.max_concurrent,
    )


def resolved(resources: ResourceConfig, cluster: Resources) -> ResourceConfig:
    """The same with numbers in the place of `auto`, by the nodes that a cluster has or may still get."""
    if not resources.auto:
        return resources
    shares = [node.cpus // node.gpus for node in cluster.may_have if node.gpus]
    chosen = {"gpus_per_worker": 1.0, "cpus_per_worker": max(min(*shares, MOST_CORES), 1)} if shares else {}
    return resources.model_copy(update={"auto": False, **chosen})


def device_text(resources: ResourceConfig, cluster: Resources, machine: Machine | None) -> str:
    """What trials run on, in a line: the device first, and GPUs that are there and not used.

    Args:
        resources: without `auto`.
        machine: this one, where the cluster is started on it.

    Raises:
        InputError: as `most_trials`.
    """
    trials = most_trials(cluster, resources)
    each, workers = resources.gpus_per_worker, resources.workers_per_trial
    held = trials * workers
    at_a_time = f"{trials} trial{'s'[: trials != 1]} at a time"
    a_worker = f"{resources.cpus_per_worker} CPU core{'s'[: resources.cpus_per_worker != 1]}"
    if each:
        gpus = gpus_text(machine.gpus) if machine else counted(cluster.gpus, "GPU")
        share = f"{each:g} GPU{'s'[: each > 1]} and {a_worker} a worker"
        return f"device: GPU, {held * each:g} of {gpus}; {share}, {at_a_time}"
    cores = sum(node.cpus for node in cluster.may_have)
    line = f"device: CPU, {held * resources.cpus_per_worker} of {cores} cores; {a_worker} a worker, {at_a_time}"
    if machine and machine.unusable:
        return f"{line}; {gpus_text(machine.gpus)} here and not used: {machine.unusable}"
    if cluster.gpus or (machine and machine.gpus):
        there = gpus_text(machine.gpus) if machine and machine.gpus else counted(cluster.gpus, "GPU")
        return f"{line}; {there} here and not used: `resources: auto` (or gpus_per_worker) uses them"
    return f"{line}; no GPU is here"
