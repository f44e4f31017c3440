"""One training batch, as the patch store hands it to an objective (ECO's four images, https://arxiv.org/abs/2312.17526)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

IMAGES = ("lr", "hr", "mu", "mu_lr", "partner_lr", "partner_hr", "latent", "latent_lr")
"""The fields of a `Batch` that hold images, latents, or None."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Matching crops under the same flips and rotations (partners have their own); float32 RGB in [0, 1].

    Shapes: B samples, C = 3 channels, LR patch h x w, scale s.
    """

    lr: Tensor
    """x (B, C, h, w): the real LR."""
    hr: Tensor
    """y (B, C, s h, s w)."""
    mu: Tensor | None = None
    """mu (B, C, s h, s w): the teacher's SR of the real LR; given where the objective needs it."""
    mu_lr: Tensor | None = None
    """D(mu) (B, C, h, w): mu downscaled again; given where the objective needs it."""
    partner_lr: Tensor | None = None
    """x' (B, C, h, w): a second crop for each sample, of any training image; given where the objective needs it."""
    partner_hr: Tensor | None = None
    """y' (B, C, s h, s w): what belongs to x'."""
    latent: Tensor | None = None
    """The latent of y, and of x enlarged to y's size, each (B, latent channels, cells, cells), under a network's own
    encoder (`Denoiser.state`, `.enlarged`); given where they are stored: then no step encodes."""
    latent_lr: Tensor | None = None
    sample_ids: np.ndarray
    """(B,) int64, global: what row i holds, and draws, depends on seed, step and `sample_ids[i]` alone."""
    step: int
    """Number of finished optimiser steps."""
    seed: int
    """The trial's seed."""

    def __len__(self) -> int:
        return len(self.sample_ids)

    def part(self, start: int, stop: int) -> Batch:
        """Samples `start` to `stop`, as views."""
        images = {name: getattr(self, name) for name in IMAGES}
        cut = {name: image[start:stop] for name, image in images.items() if image is not None}
        return replace(self, **cut, sample_ids=self.sample_ids[start:stop])
