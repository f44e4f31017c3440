"""What one trial holds of a cluster: workers, cores, GPUs and memory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from orchestrator.plan.train import MOST_BATCH, MOST_COUNT
from sr_models.params import Params


class ResourceConfig(Params):
    """What one trial holds; in no fingerprint, though bit-equality needs the same machine, cores and workers."""

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

    @model_validator(mode="after")
    def _possible(self) -> ResourceConfig:
        if self.min_workers is not None and self.min_workers > self.workers_per_trial:
            raise ValueError(f"min_workers {self.min_workers} is more than workers_per_trial {self.workers_per_trial}")
        if self.gpus_per_worker % 1 and (self.gpus_per_worker > 1 or self.workers_per_trial > 1):
            raise ValueError(
                f"gpus_per_worker must be whole, or below 1 where a trial has one worker, got {self.gpus_per_worker:g}"
            )
        return self
