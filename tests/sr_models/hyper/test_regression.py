"""What a plan believes of a network's cost is what its convolutions do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sr_models
from sr_models.networks.sigma import SigmaHead, WithSigma

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("srresnet", {}), ("edsr_baseline", {}), ("imdn", {}), ("imdn", {"prm": False, "iic": False}),
    ("imdn", {"attention": "none"}), ("rcan", {}), ("carn", {}), ("carn_m", {}),
    ("carn", {"scales": (2, 3, 4), "units": 2, "blocks": 4}),
    ("vdsr", {}), ("vdsr", {"color": "rgb", "bias": True}),
    ("idn", {}), ("idn", {"variant": "rgb_deconv"}), ("idn", {"variant": "rgb_shuffle"}),
]  # fmt: skip
CASES = [(name, scale, hyper) for name, hyper in VARIANTS for scale in sr_models.MODELS[name].scales]
SIDE = 16
SMALL = {"channels": 16, "blocks": 3}


def counted(module: nn.Module) -> float:
    """Multiply-adds per LR pixel of all convolutions, from the shapes that pass through them."""
    total = 0.0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        pixels = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        total += layer.weight.numel() * pixels.shape[2] * pixels.shape[3]

    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and "_mean" not in name:
            layer.register_forward_hook(count)
    with torch.no_grad():
        module(torch.zeros(1, 3, SIDE, SIDE))
    return total / SIDE**2


@pytest.mark.parametrize(("name", "scale", "hyper"), CASES)
def test_the_cost_is_that_of_the_convolutions(name: str, scale: int, hyper: dict[str, Any]) -> None:
    values = SMALL | hyper
    net = sr_models.build(name, scale, **values)
    assert sr_models.multiply_adds(name, scale, values) == pytest.approx(counted(net), rel=0.01)


@pytest.mark.parametrize("name", ["imdn", "vdsr"])  # features at LR size, and at full size
def test_the_head_costs_what_its_features_size_makes_it(name: str) -> None:
    net = sr_models.build(name, 3, **SMALL)
    head = SigmaHead(net.feature_channels, net.feature_scale_to_go, width=32)
    cost = sr_models.multiply_adds(name, 3, SMALL, sigma_width=32)
    assert cost == pytest.approx(counted(WithSigma(net, head)), rel=0.01)
