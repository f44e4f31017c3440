"""Which rows of a column surely differ: intervals, rank ranges and differences that hold all at once.

In a column the images are fixed and the training seeds are random. The model is

    y(network, objective, seed) = mean + seed effect of the network + residual,

because rows of one network start from the same weights at the same seed, and rows of two networks do not. Seed effects
and residuals are normal with variances of the network's own; nothing is tested before they are used. With n seeds and
M rows of which r are of the network, every statement below holds with all others of its column in 95 % of columns:

- Inside a network two rows differ where their means lie more than q·s/√n apart (Tukey): s² is the residual mean square
  of the layout rows × seeds with (r - 1)(n - 1) degrees of freedom, q the studentised range of all M rows.
- Across networks a mean has the variance V = (MS_seed/r + (1 - 1/r)·MS_residual)/n, with Satterthwaite's degrees of
  freedom. Two rows differ where their means lie more than (q₁V₁ + q₂V₂)/(V₁ + V₂)·√((V₁ + V₂)/2) apart, q at the
  degrees of freedom of each network (Dunnett's C). One q at Satterthwaite's degrees of freedom of the difference
  (Games and Howell) claims too much from three seeds: 92 % in place of 95 at four networks of ten rows, 88 % at twelve
  networks of one.
- With two seeds, or where two networks have one row each, rows of different networks are compared by their differences
  seed by seed: Student's t on n - 1 degrees of freedom, Bonferroni over all pairs of the column. This is exact, also
  when seeds move both networks alike; with two seeds it hardly ever establishes an order.

q spends the 5 % on one estimate of spread. G networks have G, and that one of them is too small by luck adds up the
faster the fewer seeds there are, so q is taken at 5 % · min(1, 2(n - 1)/G)^(1/(n - 1)): the whole 5 % for up to four
networks of three seeds and eight of five. The rule was found by simulation (20 networks of two rows, three seeds: 12 %
of boards ordered somebody falsely without it, 5 % with it). Two seeds spend half of the 5 % inside networks and half
across. `python -m benchmarks.board_orders` measures all of this.

Out of the model: one row of a network whose residual spread is another than its neighbours' (three times as large: 10 %
of boards of 5 rows order somebody falsely, 20 % of 40). Needs no torch, no Ray, no files; SciPy is imported where
quantiles are asked for, so that a board without them stays quick.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
"""Of all statements of one column together."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """One method of a column."""

    id: str
    network: str
    """Rows of one network share its initial weights at each seed."""
    by_seed: Mapping[int, float]


@dataclass(frozen=True)
class Difference:
    """A row's mean minus another's, and the interval that holds with all others of the column."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Standing:
    """What a column says of one row; of an unranked one mean and spread only."""

    id: str
    network: str
    seeds: int
    """How many of the column's seeds the row has."""
    mean: float
    std: float | None
    """Sample standard deviation over seeds; None with one seed or values that are not finite."""
    interval: tuple[float, float] | None
    """mean ± q·s/(2√n): two rows of one network differ exactly when theirs do not overlap."""
    ranks: tuple[int, int] | None
    """1 + how many rows are surely better, M - how many are surely worse."""
    over_baseline: Difference | None
    """To the baseline of its network; None for the baseline itself and where it has no rank."""
    unranked: str
    """Why there is no rank; "" where there is one."""

    @property
    def may_be_best(self) -> bool:
        """Whether the row has a rank and no row is surely better."""
        return self.ranks is not None and self.ranks[0] == 1


@dataclass(frozen=True, eq=False)
class Order:
    """What surely differs in a column."""

    standings: tuple[Standing, ...]
    """In the order of the rows given."""
    ranked: tuple[str, ...]
    """Ids of the M rows that were compared, in the order given."""
    better: Bools
    """(M, M): whether row i is surely better than row j."""


@dataclass(frozen=True, eq=False)
class Margins:
    """How far means must lie apart."""

    pairs: Floats
    """(..., M, M): two rows differ where their means are further apart, and mean difference ± this is the interval."""
    rows: Floats
    """(..., M): half the width of a row's comparison interval."""


