"""Targets: what goes in, what is aimed at, and ECO's two ends and linearity (objective facts, sections 2 and 11)."""

import numpy as np
import pytest
import torch
from torch import Tensor

from objectives import targets
from objectives.batch import Batch
from objectives.spec import HR, CentroidMixup, CentroidTarget, Distillation, ImageMixup, LossMixup
from sr_models.rng import SampleRng

RNG = SampleRng(0, 0, np.arange(3))


def downscale(y: Tensor) -> Tensor:
    """A linear D: antialiased bicubic by 1/2."""
    return torch.nn.functional.interpolate(y, scale_factor=0.5, mode="bicubic", antialias=True, align_corners=False)


@pytest.fixture
def batch() -> Batch:
    y, mu, other = torch.rand(3, 3, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images = {"lr": downscale(y), "hr": y, "mu": mu, "mu_lr": downscale(mu)}
    return Batch(**images, partner_lr=downscale(other), partner_hr=other, sample_ids=np.arange(3), step=0, seed=0)


def test_plain_targets_hand_out_the_stored_images(batch: Batch) -> None:
    assert targets.hr(HR(), batch, 0.5, RNG) == [(batch.lr, batch.hr, 1)]
    assert targets.distillation(Distillation(), batch, 0.5, RNG) == [(batch.lr, batch.mu, 1)]
    assert targets.centroid(CentroidTarget(), batch, 0.5, RNG) == [(batch.mu_lr, batch.mu, 1)]


@pytest.mark.parametrize("shape", ["linear", "cosine", "polynomial", "sigmoid", "step"])
def test_mixup_ends_are_the_two_pairs_bit_for_bit(batch: Batch, shape: str) -> None:
    params = CentroidMixup(shape=shape, length=0.5, warm_hold=0.25)
    for progress, expected in ((0.25, (batch.mu_lr, batch.mu)), (0.75, (batch.lr, batch.hr))):
        [(x, y, weight)] = targets.centroid_mixup(params, batch, progress, RNG)
        assert weight == 1 and torch.equal(x, expected[0]) and torch.equal(y, expected[1])


@pytest.mark.parametrize("progress", [0.1, 0.5, 0.8])
def test_mixed_input_is_the_downscaled_mixed_target(batch: Batch, progress: float) -> None:
    [(x_a, y_a, _)] = targets.centroid_mixup(CentroidMixup(), batch, progress, RNG)
    torch.testing.assert_close(y_a, (1 - progress) * batch.mu + progress * batch.hr, rtol=0, atol=1e-15)
    torch.testing.assert_close(x_a, downscale(y_a), rtol=0, atol=1e-14)


def test_loss_mixup_weighs_the_two_pairs_and_leaves_out_what_weighs_nothing(batch: Batch) -> None:
    synthetic, real = (batch.mu_lr, batch.mu), (batch.lr, batch.hr)
    params = LossMixup(shape="points", points=((0, 0), (0.5, 0), (0.5, 0.75), (0.8, 1)))
    assert targets.loss_mixup(params, batch, 0.4, RNG) == [(*synthetic, 1)]
    assert targets.loss_mixup(params, batch, 0.5, RNG) == [(*synthetic, 0.25), (*real, 0.75)]
    assert targets.loss_mixup(params, batch, 0.9, RNG) == [(*real, 1)]


@pytest.mark.parametrize("kind", ["kd", "noise_free", "mixup", "loss_mixup", "noise_regression"])
def test_a_missing_centroid_is_caught(batch: Batch, kind: str) -> None:
    bare = Batch(lr=batch.lr, hr=batch.hr, sample_ids=batch.sample_ids, step=0, seed=0)
    with pytest.raises(AssertionError, match="needs mu"):
        targets.BY_KIND[kind](CentroidMixup(), bare, 0.5, RNG)


def test_image_mixup_blends_each_sample_with_its_partner_by_a_share_of_its_own(batch: Batch) -> None:
    [(x, y, _)] = targets.image_mixup(ImageMixup(), batch, 0.5, RNG)
    shares = torch.from_numpy(RNG.beta("mixup", 1.0)).double().view(3, 1, 1, 1)
    assert len(set(shares.flatten().tolist())) == 3 and 0 < shares.min() < shares.max() < 1
    torch.testing.assert_close(y, shares * batch.hr + (1 - shares) * batch.partner_hr, rtol=0, atol=1e-15)
    torch.testing.assert_close(x, downscale(y), rtol=0, atol=1e-14)  # the same share for input and target


def test_image_mixup_is_the_same_for_a_sample_whatever_its_batch(batch: Batch) -> None:
    [whole] = targets.image_mixup(ImageMixup(a=0.3), batch, 0.5, RNG)
    for start, stop in ((0, 1), (1, 3)):
        part = batch.part(start, stop)
        [got] = targets.image_mixup(ImageMixup(a=0.3), part, 0.9, SampleRng(0, 0, part.sample_ids))
        assert torch.equal(got.x, whole.x[start:stop]) and torch.equal(got.y, whole.y[start:stop])


def test_a_missing_partner_is_caught(batch: Batch) -> None:
    bare = Batch(lr=batch.lr, hr=batch.hr, sample_ids=batch.sample_ids, step=0, seed=0)
    with pytest.raises(AssertionError, match="needs a partner"):
        targets.image_mixup(ImageMixup(), bare, 0.5, RNG)
