"""The mixup weight alpha over a run: 0 for the synthetic pair, 1 for the real one (ECO, https://arxiv.org/abs/2312.17526).

The paper says only that alpha grows smoothly from 0 to 1, so shape, length and hold are hyperparameters. Its Fig. 5
compares schedules, which are given by points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from objectives.spec import RampedTarget


def alpha(params: RampedTarget, progress: float) -> float:
    """The mixup weight in [0, 1] at `progress` in [0, 1].

    The ramp starts at `warm_hold` and lasts `length`, or to the end of the run if that comes first; it never decreases,
    and both ends are exact. Given points are followed instead.
    """
    if params.points is not None:
        return _between(params.points, progress)
    start = params.warm_hold
    end = min(start + params.length, 1.0)
    if progress <= start:
        return 0.0
    if progress >= end:
        return 1.0
    u = (progress - start) / (end - start)
    match params.shape:
        case "linear":
            return u
        case "cosine":
            return (1 - math.cos(math.pi * u)) / 2
        case "polynomial":
            return u**params.power
        case "sigmoid":  # the logistic curve, stretched to reach 0 and 1
            return (1 + math.tanh(params.steepness * (u - 0.5) / 2) / math.tanh(params.steepness / 4)) / 2
        case "step":  # the limit of a steep sigmoid
            return float(u >= 0.5)
        case "points":
            raise AssertionError("points are followed above")


def _between(points: Sequence[tuple[float, float]], progress: float) -> float:
    """Straight from point to point, and the end points' values beyond them; where one is there twice, the later's."""
    before, after = ([point for point in points if (point[0] <= progress) is past] for past in (True, False))
    if not before or not after:
        return before[-1][1] if before else after[0][1]
    (start, a), (end, b) = before[-1], after[0]
    return a + (b - a) * (progress - start) / (end - start)
