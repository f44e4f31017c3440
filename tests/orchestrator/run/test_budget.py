"""Budgets as arithmetic: what was spent against what may be, told by a clock of the test's own."""

from argparse import Namespace

import pytest

from orchestrator.run.budget import Budget, BudgetReached, Meter, Spent
from sr_models.errors import InputError


def spent(hours: float = 0.0, trials: int = 0, trial_hours: float = 0.0, gpus: float = 0.0) -> Spent:
    return Spent(seconds=3600 * hours, trials=trials, trial_seconds=3600 * trial_hours, gpus=gpus)


@pytest.mark.parametrize(
    ("budget", "so_far", "used_up", "forbids"),
    [
        (Budget(), spent(1e6, 10**6, 1e6, 8), None, None),
        (Budget(max_hours=0.5), spent(0.49), None, None),
        (Budget(max_hours=0.5), spent(0.5), "--max-hours 0.5", "--max-hours 0.5"),
        (Budget(max_trials=2), spent(9, 1), None, None),
        (Budget(max_trials=2), spent(9, 2), None, "--max-trials 2"),  # those under way run to their ends
        (Budget(max_gpu_hours=4), spent(1, 3, 1.5, 2), None, None),
        (Budget(max_gpu_hours=4), spent(1, 3, 2, 2), "--max-gpu-hours 4", "--max-gpu-hours 4"),
        (Budget(max_hours=1, max_trials=9), spent(2, 3), "--max-hours 1", "--max-hours 1"),
    ],
)
def test_a_bound_is_reached_by_what_it_counts(
    budget: Budget, so_far: Spent, used_up: str | None, forbids: str | None
) -> None:
    assert (budget.used_up(so_far), budget.forbids(so_far)) == (used_up, forbids)


def test_a_meter_adds_up_trials_beside_each_other_and_those_under_way() -> None:
    now = 0.0
    meter = Meter(Budget(max_hours=1), 2, lambda: now)
    now = 100.0
    meter.begin("a", 0, 50)
    meter.begin("b", 20, 50)
    now = 400.0
    meter.end("a", "complete", 50)
    meter.end("heard", "stopped", 20)  # one that was there already
    now = 1000.0
    assert meter.spent == Spent(seconds=1000.0, trials=2, trial_seconds=300.0 + 900.0, gpus=2)
    assert (meter.spent.trial_hours, meter.spent.gpu_hours) == (1200 / 3600, 2400 / 3600)
    assert meter.spent.rate == "0.67 GPU-h"
    meter.check()
    now = 3600.0
    with pytest.raises(BudgetReached, match=r"^--max-hours 1$"):
        meter.check()


def test_gpu_hours_of_trials_without_a_gpu_are_refused() -> None:
    Budget(max_gpu_hours=1).check(0.5)
    with pytest.raises(InputError, match=r"^--max-gpu-hours: the trials of this config hold no GPU"):
        Budget(max_gpu_hours=1).check(0)


def test_what_was_given_is_what_goes_on() -> None:
    budget = Budget.of(Namespace(max_hours=0.02, max_trials=None, max_gpu_hours=3.0, address="x"))
    assert budget.given == {"--max-hours": 0.02, "--max-gpu-hours": 3.0}


def test_what_was_spent_is_said_in_words() -> None:
    assert spent(0.021, 1, 0.02).text == "0.021 hours, 1 trial begun, 0.020 trial-hours"
    assert spent(1, 2, 1.5, 2).text == "1.000 hours, 2 trials begun, 1.500 trial-hours, 3.000 GPU-hours"
