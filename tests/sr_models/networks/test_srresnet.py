"""MSRResNet: bilinear skip, small Kaiming start. The network of 2017: sizes, long skip, normalisation."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import sr_models
from sr_models.networks.base import parameters

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_without_detail_it_is_bilinear(scale: int) -> None:
    net = sr_models.build("srresnet", scale, channels=8, blocks=1)
    torch.nn.init.zeros_(net.get_parameter("conv_last.weight"))
    lr = torch.rand(1, 3, 6, 5)
    torch.testing.assert_close(net(lr), functional.interpolate(lr, scale_factor=scale, mode="bilinear"))


def test_initial_weights_are_a_tenth_of_kaiming_normal() -> None:
    net = sr_models.build("srresnet", 4)
    weight = net.get_parameter("body.3.conv2.weight")
    assert weight.std().item() == pytest.approx(0.1 * math.sqrt(2 / (64 * 9)), rel=0.02)
    assert all(p.abs().max() == 0 for name, p in net.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize(("scale", "count"), [(2, 1401749), (3, 1586389), (4, 1549462), (8, 1697175)])
def test_sizes_of_the_published_network(scale: int, count: int) -> None:
    with torch.device("meta"):
        net = sr_models.build("srresnet_bn", scale)
    assert parameters(net) == count
    assert all(module.num_parameters == 1 for module in net.modules() if isinstance(module, nn.PReLU))
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    assert json.loads((SPEC / "param_counts.json").read_text())["SRResNet_BN_original"][f"x{scale}"] == count


def test_the_published_network_skips_over_its_body_but_not_over_its_tail() -> None:
    net = sr_models.build("srresnet_bn", 2, channels=8, blocks=2)
    nn.init.zeros_(net.get_parameter("body_end.1.weight"))
    lr = torch.rand(2, 3, 6, 5)
    torch.testing.assert_close(net.features(lr), net.get_submodule("head")(lr))
    for name in ("tail.weight", "tail.bias"):
        nn.init.zeros_(net.get_parameter(name))
    assert net(lr).abs().max() == 0


def test_a_sample_sees_its_batch_in_training_only() -> None:
    net = sr_models.build("srresnet_bn", 4, channels=8, blocks=2)
    lr = torch.rand(4, 3, 8, 8)
    assert (net(lr)[:1] - net(lr[:1])).abs().max() > 1e-4
    net.eval()
    torch.testing.assert_close(net(lr)[:1], net(lr[:1]))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_planned_cost_of_the_published_network_is_what_runs(scale: int) -> None:
    hyper = {"channels": 8, "blocks": 2}
    net = sr_models.build("srresnet_bn", scale, **hyper).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 8, 8))
    counted = counter.get_total_flops() / 2 / 8**2
    assert sr_models.multiply_adds("srresnet_bn", scale, hyper) == pytest.approx(counted, rel=1e-9)
