"""How early can one tell: rank correlation between a validation and the end of a run (Spearman 1904)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.records import read_plan
from orchestrator.run.roles import read_roles
from sr_models.text_table import counted


def rung_correlation(folder: Path) -> list[dict[str, Any]]:
    """Spearman's rank correlation between each validation step's value and the end's, within each combination.

    Over the search trials that ran their full budget, by the metric that stops trials, or else steers first. Each dict
    has combination, step, of (steps of a full run), spearman (None where undefined), n (trials), reason (why None, else
    "").
    """
    plan = read_plan(folder)
    metric = plan.halve_by or plan.metric.name
    curves: dict[str, list[dict[int, float]]] = {combination.id: [] for combination in plan.combinations}
    run = RunDir(folder)
    for role in read_roles(run):
        if role.role != "search" or role.combination not in curves:
            continue
        entries = journal.read(run.trial(role.fingerprint) / journal.JOURNAL)
        end = journal.end(entries)
        if end and end["status"] == "complete":
            curve = {
                e["step"]: e["metrics"][metric] for e in journal.steps(entries) if e["metrics"].get(metric) is not None
            }
            curves[role.combination].append(curve)
    found = []
    for combination, group in curves.items():
        last = max((max(curve) for curve in group if curve), default=0)
        for step in sorted({step for curve in group for step in curve if step < last}):
            pairs = [(curve[step], curve[last]) for curve in group if step in curve and last in curve]
            value, reason = spearman(pairs)
            row = {"combination": combination, "step": step, "of": last, "spearman": value}
            found.append({**row, "n": len(pairs), "reason": reason})
    return found


def spearman(pairs: Sequence[tuple[float, float]]) -> tuple[float | None, str]:
    """Correlation of ranks, equal values sharing the mean of theirs, or None and why there is none."""
    if len(pairs) < 3:
        return None, f"needs 3 trials that ran in full, has {len(pairs)}"
    x, y = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None, "a value is not finite"
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None, "all values are equal"
    from scipy.stats import spearmanr  # late: it takes a second

    return float(spearmanr(x, y).statistic), ""


def rungs_text(run: Path) -> str:
    """How well the order at each validation predicts the final one: early stopping can favour fast schedules.

    "" where no search trial has run in full, as in a sweep that searches nothing.
    """
    found: dict[str, list[str]] = defaultdict(list)
    missing: dict[str, str] = {}
    for row in rung_correlation(run):
        if row["spearman"] is None:
            missing[row["combination"]] = row["reason"]
        else:
            found[row["combination"]].append(f"step {row['step']} {row['spearman']:+.2f} (n = {row['n']})")
    if not found and not missing:
        return ""
    lines = ["rank correlation (Spearman) of a combination's trials between a validation and the end of the run:"]
    lines += [f"  {name}: {', '.join(values)}" for name, values in found.items()]
    silent = {name: reason for name, reason in missing.items() if name not in found}
    for reason in sorted(set(silent.values())):
        names = [name for name, why in silent.items() if why == reason]
        lines.append(f"  not computed for {counted(len(names), 'combination')}: {reason}")
    return "\n".join(lines)
