"""The network that a trial's config describes, and running it with other weights for a while."""

import pytest
import torch

from objectives import RECIPES
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.training.network import build_network, move_average, other_weights
from sr_models.networks.sigma import WithSigma


def config(recipe: str) -> TrialConfig:
    return TrialConfig(
        model="edsr_baseline", scale=3, hyper={"channels": 8, "blocks": 1}, objective=RECIPES[recipe],
        train=TrainConfig(), seed=0, protocol="classical", metrics=("psnr_y",), data_hash="a" * 64, teacher=None,
    )  # fmt: skip


def test_a_head_is_there_where_the_objective_has_sigma():
    plain, headed = build_network(config("l1")), build_network(config("expectation"))
    assert not isinstance(plain, WithSigma) and isinstance(headed, WithSigma)
    assert plain.scale == headed.scale == 3
    width = config("expectation").objective.sigma.width
    assert headed.head.body[0].out_channels == width and headed.head.body[0].in_channels == 8
    _, sigma = headed(torch.rand(1, 3, 4, 5))
    assert sigma.shape == (1, 3, 12, 15)


def test_a_head_reads_detail_in_the_networks_unit_unless_the_trial_was_planned_before_that():
    now = config("expectation")
    assert build_network(now).head.detail_unit == 255 / 32
    assert build_network(now.model_copy(update={"model": "imdn", "hyper": {"channels": 16}})).head.detail_unit == 1 / 32
    assert build_network(now.model_copy(update={"numerics_version": 1})).head.detail_unit is None


def test_start_values_are_those_of_torchs_generator():
    states = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            states.append(build_network(config("l1")).state_dict()["head.0.weight"])
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_a_network_gets_its_own_weights_back_even_after_an_error():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    own = {name: value.clone() for name, value in net.state_dict().items()}
    other = {name: value + 1 for name, value in own.items()}
    with pytest.raises(RuntimeError), other_weights(net, other):
        assert all(torch.equal(value, other[name]) for name, value in net.state_dict().items())
        net(torch.rand(1, 1, 4, 4))  # moves the running statistics
        raise RuntimeError
    assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())


def moved(**train) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """The states of a network with a frozen weight and running statistics in 40 steps, and their average."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.Conv2d(2, 1, 1))
    net[2].requires_grad_(False)
    average = {name: value.clone() for name, value in net.state_dict().items()}
    states = [{name: value.clone() for name, value in average.items()}]
    for step in range(40):
        with torch.no_grad():
            for parameter in [*net[0].parameters(), *net[1].parameters()]:
                parameter.add_(torch.randn(parameter.shape))
        net(torch.randn(2, 1, 4, 4))
        move_average(average, net, TrainConfig(steps=40, **train), step)
        states.append({name: value.clone() for name, value in net.state_dict().items()})
    return states, average


STATISTICS = ("1.running_mean", "1.running_var")


@pytest.mark.parametrize("warmup", [False, True])
def test_an_average_follows_its_closed_form(warmup):
    """In float64, by the weight that each step's state ends with."""
    states, average = moved(ema=0.7, ema_warmup=warmup)
    decays = [min(0.7, (1 + k) / (10 + k)) if warmup else 0.7 for k in range(40)]
    shares = [(1 - decay) * torch.tensor(decays[k + 1 :]).prod().item() for k, decay in enumerate(decays)]
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", *STATISTICS):
        expected = torch.tensor(decays).prod() * states[0][name].double()
        expected = expected + sum(share * state[name].double() for share, state in zip(shares, states[1:], strict=True))
        if warmup and name in STATISTICS:
            assert torch.equal(average[name], states[-1][name]), name
        else:
            torch.testing.assert_close(average[name].double(), expected, rtol=1e-5, atol=1e-5)
    for name in ("2.weight", "2.bias", "1.num_batches_tracked"):
        assert torch.equal(average[name], states[-1][name]), name


def test_a_short_runs_average_has_forgotten_its_start_only_with_a_warmup():
    """Without one, 0.999^40 = 96 % of an average is the network as it was drawn; with one the last step leaves 4/5."""
    (first, *_, last), plain = moved(ema=0.999)
    _, warm = moved(ema=0.999, ema_warmup=True)
    far = last["0.weight"] - first["0.weight"]
    assert (plain["0.weight"] - first["0.weight"]).norm() < 0.05 * far.norm()
    assert (warm["0.weight"] - last["0.weight"]).norm() < far.norm()
