"""Can early rungs be trusted: stopped trials, drawn by lot, run on to the end and held against the search's winner.

A hit is a stopped trial that ends better than the winner's own run did. How many hits there are among all stopped
trials follows from those among the drawn by the hypergeometric distribution; both tails of an interval are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sr_models.hashing import digest

FEW = 10
"""With fewer drawn trials in all, nothing can be said of the rungs."""

ALPHA = 0.05
"""Chance that an interval misses."""


@dataclass(frozen=True, kw_only=True)
class Audited:
    """One combination: `stopped` trials of its search, `gains` over the winner's run of those that were run on."""

    combination: str
    stopped: int
    gains: tuple[float, ...]
    """In units of the steering metric, > 0 where the stopped trial is the better; NaN of one that failed, no hit."""

    @property
    def hits(self) -> int:
        return sum(gain > 0 for gain in self.gains)


def drawn(seed: int, combination: str, stopped: Sequence[int], count: int) -> list[int]:
    """Numbers of the `count` trials that are run on, or of all if there are fewer; by lot, the same at every call."""
    return sorted(sorted(stopped, key=lambda number: digest([seed, combination, "audit", number]))[:count])


def interval(hits: int, run: int, stopped: int, alpha: float = ALPHA) -> tuple[int, int]:
    """Fewest and most hits among `stopped` trials of which `run` were drawn and showed `hits`.

    Each end is where the chance of a draw as far out, or further, falls to alpha / 2.
    """
    total = math.comb(stopped, run)

    def chance(of: int, least: int, most: int) -> float:
        ways = sum(math.comb(of, x) * math.comb(stopped - of, run - x) for x in range(least, most + 1))
        return ways / total

    possible = range(hits, stopped - run + hits + 1)
    low = next(of for of in possible if chance(of, hits, run) > alpha / 2)
    high = next(of for of in reversed(possible) if chance(of, 0, hits) > alpha / 2)
    return low, high


def pooled(strata: Sequence[Audited]) -> tuple[int, int]:
    """Fewest and most hits among the stopped trials of all combinations: sums of intervals that hold all at once."""
    ends = [interval(audited.hits, len(audited.gains), audited.stopped, ALPHA / len(strata)) for audited in strata]
    return sum(low for low, _ in ends), sum(high for _, high in ends)


def audit_text(strata: Sequence[Audited], metric: str) -> str:
    """What the report says of the rungs."""
    lines = [f"stopped trials run on to the end, against the winner's own run ({metric}, one seed):"]
    for audited in strata:
        low, high = interval(audited.hits, len(audited.gains), audited.stopped)
        line = f"  {audited.combination}: {len(audited.gains)} of {audited.stopped} stopped, {audited.hits} better"
        if len(audited.gains) == audited.stopped:
            line += f"; the search lost {max((gain for gain in audited.gains if gain > 0), default=0.0):.3g} in all"
        else:
            line += f"; 95 % interval {low} to {high} among the {audited.stopped}" + _at_least([audited])
        lines.append(line)
    run, stopped = sum(len(audited.gains) for audited in strata), sum(audited.stopped for audited in strata)
    if run < FEW:
        lines.append(f"  together {run} of {stopped}: too few to judge")
    else:
        low, high = pooled(strata)
        lines.append(f"  together {run} of {stopped}: {low} to {high} better, 95 % at least{_at_least(strata)}")
    return "\n".join(lines)


def _at_least(strata: Sequence[Audited]) -> str:
    """The largest gain that was seen; what was not drawn may hide a larger one."""
    best = max((gain for audited in strata for gain in audited.gains if gain > 0), default=None)
    return "" if best is None else f"; the search missed at least {best:.3g}"
