"""Gradients of any training loss: of a network's parameters, and of what it puts out.

A loss is a callable `loss(model, batch)` that returns one value a sample; a batch is anything that has a length and can
be cut into parts. So nothing here knows objectives. Source of what is looked at: ECO
(https://arxiv.org/abs/2312.17526), Fig. 2 and 9.

Shapes: B samples, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn


class Samples(Protocol):
    """A batch, as far as probes look into it."""

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int) -> Self:
        """Samples `start` to `stop`."""


Loss = Callable[[nn.Module, Any], Tensor]
"""(model, batch) -> (B,), what each sample costs."""


def mean_gradient(
    model: nn.Module, parameters: Sequence[nn.Parameter], loss: Loss, batch: Samples, *, at_once: int
) -> tuple[float, list[Tensor]]:
    """The mean loss of a batch, and its gradient, one tensor a parameter; zeros where a parameter has no part in it.

    Args:
        at_once: most samples in one pass, which bounds memory. Parts differ from the whole in the order of float
            additions alone, unless a loss looks at all of its batch.
    """
    total, sums = 0.0, [torch.zeros_like(parameter) for parameter in parameters]
    for part in parts(batch, at_once):
        share = loss(model, part).sum() / len(batch)
        total += float(share.detach())
        found = torch.autograd.grad(share, list(parameters), allow_unused=True)
        for sum_, gradient in zip(sums, found, strict=True):
            if gradient is not None:
                sum_ += gradient
    return total, sums


def output_gradients(model: nn.Module, loss: Loss, batch: Samples, *, at_once: int) -> Iterator[list[Tensor]]:
    """For each part of a batch: the gradient of every sample's own loss with respect to the picture that it gave.

    The network itself is not differentiated. What it returns beside the picture, a σ, is taken as given.

    Returns:
        One (B, C, H, W) for each time that the loss called the network, on its device, times C H W: of a mean absolute
        error each element is 1 or -1 (or 0).
    """
    for part in parts(batch, at_once):
        tapped = _Tapped(model)
        total = loss(tapped, part).sum()
        pictures = tapped.pictures
        found = torch.autograd.grad(total, pictures, allow_unused=True)
        yield [
            (torch.zeros_like(picture) if gradient is None else gradient) * picture[0].numel()
            for picture, gradient in zip(pictures, found, strict=True)
        ]


def parts(batch: Samples, at_once: int) -> Iterator[Any]:
    """A batch in pieces of at most `at_once` samples."""
    for start in range(0, len(batch), at_once):
        yield batch.part(start, min(start + at_once, len(batch)))


class _Tapped(nn.Module):
    """A network whose pictures are where gradients end; `pictures` holds them in the order of the calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.pictures = model, list[Tensor]()

    def forward(self, lr_BCHW: Tensor) -> Any:
        with torch.no_grad():
            found = self.model(lr_BCHW)
        sr, *beside = found if isinstance(found, tuple) else (found,)
        self.pictures.append(sr.detach().requires_grad_())
        return (self.pictures[-1], *beside) if beside else self.pictures[-1]
