"""RCAN: sizes, keys, what its attention does, and mean shifts that are read from a checkpoint."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import sr_models
from sr_models.errors import InputError
from sr_models.networks.base import parameters
from sr_models.networks.rcan import ChannelAttention

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"
COUNTS = {2: 15444643, 3: 15629283, 4: 15592355, 8: 15740067}
SMALL = {"channels": 16, "groups": 2, "blocks": 2}
MEAN = torch.tensor([0.4488, 0.4371, 0.4040])[None, :, None, None]
BASICSR = [  # the key of the release -> the key of the fact sheet, which lists BasicSR's
    (r"^head\.0", "conv_first"),
    (r"^body\.10\.", "conv_after_body."),
    (r"^body\.(\d+)\.body\.20\.", r"body.\1.conv."),
    (r"^body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.0", r"body.\1.residual_group.\2.rcab.3.attention.1"),
    (r"^body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.2", r"body.\1.residual_group.\2.rcab.3.attention.3"),
    (r"^body\.(\d+)\.body\.(\d+)\.body\.", r"body.\1.residual_group.\2.rcab."),
    (r"^tail\.0\.", "upsample."),
    (r"^tail\.1\.", "conv_last."),
]


def basicsr_name(key: str) -> str:
    for pattern, name in BASICSR:
        key = re.sub(pattern, name, key)
    return key


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_sizes_and_keys_are_the_releases(scale: int) -> None:
    with torch.device("meta"):
        net = sr_models.build("rcan", scale)
    assert parameters(net) == COUNTS[scale]
    state = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    for name in ("sub_mean", "add_mean"):
        assert (state.pop(f"{name}.weight"), state.pop(f"{name}.bias")) == ((3, 3, 1, 1), (3,))
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    sheet = json.loads((SPEC / "param_counts.json").read_text())["RCAN"]
    trained = sum(p.numel() for p in net.parameters())  # the release's own number: its mean shifts were trained
    assert (sheet[f"x{scale}"], sheet["with_trainable_meanshift(+24)"][f"x{scale}"]) == (COUNTS[scale], trained)
    rows = (SPEC / "checkpoint_keys" / f"RCAN_x{scale}.txt").read_text().splitlines()
    assert sorted(f"{basicsr_name(key)} {shape}" for key, shape in state.items()) == sorted(rows)


def test_mean_shifts_come_from_the_checkpoint_and_stay() -> None:
    net, trained = (sr_models.build("rcan", 2, **SMALL) for _ in range(2))
    state = trained.state_dict()
    state["add_mean.bias"] += 1.0
    state["sub_mean.weight"] *= 1.01
    net.load_state_dict(state)
    lr = torch.rand(1, 3, 5, 5)
    torch.testing.assert_close(net(lr), trained(lr), rtol=0, atol=0)
    for name in ("tail.1.weight", "tail.1.bias"):
        nn.init.zeros_(net.get_parameter(name))
    torch.testing.assert_close(net(lr), (MEAN + 1 / 255).expand(1, 3, 10, 10))
    net(lr).sum().backward()
    assert all(net.get_parameter(f"{m}.{w}").grad is None for m in ("sub_mean", "add_mean") for w in ("weight", "bias"))


def test_the_head_sees_0_to_255_around_the_mean() -> None:
    net = sr_models.build("rcan", 2, **SMALL)
    seen: list[torch.Tensor] = []
    net.get_submodule("head").register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    lr = torch.rand(1, 3, 4, 4)
    net(lr)
    torch.testing.assert_close(seen[0], 255 * (lr - MEAN))


def test_attention_scales_whole_channels_by_their_mean_alone() -> None:
    attention = ChannelAttention(16, 4)
    x = torch.rand(2, 16, 6, 6)
    weight = attention(x) / x
    torch.testing.assert_close(weight, weight[..., :1, :1].expand_as(x))
    assert 0 < weight.min() < weight.max() < 1
    shuffled = x.flatten(2)[..., torch.randperm(36)].unflatten(2, (6, 6))
    torch.testing.assert_close(attention(shuffled) / shuffled, weight)
    for p in attention.parameters():
        nn.init.zeros_(p)
    torch.testing.assert_close(attention(x), x / 2)  # sigmoid(0)


def test_with_a_silent_body_only_the_head_is_left() -> None:
    net = sr_models.build("rcan", 2, **SMALL)
    for name, p in net.named_parameters():
        if re.match(r"body\.\d+\.body\.2\.|body\.2\.", name):  # the convolution that ends a group, and the last one
            nn.init.zeros_(p)
    lr = torch.rand(1, 3, 5, 5)
    shallow = net.get_submodule("head")(255 * (lr - MEAN))
    rounding = {"rtol": 1e-5, "atol": 1e-4}  # the mean shift is a convolution there, and values go up to 255
    torch.testing.assert_close(net.features(lr), shallow, **rounding)
    torch.testing.assert_close(net.get_submodule("body.0")(shallow), shallow, **rounding)


def test_the_bottleneck_must_divide_the_channels() -> None:
    with pytest.raises(InputError, match="channels must be a multiple of reduction, got 8 and 16"):
        sr_models.check("rcan", 2, {"channels": 8})
