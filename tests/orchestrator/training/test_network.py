"""The network that a trial's config describes, and running it with other weights for a while."""

import pytest
import torch

from objectives import RECIPES
from orchestrator.plan.trial import TrainConfig, TrialConfig
from orchestrator.training.network import build_network, other_weights
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
