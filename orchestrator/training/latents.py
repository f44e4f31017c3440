"""The latents of all training images under a network's own autoencoder, so that none of its steps encodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

import sr_models
from orchestrator.data import latents
from orchestrator.data.cells import ROWS
from orchestrator.data.store import PatchStore
from orchestrator.data.table import LATENTS, ImageTable
from orchestrator.training import products
from orchestrator.training.products import Make
from sr_models.diffusion.base import Denoiser

TILE_BYTES = 2 * 2**30
"""What a worker is reckoned to take with a tile, to which larger pictures are cut (`sr_models.diffusion.tiled`), of the
released autoencoders: VQ-f4's encoder took 1.0 GB (256 pixels) and Stable Diffusion's 1.7 GB (512 pixels), the whole
process, in one run each on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Job(products.Job):
    """The latents of one autoencoder, as a network reads them; their name is `TrialConfig.latents`."""

    what = "latents"
    kinds = ("z", "z_lr")
    rows = ROWS
    schema = LATENTS
    cure = "give workers more memory by fewer of them a node (resources.cpus_per_worker)"

    model: str
    scale: int
    hyper: str
    """JSON, with the parts' hashes."""

    def is_in(self, store: PatchStore) -> bool:
        return latents.are_in(store, self.name)

    def memory(self) -> Callable[[int, int], int]:
        return lambda height, width: TILE_BYTES

    def maker(self, store: PatchStore) -> Make:
        net = self._network()
        return latents.rows_by(store, net.state, net.enlarged, self._reduction, device=self.device)

    def origins(self, store: PatchStore, part: range, before: Sequence[ImageTable]) -> list[str]:
        return latents.origins(store, part, "lr" if before else "hr")

    def keep(self, store: PatchStore, make: Make, seconds: float) -> None:
        latents.add(store, self.name, make, self._reduction, seconds=seconds)

    @property
    def _reduction(self) -> int:
        found = sr_models.check(self.model, self.scale, json.loads(self.hyper)).latents
        assert found is not None, "`latents_of` names none of such a network"
        return found.reduction

    def _network(self) -> Denoiser:
        """With its autoencoder, and weights that are nowhere."""
        values = json.loads(self.hyper)
        with torch.device("meta"):
            net = sr_models.build(self.model, self.scale, parts=self.access.parts(self.model, values), **values)
        assert isinstance(net, Denoiser)
        return net
