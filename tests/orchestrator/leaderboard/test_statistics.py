"""The order of a column: closed forms, rows that cannot be ranked, and a short simulation of its promises."""

import math
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import studentized_range, ttest_rel, tukey_hsd
from scipy.stats import t as student

from orchestrator.leaderboard.statistics import (
    Floats,
    Order,
    Row,
    image_margins,
    margins,
    order,
    rank_ranges,
    surely_better,
    twins,
)

NOISE = np.random.default_rng(7).standard_normal((6, 5))


def rows(values: Floats | Sequence[Sequence[float]], networks: str, names: str = "abcdefgh") -> list[Row]:
    return [
        Row(n, g, dict(enumerate(v))) for n, g, v in zip(names, networks, np.asarray(values).tolist(), strict=False)
    ]


def judged(values: Floats | Sequence[Sequence[float]], networks: str) -> Order:
    return order(rows(values, networks), higher_is_better=True)


# ---- closed forms


@pytest.mark.parametrize("networks", ["xx", "xy"])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_two_rows_are_a_paired_t_test(networks: str, n: int) -> None:
    values = NOISE[:2, :n]
    [[_, apart], _] = margins(values, networks).pairs
    low, high = ttest_rel(*values).confidence_interval(0.95)
    assert 2 * apart == pytest.approx(high - low, rel=1e-6)


def test_one_network_is_tukey_without_the_seed_effects() -> None:
    values = NOISE[:4] - NOISE[:4].mean(axis=0)  # the sum of squares is that of a one-way layout
    found = margins(values + NOISE[4], "xxxx")
    low, high = (getattr(tukey_hsd(*values).confidence_interval(0.95), side) for side in ("low", "high"))
    one_way, ours = (studentized_range.ppf(0.95, 4, df) / math.sqrt(df) for df in (16, 12))
    away = ~np.eye(4, dtype=bool)
    assert found.pairs[away] == pytest.approx((high - low)[away] / 2 * ours / one_way, rel=1e-6)
    assert found.rows == pytest.approx(np.full(4, found.pairs[0, 1] / 2)), "apart exactly when intervals do not overlap"


def test_across_networks_each_mean_has_the_variance_of_its_network() -> None:
    values, found = NOISE[:5], margins(NOISE[:5], "xxxyy")
    variances, ranges = [], []
    for part in (values[:3], values[3:]):
        r, n = part.shape
        fit = part.mean(axis=0) + part.mean(axis=1)[:, None] - part.mean()
        seed = part.mean(axis=0).var(ddof=1) / n
        residual = (1 - 1 / r) * ((part - fit) ** 2).sum() / (r - 1) / (n - 1) / n
        freedom = (seed + residual) ** 2 / (seed**2 / (n - 1) + residual**2 / (r - 1) / (n - 1))
        variances.append(seed + residual)
        ranges.append(studentized_range.ppf(0.95, 5, freedom))
    (v, w), (q, p) = variances, ranges
    expected = (q * v + p * w) / (v + w) * math.sqrt((v + w) / 2)
    assert found.pairs[:3, 3:] == pytest.approx(np.full((3, 2), expected), rel=0.01), "quantiles are interpolated"


def test_two_seeds_compare_networks_by_paired_differences_with_bonferroni() -> None:
    values = NOISE[:3, :2]
    gain = values[0] - values[1]
    expected = student.isf(0.05 / 6, 1) * gain.std(ddof=1) / math.sqrt(2)
    assert margins(values, "xyz").pairs[0, 1] == pytest.approx(expected)


def test_leading_axes_are_boards_of_their_own() -> None:
    boards = np.random.default_rng(1).standard_normal((3, 2, 5, 4))
    together = margins(boards, "xxyyz")
    for i in np.ndindex(3, 2):
        alone = margins(boards[i], "xxyyz")
        np.testing.assert_allclose(together.pairs[i], alone.pairs, rtol=0.01)
        np.testing.assert_allclose(together.rows[i], alone.rows)


# ---- standings