# ---- one column


def order(
    rows: Sequence[Row],
    *,
    higher_is_better: bool,
    baseline: Mapping[str, str] | None = None,
    level: float = LEVEL,
) -> Order:
    """Compare the rows of one column. `baseline`: network -> id of the row that its rows are measured from.

    Twins (`twins`) and rows that no training made, such as bicubic's, are the caller's to leave out: they would count
    as methods.

    Raises:
        ValueError: an id given twice, a row without values, a baseline that is no row of its network.
    """
    networks = {row.id: row.network for row in rows}
    if len(networks) < len(rows):
        raise ValueError(f"each row needs an id of its own, got {[row.id for row in rows]}")
    for row in rows:
        if not row.by_seed:
            raise ValueError(f"row {row.id!r} has no values")
    for network, name in (baseline or {}).items():
        if networks.get(name) != network:
            raise ValueError(f"the baseline of network {network!r} must be one of its rows, got {name!r}")

    seeds = sorted({seed for row in rows for seed in row.by_seed})
    unranked = _unranked(rows, seeds)
    compared = [row for row in rows if row.id not in unranked]
    if len(compared) == 1:
        unranked[compared.pop().id] = "order not established: no other row to compare with"
    values = np.array([[row.by_seed[seed] for seed in seeds] for row in compared], dtype=np.float64)
    if not compared:
        better = np.zeros((0, 0), dtype=bool)
        return Order(tuple(_alone(row, unranked[row.id]) for row in rows), (), better)

    means, apart = values.mean(axis=-1), margins(values, [row.network for row in compared], level)
    better = surely_better(means, apart, higher_is_better)
    first, last = rank_ranges(better)
    place = {row.id: i for i, row in enumerate(compared)}
    standings = []
    for row in rows:
        if row.id in unranked:
            standings.append(_alone(row, unranked[row.id]))
            continue
        i, base, over = place[row.id], place.get((baseline or {}).get(row.network, "")), None
        if base is not None and base != i:
            gap, width = float(means[i] - means[base]), float(apart.pairs[i, base])
            over = Difference(gap, gap - width, gap + width)
        mean, half = float(means[i]), float(apart.rows[i])
        standings.append(
            Standing(
                row.id, row.network, len(seeds), mean, float(values[i].std(ddof=1)), (mean - half, mean + half),
                (int(first[i]), int(last[i])), over, "",
            )
        )  # fmt: skip
    return Order(tuple(standings), tuple(place), better)


def twins(methods: Mapping[str, Hashable]) -> dict[str, tuple[str, ...]]:
    """Id -> what made its numbers (fingerprints, kind of weights, precision) in; first id of each -> its twins out."""
    first: dict[Hashable, str] = {}
    found: dict[str, tuple[str, ...]] = {}
    for name, method in methods.items():
        one = first.setdefault(method, name)
        found[one] = (*found[one], name) if one in found else ()
    return found


def _unranked(rows: Sequence[Row], seeds: Sequence[int]) -> dict[str, str]:
    """Id -> why the row cannot be compared."""
    why: dict[str, str] = {}
    for row in rows:
        if len(row.by_seed) < len(seeds):
            why[row.id] = f"{len(row.by_seed)} of {len(seeds)} seeds"
        elif not all(map(math.isfinite, row.by_seed.values())):
            why[row.id] = "order not established: a value is not finite"
        elif len(seeds) == 1:
            why[row.id] = "order not established: one seed"
    for network in dict.fromkeys(row.network for row in rows):
        found = [row for row in rows if row.network == network and row.id not in why]
        if found:
            values = np.array([[row.by_seed[seed] for seed in seeds] for row in found], dtype=np.float64)
            if _mean_squares(values)[1] <= _rounding(values):
                why |= {row.id: "order not established: its network's residual is 0" for row in found}
    return why


def _alone(row: Row, why: str) -> Standing:
    values = np.array(list(row.by_seed.values()), dtype=np.float64)
    spread = float(values.std(ddof=1)) if len(values) > 1 and np.isfinite(values).all() else None
    return Standing(row.id, row.network, len(values), float(values.mean()), spread, None, None, None, why)


