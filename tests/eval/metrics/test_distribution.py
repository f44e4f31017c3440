"""FID and KID against closed forms and torch-fidelity, patches, the interval, and the cache."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from eval.metrics.backbones import WeightFiles
from eval.metrics.distribution import (
    Inception,
    cached_features,
    fid,
    jackknife_interval,
    kid,
    patches,
    small_sample_warning,
)
from sr_models.errors import InputError


def features(count: int, length: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    mix = draw.normal(size=(length, length)) / np.sqrt(length)
    return (draw.normal(size=(count, length)) @ mix + draw.normal(size=length)).astype(np.float32)


def into_their_span(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same samples in coordinates of the space that they span: nothing that FID or KID sees changes."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    base = np.linalg.qr(np.concatenate([a, b]).T)[0]
    return a @ base, b @ base


def torch_fidelity_fid(a: np.ndarray, b: np.ndarray) -> float:
    statistics = [fid_features_to_statistics(torch.from_numpy(x.astype(np.float64))) for x in (a, b)]
    return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]


@pytest.mark.parametrize(("count_a", "count_b", "length"), [(60, 60, 8), (60, 40, 8), (12, 12, 8)])
def test_fid_equals_torch_fidelity(count_a: int, count_b: int, length: int) -> None:
    a, b = features(count_a, length, 1), features(count_b, length, 2)
    assert fid(a, b) == pytest.approx(torch_fidelity_fid(a, b), abs=1e-9)
    assert fid(b, a) == pytest.approx(fid(a, b), abs=1e-9)


def test_fid_of_fewer_samples_than_features_is_that_of_the_space_they_span() -> None:
    a, b = features(10, 64, 1), features(10, 64, 2)
    spanned = into_their_span(a, b)
    assert spanned[0].shape == (10, 20)
    assert fid(a, b) == pytest.approx(fid(*spanned), rel=1e-12)
    assert fid(a, b) == pytest.approx(torch_fidelity_fid(*spanned), rel=1e-6)
    assert fid(a, b) == pytest.approx(torch_fidelity_fid(a, b), rel=1e-5)  # theirs adds 44 roots of about 1e-17


def test_fid_by_closed_forms() -> None:
    a = features(50, 16, 3).astype(np.float64)
    shift = np.linspace(0, 1, 16)
    assert fid(a, a) == pytest.approx(0, abs=1e-9)
    assert fid(a, a + shift) == pytest.approx((shift**2).sum(), rel=1e-9)
    centred = a - a.mean(0)
    variance = np.trace(np.cov(centred, rowvar=False))
    assert fid(centred, 3 * centred) == pytest.approx((3 - 1) ** 2 * variance, rel=1e-9)


@pytest.mark.parametrize("size", [30, 60])
def test_kid_equals_torch_fidelity(size: int) -> None:
    a, b = (features(60, 32, seed).astype(np.float64) for seed in (1, 2))
    theirs = kid_features_to_metric(
        torch.from_numpy(a), torch.from_numpy(b), kid_subsets=20, kid_subset_size=size, rng_seed=5, verbose=False
    )
    mean, std = kid(a, b, subsets=20, subset_size=size, seed=5)
    assert mean == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-12)
    assert std == pytest.approx(theirs[KEY_METRIC_KID_STD], abs=1e-12)
    single = kid(a.astype(np.float32), b.astype(np.float32), subsets=20, subset_size=size, seed=5)
    assert single == pytest.approx((mean, std), abs=1e-5)


def test_kid_by_hand() -> None:
    a, b = features(7, 5, 1).astype(np.float64), features(7, 5, 2).astype(np.float64)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / 5 + 1) ** 3

    def off_diagonal(k: np.ndarray) -> float:
        return (k.sum() - np.trace(k)) / (7 * 6)

    expected = off_diagonal(kernel(a, a)) + off_diagonal(kernel(b, b)) - 2 * kernel(a, b).mean()
    assert kid(a, b) == pytest.approx((expected, 0.0), rel=1e-12)  # fewer than a subset: the whole set, once


def test_kid_of_one_distribution_is_zero_on_average_and_fid_is_not() -> None:
    draw = np.random.default_rng(0)
    both = [[draw.normal(size=(40, 16)) for _ in "ab"] for _ in range(60)]
    kids = [kid(*sets)[0] for sets in both]
    assert abs(np.mean(kids)) < 4 * np.std(kids) / np.sqrt(len(kids))
    assert np.mean([fid(*sets) for sets in both]) > 1


def interval(a: np.ndarray, b: np.ndarray, images: np.ndarray | None = None) -> tuple[float, float]:
    return jackknife_interval(a, b, fid(a, b), images=images)


def test_bad_features_are_refused() -> None:
    good = features(5, 8, 0)
    for measure in (fid, kid, lambda a, b: jackknife_interval(a, b, 1.0)):
        with pytest.raises(InputError, match="at least 2 samples a set, got 1 and 5"):
            measure(good[:1], good)
        with pytest.raises(InputError, match=r"\(N, D\) arrays of one D, got shapes \(5, 7\) and \(5, 8\)"):
            measure(good[:, 1:], good)
    with pytest.raises(InputError, match="as many SR as HR samples, got 4 and 5"):
        jackknife_interval(good[1:], good, 1.0)


def test_the_interval_is_around_fid_and_narrows_with_more_images() -> None:
    def pair(count: int) -> tuple[np.ndarray, np.ndarray]:
        draw = np.random.default_rng(count)
        hr = draw.normal(size=(count, 4))
        return hr + draw.normal(size=hr.shape), hr

    few, many = pair(40), pair(1000)
    widths = []
    for sets in (few, many):
        low, high = interval(*sets)
        assert (low + high) / 2 == pytest.approx(fid(*sets), rel=1e-9) and low < high
        assert (low, high) == interval(*sets)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_the_interval_covers_what_other_images_would_have_given() -> None:
    """Over fresh sets, FID around its mean stays inside an interval's tails about as often as 95 of 100 times."""
    draw = np.random.default_rng(0)

    def pair() -> tuple[np.ndarray, np.ndarray]:
        hr = draw.normal(size=(100, 3))
        return 1.5 * hr + 0.3 * draw.normal(size=hr.shape) + 0.5, hr

    values = np.array([fid(*pair()) for _ in range(300)])
    low, high = interval(*(sets := pair()))
    half = (high - low) / 2
    assert np.mean(np.abs(values - values.mean()) < half) == pytest.approx(0.95, abs=0.06), fid(*sets)


