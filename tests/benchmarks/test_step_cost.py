"""The benchmark of a step: each objective trains as in a trial, and a median has an interval of order statistics."""

from pathlib import Path

import pytest
import torch

from benchmarks.step_cost import OBJECTIVES, Training, interval, made_store
from orchestrator.plan.train import TrainConfig


def test_every_objective_takes_steps_and_the_branch_costs_what_its_head_does(tmp_path: Path) -> None:
    store = made_store(tmp_path)
    costs = {}
    for name in (name for names in OBJECTIVES.values() for name in names):
        training = Training(name, store, TrainConfig(steps=10, batch_size=2, patch=8), "cpu")
        before = torch.cat([p.detach().flatten() for p in training.net.parameters()])
        training()
        training()
        after = torch.cat([p.detach().flatten() for p in training.net.parameters()])
        assert training.number == 7 and (after != before).any() and after.isfinite().all()
        costs[name] = training.multiply_adds
    assert costs["l1"] == costs["eco"] == costs["expectation_only"] < costs["l1+aux"] == costs["expectation"]
    of = {name: costs[name] / costs["ddpm"] for name in OBJECTIVES["diffusion"]}
    assert of == pytest.approx({"ddpm": 1, "dream": 4 / 3, "nutl": 3, "dream+nutl": 10 / 3})
    assert costs["expectation"] / costs["l1"] == pytest.approx(1 + 800_640 / 1_372_608)


@pytest.mark.parametrize(("count", "ends"), [(2, (1, 2)), (5, (1, 5)), (6, (1, 6)), (15, (4, 12)), (21, (6, 16))])
def test_a_medians_interval_is_two_of_its_values(count: int, ends: tuple[float, float]) -> None:
    assert interval([float(value) for value in range(count, 0, -1)]) == ends