def test_rank_ranges_count_who_is_surely_better_and_worse() -> None:
    better = np.array([[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=bool)
    assert [found.tolist() for found in rank_ranges(better)] == [[1, 1, 2, 4], [2, 3, 3, 4]]


def test_a_clear_column_is_ordered_in_both_directions() -> None:
    seeds, residual = np.array([0.0, 0.5, -0.4]), np.array([[1, -1, 0], [-1, 0, 1], [0, 1, -1]]) * 0.01
    given = rows(np.array([[30.0], [31.0], [31.01]]) + seeds + residual, "xxx")
    found = order(given, higher_is_better=True, baseline={"x": "a"})
    assert [one.ranks for one in found.standings] == [(3, 3), (1, 2), (1, 2)]
    assert [one.may_be_best for one in found.standings] == [False, True, True]
    base, first, _ = found.standings
    assert base.over_baseline is None and first.over_baseline is not None
    assert first.over_baseline.value == pytest.approx(1.0)
    assert first.interval is not None and first.over_baseline.high - 1.0 == pytest.approx(np.ptp(first.interval))
    assert first.std == pytest.approx(np.std(list(given[1].by_seed.values()), ddof=1))
    lower = order(given, higher_is_better=False)
    assert [one.ranks for one in lower.standings] == [(1, 1), (2, 3), (2, 3)]
    assert (lower.better == found.better.T).all()


def test_one_seed_establishes_no_order() -> None:
    found = judged([[30.0], [40.0]], "xy")
    assert {one.unranked for one in found.standings} == {"order not established: one seed"}
    assert [one.mean for one in found.standings] == [30.0, 40.0] and found.ranked == ()


def test_a_residual_of_zero_establishes_no_order() -> None:
    seeds = np.array([30.1, 30.2, 30.4])
    found = judged([*(NOISE[:2, :3] + 30), seeds, seeds + 1], "xxyy")  # equal differences up to rounding
    assert [one.unranked for one in found.standings[2:]] == ["order not established: its network's residual is 0"] * 2
    assert found.ranked == ("a", "b")
    assert judged([[1.0] * 3, *NOISE[:2, :3]], "yxx").ranked == ("b", "c")
    assert judged([seeds, *NOISE[:2, :3]], "yxx").ranked == ("a", "b", "c"), "a row alone has its spread over seeds"


def test_a_row_that_lacks_a_seed_is_shown_and_moves_nobody() -> None:
    full = rows(NOISE[:3], "xxx")
    short = Row("s", "x", {0: 5.0, 3: 7.0})
    found = order([*full, short], higher_is_better=True, baseline={"x": "s"})
    assert found.standings[3].unranked == "2 of 5 seeds" and found.standings[3].mean == 6.0
    assert found.standings[:3] == order(full, higher_is_better=True).standings


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_values_that_are_not_finite_are_not_ranked(value: float) -> None:
    found = judged([[value, *NOISE[0, 1:]], *NOISE[1:4]], "xxxx")
    assert found.standings[0].unranked == "order not established: a value is not finite"
    assert found.standings[0].std is None and found.ranked == ("b", "c", "d")


def test_a_row_alone_has_nobody_to_be_ordered_with() -> None:
    assert judged(NOISE[:1], "x").standings[0].unranked == "order not established: no other row to compare with"
    assert judged([], "").standings == ()


def test_the_order_of_rows_and_names_changes_nothing() -> None:
    values, networks = NOISE + np.arange(6)[:, None], "xxyyyz"
    straight = judged(values, networks)
    shuffled = np.random.default_rng(3).permutation(6)
    given = rows(values, networks)
    found = order([given[i] for i in shuffled], higher_is_better=True)
    for place, i in enumerate(shuffled):
        assert found.standings[place].ranks == straight.standings[i].ranks
        assert found.standings[place].interval == pytest.approx(straight.standings[i].interval)
    assert [row.ranks for row in judged(10 * values + 3, networks).standings] == [r.ranks for r in straight.standings]


def test_a_better_row_never_loses_a_rank() -> None:
    before = judged(NOISE[:4], "xxyy").standings[0].ranks
    for shift in (0.5, 1.0, 3.0, 30.0):
        values = NOISE[:4].copy()
        values[0] += shift
        after = judged(values, "xxyy").standings[0].ranks
        assert before is not None and after is not None and after[0] <= before[0] and after[1] <= before[1]
        before = after
    assert before == (1, 1)


def test_wrong_input_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="id of its own"):
        order([Row("a", "x", {0: 1.0}), Row("a", "x", {0: 1.0})], higher_is_better=True)
    with pytest.raises(ValueError, match="'a' has no values"):
        order([Row("a", "x", {})], higher_is_better=True)
    with pytest.raises(ValueError, match=r"baseline of network 'x'.*'b'"):
        order(rows(NOISE[:2], "xy"), higher_is_better=True, baseline={"x": "b"})
    with pytest.raises(ValueError, match="2 rows, 1 seeds"):
        margins(NOISE[:2, :1], "xx")


def test_twins_are_counted_once() -> None:
    assert twins({"a": ("f", "raw"), "b": ("f", "ema"), "c": ("f", "raw")}) == {"a": ("c",), "b": ()}


def test_scipy_is_imported_late() -> None:
    code = "import sys, orchestrator.leaderboard.statistics; sys.exit('scipy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- promises


@pytest.mark.parametrize(
    ("networks", "n"), [("xxxxx", 3), ("xxyyy", 3), ("xxxxyyyyzzzz", 3), ("abcde", 5), ("xxyyy", 2), ("aabbccddee", 3)]
)
@pytest.mark.parametrize("ratio", [1, 3])
def test_any_false_order_is_rare(networks: str, n: int, ratio: int) -> None:
    boards, draw = 600, np.random.default_rng([n, ratio, len(networks)])
    names = sorted(set(networks))
    network = np.array([names.index(name) for name in networks])
    spread = np.where(np.arange(len(names)) % 2, 1, ratio)[network][:, None]
    seeds = draw.standard_normal((boards, len(names), n))[:, network]
    values = (draw.standard_normal((boards, len(networks), n)) + seeds) * spread
    better = surely_better(values.mean(axis=-1), margins(values, networks))
    false = better.any(axis=(-2, -1)).mean()
    assert false <= 0.06 + 2.5 * math.sqrt(0.06 * 0.94 / boards)


# ---- other pictures


def test_image_margins_hold_on_other_pictures() -> None:
    draw, held = np.random.default_rng(0), 0
    for board in range(100):
        scores = 5 * draw.standard_normal(30) + draw.standard_normal((3, 30))
        gain = scores.mean(axis=1)[:, None] - scores.mean(axis=1)
        held += bool((np.abs(gain) <= image_margins(scores, seed=board, resamples=500)).all())
    assert held >= 90


def test_image_margins_are_paired_seeded_and_never_certain_of_equals() -> None:
    scores = NOISE[:3] + 30
    found = image_margins(scores, seed=1, resamples=1000)
    np.testing.assert_array_equal(found, image_margins(scores, seed=1, resamples=1000))
    shifted = image_margins(scores + 10 * NOISE[3], seed=1, resamples=1000)
    np.testing.assert_allclose(shifted, found, rtol=1e-6)
    assert (found == found.T).all() and np.isinf(np.diagonal(found)).all()
    assert np.isinf(image_margins(np.stack([scores[0], scores[0], scores[1]]), seed=1)[0, 1])
