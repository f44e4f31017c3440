"""Schedules against closed forms; chains that are refused, in one line."""

import math

import numpy as np
import pytest

from sr_models.diffusion.process import Process
from sr_models.diffusion.samplers import evenly
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams


@pytest.mark.parametrize("T", [2000, 1000, 37])
def test_alpha_bar_is_the_product_of_one_less_beta(T):
    params = ProcessParams(T=T, allow_terminal_signal=True)
    betas = [1e-6 + (1e-2 - 1e-6) * i / (T - 1) for i in range(T)]
    found = params.alpha_bar()
    assert found[0] == 1 and found.dtype == np.float64 and len(found) == T + 1
    assert found[-1] == pytest.approx(math.exp(math.fsum(math.log1p(-beta) for beta in betas)), rel=1e-12)


def test_ends_are_those_of_the_papers():
    assert ProcessParams().alpha_bar()[-1] == pytest.approx(4.4e-5, rel=0.02)
    assert ProcessParams(T=1000).alpha_bar()[-1] == pytest.approx(6.6e-3, rel=0.02)
    ccsr = ProcessParams(T=1000, schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).alpha_bar()
    assert [ccsr[1000], ccsr[668], ccsr[334]] == pytest.approx([0.00466, 0.104, 0.535], rel=0.01)


def test_cosine_falls_as_improved_ddpm_prints_it():
    found = ProcessParams(T=1000, schedule="cosine").alpha_bar()
    level = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(found[:990], level[:990] / level[0], rtol=1e-9)
    assert 0 < found[-1] < 1e-5


def test_zero_terminal_snr_ends_in_noise_and_keeps_the_first_step():
    plain = ProcessParams(T=1000)
    found = ProcessParams(T=1000, zero_terminal_snr=True, prediction="v").alpha_bar()
    assert found[-1] == 0 and found[0] == 1 and found[1] == pytest.approx(plain.alpha_bar()[1], rel=1e-12)
    assert (np.diff(found) < 0).all()
    roots, ours = np.sqrt(plain.alpha_bar()), np.sqrt(found)
    assert ours[500] == pytest.approx((roots[500] - roots[1000]) * roots[1] / (roots[1] - roots[1000]), rel=1e-12)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"T": 200}, r"process: the chain ends with alpha-bar 0\.37, above 0\.02 \(T=200, beta 1e-06 to 0\.01\)"),
        ({"zero_terminal_snr": True}, "process: zero_terminal_snr needs prediction x0 or v"),
        ({"prediction": "noise"}, "process.prediction: Input should be 'eps', 'x0' or 'v'"),
        ({"beta_end": 1.0}, "process.beta_end: Input should be less than 1"),
        ({"steps": 5}, "process: unknown key 'steps'"),
    ],
)
def test_a_chain_that_cannot_be_sampled_is_refused(values, said):
    with pytest.raises(InputError, match=said) as caught:
        ProcessParams.parse(values, "process")
    assert "\n" not in str(caught.value)


def test_a_chain_with_signal_is_accepted_where_one_says_so():
    assert ProcessParams(T=200, allow_terminal_signal=True).alpha_bar()[-1] == pytest.approx(0.37, abs=0.01)


def test_resshifts_own_cut_is_the_released_one(oracle):
    told = oracle("resshift_ddpm_respacing")
    start, end = told["beta_start_end"]
    params = ProcessParams(
        T=int(told["T"]), schedule="scaled_linear", beta_start=start, beta_end=end, kept=int(told["S"]),
        kept_by="resshift",
    )  # fmt: skip
    assert params.steps == told["S"]
    whole = params.model_copy(update={"kept": None}).alpha_bar()
    np.testing.assert_array_equal(params.alpha_bar()[1:], whole[told["kept_0based"] + 1])
    np.testing.assert_allclose(params.alpha_bar()[1:], told["alpha_bar"], rtol=1e-10)
    chain = Process.of(params)
    variances = [chain.posterior(step)[2] for step in range(1, chain.steps + 1)]
    np.testing.assert_allclose(variances[1:], told["posterior_variance"][1:], rtol=1e-10)
    assert list(chain.t) == list(range(51))


def test_an_even_cut_has_the_last_step_and_is_the_chain_of_a_respaced_one():
    cut, whole = ProcessParams(T=200, beta_end=0.04, kept=10), ProcessParams(T=200, beta_end=0.04)
    np.testing.assert_array_equal(cut.alpha_bar(), Process.of(whole).respaced(evenly(200, 10)).alpha_bar)
    assert "kept" not in whole.model_dump() and "kept_by" not in whole.model_dump()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kept": 3000}, "kept must be at most T, got 3000 and 2000"),
        ({"kept_by": "resshift"}, "kept_by goes with kept"),
    ],
)
def test_a_cut_that_is_none_is_refused(values, said):
    with pytest.raises(InputError, match=said):
        ProcessParams.parse(values, "process")
