"""Fronts and hypervolumes against brute force, and reports that a study of several directions keeps."""

import itertools
import random

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from orchestrator.run.winners import SearchCounts, WinnerRecord
from orchestrator.search import pareto

METRICS = ("psnr_y", "l_std")


def points(count: int, width: int, seed: int) -> list[tuple[float, ...]]:
    """On a coarse grid, so that many are equal in some of their values."""
    drawn = random.Random(seed)
    return [tuple(float(drawn.randint(0, 6)) for _ in range(width)) for _ in range(count)]


def by_cells(found: list[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    """The volume of all unit cells above the reference that some point dominates."""
    cells = itertools.product(*(range(int(low), 6) for low in reference))
    return float(sum(any(all(x >= c + 1 for x, c in zip(p, cell, strict=True)) for p in found) for cell in cells))


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_the_hypervolume_is_that_of_the_cells_below_the_points(width, seed):
    found, reference = points(1 + 2 * seed, width, seed), (1.0,) * width
    assert pareto.hypervolume(found, reference) == by_cells(found, reference)
    front = [p for p in found if not any(pareto.dominates(q, p) for q in found)]
    assert pareto.hypervolume(front, reference) == by_cells(found, reference), "what is dominated adds nothing"


def test_a_known_hypervolume_in_plain_units():
    assert pareto.hypervolume([(3.0, 1.0), (1.0, 2.0), (2.0, 2.0)], (0.0, 0.0)) == 5.0
    assert pareto.hypervolume([(3.0, 0.0)], (0.0, 0.0)) == pareto.hypervolume([], (0.0, 0.0)) == 0.0


def test_to_dominate_is_to_be_as_good_by_all_and_better_by_one():
    assert pareto.dominates((1.0, 2.0), (1.0, 1.0)) and not pareto.dominates((1.0, 1.0), (1.0, 1.0))
    assert not pareto.dominates((2.0, 1.0), (1.0, 2.0)) and not pareto.dominates((1.0, 1.0), (1.0, 2.0))


@pytest.mark.parametrize("seed", range(6))
def test_the_best_by_the_first_metric_is_of_the_front(seed):
    found = points(12, 3, seed)
    chosen = found[pareto.best(found)]
    assert chosen[0] == max(p[0] for p in found) and not any(pareto.dominates(other, chosen) for other in found)
    assert pareto.best([(1.0, 5.0), (2.0, 0.0), (2.0, 1.0), (2.0, 1.0)]) == 2


def trial(number: int, state: TrialState, *values: float) -> FrozenTrial:
    made = optuna.trial.create_trial(
        state=state,
        values=values if state == TrialState.COMPLETE else None,
        user_attrs={"values@50": [1.0, 2.0], "values@100": list(values), "fingerprint": "f"},
    )
    made.number = number
    return made


TRIALS = [
    trial(0, TrialState.COMPLETE, 20.0, 0.05),
    trial(1, TrialState.PRUNED, 99.0, 0.0),
    trial(2, TrialState.COMPLETE, 21.0, 0.06),
    trial(3, TrialState.COMPLETE, 19.0, 0.06),  # dominated by both
    trial(4, TrialState.COMPLETE, 20.0, 0.05),  # as good as 0
]


def test_a_front_is_of_the_trials_that_ran_in_full_less_being_better_where_it_is():
    found = pareto.front_of(TRIALS, METRICS)
    assert [(p.number, p.on_front) for p in found.points] == [(0, True), (2, True), (3, False), (4, True)]
    assert [metric.higher_is_better for metric in found.metrics] == [True, False]
    assert [p.number for p in found.front] == [0, 2, 4] and found.reference == (19.0, 0.06)
    assert found.hypervolume == pytest.approx(1.0 * 0.01), "#2 is as bad as any by l_std"


def test_hypervolumes_of_a_scale_are_against_the_worst_of_all_its_searches():
    counts = SearchCounts(trials=5, pruned=1, failed=0)

    def won(front: list[FrozenTrial] | None) -> WinnerRecord:
        record = front and pareto.front_of(front, METRICS)
        return WinnerRecord(number=0, params={}, fingerprints=("f",), search=counts, train_seconds=1.0, front=record)

    other = [trial(0, TrialState.COMPLETE, 18.0, 0.04), trial(1, TrialState.COMPLETE, 22.0, 0.09)]
    alone = [trial(0, TrialState.COMPLETE, 10.0, 0.5)]
    winners = {"x2/a/dream": won(TRIALS), "x2/b/dream": won(other), "x4/a/dream": won(alone), "x2/a/l1": won(None)}
    found = pareto.against_one_reference(winners)
    assert found["x2/a/dream"].front.reference == found["x2/b/dream"].front.reference == (18.0, 0.09)
    assert found["x2/a/dream"].front.hypervolume == pytest.approx(2 * 0.04 + 1 * 0.03)
    assert found["x2/b/dream"].front.hypervolume == 0.0, "each of its trials is the worst by one metric"
    assert (found["x4/a/dream"].front.reference, found["x2/a/l1"].front) == ((10.0, 0.5), None)
    assert pareto.against_one_reference(found) == found and list(found) == list(winners)


@pytest.mark.parametrize("metrics", [("psnr_y",), METRICS])
def test_what_is_reported_is_read_again(metrics):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize"] * len(metrics))
    asked = study.ask()
    assert (pareto.reported(study.trials[0]), pareto.last_step(study.trials[0])) == ({}, 0)
    for step in (100, 50, 1000):
        pareto.report(asked, step, tuple(float(step + i) for i in range(len(metrics))))
    found = pareto.reported(study.trials[0])
    assert list(found) == [50, 100, 1000] and pareto.last_step(study.trials[0]) == 1000
    assert found[50] == (50.0, 51.0)[: len(metrics)]
    plain, attrs = pareto.as_reported(found)
    study.add_trial(optuna.trial.create_trial(state=TrialState.PRUNED, intermediate_values=plain, user_attrs=attrs))
    assert pareto.reported(study.trials[1]) == found
