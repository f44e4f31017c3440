"""RRDBNet: sizes and keys of every form, the dense block's formula, and what unshuffling asks of the input."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import sr_models
from sr_models.errors import InputError
from sr_models.inference.super_resolve import super_resolve
from sr_models.networks.base import parameters
from sr_models.networks.rrdb import RRDB, DenseBlock, RRDBNet

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"
PUBLISHED = {"channels": 64, "growth": 32, "blocks": 23, "unshuffle": False}
SMALL = {"channels": 8, "growth": 4, "blocks": 2}
FORMS: list[tuple[int, dict[str, Any], int, str, str | None]] = [
    (1, {"unshuffle": True}, 16723907, "x1(pixel-unshuffle variant)", "RRDBNet_x1"),
    (2, {"unshuffle": True}, 16703171, "x2(pixel-unshuffle variant)", "RRDBNet_x2"),
    (2, {}, 16661059, "x2_single_upconv_computed", None),
    (3, {}, 16661059, "x2_single_upconv_computed", None),
    (4, {}, 16697987, "x4", "RRDBNet_x4"),
    (4, {"unshuffle": True}, 16697987, "x4", "RRDBNet_x4"),
    (4, {"blocks": 6}, 4467779, "x4_6blocks", "RRDBNet-6B_x4"),
    (8, {}, 16734915, "x8_three_upconv_computed", None),
]


@pytest.mark.parametrize(("scale", "hyper", "count", "entry", "keys"), FORMS)
def test_sizes_and_keys_are_the_releases(
    scale: int, hyper: dict[str, Any], count: int, entry: str, keys: str | None
) -> None:
    with torch.device("meta"):
        net = RRDBNet(scale, **PUBLISHED | hyper)  # scale 1 is not in MODELS
    assert parameters(net) == count
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    assert json.loads((SPEC / "param_counts.json").read_text())["RRDBNet"][entry] == count
    if keys:
        rows = (SPEC / "checkpoint_keys" / f"{keys}.txt").read_text().splitlines()
        assert sorted(f"{key} {tuple(value.shape)}" for key, value in net.state_dict().items()) == sorted(rows)


def test_a_dense_block_reads_everything_before_it() -> None:
    block = DenseBlock(6, 3)
    x = torch.randn(1, 6, 5, 5)
    outputs = [x]
    for i in range(1, 6):
        layer = block.get_submodule(f"conv{i}")
        assert isinstance(layer, torch.nn.Conv2d)
        y = functional.conv2d(torch.cat(outputs, 1), layer.weight, layer.bias, padding=1)
        outputs.append(y if i == 5 else torch.where(y > 0, y, 0.2 * y))
    torch.testing.assert_close(block(x), x + 0.2 * outputs[5])
    outer = RRDB(6, 3)
    torch.testing.assert_close(outer(x), x + 0.2 * outer.rdb3(outer.rdb2(outer.rdb1(x))))


def test_only_dense_blocks_start_small() -> None:
    net = sr_models.build("rrdb", 4, blocks=1)
    small, plain = net.get_parameter("body.0.rdb2.conv5.weight"), net.get_parameter("conv_body.weight")
    assert small.std().item() == pytest.approx(0.1 * math.sqrt(2 / (192 * 9)), rel=0.02)
    assert plain.std().item() == pytest.approx(1 / math.sqrt(3 * 64 * 9), rel=0.02)  # PyTorch's own
    assert net.get_parameter("body.0.rdb2.conv5.bias").abs().max() == 0


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_tail_enlarges_by_repeating_pixels(scale: int) -> None:
    net = sr_models.build("rrdb", scale, **SMALL)
    for name, p in net.named_parameters():  # each convolution of the tail passes on what it gets
        if name.startswith(("conv_up", "conv_hr", "conv_last")):
            torch.nn.init.dirac_(p) if name.endswith("weight") else torch.nn.init.zeros_(p)
    features = torch.rand(1, 8, 3, 4)
    expected = features[:, :3].repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    torch.testing.assert_close(net.reconstruct(features, torch.empty(0)), expected)


@pytest.mark.parametrize(("scale", "window"), [(1, 4), (2, 2), (4, 1)])
def test_unshuffled_features_are_a_quarter_of_the_output(scale: int, window: int) -> None:
    net = RRDBNet(scale, unshuffle=True, **SMALL)
    lr = torch.rand(1, 3, 8, 12)
    assert net.features(lr).shape == (1, 8, 2 * scale, 3 * scale)
    assert net(lr).shape == (1, 3, 8 * scale, 12 * scale)
    assert net.window == window
    assert super_resolve(net, torch.rand(1, 3, 5, 7)).sr.shape == (1, 3, 5 * scale, 7 * scale)
    if window > 1:
        with pytest.raises(ValueError, match=f"multiples of {window}, got 5x7"):
            net(torch.rand(1, 3, 5, 7))


@pytest.mark.parametrize("scale", [3, 8])
def test_unshuffling_has_no_other_scale(scale: int) -> None:
    with pytest.raises(InputError, match=f"unshuffle has scales 2, 4, not {scale}"):
        sr_models.check("rrdb", scale, {"unshuffle": True})


@pytest.mark.parametrize(("scale", "unshuffle"), [(2, False), (3, False), (4, False), (8, False), (2, True)])
def test_the_planned_cost_is_what_runs(scale: int, unshuffle: bool) -> None:
    hyper = SMALL | {"unshuffle": unshuffle}
    net = sr_models.build("rrdb", scale, **hyper)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 16, 16))
    counted = counter.get_total_flops() / 2 / 16**2
    assert sr_models.multiply_adds("rrdb", scale, hyper) == pytest.approx(counted, rel=1e-9)
