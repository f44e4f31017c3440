"""How often a loss pushes a pixel away from its target.

He and Cheng (https://arxiv.org/abs/2201.10084), Eq. 7 and 8: with constant noise on the target, the sign of the
gradient may be wrong; with the expectation loss, whose σ is |y - μ| itself, it never is, as long as the gradient passes
through σ.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Signs:
    """Elements of a gradient, counted; counts of parts add up."""

    wrong: int
    """Of the sign opposite to the reference's."""
    right: int
    silent: int
    """Where one of the two is 0: nothing is pushed, or there is nothing to say."""

    @property
    def wrong_share(self) -> float:
        """Of the elements that are pushed; 0 if there is none."""
        pushed = self.wrong + self.right
        return self.wrong / pushed if pushed else 0.0

    def __add__(self, other: Signs) -> Signs:
        return Signs(wrong=self.wrong + other.wrong, right=self.right + other.right, silent=self.silent + other.silent)


def compare(gradients: Iterable[Tensor], references: Iterable[Tensor]) -> Signs:
    """Count where gradients point against those of a reference, such as L1 to the same target: of one shape."""
    wrong = right = silent = 0
    for gradient, reference in zip(gradients, references, strict=True):
        product = gradient.sign() * reference.sign()
        wrong += int((product < 0).sum())
        right += int((product > 0).sum())
        silent += int((product == 0).sum())
    return Signs(wrong=wrong, right=right, silent=silent)


def detached_expectation(error: Tensor, generator: torch.Generator) -> Tensor:
    """Gradient of the expectation loss whose σ = |y - μ| is cut off, what Eq. 8 is not: -sgn(e - |e| z), e = y - μ.

    `error` is e, of any shape, which the result has too. Wrong where z is beyond one standard deviation on one side:
    15.9 % of the elements.
    """
    z = torch.randn(error.shape, generator=generator, dtype=error.dtype).to(error.device)
    return -(error - error.abs() * z).sign()
