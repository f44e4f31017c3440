"""`python -m benchmarks.board_orders`: how often the board orders rows falsely, how often rightly, on simulated seeds.

Boards are drawn from known means and judged by `orchestrator.leaderboard.statistics`, the functions of the board
itself. Rows of a network share its seed effect; "common" means that all networks share one. Both effects have the
spread 1; ×3 networks: every other network has three times that; ×3 method: one row has a residual of three times its
neighbours', which the model does not know. "false": boards of equal means where any row is surely better than another.
Power: how often two rows 3 standard errors apart are ordered, beside a paired t-test of these two rows alone at 5 %.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.stats import t as student

from benchmarks.timing import markdown
from orchestrator.leaderboard.statistics import Floats, margins, rank_ranges, surely_better

LAYOUTS: dict[int, tuple[tuple[int, ...], ...]] = {  # methods -> rows of each network
    2: ((2,), (1, 1)),
    5: ((5,), (2, 3), (1,) * 5),
    12: ((12,), (4, 4, 4), (1, 11), (2,) * 6, (1,) * 12),
    40: ((40,), (10,) * 4, (2,) * 20, (1,) * 20 + (20,), (1,) * 40),
}
SEEDS = (2, 3, 5, 10)
SPREADS = ("equal", "×3 networks", "×3 method")
COVERAGE, FALSE = 94.0, 6.0
"""Per cent: the least coverage and the most falsely ordered boards inside the model."""


@dataclass(frozen=True)
class Cell:
    """Boards of one kind."""

    layout: tuple[int, ...]
    seeds: int
    spread: str
    common: bool

    @property
    def network(self) -> list[int]:
        """Number of each row's network."""
        return [g for g, rows in enumerate(self.layout) for _ in range(rows)]

    @property
    def outside(self) -> bool:
        """Whether the model does not hold, or two seeds compare networks."""
        in_network = self.spread == "×3 method" and max(self.layout) > 1
        return in_network or (self.seeds == 2 and len(self.layout) > 1)

    def spreads(self) -> tuple[Floats, Floats]:
        """Of the networks' seed effects (G,) and of the rows' residuals (M,)."""
        of_network = np.ones(len(self.layout))
        if self.spread == "×3 networks":
            of_network[::2] = 3
        of_row = of_network[self.network]
        if self.spread == "×3 method":
            of_row[0] *= 3
        return of_network, of_row

    def draw(self, boards: int, draw: np.random.Generator) -> Floats:
        """(boards, M, n) with means 0."""
        of_network, of_row = self.spreads()
        effects = draw.standard_normal((boards, 1 if self.common else len(self.layout), self.seeds))
        effects = effects * of_network[:, None]
        residual = draw.standard_normal((boards, len(of_row), self.seeds)) * of_row[:, None]
        return effects[:, self.network] + residual

    def error(self, i: int, j: int) -> float:
        """Standard error of the difference of two rows."""
        of_network, of_row = self.spreads()
        g, h = self.network[i], self.network[j]
        variance = of_row[i] ** 2 + of_row[j] ** 2
        if g != h:
            seed = of_network[[g, h]]
            variance += np.diff(seed)[0] ** 2 if self.common else (seed**2).sum()
        return float(np.sqrt(variance / self.seeds))


