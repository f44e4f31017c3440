"""Keyed randomness: row i belongs to sample i, whatever the batch, the order or the history."""

import itertools

import numpy as np
import pytest

from sr_models.rng import _PURPOSES, SampleRng, keyed, noise_field, noise_seed

DRAWS = {
    "normal": lambda rng: rng.normal("loss_noise", (2, 3)),
    "uniform": lambda rng: rng.uniform("timestep"),
    "beta": lambda rng: rng.beta("mixup", 0.4),
    "integers": lambda rng: rng.integers("timestep", 0, 1000),
}


def test_the_stream_is_pinned():
    """These numbers are part of every fingerprint's meaning: a change of them is a change of `NUMERICS_VERSION`."""
    pinned = [47, 200, 699, 330]
    assert keyed(3, 7, 11, "crop").integers(0, 1000, 4).tolist() == pinned
    assert SampleRng(3, 7, np.array([11])).integers("crop", 0, 1000, (4,))[0].tolist() == pinned
    noise = np.array([-1.1167461, -1.1131127, -1.7410935, 0.6020253], np.float32)
    drawn = SampleRng(3, 7, np.array([11])).normal("loss_noise", (4,))
    assert drawn.dtype == np.float32 and np.array_equal(drawn, noise[None])


@pytest.mark.parametrize("draw", DRAWS)
def test_row_i_depends_on_sample_i_alone(draw):
    ids = np.arange(40, 48)
    whole = DRAWS[draw](SampleRng(5, 2, ids))
    for start, size in ((0, 3), (3, 4), (7, 1)):
        assert np.array_equal(DRAWS[draw](SampleRng(5, 2, ids[start : start + size])), whole[start : start + size])
    assert np.array_equal(DRAWS[draw](SampleRng(5, 2, ids[::-1])), whole[::-1])
    rng = SampleRng(5, 2, ids)
    assert np.array_equal(DRAWS[draw](rng), DRAWS[draw](rng))  # no history: a second draw is the same draw


def test_every_part_of_the_key_counts():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)]
    draws = [keyed(*key, purpose).integers(2**63) for key in keys for purpose in _PURPOSES]
    assert len(set(draws)) == len(keys) * len(_PURPOSES)
    assert all(a != b for a, b in itertools.combinations(_PURPOSES.values(), 2))


def test_the_noise_of_a_picture_is_pinned_and_belongs_to_seed_picture_and_draw():
    assert noise_seed(0, "a" * 64, 3) == 5885520398772752408
    field = np.array([[-1.2257649, 1.4022619], [-0.10388119, 0.9003306]], np.float32)
    assert np.array_equal(noise_field(5885520398772752408, (2, 2)), field)
    names = ("a", "b", "1", "11")
    seeds = [noise_seed(seed, name, draw) for seed in (0, 1, 11) for name in names for draw in range(12)]
    assert len(set(seeds)) == len(seeds) and min(seeds) >= 0 and max(seeds) < 2**63


def test_draws_have_the_moments_they_promise():
    rng = SampleRng(0, 0, np.arange(200))
    z, u, k = rng.normal("loss_noise", (500,)), rng.uniform("sample", (500,)), rng.integers("degrade", 2, 5, (500,))
    assert (z.dtype, u.dtype, k.dtype) == (np.float32, np.float32, np.int64)
    share = SampleRng(0, 0, np.arange(20_000)).beta("mixup", 0.4)  # of variance 1 / (4 (2 a + 1))
    assert share.dtype == np.float32 and share.min() >= 0 and share.max() <= 1
    assert share.mean() == pytest.approx(0.5, abs=0.011) and share.var() == pytest.approx(1 / 7.2, abs=0.002)
    limit = 4 / np.sqrt(z.size)  # four standard errors
    assert abs(z.mean()) < limit and abs(z.std() - 1) < limit
    assert abs(u.mean() - 0.5) < limit and u.min() >= 0 and u.max() < 1
    assert set(np.unique(k)) == {2, 3, 4}
    neighbours = np.corrcoef(z[:-1].ravel(), z[1:].ravel())[0, 1]
    assert abs(neighbours) < limit
