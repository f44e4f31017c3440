"""Halving as a pure function of reports: who passes a rung, in either direction, however often it is asked."""

import pytest

from orchestrator.search.halving import Curve, falls_behind


def passes(own: Curve, *others: Curve, reduction: int = 2, higher: bool = True) -> bool:
    """Whether a trial goes on, with rungs at 50, 50 * reduction and so on."""
    return not falls_behind(own, [*others, own], first=50, reduction=reduction, higher_is_better=higher)


@pytest.mark.parametrize(
    ("reduction", "values", "passing"),
    [
        (2, [20.0], [20.0]),  # whoever comes first meets nobody
        (2, [20.0, 19.0], [20.0]),
        (2, [20.0, 19.0, 21.0], [21.0]),  # one of three: half of them, rounded down
        (2, [20.0, 19.0, 21.0, 18.0], [21.0, 20.0]),
        (3, [20.0, 19.0], [20.0]),  # never fewer than one
        (3, [20.0, 19.0, 21.0, 18.0, 22.0, 17.0], [22.0, 21.0]),
        (2, [20.0, 20.0], [20.0, 20.0]),  # equal to the last that passes
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_share_of_those_that_got_there_passes(reduction, values, passing, sign):
    curves = [{50: sign * value} for value in values]
    found = []
    for i, (value, own) in enumerate(zip(values, curves, strict=True)):
        if passes(own, *curves[:i], *curves[i + 1 :], reduction=reduction, higher=sign == 1):
            found.append(value)
    assert sorted(found, reverse=True) == passing


@pytest.mark.parametrize(
    ("reduction", "step", "rung"),
    [(2, 50, True), (2, 100, True), (2, 200, True), (2, 25, False), (2, 75, False), (2, 150, False), (3, 100, False),
     (3, 150, True)],
)  # fmt: skip
def test_only_a_rung_decides(reduction, step, rung):
    assert passes({step: 10.0}, {step: 20.0}, reduction=reduction) is not rung


def test_without_a_report_there_is_nothing_to_decide():
    assert passes({}, {50: 20.0})


def test_only_what_was_reported_at_the_rung_itself_counts():
    assert passes({40: 10.0, 50: 10.0}, {40: 20.0}), "the other one is not there yet"
    assert not passes({40: 10.0, 50: 10.0}, {40: 20.0, 50: 20.0})
    assert passes({50: 10.0, 60: 99.0}, {50: 20.0}), "it has left the rung"
