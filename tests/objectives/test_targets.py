"""Targets: what goes in, what is aimed at, and ECO's two ends and linearity (objective facts, sections 2 and 11)."""

import numpy as np
import pytest
import torch
from torch import Tensor

from objectives import targets
from objectives.batch import Batch
from objectives.spec import HR, CentroidMixup, CentroidTarget, Distillation


def downscale(y: Tensor) -> Tensor:
    """A linear D: antialiased bicubic by 1/2."""
    return torch.nn.functional.interpolate(y, scale_factor=0.5, mode="bicubic", antialias=True, align_corners=False)


@pytest.fixture
def batch() -> Batch:
    y, mu = torch.rand(2, 3, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return Batch(lr=downscale(y), hr=y, mu=mu, mu_lr=downscale(mu), sample_ids=np.arange(3), step=0, seed=0)


def test_plain_targets_hand_out_the_stored_images(batch: Batch) -> None:
    assert targets.hr(HR(), batch, 0.5) == (batch.lr, batch.hr)
    assert targets.distillation(Distillation(), batch, 0.5) == (batch.lr, batch.mu)
    assert targets.centroid(CentroidTarget(), batch, 0.5) == (batch.mu_lr, batch.mu)


@pytest.mark.parametrize("shape", ["linear", "cosine", "polynomial", "sigmoid", "step"])
def test_mixup_ends_are_the_two_pairs_bit_for_bit(batch: Batch, shape: str) -> None:
    params = CentroidMixup(shape=shape, length=0.5, warm_hold=0.25)
    synthetic, real = targets.centroid(CentroidTarget(), batch, 0), targets.hr(HR(), batch, 0)
    for progress, expected in ((0.25, synthetic), (0.75, real)):
        for got, want in zip(targets.centroid_mixup(params, batch, progress), expected, strict=True):
            assert torch.equal(got, want)


@pytest.mark.parametrize("progress", [0.1, 0.5, 0.8])
def test_mixed_input_is_the_downscaled_mixed_target(batch: Batch, progress: float) -> None:
    x_a, y_a = targets.centroid_mixup(CentroidMixup(), batch, progress)
    torch.testing.assert_close(y_a, (1 - progress) * batch.mu + progress * batch.hr, rtol=0, atol=1e-15)
    torch.testing.assert_close(x_a, downscale(y_a), rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", ["kd", "noise_free", "mixup"])
def test_a_missing_centroid_is_caught(batch: Batch, kind: str) -> None:
    bare = Batch(lr=batch.lr, hr=batch.hr, sample_ids=batch.sample_ids, step=0, seed=0)
    with pytest.raises(AssertionError, match="needs mu"):
        targets.BY_KIND[kind](CentroidMixup(), bare, 0.5)
