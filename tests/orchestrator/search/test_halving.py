"""Halving as a pure function of a study: who passes a rung, in either direction, however often it is asked."""

import optuna
import pytest
from optuna.trial import Trial, TrialState

from orchestrator.search.halving import AsynchronousHalving


@pytest.fixture
def study():
    """Makes a study in memory with rungs at 50, 50 * reduction and so on."""

    def make(direction: str = "maximize", reduction: int = 2) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(direction=direction, pruner=AsynchronousHalving(50, reduction))

    return make


def reported(study: optuna.Study, *values: float, step: int = 50) -> list[Trial]:
    """A trial for each value, which is what it reported at a step."""
    trials = []
    for value in values:
        trials.append(study.ask())
        trials[-1].report(value, step)
    return trials


@pytest.mark.parametrize(
    ("reduction", "values", "passing"),
    [
        (2, [20.0], [20.0]),  # whoever comes first meets nobody
        (2, [20.0, 19.0], [20.0]),
        (2, [20.0, 19.0, 21.0], [21.0]),  # one of three: half of them, rounded down
        (2, [20.0, 19.0, 21.0, 18.0], [21.0, 20.0]),
        (3, [20.0, 19.0], [20.0]),  # never fewer than one
        (3, [20.0, 19.0, 21.0, 18.0, 22.0, 17.0], [22.0, 21.0]),
        (2, [20.0, 20.0], [20.0, 20.0]),  # equal to the last that passes
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_share_of_those_that_got_there_passes(study, reduction, values, passing, sign):
    trials = reported(study("maximize" if sign == 1 else "minimize", reduction), *(sign * value for value in values))
    found = [value for value, trial in zip(values, trials, strict=True) if not trial.should_prune()]
    assert sorted(found, reverse=True) == passing


@pytest.mark.parametrize(
    ("reduction", "step", "rung"),
    [(2, 50, True), (2, 100, True), (2, 200, True), (2, 25, False), (2, 75, False), (2, 150, False), (3, 100, False),
     (3, 150, True)],
)  # fmt: skip
def test_only_a_rung_decides(study, reduction, step, rung):
    _, worse = reported(study(reduction=reduction), 20.0, 10.0, step=step)
    assert worse.should_prune() is rung


def test_without_a_report_there_is_nothing_to_decide(study):
    made = study()
    reported(made, 20.0)
    assert not made.ask().should_prune()


def test_only_what_was_reported_at_the_rung_itself_counts(study):
    made = study()
    better, worse = reported(made, 20.0, 10.0, step=40)
    worse.report(10.0, 50)
    assert not worse.should_prune(), "the other one is not there yet"
    better.report(20.0, 50)
    assert worse.should_prune()
    worse.report(99.0, 60)
    assert not worse.should_prune(), "it has left the rung"


def test_trials_that_have_ended_are_met_too(study):
    made = study()
    [ended] = reported(made, 20.0)
    made.tell(ended, state=TrialState.PRUNED)
    [worse] = reported(made, 10.0)
    assert worse.should_prune()


def test_asked_again_it_answers_the_same(study):
    """A driver that dies between the decision and its record asks again: the worse trial must not slip through."""
    made = study()
    better, worse = reported(made, 24.0, 23.0)
    assert [worse.should_prune() for _ in range(3)] == [True] * 3 and not better.should_prune()
    assert all(not trial.system_attrs for trial in made.get_trials()), "it writes nothing"