@pytest.mark.parametrize(("images", "patches_each", "length"), [(300, 1, 16), (200, 3, 32), (60, 1, 128)])
def test_the_interval_is_that_of_a_bootstrap_over_images(images: int, patches_each: int, length: int) -> None:
    """Within 15 %, of which 1,000 redraws leave about 5 to chance; the last case has fewer samples than features."""
    draw = np.random.default_rng(1)
    owner = np.repeat(np.arange(images), patches_each)
    scales = 1 / np.sqrt(np.arange(1, length + 1))
    hr = (draw.normal(size=(images, length))[owner] + 0.5 * draw.normal(size=(len(owner), length))) * scales
    sr = (0.9 * hr + 0.2 * scales) + 0.3 * draw.normal(size=hr.shape) * scales
    redrawn = []
    for _ in range(1000):
        chosen = np.concatenate([np.flatnonzero(owner == i) for i in draw.integers(images, size=images)])
        redrawn.append(fid(sr[chosen], hr[chosen]))
    low, high = interval(sr, hr, owner)
    assert high - low == pytest.approx(np.subtract(*np.quantile(redrawn, [0.975, 0.025])), rel=0.15)


def test_what_a_sample_moves_is_the_derivative_of_fid() -> None:
    """Against differences of FID with 1 % more and less of each sample, its covariances divided by N."""
    draw = np.random.default_rng(2)
    hr = draw.normal(size=(30, 4))
    sr = 0.8 * hr + 0.3 * draw.normal(size=hr.shape) + 0.3

    def weighted(i: int, more: float) -> float:
        w = np.ones(30)
        w[i] += more
        means, covariances = [], []
        for x in (sr, hr):
            means.append(w @ x / w.sum())
            covariances.append(((x - means[-1]).T * w) @ (x - means[-1]) / w.sum())
        roots = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real).sum()
        return np.square(means[0] - means[1]).sum() + np.trace(covariances[0] + covariances[1]) - 2 * roots

    slopes = [(weighted(i, 0.01) - weighted(i, -0.01)) / 0.02 for i in range(30)]
    low, high = interval(sr, hr)
    assert (high - low) / 2 == pytest.approx(1.959964 * np.sqrt(np.square(slopes).sum()), rel=1e-3)