# ---- decisions, over any leading axes


def margins(values: Floats, networks: Sequence[str], level: float = LEVEL) -> Margins:
    """How far the means of rows (..., M, n seeds) must lie apart; `networks` names that of each row.

    Raises:
        ValueError: fewer than two rows or seeds, values that are not finite, not one network a row.
    """
    *_, m, n = values.shape
    if min(m, n) < 2 or len(networks) != m or not np.isfinite(values).all():
        raise ValueError(
            f"needs finite values of at least 2 rows and 2 seeds and a network for each row, got {m} rows, {n} seeds, "
            f"{len(networks)} networks and {np.count_nonzero(~np.isfinite(values))} values that are not finite"
        )
    names = list(dict.fromkeys(networks))
    network = np.array([names.index(name) for name in networks])
    sizes = np.bincount(network)
    range_error, pair_error = _errors(sizes, n, 1 - level)

    half = np.empty(values.shape[:-1])
    variance, q = (np.empty((*values.shape[:-2], len(names))) for _ in range(2))
    for g, r in enumerate(sizes.tolist()):
        ms_seed, ms_residual = _mean_squares(values[..., network == g, :])
        inside = (r - 1) * (n - 1) if r > 1 else n - 1
        half[..., network == g] = (_range(range_error, m, inside) * np.sqrt(ms_residual / n) / 2)[..., None]
        of_seed, of_residual = ms_seed / r / n, (1 - 1 / r) * ms_residual / n
        variance[..., g] = of_seed + of_residual
        freedom = variance[..., g] ** 2 / (of_seed**2 / (n - 1) + of_residual**2 / inside)
        if pair_error is None and len(names) > 1:
            q[..., g] = _ranges(range_error, m, freedom)

    same = network[:, None] == network
    if pair_error is not None:
        across = _paired(values, pair_error)
    elif len(names) > 1:
        both = variance[..., :, None] + variance[..., None, :]
        weighted = q * variance
        across = (weighted[..., :, None] + weighted[..., None, :]) / np.sqrt(2 * both)
        across = across[..., network[:, None], network]
    else:
        across = np.full((m, m), math.inf)
    pairs = np.where(same, 2 * half[..., None], across)
    pairs[..., np.arange(m), np.arange(m)] = math.inf
    return Margins(pairs, half)


def surely_better(means: Floats, apart: Margins, higher_is_better: bool = True) -> Bools:
    """(..., M, M): whether row i is surely better than row j."""
    gain = means[..., :, None] - means[..., None, :]
    return (gain if higher_is_better else -gain) > apart.pairs


def rank_ranges(better: Bools) -> tuple[Ints, Ints]:
    """(..., M) each: 1 + how many rows are surely better, M - how many are surely worse."""
    return 1 + better.sum(axis=-2), better.shape[-1] - better.sum(axis=-1)


def _errors(sizes: Ints, n: int, error: float) -> tuple[float, float | None]:
    """The error that q is taken at, and that of paired differences across networks; None where these are not used."""
    many, inside = len(sizes), bool(sizes.max() > 1)
    of_range = error * min(1.0, 2 * (n - 1) / many) ** (1 / (n - 1))
    if many == 1 or (n > 2 and sizes.sum() > 2):
        return of_range, None
    return (of_range / 2, error / 2) if inside else (of_range, error)


def _mean_squares(values: Floats) -> tuple[Floats, Floats]:
    """(...) each, of a network's rows (..., r, n): mean squares of seeds and residual; one row: both the same."""
    *_, r, n = values.shape
    by_seed = values.mean(axis=-2)
    of_seed = r * by_seed.var(axis=-1, ddof=1)
    if r == 1:
        return of_seed, of_seed
    residual = values - values.mean(axis=-1, keepdims=True)
    residual -= residual.mean(axis=-2, keepdims=True)
    return of_seed, (residual**2).sum(axis=(-2, -1)) / ((r - 1) * (n - 1))


