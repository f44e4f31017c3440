"""Randomness as a function of (seed, step, sample, purpose, draw), never of a process's history.

Every draw has a generator of its own, keyed by what it is for. So a resumed run draws what an unbroken one drew,
and row i of a batch is the same whatever the batch size, the rank or the number of workers. What decides on data comes
from a counter-based one on the CPU (Philox, Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405), alike on
every machine; noise as large as images from torch, where it is needed, alike on one kind of device only.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Purpose = Literal[
    "crop", "loss_noise", "timestep", "diffusion_noise", "degrade", "sample", "init", "partner", "mixup", "input_noise",
    "scale",
]  # fmt: skip

_PURPOSES: dict[Purpose, int] = {
    "crop": 1, "loss_noise": 2, "timestep": 3, "diffusion_noise": 4, "degrade": 5, "sample": 6, "init": 7,
    "partner": 8, "mixup": 9, "input_noise": 10, "scale": 11,
}  # fmt: skip


def keyed(seed: int, step: int, sample: int, purpose: Purpose, draw: int = 0) -> np.random.Generator:
    """The generator that belongs to one (seed, step, sample, purpose, draw); the numbers are non-negative ints."""
    key = np.random.SeedSequence([seed, step, sample, _PURPOSES[purpose]], spawn_key=(draw,) if draw else ())
    return np.random.Generator(np.random.Philox(key))


def noise_seed(seed: int, picture: str, draw: int) -> int:
    """The seed, in [0, 2**63), of one draw of a stochastic network on the picture of that name or hash.

    Neither the order of pictures nor the number of draws counts. `seed` and `draw` are non-negative ints.
    """
    return _digest63(f"{seed}/{picture}/{draw}")


def noise_field(seed: int, shape: tuple[int, ...], step: int = 0) -> np.ndarray:
    """The standard normal float32 noise that belongs to a seed, for a whole picture; tiles are cut from it.

    Args:
        step: of sampling, from 0; each has noise of its own.
    """
    return keyed(seed, step, 0, "sample").standard_normal(shape, dtype=np.float32)


class SampleRng:
    """Per-sample randomness of one training step.

    Args:
        seed: the trial's seed.
        step: number of finished optimiser steps.
        sample_ids: (B,) global sample numbers; row i of every draw depends on `sample_ids[i]` alone.

    The same call gives the same numbers again; a second draw for one purpose in one step has another `draw`, from 0.
    """

    def __init__(self, seed: int, step: int, sample_ids: np.ndarray) -> None:
        self.seed, self.step, self.sample_ids = seed, step, np.asarray(sample_ids)

    def noise(self, purpose: Purpose, shape: tuple[int, ...], device: torch.device | str, *, draw: int = 0) -> Tensor:
        """Standard normal float32 of shape (B, *shape), drawn on `device`; on a GPU its bits are not the CPU's.

        Each row's generator is seeded by the first 63 bits of the key's sha256, of which torch's CPU generator takes
        the last 32: two rows in some billions are alike there.
        """
        z, generator = torch.empty((len(self.sample_ids), *shape), device=device), torch.Generator(device)
        for row, sample in zip(z, self.sample_ids, strict=True):
            key = f"{self.seed}/{self.step}/{int(sample)}/{_PURPOSES[purpose]}/{draw}"
            row.normal_(generator=generator.manual_seed(_digest63(key)))
        return z

    def normal(self, purpose: Purpose, shape: tuple[int, ...], *, draw: int = 0) -> np.ndarray:
        """Standard normal float32 of shape (B, *shape)."""
        return np.stack([one.standard_normal(shape, dtype=np.float32) for one in self._each(purpose, draw)])

    def uniform(self, purpose: Purpose, shape: tuple[int, ...] = (), *, draw: int = 0) -> np.ndarray:
        """Uniform float32 in [0, 1) of shape (B, *shape)."""
        return np.stack([one.random(shape, dtype=np.float32) for one in self._each(purpose, draw)])

    def integers(
        self, purpose: Purpose, low: int, high: int, shape: tuple[int, ...] = (), *, draw: int = 0
    ) -> np.ndarray:
        """Uniform int64 in [low, high) of shape (B, *shape)."""
        return np.stack([np.asarray(one.integers(low, high, shape)) for one in self._each(purpose, draw)])

    def beta(self, purpose: Purpose, a: float, *, draw: int = 0) -> np.ndarray:
        """float32 in [0, 1] of the Beta(a, a) distribution, of shape (B,)."""
        return np.stack([np.float32(one.beta(a, a)) for one in self._each(purpose, draw)])

    def _each(self, purpose: Purpose, draw: int) -> list[np.random.Generator]:
        return [keyed(self.seed, self.step, int(sample), purpose, draw) for sample in self.sample_ids]


def _digest63(text: str) -> int:
    """The first 63 bits of a text's sha256."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
