"""What a predicted spread σ is worth beside its scores: how often errors lie within it, and whether it finds the worst.

For the σ of He and Cheng (https://arxiv.org/abs/2201.10084), read as the standard deviation of a normal distribution
about the picture, as its predictive log likelihood does (Eq. 11). Sparsification is Ilg et al.'s
(https://arxiv.org/abs/1802.07095). Neither is in the paper.

Shapes: N elements (pixels and channels of one image).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eval.metrics.uncertainty import SIGMA_FLOOR

LEVELS = tuple(i / 20 for i in range(1, 20))
"""Nominal coverages."""

REMOVED = tuple(i / 20 for i in range(20))
"""Shares of the elements that sparsification takes away."""


def coverage(error_N: Tensor, sigma_N: Tensor) -> Tensor:
    """For each of `LEVELS`, the share of errors within the central interval of that probability under N(0, σ²).

    Args:
        error_N: |y - μ| >= 0.
        sigma_N: in the same unit; less than `SIGMA_FLOOR` counts as that much.

    Returns:
        (len(LEVELS),) float64.
    """
    ratio = (error_N.double() / sigma_N.double().clamp(min=SIGMA_FLOOR)).sort().values
    reach = math.sqrt(2) * torch.erfinv(torch.tensor(LEVELS, dtype=torch.float64)).to(ratio.device)
    return (torch.searchsorted(ratio, reach, right=True).double() / len(ratio)).cpu()


def sparsification(error_N: Tensor, ranking_N: Tensor) -> Tensor:
    """For each of `REMOVED`, the mean error of what is left when the elements of the largest ranking are taken away.

    With σ as the ranking: falls where σ finds the errors. With the error itself: the oracle, which nothing can beat.
    Equal ranks go in the order in which they come.

    Returns:
        (len(REMOVED),) float64, as fractions of the mean over all; 1 throughout where there is no error.
    """
    order = ranking_N.argsort(stable=True)
    sums = error_N.double()[order].cumsum(0)
    kept = torch.tensor([max(round((1 - removed) * len(order)), 1) for removed in REMOVED], device=sums.device)
    means = sums[kept - 1] / kept
    return (means / means[0]).cpu() if means[0] > 0 else torch.ones(len(REMOVED), dtype=torch.float64)
