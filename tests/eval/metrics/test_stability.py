"""G-STD and L-STD against closed forms and numpy's two passes; constant draws spread by exactly 0."""

import math
import tracemalloc

import numpy as np
import pytest
import torch

from eval.metrics.stability import Spread, g_std


def draws(count: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed))


def spread_of(pictures: torch.Tensor) -> Spread:
    spread = Spread()
    for picture in pictures:
        spread.add(picture)
    return spread


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_one_pass_equals_two(offset: float) -> None:
    """Far from zero too, where sums of squares would cancel."""
    pictures = draws(10, 1, 3, 17, 23).double() + offset
    spread = spread_of(pictures)
    assert spread.std().numpy() == pytest.approx(pictures.numpy().std(axis=0), abs=1e-6)
    assert spread.l_std() == pytest.approx(pictures.numpy().std(axis=0).mean(), abs=1e-6)
    assert spread.count == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_draw_has_no_spread_and_what_was_given_is_left_alone(dtype: torch.dtype) -> None:
    pictures = draws(3, 1, 3, 5, 7).to(dtype)
    given = pictures.clone()
    spread = spread_of(pictures[:1])
    assert (spread.l_std(), spread.count) == (0.0, 1)
    assert spread.std().dtype == torch.float64 and torch.equal(spread.std(), torch.zeros(1, 3, 5, 7).double())
    assert spread_of(pictures).l_std() > 0.1 and torch.equal(pictures, given)


def test_the_spread_is_that_of_the_population() -> None:
    spread = spread_of(torch.tensor([[0.0, 0.5], [1.0, 0.5]]))
    assert spread.std().tolist() == [0.5, 0.0]
    assert spread.l_std() == 0.25


@pytest.mark.parametrize("k", [0.01, 0.1])
def test_l_std_of_k_times_noise_is_k_times_its_expected_spread(k: float) -> None:
    """The population's deviation of N standard normal draws has mean sqrt(2/N) gamma(N/2) / gamma((N-1)/2)."""
    rng, n, side = np.random.Generator(np.random.Philox(3)), 10, 100
    spread = spread_of(torch.from_numpy(0.5 + k * rng.standard_normal((n, 3, side, side))))
    expected = math.sqrt(2 / n) * math.gamma(n / 2) / math.gamma((n - 1) / 2)
    error = math.sqrt((1 - 1 / n - expected**2) / (3 * side**2))
    assert spread.l_std() == pytest.approx(k * expected, abs=4 * k * error)
    assert expected == pytest.approx(0.9227, abs=1e-4)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 31.8437, 1e-9, math.inf])
@pytest.mark.parametrize("count", [1, 7, 10])
def test_constant_draws_spread_by_exactly_0(value: float, count: int) -> None:
    assert g_std([value] * count) == 0.0
    if math.isfinite(value):
        assert spread_of(torch.full((count, 3, 4, 4), value)).std().abs().max() == 0


def test_g_std_is_numpys_population_std() -> None:
    scores = [31.2, 31.25, 30.9, 31.7, 31.0]
    assert g_std(scores) == pytest.approx(np.std(scores), rel=1e-14)
    assert g_std(scores[::-1]) == g_std(scores)
    assert math.isnan(g_std([31.2, math.inf]))


def test_memory_is_that_of_a_few_pictures_whatever_the_draws() -> None:
    side = 256
    peaks = []
    for count in (3, 30):
        tracemalloc.start()
        spread = Spread()
        for i in range(count):
            spread.add(torch.from_numpy(np.full((3, side, side), i / count)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert {tuple(t.shape) for t in vars(spread).values() if isinstance(t, torch.Tensor)} == {(3, side, side)}
    assert peaks[1] < 1.2 * peaks[0]


def test_bad_calls_are_refused() -> None:
    spread = spread_of(draws(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"one shape, got \(3, 4, 5\) after \(3, 4, 4\)"):
        spread.add(torch.zeros(3, 4, 5))
    with pytest.raises(ValueError, match="at least one draw"):
        Spread().std()
    with pytest.raises(ValueError, match="at least one score"):
        g_std([])
