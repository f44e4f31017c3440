"""How much a stochastic network's results depend on its noise: G-STD of scores and L-STD of pixels over N draws.

Both are CCSR's (https://arxiv.org/abs/2401.00877, Eq. 4 and 5), with standard deviations of the population (divided by
N) and the mean over images taken last. The running sums are Welford's (https://doi.org/10.1080/00401706.1962.10490022).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch
from torch import Tensor


class Spread:
    """Mean and standard deviation of each pixel over draws that come one by one, in the memory of one picture.

    Attributes:
        count: draws so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._squares = torch.zeros(0)

    def add(self, picture: Tensor) -> None:
        """Take one draw, of any shape; the first one is kept as it is until another comes.

        Raises:
            ValueError: its shape is not that of the draws before.
        """
        if self.count == 0:
            self._mean, self.count = picture, 1
            return
        x = picture.double()
        if self.count == 1:
            self._mean, self._squares = self._mean.to(torch.float64, copy=True), torch.zeros_like(x)
        if x.shape != self._mean.shape:
            raise ValueError(f"draws must have one shape, got {tuple(x.shape)} after {tuple(self._mean.shape)}")
        self.count += 1
        step = x - self._mean
        self._mean += step / self.count
        self._squares.addcmul_(step, x - self._mean)

    def std(self) -> Tensor:
        """Population standard deviation of each pixel, float64, in the unit and shape of the draws.

        Raises:
            ValueError: there was no draw.
        """
        if self.count == 0:
            raise ValueError("a spread needs at least one draw, got none")
        return torch.zeros_like(self._mean).double() if self.count == 1 else (self._squares / self.count).sqrt()

    def l_std(self) -> float:
        """L-STD of one image, in the unit of the draws: the mean of `std` over pixels and channels (Eq. 5)."""
        return float(self.std().mean()) if self.count != 1 else 0.0


def g_std(scores: Sequence[float]) -> float:
    """G-STD of one image: the population standard deviation of its scores over draws, in the metric's unit (Eq. 4).

    Exactly 0 where all scores are equal; NaN where they differ and one is not finite (a draw that equals HR).

    Raises:
        ValueError: no scores.
    """
    if not scores:
        raise ValueError("G-STD needs at least one score, got none")
    if len(set(scores)) == 1:
        return 0.0
    return statistics.pstdev(scores) if all(map(math.isfinite, scores)) else math.nan
