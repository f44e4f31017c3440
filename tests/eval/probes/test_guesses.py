"""Guesses of a clean picture: as DREAM's released code makes them, as samplers use them, and how they are scored."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from eval.metrics.scorer import Scorer
from eval.probes.guesses import mean_square, of_true, over_draws, trained
from eval.protocol import get_protocol
from sr_models.diffusion.process import Level, Process
from sr_models.diffusion.samplers import GUESSES, evenly, sample_state
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling

PROCESS = Process.of(ProcessParams(T=40, beta_end=0.3, prediction="x0"))


def noise(number: int) -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(number))


def test_guesses_at_true_states_are_the_released_codes(oracle: Any) -> None:
    arrays = oracle("dream_training_setting")

    def told(name: str) -> Tensor:
        return torch.from_numpy(np.asarray(arrays[name]))

    def predict(state: Tensor, level: Level) -> Tensor:
        told_BC = functional.linear(level.gamma.float()[:, None], told("w/emb.weight"), told("w/emb.bias"))
        pair = torch.cat([told("x_up"), state], 1)
        hidden = functional.conv2d(pair, told("w/conv1.weight"), told("w/conv1.bias"), padding=1)
        hidden = functional.silu(hidden + told_BC[:, :, None, None])
        return functional.conv2d(hidden, told("w/conv2.weight"), told("w/conv2.bias"), padding=1)

    process = Process.of(ProcessParams(T=int(arrays["T"]), allow_terminal_signal=True))
    for gamma, eps, x0_hat in zip(told("gamma"), told("noise"), told("x0_hat"), strict=True):
        level = Level(gamma[:, 0].double(), torch.ones(2, dtype=torch.int64))
        found = of_true(predict, process, told("hr"), eps, level)
        torch.testing.assert_close(found, x0_hat, rtol=0, atol=2e-5 / float(gamma.min()))


def test_one_that_knows_the_picture_is_never_wrong_and_one_that_copies_its_state_is() -> None:
    """The second errs by the noise in its state, little where there is little of it."""
    x0 = 0.5 * torch.ones(2, 3, 8, 8)
    steps = [guess.t for guess in GUESSES["ancestral"](lambda s, _: x0, PROCESS, noise, Sampling(steps=6))]
    assert steps == evenly(40, 6)[::-1]
    assert all(torch.equal(guess.x0, x0) for guess in trained(lambda s, _: x0, PROCESS, x0, noise, steps))
    copied = {guess.t: guess.x0 for guess in trained(lambda s, _: s, PROCESS, x0, noise, [1, 40])}
    gamma = PROCESS.gamma(40)
    expected = (gamma * x0 + (1 - gamma**2) ** 0.5 * noise(80)).clamp(-1, 1)
    torch.testing.assert_close(copied[40], expected)
    errors = {t: sum(mean_square(found, x0)) for t, found in copied.items()}
    assert errors[1] < 0.01 < errors[40]


@pytest.mark.parametrize("sampler", sorted(GUESSES))
def test_the_last_guess_of_sampling_is_what_is_drawn(sampler: str) -> None:
    sampling, called = Sampling(sampler=sampler, steps=9), []

    def predict(state: Tensor, level: Level) -> Tensor:
        called.append(int(level.t[0]))
        return 0.9 * state + 0.1

    guesses = list(GUESSES[sampler](predict, PROCESS, noise, sampling))
    assert [guess.t for guess in guesses] == called and called[0] == 40
    assert torch.equal(guesses[-1].x0, sample_state(predict, PROCESS, noise, sampling))


def test_draws_are_scored_by_their_mean_and_their_spread() -> None:
    """Two flat draws, 8 levels above and below: each misses HR by as much, and a pixel's deviation is that."""
    hr, off = torch.full((1, 3, 16, 16), 0.5), 8 / 255
    draws = torch.cat([hr + off, hr - off])
    assert mean_square(draws, hr) == pytest.approx([off**2] * 2, rel=1e-5)
    metrics = ["psnr_rgb", "ssim_y", "consistency"]
    scorer = Scorer(get_protocol("classical"), metrics, scale=2, kernel="files")
    found = over_draws(draws, hr, torch.full((2, 3, 8, 8), 0.5), scorer)
    assert list(found) == [*metrics, "l_std"]
    assert found["psnr_rgb"] == pytest.approx(-20 * np.log10(off), abs=0.3) and found["l_std"] == pytest.approx(off)
    assert "l_std" not in over_draws(draws[:1], hr, torch.full((1, 3, 8, 8), 0.5), scorer)
