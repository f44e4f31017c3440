"""Keyed randomness: row i belongs to sample i, whatever the batch, the order or the history."""

import itertools

import numpy as np
import pytest
import torch

from sr_models.rng import _PURPOSES, SampleRng, keyed, noise_field, noise_seed

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DRAWS = {
    "noise": lambda rng, draw=0: rng.noise("loss_noise", (2, 3), "cpu", draw=draw).numpy(),
    "normal": lambda rng, draw=0: rng.normal("loss_noise", (2, 3), draw=draw),
    "uniform": lambda rng, draw=0: rng.uniform("timestep", draw=draw),
    "beta": lambda rng, draw=0: rng.beta("mixup", 0.4, draw=draw),
    "integers": lambda rng, draw=0: rng.integers("timestep", 0, 1000, draw=draw),
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


@pytest.mark.parametrize("draw", DRAWS)
def test_two_draws_for_one_purpose_of_one_step_differ_and_the_first_is_the_only_one_there_was(draw):
    rng = SampleRng(5, 2, np.arange(40, 48))
    first, second, third = (DRAWS[draw](rng, number) for number in range(3))
    assert np.array_equal(first, DRAWS[draw](rng)) and np.array_equal(second, DRAWS[draw](rng, 1))
    assert not (first == second).any() and not (second == third).any()
    assert keyed(5, 2, 40, "crop", 0).integers(2**63) == keyed(5, 2, 40, "crop").integers(2**63)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])])
def test_noise_on_the_device_belongs_to_seed_step_sample_purpose_and_draw(device):
    shape = (3, 24, 24)
    ids = np.array([7, 8, 2**40])

    def noise(seed=1, step=2, ids=ids, purpose="loss_noise", draw=0):
        return SampleRng(seed, step, ids).noise(purpose, shape, device, draw=draw)

    whole = noise()
    assert whole.shape == (3, *shape) and whole.dtype == torch.float32 and whole.device.type == device
    for i in range(3):
        assert torch.equal(noise(ids=ids[i : i + 1])[0], whole[i])
    others = [noise(seed=2), noise(step=3), noise(ids=ids + 100), noise(purpose="diffusion_noise"), noise(draw=1)]
    every = torch.cat([whole, *others]).flatten(1)
    correlation = torch.corrcoef(every) - torch.eye(len(every), device=device)
    assert correlation.abs().max() < 0.12  # five standard errors: no two of the 18 have anything in common
    assert abs(float(every.mean())) < 0.025 and float(every.std()) == pytest.approx(1, abs=0.02)


def test_the_noise_of_this_kind_of_device_is_pinned():
    """As the stream: another value is another `NOISY_NUMERICS_VERSION`; vectorised cosines may differ in a last bit."""
    drawn = SampleRng(3, 7, np.array([11])).noise("loss_noise", (16,), "cpu")[0, :4]
    assert drawn.tolist() == pytest.approx([-1.0719031, -0.6178293, 1.5378877, -1.2428069], abs=1e-6)


def test_noise_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    SampleRng(0, 0, np.arange(2)).noise("loss_noise", (4,), "cpu")
    assert torch.equal(before, torch.get_rng_state())


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
