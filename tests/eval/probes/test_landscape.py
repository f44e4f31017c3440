"""A landscape that is known in closed form: a quadratic bowl, whose gradient turns by its curvature."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from eval.probes.landscape import LENGTHS, landscape


@dataclass(frozen=True)
class Ones:
    count: int

    def __len__(self) -> int:
        return self.count

    def part(self, start: int, stop: int) -> "Ones":
        return Ones(stop - start)


class Bowl(nn.Module):
    """w -> curvature w² / 2, for each sample."""

    def __init__(self, curvature: float) -> None:
        super().__init__()
        self.w, self.curvature = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64)), curvature

    def forward(self, count: int) -> Tensor:
        return (self.curvature * self.w.square().sum() / 2).expand(count)


def value(model: nn.Module, batch: Ones) -> Tensor:
    return model(len(batch))


@pytest.mark.parametrize("curvature", [0.5, 2.0])
def test_of_a_bowl_smoothness_is_its_curvature(curvature: float) -> None:
    bowl = Bowl(curvature)
    found = landscape(bowl, [bowl.w], value, Ones(5), lengths=(0.1, 0.5, 3.0), at_once=2)
    assert found.loss == pytest.approx(12.5 * curvature) and found.gradient_norm == pytest.approx(5 * curvature)
    assert found.weight_norm == pytest.approx(5)
    assert [place.distance for place in found.places] == pytest.approx([0.5, 2.5, 15])
    assert [place.loss for place in found.places] == pytest.approx([curvature * r**2 / 2 for r in (4.5, 2.5, -10)])
    assert found.low == pytest.approx(curvature * 2.5**2 / 2) and found.high == pytest.approx(curvature * 50)
    assert found.gradient_difference == pytest.approx(15 * curvature) and found.smoothness == pytest.approx(curvature)
    assert bowl.w.tolist() == [3.0, 4.0], "the weights are put back"


def test_without_a_gradient_there_is_nowhere_to_go() -> None:
    bowl = Bowl(0.0)
    found = landscape(bowl, [bowl.w], value, Ones(1))
    assert found.places == () and found.low == found.high == 0 and found.smoothness == 0


def test_weights_come_back_after_an_error() -> None:
    bowl, calls = Bowl(1.0), []

    def breaks(model: nn.Module, batch: Ones) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("no memory")
        return model(len(batch))

    with pytest.raises(RuntimeError, match="no memory"):
        landscape(bowl, [bowl.w], breaks, Ones(1), lengths=LENGTHS)
    assert bowl.w.tolist() == [3.0, 4.0]
