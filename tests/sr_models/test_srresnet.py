"""MSRResNet: bilinear skip, small Kaiming start."""

import math

import pytest
import torch
from torch.nn import functional

import sr_models


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
