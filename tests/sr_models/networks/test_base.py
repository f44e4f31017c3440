"""The parts that networks share: an upsampler for each scale, start values, and the window that inputs must fit."""

import pytest
import torch
from torch import nn

from sr_models.networks.base import check_window, conv, parameters, small_kaiming, upsampler


@pytest.mark.parametrize(("scale", "stages"), [(1, 0), (2, 1), (3, 1), (4, 2), (8, 3)])
def test_an_upsampler_enlarges_by_its_scale(scale: int, stages: int) -> None:
    net = upsampler(scale, 4)
    assert net(torch.rand(1, 4, 5, 7)).shape == (1, 4, 5 * scale, 7 * scale)
    assert [type(layer) for layer in net] == [nn.Conv2d, nn.PixelShuffle] * stages


@pytest.mark.parametrize("scale", [0, 5, 6, 16])
def test_no_upsampler_for_other_scales(scale: int) -> None:
    with pytest.raises(ValueError, match=f"no upsampler for scale {scale} \\(it has 1, 2, 3, 4, 8\\)"):
        upsampler(scale, 4)


@pytest.mark.parametrize("kernel_size", [1, 3, 9])
def test_a_convolution_keeps_the_size(kernel_size: int) -> None:
    layer = conv(3, 5, kernel_size)
    assert layer(torch.rand(1, 3, 10, 11)).shape == (1, 5, 10, 11) and layer.bias is not None


def test_small_kaiming_is_a_tenth_and_touches_convolutions_alone() -> None:
    layers = nn.Sequential(conv(64, 64), nn.PReLU(), nn.Conv2d(64, 64, 3, bias=False), nn.Linear(4, 4))
    before = [p.clone() for p in layers[1:].parameters()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers.apply(small_kaiming)
    first = layers[0]
    assert isinstance(first, nn.Conv2d) and first.bias is not None and not first.bias.any()
    assert first.weight.std().item() == pytest.approx(0.1 * (2 / (64 * 9)) ** 0.5, rel=0.02)
    assert all(torch.equal(a, b) for a, b in zip(layers[1:].parameters(), before, strict=True))


@pytest.mark.parametrize(("height", "width", "fits"), [(8, 16, True), (8, 12, False), (4, 8, False)])
def test_a_side_that_is_no_multiple_of_the_window_is_refused(height: int, width: int, fits: bool) -> None:
    x = torch.zeros(1, 3, height, width)
    if fits:
        check_window(x, 8)
    else:
        with pytest.raises(ValueError, match=f"sides must be multiples of 8, got {height}x{width}"):
            check_window(x, 8)


def test_only_what_is_trained_is_counted() -> None:
    net = nn.Sequential(conv(3, 2), nn.BatchNorm2d(2))
    assert parameters(net) == 3 * 2 * 9 + 2 + 2 + 2  # running statistics are not
    net[0].requires_grad_(False)
    assert parameters(net) == 4
