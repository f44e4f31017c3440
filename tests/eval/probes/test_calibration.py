"""Coverage of a normal error is what it says, and sparsification falls as far as σ knows where errors are."""

import pytest
import torch

from eval.metrics.uncertainty import SIGMA_FLOOR
from eval.probes.calibration import LEVELS, REMOVED, coverage, sparsification

GENERATOR = torch.Generator().manual_seed(0)
SIGMA = 0.01 + 0.1 * torch.rand(100_000, generator=GENERATOR)
ERROR = (SIGMA * torch.randn(100_000, generator=GENERATOR)).abs()


def test_a_right_sigma_covers_what_it_says() -> None:
    assert coverage(ERROR, SIGMA).tolist() == pytest.approx(LEVELS, abs=0.006)
    assert (coverage(ERROR, SIGMA / 2) < torch.tensor(LEVELS) - 0.02)[2:].all(), "too sure"
    assert coverage(torch.full((9,), SIGMA_FLOOR / 2), torch.zeros(9))[-1] == 1, "less than the floor counts as it"


def test_sparsification_lies_between_the_oracle_and_no_knowledge() -> None:
    own, oracle = sparsification(ERROR, SIGMA), sparsification(ERROR, ERROR)
    nothing = sparsification(ERROR, torch.rand(len(ERROR), generator=GENERATOR))
    assert own[0] == oracle[0] == 1 and len(own) == len(REMOVED)
    assert nothing.tolist() == pytest.approx([1.0] * len(REMOVED), abs=0.02)
    assert (oracle[1:] < own[1:]).all() and (own[3:] < nothing[3:] - 0.02).all()
    assert sparsification(torch.tensor([4.0, 1.0, 3.0, 2.0]), torch.tensor([4.0, 1.0, 3.0, 2.0]))[10] == 0.6
    assert sparsification(torch.zeros(4), torch.ones(4)).tolist() == [1.0] * len(REMOVED)
