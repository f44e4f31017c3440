"""CARN and CARN-M: sizes, keys, the cascade written out, recursion, and one upsampler for each scale."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import sr_models
from sr_models.errors import InputError
from sr_models.networks.base import parameters
from sr_models.networks.carn import CARN, cascade

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"
SHEET = {"carn": "CARN", "carn_m": "CARN-M"}
SINGLE = {
    "carn": {2: 964163, 3: 1148803, 4: 1111875, 8: 1259587},
    "carn_m": {2: 257027, 3: 303427, 4: 294147},
}
MULTI = {"carn": 1591939, "carn_m": 414787}
CASES = [(name, scale, (), count) for name, row in SINGLE.items() for scale, count in row.items()]
CASES += [(name, 2, (2, 3, 4), count) for name, count in MULTI.items()]
MEAN = torch.tensor([0.4488, 0.4371, 0.4040])[None, :, None, None]


@pytest.mark.parametrize(("name", "scale", "scales", "count"), CASES)
def test_sizes_and_keys_are_the_releases(name: str, scale: int, scales: tuple[int, ...], count: int) -> None:
    with torch.device("meta"):
        net = sr_models.build(name, scale, scales=scales)
    assert parameters(net) == count
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    sheet = json.loads((SPEC / "param_counts.json").read_text())[SHEET[name]]
    assert sheet["multi(x2+x3+x4)" if scales else f"x{scale}"] == count
    file = f"{SHEET[name]}_multi.txt" if scales else f"{SHEET[name]}_x{scale}_single.txt"
    rows = (SPEC / "checkpoint_keys" / file).read_text().splitlines()
    assert sorted(f"{key} {tuple(value.shape)}" for key, value in net.state_dict().items()) == sorted(rows)


def test_the_cascade_written_out() -> None:
    units = [nn.Conv2d(4, 4, 1) for _ in range(3)]
    fusions = [nn.Conv2d(4 * i, 4, 1) for i in (2, 3, 4)]
    x = torch.rand(1, 4, 3, 3)
    c1 = torch.cat([x, units[0](x)], 1)
    o1 = fusions[0](c1)
    c2 = torch.cat([c1, units[1](o1)], 1)
    o2 = fusions[1](c2)
    c3 = torch.cat([c2, units[2](o2)], 1)
    torch.testing.assert_close(cascade(x, units, fusions), fusions[2](c3), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "applied"), [("carn", 1), ("carn_m", 3)])
def test_only_carn_m_applies_one_unit_three_times(name: str, applied: int) -> None:
    net = sr_models.build(name, 2, channels=16)
    calls: list[torch.Tensor] = []
    net.get_submodule("b2.b1").register_forward_hook(lambda module, inputs, output: calls.append(output))
    net(torch.rand(1, 3, 5, 5))
    assert len(calls) == applied


def test_units_end_in_a_relu_and_upsamplers_rectify_before_the_shuffle() -> None:
    net = sr_models.build("carn_m", 3, channels=16)
    x = torch.randn(1, 16, 5, 5)
    unit, upsampler = net.get_submodule("b1.b1"), net.get_submodule("upsample.up")
    torch.testing.assert_close(unit(x), (x + net.get_submodule("b1.b1.body")(x)).relu())
    rectified = net.get_submodule("upsample.up.body.0")(x).relu()
    torch.testing.assert_close(upsampler(x), nn.functional.pixel_shuffle(rectified, 3))


def test_a_multi_scale_network_is_its_single_scale_parts() -> None:
    multi = sr_models.build("carn", 2, channels=8, scales=(2, 3, 4))
    assert isinstance(multi, CARN)
    lr = torch.rand(1, 3, 5, 6)
    for scale in (2, 3, 4):
        single = sr_models.build("carn", scale, channels=8)
        state = {key.replace(f".up{scale}.", ".up."): value for key, value in multi.state_dict().items()}
        single.load_state_dict({key: state[key] for key in single.state_dict()})
        torch.testing.assert_close(multi(lr, scale), single(lr), rtol=0, atol=0)
    torch.testing.assert_close(multi(lr), multi(lr, scale=2), rtol=0, atol=0)


def test_unused_upsamplers_get_no_gradient() -> None:
    net = sr_models.build("carn_m", 2, channels=8, scales=(2, 3, 4))
    net(torch.rand(1, 3, 5, 5), scale=3).sum().backward()
    idle = {name for name, p in net.named_parameters() if p.requires_grad and p.grad is None}
    assert idle == {name for name, _ in net.named_parameters() if ".up2." in name or ".up4." in name}


def test_a_scale_without_upsampler_is_refused() -> None:
    net = sr_models.build("carn", 2, channels=8, scales=(3,))
    assert net(torch.rand(1, 3, 4, 4)).shape == (1, 3, 8, 8)  # its own scale is always there
    with pytest.raises(ValueError, match=r"upsamplers for scales \[2, 3\], not for 4"):
        net(torch.rand(1, 3, 4, 4), scale=4)
    with pytest.raises(InputError, match="channels must be a multiple of groups, got 10 and 4"):
        sr_models.check("carn_m", 2, {"channels": 10})
    with pytest.raises(InputError, match=r"model 'carn'\.scales"):
        sr_models.check("carn", 2, {"scales": [2, 5]})


def test_a_silent_exit_gives_the_mean_colour() -> None:
    net = sr_models.build("carn", 2, channels=8)
    for name in ("exit.weight", "exit.bias"):
        nn.init.zeros_(net.get_parameter(name))
    seen: list[torch.Tensor] = []
    net.get_submodule("entry").register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    lr = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(net(lr), MEAN.expand(1, 3, 8, 8))
    torch.testing.assert_close(seen[0], lr - MEAN)