def test_patches_of_an_image_are_drawn_together() -> None:
    """50 copies of each image's row change nothing but N - 1; taken for other images, they narrow the interval."""
    draw = np.random.default_rng(0)
    hr = draw.normal(size=(30, 4))
    sr = hr + draw.normal(size=hr.shape)
    whole = interval(sr, hr)
    copies = np.repeat(np.arange(30), 50)
    together = interval(sr[copies], hr[copies], copies)
    apart = interval(sr[copies], hr[copies])
    assert together[1] - together[0] == pytest.approx(whole[1] - whole[0], rel=0.1)
    assert apart[1] - apart[0] < 0.5 * (together[1] - together[0])


def test_few_samples_come_with_a_warning() -> None:
    assert small_sample_warning(2048) is None
    assert "FID of 2047 samples is biased upward" in str(small_sample_warning(2047))


def test_patches_lie_on_a_grid_from_the_top_left() -> None:
    image = torch.arange(2 * 3 * 7 * 9).reshape(2, 3, 7, 9)
    found = patches(image, 4, 2)
    corners = [(i, top, left) for i in range(2) for top in (0, 2) for left in (0, 2, 4)]
    assert found.shape == (12, 3, 4, 4)
    for patch, (i, top, left) in zip(found, corners, strict=True):
        assert torch.equal(patch, image[i, :, top : top + 4, left : left + 4])
    assert torch.equal(patches(image[..., :7], 7, 3), image[..., :7])
    with pytest.raises(InputError, match="9x7 px is too small for patches of 8x8 px"):
        patches(image, 8, 1)


def test_features_are_computed_once_and_follow_what_they_depend_on(tmp_path: Path) -> None:
    calls = []

    def compute() -> np.ndarray:
        calls.append(1)
        return np.full((3, 4), float(len(calls)), dtype=np.float32)

    first = cached_features(tmp_path / "cache", ["hash", None], compute)
    again = cached_features(tmp_path / "cache", ["hash", None], compute)
    assert len(calls) == 1 and np.array_equal(first, again) and again.dtype == np.float32
    assert cached_features(tmp_path / "cache", ["hash", 256], compute)[0, 0] == 2
    [one, _] = sorted((tmp_path / "cache").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    one.write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"cached features .* cannot be read .*; delete the file"):
        cached_features(tmp_path / "cache", ["hash", None], compute)


class Pictures(Dataset):
    def __init__(self, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        coarse = torch.rand(6, 3, 5, 4, generator=draw)
        images = torch.nn.functional.interpolate(coarse, size=(50, 40), mode="bicubic").clamp(0, 1)
        self.images = (images * 255).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


def test_features_do_not_depend_on_the_batch(weights: Path) -> None:
    inception = Inception(files=WeightFiles(weights), device="cpu")
    images = Pictures(0).images
    together = inception(images)
    assert together.shape == (6, 2048) and together.dtype == torch.float32
    assert float(together.std(0).mean()) > 0.01  # random weights tell pictures apart
    alone = torch.cat([inception(image) for image in images.split(1)])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    assert torch.equal(inception(images), together)


@pytest.mark.slow
def test_equal_to_torch_fidelity_on_the_same_weights(weights: Path) -> None:
    from torch_fidelity import calculate_metrics

    sr, hr = Pictures(0), Pictures(1)
    theirs = calculate_metrics(
        input1=sr, input2=hr, cuda=False, fid=True, kid=True, kid_subset_size=4, verbose=False, save_cpu_ram=True,
        feature_extractor_weights_path=str(next(weights.glob("weights-inception*"))),
    )  # fmt: skip
    inception = Inception(files=WeightFiles(weights), device="cpu")
    ours = [inception(pictures.images).numpy() for pictures in (sr, hr)]
    assert theirs[KEY_METRIC_FID] > 0.1
    assert fid(*ours) == pytest.approx(theirs[KEY_METRIC_FID], rel=1e-5)  # theirs adds 2,000 roots of rounding errors
    assert fid(*ours) == pytest.approx(torch_fidelity_fid(*into_their_span(*ours)), rel=1e-6)
    mean, std = kid(*ours, subset_size=4)
    assert mean == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-6, abs=1e-6)
    assert std == pytest.approx(theirs[KEY_METRIC_KID_STD], rel=1e-6, abs=1e-6)
