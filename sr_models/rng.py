"""Randomness as a function of (seed, step, sample, purpose), never of a process's history.

Every draw comes from its own counter-based generator (Philox, Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405)
keyed by what it is for. So a resumed run draws what an unbroken one drew, and row i of a batch is the same whatever
the batch size, the rank or the number of workers.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np

Purpose = Literal[
    "crop", "loss_noise", "timestep", "diffusion_noise", "degrade", "sample", "init", "partner", "mixup",
]  # fmt: skip

_PURPOSES: dict[Purpose, int] = {
    "crop": 1, "loss_noise": 2, "timestep": 3, "diffusion_noise": 4, "degrade": 5, "sample": 6, "init": 7,
    "partner": 8, "mixup": 9,
}  # fmt: skip


def keyed(seed: int, step: int, sample: int, purpose: Purpose) -> np.random.Generator:
    """The generator that belongs to one (seed, step, sample, purpose); all three numbers are non-negative ints."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, step, sample, _PURPOSES[purpose]])))


def noise_seed(seed: int, picture: str, draw: int) -> int:
    """The seed, in [0, 2**63), of one draw of a stochastic network on the picture of that name or hash.

    Neither the order of pictures nor the number of draws counts. `seed` and `draw` are non-negative ints.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{picture}/{draw}".encode()).digest()[:8]) >> 1


def noise_field(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """The standard normal float32 noise that belongs to a seed, for a whole picture; tiles are cut from it."""
    return keyed(seed, 0, 0, "sample").standard_normal(shape, dtype=np.float32)


class SampleRng:
    """Per-sample randomness of one training step.

    Args:
        seed: the trial's seed.
        step: number of finished optimiser steps.
        sample_ids: (B,) global sample numbers; row i of every draw depends on `sample_ids[i]` alone.
    """

    def __init__(self, seed: int, step: int, sample_ids: np.ndarray) -> None:
        self.seed, self.step, self.sample_ids = seed, step, np.asarray(sample_ids)

    def normal(self, purpose: Purpose, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal float32 of shape (B, *shape)."""
        return np.stack([self._one(i, purpose).standard_normal(shape, dtype=np.float32) for i in self.sample_ids])

    def uniform(self, purpose: Purpose, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Uniform float32 in [0, 1) of shape (B, *shape)."""
        return np.stack([self._one(i, purpose).random(shape, dtype=np.float32) for i in self.sample_ids])

    def integers(self, purpose: Purpose, low: int, high: int, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Uniform int64 in [low, high) of shape (B, *shape)."""
        return np.stack([np.asarray(self._one(i, purpose).integers(low, high, shape)) for i in self.sample_ids])

    def beta(self, purpose: Purpose, a: float) -> np.ndarray:
        """float32 in [0, 1] of the Beta(a, a) distribution, of shape (B,)."""
        return np.stack([np.float32(self._one(i, purpose).beta(a, a)) for i in self.sample_ids])

    def _one(self, sample: int, purpose: Purpose) -> np.random.Generator:
        return keyed(self.seed, self.step, int(sample), purpose)
