"""Where in spatial frequency a loss's gradient with respect to the picture lives.

ECO (https://arxiv.org/abs/2312.17526), Fig. 9, of which the paper prints no more than the curve. Ours: the power of the
two-dimensional Fourier transform of the gradient (no window; orthonormal, so that the mean power over all frequencies
is the mean square of the gradient), averaged over channels and samples, and around rings of equal distance from zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

MOST_RINGS = 32
"""From 0 to 0.5 cycles a pixel; small images have as many as there are frequencies."""


@dataclass(frozen=True)
class Spectrum:
    """Power by rings of frequency, summed over images of one size, so that parts of a batch add up.

    Attributes:
        power: (R,) float64: of each ring, its mean over channels and frequencies. The last ring is what lies in the
            corners, beyond 0.5 cycles a pixel.
        energy: (R,) float64: the ring's part of the mean over all frequencies.
        images: how many.
    """

    power: Tensor
    energy: Tensor
    images: int

    @classmethod
    def of(cls, x_BCHW: Tensor) -> Self:
        """Of a batch of images."""
        height, width = x_BCHW.shape[2:]
        power_HW = torch.fft.fft2(x_BCHW.double(), norm="ortho").abs().square().mean(1).sum(0).cpu()
        ring = rings(height, width).flatten()
        counts = torch.bincount(ring)
        sums = torch.zeros(len(counts), dtype=torch.float64).scatter_add_(0, ring, power_HW.flatten())
        return cls(sums / counts, sums / (height * width), len(x_BCHW))

    def __add__(self, other: Spectrum) -> Spectrum:
        """Of other images of the same size."""
        return Spectrum(self.power + other.power, self.energy + other.energy, self.images + other.images)

    def beside(self, other: Spectrum) -> Spectrum:
        """Of a second gradient of the same images, of another call of the network: their powers add up."""
        return Spectrum(self.power + other.power, self.energy + other.energy, self.images)

    @property
    def mean_power(self) -> Tensor:
        """(R,) of an image."""
        return self.power / self.images

    @property
    def frequencies(self) -> Tensor:
        """(R,) where each ring is centred, in cycles a pixel; of the corners where the next ring would be."""
        return torch.arange(len(self.power), dtype=torch.float64) * 0.5 / (len(self.power) - 2)

    def share_from(self, frequency: float) -> float:
        """The share of all power in rings that are centred at `frequency` or beyond; 0 where there is no power."""
        total = self.energy.sum()
        return float(self.energy[self.frequencies >= frequency - 1e-9].sum() / total) if total > 0 else 0.0


def rings(height: int, width: int) -> Tensor:
    """(height, width) int64: the ring of each frequency, in the order of `torch.fft.fft2`; 0 holds the mean."""
    count = min(height // 2, width // 2, MOST_RINGS)
    down, across = (torch.fft.fftfreq(size, dtype=torch.float64) for size in (height, width))
    return (torch.hypot(down[:, None], across[None, :]) * 2 * count).round().long().clamp(max=count + 1)
