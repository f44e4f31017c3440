"""Who pushes pixels the wrong way: nobody, some, or 15.9 % of them."""

import math

import pytest
import torch

from eval.probes.gradient_sign import Signs, compare, detached_expectation

ERROR = torch.randn(1, 3, 400, 400, generator=torch.Generator().manual_seed(0)) / 50


def test_counts_and_shares() -> None:
    found = compare([torch.tensor([1.0, -2.0, 0.0, 3.0])], [torch.tensor([5.0, 1.0, 1.0, 0.0])])
    assert found == Signs(wrong=1, right=1, silent=2) and found.wrong_share == 0.5
    assert (found + found).wrong == 2 and Signs(wrong=0, right=0, silent=3).wrong_share == 0


def test_the_expectation_loss_with_sigma_cut_off_is_wrong_beyond_one_standard_deviation() -> None:
    found = compare([detached_expectation(ERROR, torch.Generator().manual_seed(1))], [-ERROR])
    expected = math.erfc(1 / math.sqrt(2)) / 2
    assert expected == pytest.approx(0.1587, abs=1e-4)
    assert found.wrong_share == pytest.approx(expected, abs=4 * math.sqrt(expected / ERROR.numel()))
