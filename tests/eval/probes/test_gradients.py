"""A batch in parts gives the whole's gradient, and the gradient of a picture is that of its own sample alone."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from eval.probes.gradients import mean_gradient, output_gradients


@dataclass(frozen=True)
class Pairs:
    """The least that a batch must be."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def part(self, start: int, stop: int) -> "Pairs":
        return Pairs(self.x[start:stop], self.y[start:stop])


def l1(model: nn.Module, batch: Pairs) -> Tensor:
    return (model(batch.x) - batch.y).abs().mean((1, 2, 3))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.PReLU(4), nn.Conv2d(4, 3, 3, padding=1))
    net.register_parameter("unused", nn.Parameter(torch.ones(2)))
    return net.double()


@pytest.fixture
def batch() -> Pairs:
    generator = torch.Generator().manual_seed(1)
    return Pairs(*torch.rand(2, 5, 3, 6, 7, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("at_once", [1, 2, 5, 99])
def test_parts_of_a_batch_add_up(net: nn.Module, batch: Pairs, at_once: int) -> None:
    parameters = list(net.parameters())
    expected = l1(net, batch).mean()
    gradient = torch.autograd.grad(expected, parameters, allow_unused=True)
    loss, found = mean_gradient(net, parameters, l1, batch, at_once=at_once)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-12)
    for parameter, own, other in zip(parameters, found, gradient, strict=True):
        torch.testing.assert_close(own, torch.zeros_like(parameter) if other is None else other)
    assert all(parameter.grad is None for parameter in parameters)


def test_of_a_mean_absolute_error_each_element_is_one_or_minus_one(net: nn.Module, batch: Pairs) -> None:
    found = list(output_gradients(net, l1, batch, at_once=2))
    assert [len(pictures) for pictures in found] == [1, 1, 1]
    whole = torch.cat([pictures[0] for pictures in found])
    torch.testing.assert_close(whole, (net(batch.x) - batch.y).sign().detach())


def test_every_call_of_the_network_has_its_own_gradient_and_sigma_has_none(net: nn.Module, batch: Pairs) -> None:
    class WithSigma(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return net(x), net(x).abs()

    def twice(model: nn.Module, part: Pairs) -> Tensor:
        first, sigma = model(part.x)
        second, _ = model(part.y)
        return (0.25 * (first - part.y).abs() + 0 * second.detach() + 7 * sigma).mean((1, 2, 3))

    [(first, second)] = output_gradients(WithSigma(), twice, batch, at_once=5)
    assert first.abs().unique().tolist() == pytest.approx([0.25]) and not second.any()
