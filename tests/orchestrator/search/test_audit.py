"""What an audit of a search may say of its rungs: exact intervals, and words that claim no more."""

import math
from itertools import product

import pytest

from orchestrator.search.audit import Audited, audit_text, drawn, interval, pooled


def chance(shown: int, of: int, run: int, stopped: int) -> float:
    """Of drawing `shown` hits in `run` of `stopped` trials that hold `of` of them."""
    return math.comb(of, shown) * math.comb(stopped - of, run - shown) / math.comb(stopped, run)


@pytest.mark.parametrize(("run", "stopped"), [(k, m) for m in range(1, 13) for k in range(1, m + 1)])
def test_an_interval_holds_the_truth_in_95_of_100_draws_whatever_it_is(run, stopped):
    for of in range(stopped + 1):
        shown = range(max(0, run - (stopped - of)), min(run, of) + 1)
        held = sum(
            chance(x, of, run, stopped) for x in shown if (ends := interval(x, run, stopped))[0] <= of <= ends[1]
        )
        assert held >= 0.95


def test_intervals_of_known_cases():
    assert interval(2, 5, 5) == (2, 2), "all were run"
    assert interval(0, 5, 20) == (0, 9)  # of 9: C(11, 5) / C(20, 5) = 0.0298; of 10: 0.0163
    assert interval(1, 1, 10) == (1, 10) and interval(0, 1, 10) == (0, 9)


def test_a_pooled_interval_holds_the_truth_however_the_hits_lie():
    runs, stopped = (2, 3), (5, 6)
    for of in product(*(range(m + 1) for m in stopped)):
        held = 0.0
        for shown in product(*(range(k + 1) for k in runs)):
            weight = math.prod(map(chance, shown, of, runs, stopped))
            if weight:
                strata = [
                    Audited(combination="c", stopped=m, gains=(1.0,) * x + (-1.0,) * (k - x))
                    for x, k, m in zip(shown, runs, stopped, strict=True)
                ]
                low, high = pooled(strata)
                held += weight * (low <= sum(of) <= high)
        assert held >= 0.95


def test_the_lot_is_the_same_at_every_call_and_another_in_each_combination():
    lots = {name: drawn(0, name, range(20), 5) for name in ("x2/imdn/eco", "x2/imdn/kd")}
    assert drawn(0, "x2/imdn/eco", list(reversed(range(20))), 5) == lots["x2/imdn/eco"] != lots["x2/imdn/kd"]
    assert drawn(1, "x2/imdn/eco", range(20), 5) != lots["x2/imdn/eco"]
    assert drawn(0, "x", [3, 1, 2], 5) == [1, 2, 3]


def test_the_text_says_what_was_seen_and_no_more():
    some = Audited(combination="x2/imdn/eco", stopped=20, gains=(0.25, -1.0, -0.5, math.nan, -2.0))
    whole = Audited(combination="x2/imdn/kd", stopped=2, gains=(-0.1, 0.125))
    assert audit_text([some, whole], "psnr_y").splitlines() == [
        "stopped trials run on to the end, against the winner's own run (psnr_y, one seed):",
        "  x2/imdn/eco: 5 of 20 stopped, 1 better; 95 % interval 1 to 13 among the 20; the search missed at least 0.25",
        "  x2/imdn/kd: 2 of 2 stopped, 1 better; the search lost 0.125 in all",
        "  together 7 of 22: too few to judge",
    ]
    many = Audited(combination="x2/imdn/eco", stopped=12, gains=(-1.0,) * 10)
    assert audit_text([many], "psnr_y").splitlines()[-1] == "  together 10 of 12: 0 to 1 better, 95 % at least"
