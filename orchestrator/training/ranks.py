"""The workers of one trial, as one of them sees the others: `torch.distributed` among several, nothing at all alone.

Gradients are summed in large buckets as DistributedDataParallel does it (https://arxiv.org/abs/2006.15704), over gloo
on CPUs and NCCL on GPUs, but after the backward passes, and for one update alone: updates may share parameters. Whoever
starts the workers opens the process group (Ray Train does); this only uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, distributed

BUCKET = 25 * 2**18
"""Numbers in one exchange of gradients, 25 MiB of float32: few enough to copy, enough that none waits for latency."""


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

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Make each parameter's gradient the sum of all workers'; the same ones must have a gradient on all of them."""
        if self.world == 1:
            return
        for bucket in _buckets(p.grad for p in parameters if p.grad is not None):
            flat = self.sum(torch.cat([gradient.reshape(-1) for gradient in bucket]))
            for gradient, total in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(total.view(gradient.shape))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Runs of tensors that hold `BUCKET` numbers together, or a little more."""
    bucket: list[Tensor] = []
    numbers = 0
    for tensor in tensors:
        bucket.append(tensor)
        numbers += tensor.numel()
        if numbers >= BUCKET:
            yield bucket
            bucket, numbers = [], 0
    if bucket:
        yield bucket
