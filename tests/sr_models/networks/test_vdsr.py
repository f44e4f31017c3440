"""VDSR: luma or RGB, with or without biases; what it adds goes on top of bicubic and leaves the chroma alone."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import sr_models
from sr_models.images.operators import resize_float, rgb_to_y
from sr_models.networks.base import parameters

KEYS = Path(__file__).resolve().parents[4] / "shared" / "spec" / "checkpoint_keys"


@pytest.mark.parametrize(
    ("color", "bias", "count"),
    [("y", False, 664704), ("y", True, 665921), ("rgb", False, 667008), ("rgb", True, 668227)],
)
def test_sizes_of_the_variants(color: str, bias: bool, count: int) -> None:
    with torch.device("meta"):
        assert parameters(sr_models.build("vdsr", 2, color=color, bias=bias)) == count


def test_the_keys_are_the_releases() -> None:
    if not KEYS.is_dir():
        pytest.skip("needs ../shared/spec")
    state = sr_models.build("vdsr", 3).state_dict()
    rows = (KEYS / "VDSR_any.txt").read_text().splitlines()
    assert sorted(f"{key} {tuple(value.shape)}" for key, value in state.items()) == sorted(rows)


@pytest.mark.parametrize("color", ["y", "rgb"])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_without_weights_it_is_bicubic(color: str, scale: int) -> None:
    net = sr_models.build("vdsr", scale, channels=4, blocks=2, color=color)
    for p in net.parameters():
        nn.init.zeros_(p)
    lr = torch.rand(1, 3, 6, 5)
    torch.testing.assert_close(net(lr), resize_float(lr, scale), rtol=0, atol=0)


def test_luma_network_sees_and_changes_luma_only() -> None:
    net = sr_models.build("vdsr", 3, channels=4, blocks=2)
    detail: list[torch.Tensor] = []
    net.get_submodule("output").register_forward_hook(lambda module, inputs, output: detail.append(output))
    seen: list[torch.Tensor] = []
    net.get_submodule("input").register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    lr = torch.rand(2, 3, 6, 5)
    sr, bicubic = net(lr), resize_float(lr, 3)
    torch.testing.assert_close(seen[0], rgb_to_y(bicubic), rtol=0, atol=0)
    assert detail[0].abs().max() > 0.01
    torch.testing.assert_close(rgb_to_y(sr), rgb_to_y(bicubic) + detail[0])
    for a, b in ((0, 1), (2, 1)):  # Cb and Cr are functions of these differences
        torch.testing.assert_close(sr[:, a] - sr[:, b], bicubic[:, a] - bicubic[:, b])


def test_one_set_of_weights_serves_all_scales() -> None:
    two, four = (sr_models.build("vdsr", scale, channels=4, blocks=2) for scale in (2, 4))
    four.load_state_dict(two.state_dict())
    lr = torch.rand(1, 3, 5, 6)
    four.scale = 2
    torch.testing.assert_close(four(lr), two(lr), rtol=0, atol=0)


def test_initial_weights_follow_the_outgoing_channels() -> None:
    net = sr_models.build("vdsr", 2, color="rgb", bias=True)
    for name, outgoing in (("input", 64), ("residual_layer.4.conv", 64), ("output", 3)):
        std = net.get_parameter(f"{name}.weight").std().item()
        assert std == pytest.approx(math.sqrt(2 / (9 * outgoing)), rel=0.05)
        assert net.get_parameter(f"{name}.bias").abs().max() == 0
