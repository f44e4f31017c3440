"""What a run costs is known before it runs, and proportional to the work."""

import pytest

import sr_models
from orchestrator.plan.cost import CPU_FLOPS, trial_seconds
from orchestrator.plan.trial import TrainConfig

HYPER = {"channels": 32, "blocks": 4}
TRAIN = TrainConfig(steps=100, batch_size=4, patch=16, validate_every=50)


def test_three_forwards_of_two_operations_a_multiply_add():
    pixels, macs = 100 * 4 * 16**2, sr_models.multiply_adds("edsr_baseline", 2, HYPER)
    assert trial_seconds("edsr_baseline", HYPER, 2, TRAIN, None) == pytest.approx(pixels * macs * 3 * 2 / CPU_FLOPS)


@pytest.mark.parametrize(("change", "factor"), [({"steps": 200}, 2), ({"batch_size": 8}, 2), ({"patch": 32}, 4)])
def test_the_cost_grows_with_the_work(change, factor):
    base = trial_seconds("edsr_baseline", HYPER, 2, TRAIN, None)
    more = trial_seconds("edsr_baseline", HYPER, 2, TRAIN.changed(change, "train"), None)
    assert more == pytest.approx(factor * base) and base > 0


def test_a_full_sigma_head_costs_more_than_a_small_network():
    base = trial_seconds("edsr_baseline", HYPER, 2, TRAIN, None)
    assert base < trial_seconds("edsr_baseline", HYPER, 2, TRAIN, 8) < 4 * base
    assert trial_seconds("edsr_baseline", HYPER, 2, TRAIN, 160) > 4 * base
