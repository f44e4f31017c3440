"""Asynchronous successive halving (Li et al. 2018, https://arxiv.org/abs/1810.05934) as a pure function of a study."""

from __future__ import annotations

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial


class AsynchronousHalving(BasePruner):
    """At each rung the best 1/reduction of the trials that have reached it goes on (Li et al. 2018, Algorithm 2).

    A pure function of the values in the study: asked again after a crash it judges by what is known then, and it writes
    nothing. (Optuna's own successive halving records the rungs it has judged, so a second look lets a trial pass.)

    Args:
        first: step of the first rung; rung k is at first * reduction ** k.
        reduction: halving factor, >= 2.
    """

    def __init__(self, first: int, reduction: int) -> None:
        self.first, self.reduction = first, reduction

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        rung = self.first
        while step is not None and rung < step:
            rung *= self.reduction
        if step is None or rung != step:
            return False
        values = [
            t.intermediate_values[step] for t in study.get_trials(deepcopy=False) if step in t.intermediate_values
        ]
        values.sort(reverse=study.direction == optuna.study.StudyDirection.MAXIMIZE)
        last_to_pass = values[max(len(values) // self.reduction, 1) - 1]
        value = trial.intermediate_values[step]
        return value < last_to_pass if study.direction == optuna.study.StudyDirection.MAXIMIZE else value > last_to_pass
