"""The workers of one trial, as one of them sees the others: `torch.distributed` among several, nothing at all alone.

DistributedDataParallel (https://arxiv.org/abs/2006.15704) averages gradients, over gloo on CPUs and NCCL on GPUs.
Whoever starts the workers opens the process group (Ray Train does); this only uses it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, distributed, nn


class Ranks:
    """This worker's place among `world` of them.

    Raises:
        ValueError: the process group that is open is of another size, or there is none for several workers.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        opened = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
        if world > 1 and opened != (rank, world):
            raise ValueError(f"rank {rank} of {world} was asked for, the process group says {opened[0]} of {opened[1]}")
        self.rank, self.world = rank, world

    @property
    def first(self) -> bool:
        """Whether this worker keeps the trial's files."""
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """The sum of all workers' `x`, in place and on all of them."""
        if self.world > 1:
            distributed.all_reduce(x)
        return x

    def wait(self) -> None:
        """Return when all workers have come here."""
        if self.world > 1:
            self.sum(torch.zeros(1, device=self._device))

    def align(self, tensors: Iterable[Tensor]) -> None:
        """Give all workers the first one's values, in place."""
        if self.world > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def agree(self, what: str, *numbers: int) -> None:
        """Hold that all workers start from the same place.

        Raises:
            ValueError: their numbers differ.
        """
        mine = torch.zeros(self.world, len(numbers), dtype=torch.int64)
        mine[self.rank] = torch.tensor(numbers)
        seen = self.sum(mine.to(self._device)).tolist()
        if any(each != seen[0] for each in seen):
            raise ValueError(f"the workers of a trial disagree on its {what}: {seen}; do they see one storage?")

    @property
    def _device(self) -> str:
        """Where numbers must lie to be exchanged."""
        return "cuda" if self.world > 1 and distributed.get_backend() == "nccl" else "cpu"

    def share(self, net: nn.Module) -> nn.Module:
        """The network as training steps must call it: its backward pass leaves the mean of all workers' gradients."""
        return nn.parallel.DistributedDataParallel(net) if self.world > 1 else net


def without_exchange(model: nn.Module) -> AbstractContextManager[None]:
    """Backward passes inside only add to this worker's own gradients; one outside, the last, exchanges the sum."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return model.no_sync()
    return nullcontext()
