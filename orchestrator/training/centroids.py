"""mu and D(mu) of a teacher on all training images (ECO, https://arxiv.org/abs/2312.17526, supplement D)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import sr_models
from orchestrator.data.store import PatchStore
from orchestrator.data.table import ImageTable
from orchestrator.training import products
from orchestrator.training.products import Make
from sr_models.checkpoints.folder import CheckpointInfo, load_checkpoint
from sr_models.inference.bound import Bound
from sr_models.inference.super_resolve import Options, super_resolve

WHOLE_BYTES = 4 * 2**30
"""What an image may take in a worker; one that takes more is computed in tiles where these change nothing but rounding.
It decides on bits, so it is the same everywhere: `resources.max_bytes` may refuse an image, and never cuts it."""


@dataclass(frozen=True, kw_only=True)
class Job(products.Job):
    """The centroids of one teacher, whose name is `TeacherConfig.centroids`."""

    what = "centroids"
    kinds = ("mu", "mu_lr")
    cure = "declare teacher.tile"

    checkpoint: str
    """Name of the teacher's folder in the run."""
    tile: int | None
    tile_overlap: int

    def is_in(self, store: PatchStore) -> bool:
        return store.has_centroids(self.name)

    def memory(self) -> Callable[[int, int], int]:
        return Tiles.of(*load_checkpoint(self.access.run.at(self.checkpoint)), self).takes

    def maker(self, store: PatchStore) -> Make:
        net, info = load_checkpoint(self.access.fetch_folder(self.checkpoint))
        tiles = Tiles.of(net, info, self)
        net = net.to(self.device)

        def teach(lr_BCHW: torch.Tensor) -> torch.Tensor:
            return super_resolve(net, lr_BCHW, options=tiles.options(*lr_BCHW.shape[2:])).sr

        return store.centroids_by(teach, device=self.device)

    def origins(self, store: PatchStore, part: range, before: Sequence[ImageTable]) -> list[str]:
        return before[-1].hashes if before else store.origins(part)

    def keep(self, store: PatchStore, make: Make, seconds: float) -> None:
        store.add_centroids(self.name, make, seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How images are cut: as the config says, or else by `WHOLE_BYTES` where tiles change nothing but rounding."""

    bound: Bound
    given: Options

    @classmethod
    def of(cls, net: Any, info: CheckpointInfo, job: Job) -> Tiles:
        """Of a teacher that is still on the CPU: what it takes is measured there, whatever it then runs on."""
        bound = Bound.of(net, WHOLE_BYTES, tile_exact=sr_models.tile_exact(info.model, info.hyper))
        overlap = max(job.tile_overlap, bound.overlap or 0) if job.tile is not None else job.tile_overlap
        return cls(bound=bound, given=Options(tile=job.tile, overlap=overlap))

    def options(self, height: int, width: int) -> Options:
        """Of an image of so many LR pixels."""
        return self.bound.options(height, width, self.given)

    def takes(self, height: int, width: int) -> int:
        """Bytes that it takes so."""
        return self.bound.takes(height, width, self.options(height, width))
