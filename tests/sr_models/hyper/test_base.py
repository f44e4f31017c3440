"""What all networks' hyperparameters share: cost of the upsampler and of the σ head, defaults where nothing is said."""

import pytest
import torch
from torch import Tensor, nn

import sr_models
from sr_models.errors import InputError
from sr_models.hyper.base import NetworkHyper, SigmaHyper, upsampler_multiply_adds
from sr_models.networks.base import upsampler
from sr_models.networks.sigma import SigmaHead

SIDE = 8


def counted(module: nn.Module, channels: int) -> float:
    """Multiply-adds per input pixel of all convolutions, from what passes through them."""
    total = 0

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        total += layer.weight.numel() * output.shape[2] * output.shape[3]

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        module(torch.zeros(1, channels, SIDE, SIDE))
    return total / SIDE**2


@pytest.mark.parametrize("model", sr_models.MODELS)
def test_absurd_sizes_are_refused(model: str) -> None:
    for name, field in sr_models.MODELS[model].hyper.model_fields.items():
        if field.annotation is int:
            with pytest.raises(InputError, match=rf"{name}: a network has sizes of at most 8192 \(got 9600\)"):
                sr_models.check(model, 4, {name: 9600})
            with pytest.raises(InputError, match=rf"{name}: true and false are no numbers"):
                sr_models.check(model, 4, {name: True})


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_an_upsampler_costs_what_its_convolutions_do(scale: int) -> None:
    assert upsampler_multiply_adds(16, scale) == counted(upsampler(scale, 16), 16)
    assert upsampler_multiply_adds(16, 1) == 0


@pytest.mark.parametrize("values", [{}, {"width": 8, "depth": 1}, {"width": 8, "depth": 2, "out_channels": 1}])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_head_costs_what_its_convolutions_do(values: dict[str, int], scale: int) -> None:
    hyper = SigmaHyper(**values)
    assert hyper.multiply_adds(16, scale) == counted(SigmaHead(16, scale, **hyper.model_dump()), 16)


def test_what_a_network_does_not_say() -> None:
    hyper = NetworkHyper()
    assert hyper.multiply_adds(2) == 0 and hyper.scale_to_go(2) == 2 and hyper.feature_channels == 0
    for scale in (1, 2, 3, 4, 8):
        hyper.check_scale(scale)


REGRESSION = [row for row in sr_models.MODELS.values() if row.trainable and row.family == "regression"]


@pytest.mark.parametrize("name", [row.name for row in REGRESSION])
def test_a_plan_knows_a_networks_features(name: str) -> None:
    scale = sr_models.MODELS[name].scales[0]
    small = {"channels": 16, "blocks": 1} | ({"heads": 4, "layers": 1} if name.startswith("swinir") else {})
    hyper = sr_models.check(name, scale, small)
    with torch.device("meta"):
        net = sr_models.build(name, scale, **small)
    assert hyper.feature_channels == net.feature_channels
    assert hyper.scale_to_go(scale) == net.feature_scale_to_go
