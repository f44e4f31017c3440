"""SR3: published sizes and keys, its condition, any scale."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import sr_models
from sr_models.diffusion.base import Denoiser
from sr_models.diffusion.process import Level
from sr_models.diffusion.sr3 import SR3
from sr_models.images.operators import resize_float
from sr_models.networks.base import parameters

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"
TINY = {"channels": 8, "mults": (1, 2, 2), "attention": (1,), "blocks": 1, "dropout": 0.0, "groups": 4}


def tiny(scale: int) -> SR3:
    torch.manual_seed(0)
    net = sr_models.build("sr3", scale, **TINY)
    assert isinstance(net, SR3)
    return net


@pytest.mark.parametrize(
    ("scale", "hyper", "count", "sheet"),
    [(8, {}, 97_807_491, "SR3_face16_128"), (4, {"attention": ()}, 92_556_931, "SR3_div2k_160")],
)
def test_size_and_keys_are_the_published_ones(scale, hyper, count, sheet):
    with torch.device("meta"):
        net = sr_models.build("sr3", scale, **hyper)
    assert parameters(net) == count
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    rows = (SPEC / "checkpoint_keys" / f"{sheet}.txt").read_text().splitlines()
    listed = dict(row.split(" ", 1) for row in rows)
    assert {key: str(tuple(value.shape)) for key, value in net.state_dict().items()} == listed


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 8])
def test_any_scale_and_any_size_go(scale):
    net = tiny(scale)
    side = net.window
    lr = torch.rand(2, 3, side, 2 * side)
    condition = net.encode(lr, (side * scale, 2 * side * scale))
    level = Level(torch.tensor([0.9, 0.1]), torch.tensor([1, 2000]))
    assert net(condition, torch.randn(condition.shape), level).shape == (2, 3, side * scale, 2 * side * scale)
    assert net.state_shape((16, 8)) == (3, 16, 8)


def test_the_condition_is_the_enlargement_in_the_range_of_states():
    net, lr = tiny(4), torch.rand(1, 3, 8, 8).round()
    condition = net.encode(lr, (32, 32))
    torch.testing.assert_close(net.decode(condition), resize_float(lr, 4).clamp(0, 1))
    assert condition.min() == -1 and condition.max() == 1
    torch.testing.assert_close(net.decode(net.state(lr)), lr)


def test_it_sees_the_condition_the_state_and_the_noise_level():
    net = tiny(4).eval()
    condition, state, gamma = torch.rand(1, 3, 8, 8), torch.randn(1, 3, 8, 8), torch.tensor([0.5])

    def out(condition: Tensor = condition, state: Tensor = state, gamma: Tensor = gamma) -> Tensor:
        return net(condition, state, Level(gamma, torch.tensor([1]))).detach()

    changed = [out(condition=condition + 0.1), out(state=state + 0.1), out(gamma=gamma - 0.3)]
    assert all((one - out()).abs().max() > 1e-4 for one in changed)


@pytest.mark.parametrize("hyper", [TINY, TINY | {"attention": (), "mults": (1, 3), "blocks": 2}])
def test_a_plan_knows_the_cost_of_a_call(hyper):
    net, total = sr_models.build("sr3", 2, **hyper), 0

    def count(layer: torch.nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += layer.weight.numel() * output.shape[2] * output.shape[3]

    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    state = torch.zeros(1, 3, 16, 16)
    net(state, state, Level(torch.ones(1), torch.ones(1, dtype=torch.int64)))
    assert sr_models.multiply_adds("sr3", 2, hyper) == pytest.approx(total / 8**2)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"channels": 48}, "channels must be a multiple of groups, got 48 and 32"),
        ({"attention": (5,)}, r"attention names levels 0 to 4, got \[5\]"),
        ({"mults": (1, 0)}, r"mults must be from 1 to 64"),
        ({"mults": ()}, "mults: .*at least 1 item"),
    ],
)
def test_impossible_networks_are_refused(values, said):
    with pytest.raises(sr_models.InputError, match=said):
        sr_models.check("sr3", 4, values)


def test_it_is_a_denoiser_that_draws():
    net = tiny(4)
    assert isinstance(net, Denoiser) and net.stochastic and net.process.T == 2000
