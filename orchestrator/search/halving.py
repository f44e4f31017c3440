"""Asynchronous successive halving (Li et al. 2018, https://arxiv.org/abs/1810.05934) as a pure function of reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Curve = Mapping[int, float]
"""Finished steps -> the metric that judges, as a trial has reported it."""


def falls_behind(own: Curve, everyone: Sequence[Curve], *, first: int, reduction: int, higher_is_better: bool) -> bool:
    """Whether a trial stops at the step it has come to: at each rung the best 1/reduction of those there go on.

    (Li et al. 2018, Algorithm 2.) A pure function of the reports: asked again after a crash it judges by what is known
    then. (Optuna's own successive halving records the rungs it has judged, so a second look lets a trial pass.)

    Args:
        everyone: the search's trials, this one among them.
        first: step of the first rung; rung k is at first * reduction ** k.
        reduction: halving factor, >= 2.
    """
    step = max(own, default=0)
    rung = first
    while rung < step:
        rung *= reduction
    if rung != step:
        return False
    values = sorted((curve[step] for curve in everyone if step in curve), reverse=higher_is_better)
    last_to_pass = values[max(len(values) // reduction, 1) - 1]
    return own[step] < last_to_pass if higher_is_better else own[step] > last_to_pass
