"""Residual shifting against the released code's tables, noisy states, posterior and a whole draw."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sr_models.diffusion.process import Level
from sr_models.diffusion.shifting import Shifting
from sr_models.hyper.process import ShiftParams


@pytest.fixture
def told(oracle):
    return {key.removeprefix("cfg0/"): value for key, value in oracle("resshift_process").items()}


def params_of(told: dict) -> ShiftParams:
    config = json.loads(str(told["config"]))
    config["T"], config["root_end"] = config.pop("steps"), config.pop("etas_end")
    assert ShiftParams(**config) == ShiftParams()  # the defaults are the released ones
    return ShiftParams(**config)


def tensor(told: dict, name: str) -> Tensor:
    return torch.from_numpy(told[name])


def enlarged(lr: Tensor) -> Tensor:
    """The oracle's stand-in for the latent of the enlarged LR."""
    size = [4 * side for side in lr.shape[2:]]
    return functional.avg_pool2d(functional.interpolate(lr, size=size, mode="bicubic"), 4)


def test_tables_are_the_released_ones(told):
    chain = Shifting.of(params_of(told))
    np.testing.assert_allclose(np.sqrt(chain.eta[1:]), told["sqrt_etas"], rtol=1e-10)
    found = np.array([chain.posterior(step) for step in range(1, chain.steps + 1)]).T
    for row, name in zip(
        found, ("posterior_mean_coef_x0", "posterior_mean_coef_xt", "posterior_variance"), strict=True
    ):
        np.testing.assert_allclose(row, told[name], rtol=1e-10, atol=1e-15)


def test_noisy_states_and_what_the_network_is_given_are_the_released_ones(told):
    chain, step = Shifting.of(params_of(told)), tensor(told, "t0") + 1
    x0, y, noise = (tensor(told, name) for name in ("x0", "y", "noise"))
    x_t = chain.shift(x0, y, noise, step)
    torch.testing.assert_close(x_t, tensor(told, "q_sample"), rtol=0, atol=2e-5)
    torch.testing.assert_close(chain.scaled(x_t, step), tensor(told, "scaled_input"), rtol=0, atol=2e-5)
    for i, one in enumerate(step.tolist()):
        of_x0, of_x_t, variance = chain.posterior(one)
        mean = of_x0 * x0[i] + of_x_t * x_t[i]
        torch.testing.assert_close(mean, tensor(told, "posterior_mean")[i], rtol=0, atol=2e-5)
        assert variance == pytest.approx(float(told["posterior_var_at_t"][i]), rel=1e-5, abs=1e-9)
    assert torch.equal(chain.level(step).t, step)


def test_the_loss_is_the_released_one(told, oracle):
    a, b, c = oracle("resshift_process")["stub_coef_x_lq_t"]
    chain, step = Shifting.of(params_of(told)), tensor(told, "t0") + 1
    lr, x0 = tensor(told, "loss/lr"), functional.avg_pool2d(tensor(told, "loss/hr"), 4)
    torch.testing.assert_close(enlarged(lr), tensor(told, "loss/z_y"), rtol=0, atol=2e-5)
    z_t = chain.shift(x0, enlarged(lr), tensor(told, "noise"), step)
    torch.testing.assert_close(z_t, tensor(told, "loss_xstart/z_t"), rtol=0, atol=2e-5)
    given = chain.scaled(z_t, step)
    torch.testing.assert_close(given, tensor(told, "loss_xstart/network_input"), rtol=0, atol=2e-5)
    found = a * given + b * lr + c * (step - 1).view(-1, 1, 1, 1)
    torch.testing.assert_close(found.float(), tensor(told, "loss_xstart/pred_x0"), rtol=0, atol=2e-5)
    loss = (found - x0).square().mean((1, 2, 3)).float()
    torch.testing.assert_close(loss, tensor(told, "loss_xstart/per_sample"), rtol=0, atol=2e-5)


def test_a_whole_draw_is_the_released_one(told, oracle):
    a, b, c = oracle("resshift_process")["stub_coef_x_lq_t"]
    chain, noises = Shifting.of(params_of(told)), tensor(told, "sampling/noises_in_order")
    lr, y = tensor(told, "loss/lr")[:2], enlarged(tensor(told, "loss/lr")[:2])
    seen, given = [], []

    def stub(state: Tensor, level: Level) -> Tensor:
        seen.append(state)
        given.append(a * state + b * lr + c * (level.t[0] - 1))
        return given[-1]

    state = chain.sample(stub, y, lambda step: noises[step])
    torch.testing.assert_close(torch.stack(seen), tensor(told, "sampling/network_inputs_scaled"), rtol=0, atol=2e-5)
    torch.testing.assert_close(torch.stack(given), tensor(told, "sampling/network_outputs"), rtol=0, atol=2e-5)
    decoded = functional.interpolate(state, scale_factor=4, mode="nearest")
    torch.testing.assert_close(decoded, tensor(told, "sampling/decoded"), rtol=0, atol=2e-5)


def test_the_last_step_is_nearly_lr_and_the_first_nearly_clean():
    chain = Shifting.of(ShiftParams())
    assert chain.eta[0] == 0 and chain.eta[1] < 1e-3 and chain.eta[-1] > 0.98 and (np.diff(chain.eta) > 0).all()


@pytest.mark.parametrize(
    ("values", "said"),
    [({"T": 1}, "greater than or equal to 2"), ({"min_noise_level": 2.0}, "min_noise_level / kappa must be below")],
)
def test_chains_that_do_not_rise_are_refused(values, said):
    with pytest.raises(ValueError, match=said):
        ShiftParams(**values)
