"""Samplers against released code, call by call, and against a case that can be solved by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sr_models.diffusion.process import Level, Process
from sr_models.diffusion.samplers import Predict, accumulated, evenly, sample_state, settled, shipped, used
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling


def recorded(predict: Callable[[Tensor, Level], Tensor]) -> tuple[Predict, list[tuple[Tensor, Level]]]:
    """A network, and what it is called with."""
    calls: list[tuple[Tensor, Level]] = []

    def call(state: Tensor, level: Level) -> Tensor:
        calls.append((state, level))
        return predict(state, level)

    return call, calls


def close(found: Tensor, told: Any, atol: float) -> None:
    torch.testing.assert_close(found, torch.from_numpy(np.asarray(told)), rtol=0, atol=atol)


def wide(values_B: Tensor) -> Tensor:
    return values_B.float()[:, None, None, None]


def test_ancestral_is_sr3s_call_by_call(oracle):
    told = oracle("sr3_ancestral")
    a, b, c = told["stub_coef_y_xup_gamma"]
    x_up, noises = torch.from_numpy(told["x_up"]), torch.from_numpy(told["noises"])
    process = Process.of(ProcessParams(T=40, allow_terminal_signal=True))
    predict, calls = recorded(lambda state, level: a * state + b * x_up + c * wide(level.gamma))
    result = sample_state(predict, process, lambda step: noises[step][None], Sampling())
    assert len(calls) == 40
    for k, (state, level) in enumerate(calls):
        close(state[0], told["states"][k], 2e-5)
        assert level.gamma.item() == pytest.approx(told["gammas"][k, 0], rel=1e-6) and level.t.item() == 40 - k
    close(result[0], told["result"], 2e-5)


def test_a_cut_chain_is_sampled_as_guided_diffusion_does(oracle):
    told = oracle("respaced_ancestral")
    a, b = told["stub_coef_y_xup"]
    x_up, y_T, noises = (torch.from_numpy(told[name]) for name in ("x_up", "y_T", "noises_per_step"))
    process = Process.of(ProcessParams())
    assert evenly(2000, 25) == told["taus_1based"].tolist()
    predict, calls = recorded(lambda state, level: a * state + b * x_up - 0.05 * wide(level.gamma))
    result = sample_state(predict, process, lambda k: noises[k - 1] if k else y_T, Sampling(steps=25))
    assert [int(level.t[0]) for _, level in calls] == told["taus_1based"].tolist()[::-1]
    for (state, _), expected in zip(calls, told["states"], strict=True):
        close(state, expected, 2e-5)
    close(result, told["result"], 2e-5)


@pytest.mark.parametrize("eps", ["eps_as_predicted", "eps_from_clipped_x0"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_is_diffusers_step_by_step(oracle, eta, eps):
    told = oracle("ddim")
    a, b = told["stub_coef_y_xup"]
    x_up, y_T, noises = (torch.from_numpy(told[name]) for name in ("x_up", "y_T", "noises_per_step"))
    whole = Process.of(ProcessParams(T=200, beta_end=4e-2))
    np.testing.assert_allclose(whole.alpha_bar[1:], told["alphas_cumprod"], rtol=1e-5)
    sampling = Sampling(sampler="ddim", eta=eta, eps="predicted" if eps == "eps_as_predicted" else "from_x0")
    predict, calls = recorded(lambda state, level: a * state + b * x_up - 0.05 * wide(level.gamma))
    process = whole.respaced(told["taus_1based"].tolist())
    result = sample_state(predict, process, lambda k: noises[k - 1] if k else y_T, sampling)
    at = f"eta{eta}/{eps}/"
    for (state, _), expected in zip(calls, told[at + "states"], strict=True):
        close(state, expected, 3e-5)
    close(result, told[at + "result"], 3e-5)


def test_idm_ddim_is_the_shipped_one_state_by_state(oracle):
    told = oracle("idm_ddim")
    start, end = told["betas"]
    process = Process.of(ProcessParams(T=int(told["T"]), beta_start=start, beta_end=end))
    y_T, condition = torch.from_numpy(told["y_T"]), torch.from_numpy(told["condition"])
    # the oracle does not name its network; this one is within 2e-5 of all of its states, which fix the three numbers
    predict, calls = recorded(lambda state, level: 0.4 * state + 0.1 * condition - 0.05 * wide(level.gamma))
    sampling = Sampling(sampler="idm_ddim", steps=200)
    result = sample_state(predict, process, lambda k: y_T if k == 0 else pytest.fail("it draws no noise"), sampling)
    assert len(calls) == 199 and sampling.mark == "idm_ddim200"
    np.testing.assert_allclose([float(level.gamma) for _, level in calls], told["gammas"][:, 0], rtol=1e-6)
    states = [*(state for state, _ in calls), result]
    for found, expected in zip(states[::10], told["states_every_10"], strict=True):
        close(found[0], expected, 1e-4)
    close(result[0], told["result"], 1e-4)


@pytest.mark.parametrize(
    ("total", "count", "kept"), [(10, 5, [1, 3, 5, 7, 9]), (10, 4, [1, 3, 5, 7, 9]), (4, None, [1, 2, 3, 4])]
)
def test_shipped_steps_are_every_whole_fraction_of_the_chain(total, count, kept):
    assert shipped(total, count) == kept


def test_a_chain_too_short_for_the_shipped_steps_is_refused():
    params = ProcessParams(T=40, allow_terminal_signal=True)
    for steps, said in ((41, "the process has 40 steps, fewer than steps=41"), (1, "needs 2 of the 40 steps at least")):
        with pytest.raises(InputError, match=said):
            settled(params, Sampling(sampler="idm_ddim", steps=steps))


LISTS = [(45, "0.6667", "0.3333"), (45, "0.5", "0.3333"), (45, "0.6667", "0.5"), (45, "0.8", "0.3333"),
         (45, "0.6667", "0.2")]  # fmt: skip


@pytest.mark.parametrize(("S", "t_max", "t_min"), LISTS)
def test_truncated_calls_at_the_released_steps(oracle, S, t_max, t_min):
    told = oracle("ccsr_truncated_sampling")
    at = f"lists/S{S}_tmax{t_max}_tmin{t_min}/"
    spaced = accumulated(1000, S)
    assert [step - 1 for step in spaced] == told[at + "spaced_timesteps"].tolist()
    sampling = Sampling(sampler="truncated", steps=S, t_max=float(t_max), t_min=float(t_min))
    process = Process.of(ProcessParams(T=1000))
    predict, calls = recorded(lambda state, level: state)
    sample_state(predict, process, lambda k: torch.zeros(1, 1, 1, 1), sampling)
    assert [int(level.t) - 1 for _, level in calls] == told[at + "timesteps_called"].tolist()
    first, last = used(S, sampling)
    assert [S - 1, *range(first - 1, last - 2, -1)] == told[at + "spaced_index_of_each_call"].tolist()


@pytest.mark.parametrize(("t_max", "t_min"), [("0.6667", "0.3333"), ("0.5", "0.3333")])
def test_truncated_is_ccsrs_call_by_call(oracle, t_max, t_min):
    told = oracle("ccsr_truncated_sampling")
    arrays = {name.rpartition("/")[2]: told[name] for name in told if name.startswith(f"run/S45_tmax{t_max}_")}
    a, b, c = told["stub_coef_x_clatent_t"]
    condition = torch.from_numpy(arrays["c_latent"])
    noises = [arrays["x_T"], arrays["jump_noise"], *arrays["step_noises"]]
    betas = {"schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    process = Process.of(ProcessParams(T=1000, clamp=False, **betas))
    spaced = process.respaced(accumulated(1000, 45))
    np.testing.assert_allclose(spaced.alpha_bar[1:], arrays["alpha_bar_spaced"], rtol=1e-10)
    variances = [spaced.posterior(step)[2] for step in range(1, 46)]
    np.testing.assert_allclose(variances, arrays["posterior_variance_spaced"], rtol=1e-10)
    predict, calls = recorded(lambda x, level: a * x + b * condition + c * wide(level.t - 1) / 1000)
    sampling = Sampling(sampler="truncated", steps=45, t_max=float(t_max), t_min=float(t_min), jump="released")
    result = sample_state(predict, process, lambda k: torch.from_numpy(noises[k]), sampling)
    assert [int(level.t[0]) - 1 for _, level in calls] == arrays["network_timesteps"].tolist()
    for (state, _), expected in zip(calls, arrays["network_inputs"], strict=True):
        close(state, expected, 1e-4)
    close(result, arrays["output_x0_latent"], 1e-4)


def test_by_default_the_jump_goes_to_the_level_of_the_next_call():
    process = Process.of(ProcessParams(prediction="x0", clamp=False))
    zero, one = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    levels = []
    for jump in ("first_used", "released"):
        sampling = Sampling(sampler="truncated", steps=45, t_max=0.5, t_min=1 / 3, jump=jump)
        predict, calls = recorded(lambda state, level: zero)
        sample_state(predict, process, lambda k: one if k == 1 else zero, sampling)
        (state, level), rest = calls[1], (1 - calls[1][1].gamma ** 2).sqrt().item()
        assert int(level.t) == accumulated(2000, 45)[21]
        levels.append(state.item() / rest)
    assert levels[0] == pytest.approx(1) and levels[1] > 1.01


@pytest.mark.parametrize("S", [1, 2, 7, 50])
@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "truncated"])
def test_any_number_of_steps_begins_at_the_last_one(S, sampler):
    process = Process.of(ProcessParams())
    predict, calls = recorded(lambda state, level: state)
    own = {"t_max": 1.0, "t_min": 0.0} if sampler == "truncated" else {}
    result = sample_state(predict, process, lambda k: torch.ones(1, 3, 2, 2), Sampling(sampler=sampler, steps=S, **own))
    assert len(calls) == S + (sampler == "truncated") and int(calls[0][1].t) == 2000
    assert result.isfinite().all() and result.abs().max() <= 1


def test_ddim_with_all_noise_is_ancestral():
    process = Process.of(ProcessParams())
    noises = torch.randn(20, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))

    def predict(state: Tensor, level: Level) -> Tensor:
        return 0.3 * state

    drawn = [
        sample_state(predict, process, noises.__getitem__, sampling)
        for sampling in (Sampling(steps=20), Sampling(sampler="ddim", steps=20, eta=1.0))
    ]
    torch.testing.assert_close(*drawn, rtol=0, atol=2e-5)


def test_all_steps_of_a_chain_are_the_chain():
    process = Process.of(ProcessParams(T=40, beta_end=0.3))
    noises = torch.randn(40, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    whole, all_kept = (
        sample_state(lambda state, level: 0.3 * state, process, noises.__getitem__, Sampling(steps=steps))
        for steps in (None, 40)
    )
    assert torch.equal(whole, all_kept)


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        (Sampling(steps=41), "the process has 40 steps, fewer than steps=41"),
        (Sampling(sampler="truncated", steps=4, t_max=0.52, t_min=0.5), "no step of 4 lies between t_max 0.52"),
    ],
)
def test_samplings_that_a_process_has_no_steps_for_are_refused(sampling, said):
    params = ProcessParams(T=40, beta_end=0.3)
    with pytest.raises(InputError, match=said):
        sample_state(lambda state, level: state, Process.of(params), lambda k: torch.zeros(1, 1, 1, 1), sampling)
    with pytest.raises(InputError, match=said):
        settled(params, sampling)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "truncated"])
def test_a_settled_sampling_names_its_steps_and_is_drawn_alike(sampler):
    params, asked = ProcessParams(T=40, beta_end=0.3), Sampling(sampler=sampler)
    found = settled(params, asked)
    assert found == asked.model_copy(update={"steps": 40}) and settled(params, found) == found
    assert settled(params, Sampling(sampler=sampler, steps=7)).steps == 7
    one, other = (
        sample_state(lambda state, level: 0.3 * state, Process.of(params), lambda k: torch.ones(1, 1, 1, 1), sampling)
        for sampling in (asked, found)
    )
    assert torch.equal(one, other)


MEAN, SPREAD = 0.2, 0.1


def best_guess(state: Tensor, level: Level) -> Tensor:
    """The expected noise in a pixel of N(MEAN, SPREAD²) pictures."""
    root = wide(level.gamma)
    rest2 = 1 - root**2
    return rest2.sqrt() * (state - root * MEAN) / (root**2 * SPREAD**2 + rest2)


@pytest.mark.parametrize(
    ("sampling", "of_sd"),
    [(Sampling(), 0.02), (Sampling(sampler="ddim", eta=0.0), 0.02), (Sampling(sampler="ddim", eta=1.0), 0.02)],
    ids=lambda value: getattr(value, "mark", ""),
)
def test_gaussian_pictures_are_drawn_with_their_mean_and_spread(sampling, of_sd):
    """S = T = 2000, no clamp; four standard errors of 16384 pixels, and 2 % of the sd for the steps' discreteness."""
    process = Process.of(ProcessParams(clamp=False))
    generator = torch.Generator().manual_seed(0)
    x = sample_state(best_guess, process, lambda k: torch.randn(4, 1, 64, 64, generator=generator), sampling)
    n = x.numel()
    mean, sd = float(x.mean()), float(x.std())
    print(f"{sampling.mark}: mean {mean:.5f} (told {MEAN}), sd {sd:.5f} (told {SPREAD}), n {n}")
    assert abs(mean - MEAN) < 4 * SPREAD / n**0.5
    assert abs(sd / SPREAD - 1) < 4 / (2 * n) ** 0.5 + of_sd
