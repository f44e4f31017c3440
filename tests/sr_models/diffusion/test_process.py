"""The noise process: the released code's tables and values, and every conversion against its own inverse."""

from typing import Any

import numpy as np
import pytest
import torch

from sr_models.diffusion.process import Process, add_noise, eps_between
from sr_models.hyper.process import ProcessParams


def chain(**values: Any) -> Process:
    return Process.of(ProcessParams(**values))


@pytest.mark.parametrize("T", [2000, 1000])
def test_tables_are_sr3s(oracle, T):
    told, process = oracle("sr3_schedule"), chain(T=T)
    np.testing.assert_allclose(np.sqrt(process.alpha_bar), told[f"T{T}/sqrt_alpha_bar_0_to_T"], rtol=1e-12)
    of_x0, of_x_t, variance = np.array([process.posterior(step) for step in range(1, T + 1)]).T
    np.testing.assert_allclose(variance, told[f"T{T}/posterior_variance"], rtol=2e-6)
    np.testing.assert_allclose(
        np.log(np.maximum(variance, 1e-20)), told[f"T{T}/posterior_log_variance_clipped"], rtol=2e-6
    )
    np.testing.assert_allclose(of_x0, told[f"T{T}/posterior_mean_coef1"], rtol=2e-6)
    np.testing.assert_allclose(of_x_t, told[f"T{T}/posterior_mean_coef2"], rtol=2e-6)


def test_noise_guesses_and_posterior_are_sr3s(oracle):
    told, process = oracle("sr3_process"), chain(T=1000)
    x0, noise, x_t = (torch.from_numpy(told[name]) for name in ("x0", "noise", "x_t"))
    noisy = add_noise(x0, noise, torch.from_numpy(told["gamma"]))
    torch.testing.assert_close(noisy, torch.from_numpy(told["q_sample"]), rtol=0, atol=2e-5)
    for i, step in enumerate(told["t0"] + 1):
        guess = process.x0_hat(noise, x_t, process.gamma(step), clamp=False)
        torch.testing.assert_close(guess, torch.from_numpy(told["predict_x0"][i]), rtol=1e-4, atol=2e-5)
        of_x0, of_x_t, variance = process.posterior(step)
        mean = of_x0 * x0 + of_x_t * x_t
        torch.testing.assert_close(mean, torch.from_numpy(told["posterior_mean"][i]), rtol=0, atol=2e-5)
        assert np.log(max(variance, 1e-20)) == pytest.approx(told["posterior_log_variance"][i], abs=2e-5)


def test_a_cut_chain_keeps_its_noise_levels(oracle):
    told, whole = oracle("respaced_ancestral"), chain()
    cut = whole.respaced(told["taus_1based"].tolist())
    np.testing.assert_allclose(cut.alpha_bar[1:], told["alpha_bar"], rtol=1e-10)
    of_x0, of_x_t, variance = np.array([cut.posterior(step) for step in range(1, 26)]).T
    for ours, name in (
        (of_x0, "posterior_mean_coef1"),
        (of_x_t, "posterior_mean_coef2"),
        (variance, "posterior_variance"),
    ):
        np.testing.assert_allclose(ours, told[name], rtol=1e-10, err_msg=name)
    np.testing.assert_allclose(1 - cut.alpha_bar[1:] / cut.alpha_bar[:-1], told["betas_respaced"], rtol=1e-10)
    assert cut.t[1:].tolist() == told["taus_1based"].tolist()
    every = whole.respaced(range(1, 2001))
    assert np.array_equal(every.alpha_bar, whole.alpha_bar) and np.array_equal(every.t, whole.t)
    again = cut.respaced([5, 25])
    assert again.t.tolist() == [0, cut.t[5], 2000] and again.gamma(2) == whole.gamma(2000)


@pytest.mark.parametrize("kept", [[], [0, 3], [2, 2], [3, 1], [2001]])
def test_steps_that_are_no_part_of_a_chain_are_refused(kept):
    with pytest.raises(ValueError, match="kept steps must rise from 1 to 2000"):
        chain().respaced(kept)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_what_a_network_should_give_leads_back_to_both(prediction):
    process = chain(prediction=prediction, clamp=False)
    x0, eps = torch.rand(3, 3, 4, 5) * 2 - 1, torch.randn(3, 3, 4, 5)
    gamma = torch.tensor([0.9, 0.5, 0.2])
    x_t, out = add_noise(x0, eps, gamma), process.target(x0, eps, gamma)
    torch.testing.assert_close(process.x0_hat(out, x_t, gamma), x0, rtol=0, atol=1e-5)
    torch.testing.assert_close(process.eps_hat(out, x_t, gamma), eps, rtol=0, atol=1e-5)
    torch.testing.assert_close(eps_between(x0, x_t, gamma), eps, rtol=0, atol=1e-5)


def test_a_guess_is_clamped_where_the_process_says_so():
    out, x_t = torch.tensor([[[[3.0]]]]), torch.tensor([[[[0.5]]]])
    assert chain(prediction="x0").x0_hat(out, x_t, 0.5).item() == 1
    assert chain(prediction="x0").x0_hat(out, x_t, 0.5, clamp=False).item() == 3
    assert chain(prediction="x0", clamp=False).x0_hat(out, x_t, 0.5).item() == 3


def test_training_draws_the_noise_level_within_a_step():
    process = chain(T=1000)
    steps = torch.tensor([1, 500, 1000])
    for share, at in ((0.0, steps), (1.0, steps - 1)):
        level = process.between(steps, torch.full((3,), share))
        assert level.gamma.tolist() == pytest.approx([process.gamma(int(step)) for step in at], abs=1e-12)
        assert level.t.tolist() == [1, 500, 1000]
    between = process.between(steps, torch.full((3,), 0.25)).gamma
    expected = [0.75 * process.gamma(int(step)) + 0.25 * process.gamma(int(step) - 1) for step in steps]
    assert between.dtype == torch.float64 and between.tolist() == pytest.approx(expected, rel=1e-12)


def test_a_level_is_one_for_the_whole_batch():
    level = chain().respaced([100, 2000]).level(1, torch.zeros(4, 3, 2, 2))
    assert level.t.tolist() == [100] * 4 and level.gamma.tolist() == [chain().gamma(100)] * 4