def judge(cell: Cell, boards: int, draw: np.random.Generator, chunk: int = 500) -> dict[str, float]:
    """Per cent of boards: coverage, false, and for a pair inside a network and one across, power and the t-test's."""
    network, counts = cell.network, {"coverage": 0, "false": 0}
    pairs = {}
    if max(cell.layout) > 1:
        last = len(network) - 1
        pairs["inside"] = (last, last - 1)
    if len(cell.layout) > 1:
        pairs["across"] = (0, network.index(1))
    for name in pairs:
        counts |= {name: 0, f"{name} t": 0}
    truth = draw.standard_normal(len(network))
    for _ in range(0, boards, chunk):
        noise = cell.draw(chunk, draw)
        apart = margins(noise, [str(g) for g in network])
        means = noise.mean(axis=-1)
        gaps, real = (x[..., :, None] - x[..., None, :] for x in (means + truth, truth))
        counts["coverage"] += int((np.abs(gaps - real) <= apart.pairs).all(axis=(-2, -1)).sum())
        first, _ = rank_ranges(surely_better(means, apart))
        counts["false"] += int((first > 1).any(axis=-1).sum())
        for name, (i, j) in pairs.items():
            shifted = means.copy()
            shifted[:, i] += 3 * cell.error(i, j)
            counts[name] += int(surely_better(shifted, apart)[:, i, j].sum())
            gain = noise[:, i] - noise[:, j]
            ratio = (gain.mean(axis=-1) + 3 * cell.error(i, j)) / gain.std(axis=-1, ddof=1) * np.sqrt(cell.seeds)
            counts[f"{name} t"] += int((ratio > student.isf(0.025, cell.seeds - 1)).sum())
    return {name: 100 * count / boards for name, count in counts.items()}


def layout(sizes: Sequence[int]) -> str:
    """(1, 1, 3) -> "2×1 + 3"."""
    each = [(sizes.count(size), size) for size in dict.fromkeys(sizes)]
    return " + ".join(f"{many}×{size}" if many > 1 else f"{size}" for many, size in each)


def shown(found: dict[str, float], mark: str) -> str:
    """coverage / false; power inside (t-test's); power across (t-test's)."""
    powers = [f"{found[name]:.0f} ({found[f'{name} t']:.0f})" for name in ("inside", "across") if name in found]
    return f"{found['coverage']:.1f} / {found['false']:.1f}{mark}; " + "; ".join(powers)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--quick", action="store_true", help="500 boards a cell: shows that it runs")
    made.add_argument(
        "--boards", type=int, default=10_000, help="of each cell, a multiple of 500 (default: %(default)s)"
    )
    given = made.parse_args()
    boards, began = 500 if given.quick else given.boards, time.perf_counter()
    lines: list[list[object]] = []
    inside: list[dict[str, float]] = []
    outside: list[dict[str, float]] = []
    for m, layouts in LAYOUTS.items():
        for sizes, spread, common in product(layouts, SPREADS, (True, False)):
            one = len(sizes) == 1
            if one and (common or spread == "×3 networks"):
                continue  # with one network both are another line again
            cells = []
            for n in SEEDS:
                cell = Cell(sizes, n, spread, common)
                found = judge(cell, boards, np.random.default_rng([m, len(sizes), n, len(lines)]))
                (outside if cell.outside else inside).append(found)
                missed = found["coverage"] < COVERAGE or found["false"] > FALSE
                cells.append(shown(found, "*" if cell.outside else " MISSED" if missed else ""))
            effects = "-" if one else "common" if common else "per network"
            lines.append([m, layout(sizes), spread, effects, *cells])
    print(f"{boards} boards a cell, {time.perf_counter() - began:.0f} s. Per cent: coverage / false; power inside (t);")
    print("power across (t). * outside the model: ×3 in one row of a network, or two seeds across networks.\n")
    print(markdown(["M", "rows of networks", "spread", "seed effects", *(f"n = {n}" for n in SEEDS)], lines))
    for name, judged in (("Inside", inside), ("Outside", outside)):
        least, most = min(one["coverage"] for one in judged), max(one["coverage"] for one in judged)
        beyond = sum(one["coverage"] < COVERAGE or one["false"] > FALSE for one in judged)
        print(
            f"{name} the model: {len(judged)} cells, coverage {least:.1f} to {most:.1f} %, false at most "
            f"{max(one['false'] for one in judged):.1f} %; {beyond} beyond {COVERAGE:.0f} or {FALSE:.0f} %."
        )


if __name__ == "__main__":
    main()
