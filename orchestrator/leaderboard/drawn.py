"""Pictures that were drawn stand beside those that are given: on one board, which says how each network was sampled."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def mark(row: Mapping[str, Any]) -> str:
    """How a row's pictures were drawn, as its protocol's id ends: "+ddim50"; "" of a network that gives them.

    With a paper's tiles, which are of drawn pictures alone: "+ddim50+dream40o5".
    """
    sampler, crops = row.get("sampler"), row.get("crops")
    tiles = rf"\+{re.escape(crops)}[^+]*" if crops else ""
    found = re.search(rf"\+{re.escape(sampler)}[^+]*{tiles}", row["protocol"]) if sampler else None
    return found.group() if found else ""


def beside(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows, under the protocol that they share with others: without how pictures were drawn, kept in `drawn`.

    Those of a winner or trial that was sampled in several ways stay as they are, each way on a board of its own.
    """
    marked = [(row, mark(row)) for row in rows]
    ways: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row, how in marked:
        ways[_whose(row)].add(how)
    found = []
    for row, how in marked:
        alone = len(ways[_whose(row)]) == 1
        protocol = row["protocol"].replace(how, "", 1) if how and alone else row["protocol"]
        found.append({**row, "protocol": protocol, "drawn": how.removeprefix("+")})
    return found


def note(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line on how the diffusion networks among a board's rows were sampled."""
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        if row["drawn"]:
            names[row["drawn"]][f"{row['model']} × {row['objective']}"] = None
    lines = [f"{how}: {', '.join(found)}" for how, found in sorted(names.items())]
    return [f"pictures drawn by {'; '.join(lines)}"] if lines else []


def _whose(row: Mapping[str, Any]) -> tuple[str, str]:
    """The entry of a board that a row belongs to: all seeds of a winner (trial ""), or one trial."""
    return row["combination"], row.get("trial", row["fingerprint"])
