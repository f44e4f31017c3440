"""The report of `python -m eval` as text: what was scored, means and their spreads over draws, then what is missing.

The spread below a mean is CCSR's G-STD (https://arxiv.org/abs/2401.00877, Eq. 4).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from eval.protocol import STABILITY, get_metric
from sr_models.text_table import aligned, counted

Report = dict[str, Any]

_USUAL_KERNEL = "matlab-bicubic-replicate-u8"  # of sr_models.images.matlab, which imports numpy

INFINITE = "no finite mean: infinite for "
"""What the reason begins with where an image equals HR; its column says "inf" then."""


def table(report: Report, *, per_image: bool) -> str:
    """The report as text: a line on what was scored, then the means, after one line an image if asked, then notes.

    The spread of a metric over draws stands below its mean; what was not computed has a note and no column.
    """
    shown = [name for name in _names(report) if name in report["means"] or _is_infinite(name, report)]
    columns = [name for name in shown if name.removeprefix(STABILITY) not in shown or not name.startswith(STABILITY)]
    count, means = len(report["images"]), report["means"]
    lines = [["image", *(f"{name} ({unit})" if (unit := get_metric(name).unit) else name for name in columns)]]
    for row in report["images"] if per_image else ():
        lines.append([row["name"], *(_number(row.get(name), name, report) for name in columns)])
    lines.append([f"mean of {count}", *(_number(means.get(name), name, report) for name in columns)])
    if len(columns) < len(shown):
        spreads = [f"{STABILITY}{name}" if f"{STABILITY}{name}" in shown else "" for name in columns]
        lines.append(["G-STD", *(_number(means.get(name), name, report) if name else "" for name in spreads)])
    return "\n".join([_what(report), "", *aligned(lines, left={0}), *_notes(report)])


def _names(report: Report) -> list[str]:
    """Every metric that was asked for: those of images in their order, then those of the set."""
    names = [*report["images"][0], *report["means"], *report["not_computed"]]
    return [name for name in dict.fromkeys(names) if name != "name"]


def _what(report: Report) -> str:
    trained = f" (trained x{report['trained_scale']})" if "trained_scale" in report else ""
    what = f"{report['model'] or 'pictures'} x{report['scale']}{trained}, protocol {report['protocol']}"
    if report["model"] is None:
        return what
    if report["kernel"] not in ("files", _USUAL_KERNEL):
        what += f", LR by {report['kernel']}"
    what += f", {report['parameters']:,} parameters, {report['seconds_per_image']:.3g} s an image, "
    if report["deterministic"]:
        return what + "deterministic: one draw, G-STD and L-STD are exactly 0"
    return what + f"means over {counted(report['draws'], 'draw')}, noise seed {report['noise_seed']}"


def _notes(report: Report) -> list[str]:
    """What is missing and why, one line a reason; what FID and KID rest on; what was refused."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for metric, reason in report["not_computed"].items():
        if report["not_computed"].get(metric.removeprefix(STABILITY)) != reason or not metric.startswith(STABILITY):
            reasons[reason].append(metric)
    notes = [f"{', '.join(metrics)}: {reason}" for reason, metrics in reasons.items()]
    notes += [f"{metric}: {about['text']}" for metric, about in report["set"].items()]
    refused = [f"refused: {line}" for line in report["refused"]]
    if refused:
        refused.append(f"{len(refused)} refused, {len(report['images'])} scored")
    return [*notes, *refused]


def _is_infinite(metric: str, report: Report) -> bool:
    return str(report["not_computed"].get(metric, "")).startswith(INFINITE)


def _number(value: float | None, metric: str, report: Report) -> str:
    if value is None:
        return "inf" if _is_infinite(metric, report) else "-"
    return f"{value:.{get_metric(metric).decimals}f}"
