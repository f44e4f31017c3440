"""What searches came to, in pictures: where they spent their steps, what they tried, what mattered, their fronts."""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eval.pictures.budget import budget
from eval.pictures.front import Plane, Trial, planes
from eval.pictures.trials import Axis, Search, trials
from eval.protocol import get_metric, plain_metric
from orchestrator.plan.combination import Combination
from orchestrator.plan.plan import Plan
from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.roles import read_roles
from orchestrator.run.winners import WinnerRecord
from sr_models.text_table import counted

if TYPE_CHECKING:
    from optuna.importance import BaseImportanceEvaluator

FEWEST = 10
"""Trials that ran in full, for an importance; of fewer it would say what the sampler happened to draw."""

_SEARCHES = 6
"""In one picture, so that a page can hold it."""

_SEED = 0  # of fANOVA's trees


def spent(run: RunDir, plan: Plan, scale: int) -> None:
    """Where halving let the search's steps go, of every combination that has several trials."""
    pieces_of: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
    names = {c.id: f"{c.label} × {c.objective_label}" for c in plan.combinations if c.scale == scale}
    full = 0
    for role in read_roles(run) if run.roles.exists() else []:
        entries = journal.steps(journal.read(run.trial(role.fingerprint) / journal.JOURNAL))
        if role.role == "search" and role.combination in names and entries:
            end, full = entries[-1]["step"], max(full, entries[-1]["of"])
            many, steps = pieces_of[names[role.combination]].get(end, (0, 0))
            pieces_of[names[role.combination]][end] = (many + 1, steps + end)
    shown = {name: pieces for name, pieces in pieces_of.items() if sum(many for many, _ in pieces.values()) > 1}
    if shown:
        budget(
            run.pictures / f"budget_x{scale}.png",
            shown,
            full=full,
            title=f"Where the searches spent their steps, ×{scale}",
            caption="numbers are trials; steps that other runs of this output had trained already are counted, too",
        )


def fronts(run: RunDir, winners: dict[str, WinnerRecord], scale: int) -> None:
    """The trials of each search by several metrics, on the plane of every two of them."""
    shown = []
    for name, winner in winners.items():
        if winner.front is None or not name.startswith(f"x{scale}/"):
            continue
        found, metrics = winner.front, [metric.name for metric in winner.front.metrics]
        for i, j in itertools.combinations(range(len(metrics)), 2):
            trials = [
                Trial(number=point.number, x=point.values[i], y=point.values[j], on_front=point.on_front)
                for point in found.points
            ]
            reference = (found.reference[i], found.reference[j]) if len(metrics) == 2 else None
            title = f"{name.partition('/')[2]}: hypervolume {found.hypervolume:.4g}"
            shown.append(
                Plane(
                    title=title, x_metric=metrics[i], y_metric=metrics[j], trials=trials, chosen=found.chosen,
                    reference=reference,
                )
            )  # fmt: skip
    if shown:
        planes(
            run.pictures / f"front_x{scale}.png",
            shown,
            title=f"Trials of each search that ran in full, ×{scale}",
            caption="values of the search's own validations, by which it has selected, with one seed: no scores",
        )


def tried(run: RunDir, plan: Plan, winners: Mapping[str, WinnerRecord], scale: int) -> None:
    """Each search's trials across its hyperparameters, with their importance by Optuna's evaluators."""
    metric = plan.config.search.metrics[0]
    higher = get_metric(plain_metric(metric)).higher_is_better
    own = [c for c in plan.combinations if c.scale == scale and c.id in winners and c.axes.ranges]
    outcomes = _outcomes(run, metric)
    shown = [
        _search(combination, found, metric, higher)
        for combination in own
        if len(found := outcomes.get(combination.id, [])) > 1 and any(value is not None for _, value in found)
    ]
    if shown:
        others = counted(len(shown) - _SEARCHES, "more search is", "more searches are")
        more = f"; {others} not drawn" if len(shown) > _SEARCHES else ""
        trials(
            run.pictures / f"trials_x{scale}.png",
            shown[:_SEARCHES],
            metric=metric,
            title=f"What the searches tried, ×{scale}",
            caption="a line is a trial, the best one thick, dark is better; dotted: stopped early; values of the "
            f"search's own validations, no scores{more}",
        )


def _outcomes(run: RunDir, metric: str) -> dict[str, list[tuple[dict[str, Any], float | None]]]:
    """Combination -> hyperparameters of each of its search's trials, and the metric at the end of a full run."""
    found: dict[str, list[tuple[dict[str, Any], float | None]]] = defaultdict(list)
    for role in read_roles(run) if run.roles.exists() else []:
        if role.role == "search" and role.combination is not None:
            entries = journal.read(run.trial(role.fingerprint) / journal.JOURNAL)
            end, validated = journal.end(entries), journal.steps(entries)
            full = end is not None and end["status"] == "complete" and validated
            found[role.combination].append((role.params, validated[-1]["metrics"].get(metric) if full else None))
    return found


def _search(
    combination: Combination, found: list[tuple[dict[str, Any], float | None]], metric: str, higher: bool
) -> Search:
    importance, reason = _importance(combination, found, higher)
    return Search(
        title=f"{combination.label} × {combination.objective_label}",
        axes=[
            Axis(name=name, choices=span.choices, low=span.low or 0.0, high=span.high or 0.0, log=span.log)
            for name, span in combination.axes.ranges.items()
        ],
        tried=found,
        importance=importance,
        reason=reason,
    )


def _importance(
    combination: Combination, found: list[tuple[dict[str, Any], float | None]], higher: bool
) -> tuple[dict[str, dict[str, float]], str]:
    """Evaluator -> hyperparameter -> share, of the trials that ran in full; or why there is none."""
    full = [(params, value) for params, value in found if value is not None]
    if len(full) < FEWEST:
        return {}, f"no importance from fewer than {FEWEST} full trials (here {len(full)})"
    if len({value for _, value in full}) == 1:
        return {}, "no importance: all values are equal"
    import optuna  # late: a board without searches needs none of it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if higher else "minimize")
    spans = combination.axes.distributions()
    for params, value in full:
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spans, value=value))
    evaluators: dict[str, BaseImportanceEvaluator] = {"fANOVA": optuna.importance.FanovaImportanceEvaluator(seed=_SEED)}
    with warnings.catch_warnings(category=optuna.exceptions.ExperimentalWarning, action="ignore"):
        evaluators["PED-ANOVA"] = optuna.importance.PedAnovaImportanceEvaluator()
        shares = {
            name: optuna.importance.get_param_importances(study, evaluator=evaluator)
            for name, evaluator in evaluators.items()
        }
    return shares, ""