def _paired(values: Floats, error: float) -> Floats:
    """(..., M, M): Student's margins of the differences seed by seed, Bonferroni over all pairs."""
    *_, m, n = values.shape
    centred = values - values.mean(axis=-1, keepdims=True)
    covariance = centred @ centred.swapaxes(-1, -2) / (n - 1)
    own = np.diagonal(covariance, axis1=-2, axis2=-1)
    variance = own[..., :, None] + own[..., None, :] - 2 * covariance
    # A difference that is the same at every seed tells nothing of its spread.
    variance = np.where(variance > _rounding(values), variance, math.inf)
    return _student(error / (m * (m - 1)), n - 1) * np.sqrt(variance / n)


def _rounding(values: Floats) -> float:
    """The largest variance that rounding alone can make of values of this size."""
    return float(8 * np.finfo(np.float64).eps * np.abs(values).max()) ** 2


# ---- quantiles

_NODES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 60, 120, 100_000)
"""Degrees of freedom between which log q is interpolated over their reciprocals; SciPy takes the last for infinity."""


@cache
def _range(error: float, rows: int, freedom: float) -> float:
    """Upper quantile of the studentised range; a tenth of a second and more, therefore kept."""
    from scipy.stats import studentized_range

    return float(studentized_range.isf(error, rows, freedom))


@cache
def _student(error: float, freedom: int) -> float:
    """Upper quantile of Student's t."""
    from scipy.stats import t

    return float(t.isf(error, freedom))


def _ranges(error: float, rows: int, freedom: Floats) -> Floats:
    """`_range` at any degrees of freedom from 1, from the nodes around them (within 1 %)."""
    nodes = np.array(_NODES, dtype=np.float64)
    low = max(int(np.searchsorted(nodes, freedom.min(), side="right")) - 1, 0)
    high = int(np.searchsorted(nodes, min(freedom.max(), nodes[-1])))
    used = nodes[low : max(high, low) + 1][::-1]
    logs = [math.log(_range(error, rows, node)) for node in used.tolist()]
    return np.exp(np.interp(1 / freedom, 1 / used, logs))


# ---- other pictures


def image_margins(scores: Floats, *, seed: int, level: float = LEVEL, resamples: int = 10_000) -> Floats:
    """(M, M): would it hold on other pictures of this kind? Half-widths that hold at once, of mean differences.

    `scores` (M, images): each row's score of each image, mean over its seeds; the training seeds are fixed here and the
    images random. Paired bootstrap: images are drawn with replacement, the same ones for all rows, and each difference
    is divided by its standard error in the draw; the largest among all pairs sets the width. Few images give wide
    intervals, 5 of them hardly an order (measured coverage with five rows: 5 images 100 %, 14 images 99 %, 100 images
    94 %).

    Raises:
        ValueError: fewer than two rows or images, or values that are not finite.
    """
    m, images = scores.shape
    if min(m, images) < 2 or not np.isfinite(scores).all():
        raise ValueError(f"needs finite scores of at least 2 rows and 2 images, got {m} rows and {images} images")
    first, second = np.triu_indices(m, 1)
    gains = scores[first] - scores[second]
    gains -= gains.mean(axis=-1, keepdims=True)
    draw, largest = np.random.default_rng(seed), []
    for _ in range(0, resamples, 500):
        shares = draw.multinomial(images, np.full(images, 1 / images), size=500) / images
        means = shares @ gains.T
        variances = (shares @ (gains**2).T - means**2) / (images - 1)
        known = variances > _rounding(scores)
        ratios = np.full(means.shape, math.inf)
        ratios[known] = np.abs(means[known]) / np.sqrt(variances[known])
        largest.append(ratios.max(axis=-1))
    spread = gains.std(axis=-1, ddof=1) / math.sqrt(images)
    spread[spread**2 <= _rounding(scores)] = math.inf
    found = np.full((m, m), math.inf)
    found[first, second] = found[second, first] = np.quantile(np.concatenate(largest), level, method="higher") * spread
    return found
