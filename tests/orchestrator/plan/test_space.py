"""What varies: declared ranges, ranges that a config gives, grids, and values put back into an objective."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from objectives import RECIPES
from orchestrator.plan.config import SweepConfig, TrainConfig
from orchestrator.plan.space import Axes, apply, axes
from sr_models.errors import InputError
from sr_models.params import SearchRange

SHAPES = ("linear", "cosine", "polynomial", "sigmoid", "step")
LENGTH = SearchRange(low=0.25, high=1.0)
DATA = {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}}


def found(label: str = "eco", **entry) -> Axes:
    config = SweepConfig.parse(
        {"name": "s", "models": ["imdn"], "objectives": {label: entry}, "data": DATA, "teacher": {}}, "test"
    )
    return axes(config, label)


@pytest.mark.parametrize(
    ("label", "entry", "search", "grid"),
    [
        ("l1", {}, {}, {}),
        ("eco", {}, {"target.shape": SearchRange(choices=SHAPES), "target.length": LENGTH}, {}),
        ("eco", {"search": []}, {}, {}),
        ("eco", {"search": ["target.length"]}, {"target.length": LENGTH}, {}),
        ("eco", {"search": {"target.length": {"low": 0.5, "high": 0.75}}},
         {"target.length": SearchRange(low=0.5, high=0.75)}, {}),
        ("eco", {"search": {"target.length": [0.5, 1.0]}}, {"target.length": SearchRange(choices=(0.5, 1.0))}, {}),
        ("eco", {"grid": {"target.shape": ["step"]}}, {"target.length": LENGTH}, {"target.shape": ("step",)}),
        ("expectation", {}, {"sigma.beta": SearchRange(low=1e-3, high=1e-1, log=True)}, {}),
        ("l1", {"search": ["train.lr"]}, {"train.lr": SearchRange(low=5e-5, high=5e-3, log=True)}, {}),
        ("l1", {"grid": {"train.lr": [1e-3, 1e-4]}}, {}, {"train.lr": (1e-3, 1e-4)}),
    ],
)  # fmt: skip
def test_axes(label, entry, search, grid):
    assert found(label, **entry) == Axes(search, grid)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"search": ["target.lenght"]}, "objectives.eco.search: 'target.lenght' cannot be searched; did you mean"),
        ({"search": ["target.power"]}, "objectives.eco.search: 'target.power' cannot be searched"),
        ({"search": "target.length"}, "objectives.eco.search: expected a list of names"),
        ({"search": {"target.length": 3}}, "search.target.length: expected low and high, or a list of choices, got 3"),
        ({"search": {"target.length": {"low": 1, "high": 0.5}}}, "low must be below high, got 1.0 and 0.5"),
        ({"search": {"target.length": {"low": 0.5, "high": 1.5}}}, "target.mixup.length: Input should be less than"),
        ({"search": {"target.shape": ["linear", "cubic"]}}, "target.mixup.shape: Input should be 'linear'"),
        ({"grid": ["target.length"]}, "objectives.eco.grid: expected a mapping of names to lists of values"),
        ({"grid": {"target.length": []}}, "objectives.eco.grid.target.length: expected a list of values, got []"),
        ({"grid": {"target.length": 0.5}}, "objectives.eco.grid.target.length: expected a list of values, got 0.5"),
        ({"grid": {"target.length": [2]}}, "target.mixup.length: Input should be less than or equal to 1 (got 2)"),
        ({"grid": {"target.lenght": [1]}}, "unknown hyperparameter 'target.lenght'; did you mean 'target.length'?"),
        ({"grid": {"train.stepz": [1]}}, "unknown key 'stepz'; did you mean 'steps'?"),
        ({"search": ["target.length"], "grid": {"target.length": [1]}}, "'target.length' is in both search and grid"),
    ],
)
def test_bad_axes_are_one_line(entry, said):
    with pytest.raises(InputError) as caught:
        found(**entry)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_grid_points_are_the_product():
    points = Axes({}, {"a": (1, 2), "b": ("x", "y", "z")}).points
    assert len(points) == 6 and points[0] == {"a": 1, "b": "x"} and points[-1] == {"a": 2, "b": "z"}
    assert Axes({}, {}).points == [{}]


def test_distributions():
    made = Axes(
        {"a": SearchRange(low=0.1, high=10, log=True), "b": SearchRange(choices=("x", "y"))}, {"c": (1, 2)}
    ).distributions()
    assert made == {
        "a": FloatDistribution(0.1, 10, log=True),
        "b": CategoricalDistribution(("x", "y")),
        "c": CategoricalDistribution((1, 2)),
    }


def test_values_go_to_the_objective_or_to_training():
    spec, train = apply(RECIPES["eco"], TrainConfig(), {"target.length": 0.5, "train.lr": 1e-3}, "eco")
    assert (spec.target.length, train.lr) == (0.5, 1e-3)
    assert (spec.loss, train.steps) == (RECIPES["eco"].loss, TrainConfig().steps)
