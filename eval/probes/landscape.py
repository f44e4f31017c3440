"""How smooth a loss is where training steps: its range along the gradient, and how fast the gradient turns there.

ECO (https://arxiv.org/abs/2312.17526), Fig. 2, which takes the two measures from Santurkar et al.
(https://arxiv.org/abs/1805.11604): at a step of training, move along the gradient of one batch's loss over several step
lengths, and record the range of that loss and the largest L2 difference of the gradient. The paper prints no lengths.
Ours are fractions of the L2 norm of the weights, so that networks of any size and learning rate move alike; `LENGTHS`
reach from far below one optimiser step to where a short-trained network's loss has turned up again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eval.probes.gradients import Loss, Samples, mean_gradient

LENGTHS = (0.0005, 0.001, 0.002, 0.004, 0.008)
"""Step lengths, as fractions of the weights' norm."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One step down the gradient, and what is found there."""

    length: float
    """Fraction of the weights' norm."""
    distance: float
    """L2, of all weights together."""
    loss: float
    gradient_difference: float
    """L2, from the gradient at the start."""


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """What a loss does along its gradient."""

    loss: float
    """At the start."""
    gradient_norm: float
    weight_norm: float
    places: tuple[Place, ...]
    """By rising length; none where the gradient is 0: there is no direction to go."""

    @property
    def low(self) -> float:
        """The smallest loss, the start's among them."""
        return min([self.loss, *(place.loss for place in self.places)])

    @property
    def high(self) -> float:
        """The largest."""
        return max([self.loss, *(place.loss for place in self.places)])

    @property
    def gradient_difference(self) -> float:
        """The largest."""
        return max((place.gradient_difference for place in self.places), default=0.0)

    @property
    def smoothness(self) -> float:
        """Effective smoothness: the largest gradient difference over the distance that it took; smaller is smoother."""
        return max((place.gradient_difference / place.distance for place in self.places), default=0.0)


def landscape(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    loss: Loss,
    batch: Samples,
    *,
    lengths: Sequence[float] = LENGTHS,
    at_once: int = 16,
) -> Landscape:
    """Walk down the gradient of a batch's mean loss; the weights are afterwards what they were, bit for bit.

    Args:
        parameters: what moves.
        loss: the same function each time: noise that it draws must be keyed, not drawn afresh.
        lengths: fractions of the L2 norm of `parameters`, positive.
        at_once: most samples in one pass. In memory are the weights twice and two gradients.
    """
    start, gradient = mean_gradient(model, parameters, loss, batch, at_once=at_once)
    norm, weights = _norm(gradient), _norm([parameter.detach() for parameter in parameters])
    own = [parameter.detach().clone() for parameter in parameters]
    places = []
    try:
        for length in lengths if norm > 0 else ():
            distance = length * weights
            _set(parameters, [w - g * (distance / norm) for w, g in zip(own, gradient, strict=True)])
            value, there = mean_gradient(model, parameters, loss, batch, at_once=at_once)
            turned = _norm([a - b for a, b in zip(there, gradient, strict=True)])
            places.append(Place(length=length, distance=distance, loss=value, gradient_difference=turned))
    finally:
        _set(parameters, own)
    return Landscape(loss=start, gradient_norm=norm, weight_norm=weights, places=tuple(places))


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack([tensor.double().square().sum() for tensor in tensors]).sum().sqrt())


@torch.no_grad()
def _set(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
