"""What varies: declared ranges, ranges that a config gives, grids, and values put back into an objective."""

import math
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from objectives import RECIPES
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.space import Axes, Setting, Varied, apply, axes, corners, shown, varied
from orchestrator.plan.train import TrainConfig
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
from sr_models.params import SearchRange

SHAPES = ("linear", "cosine", "polynomial", "sigmoid", "step")
BETA = SearchRange(low=1e-3, high=1e-1, log=True)
LENGTH = SearchRange(low=0.25, high=1.0)
DATA = {"train": [{"hr": "a"}], "validation": [{"hr": "b"}], "test": {"c": {"hr": "c"}}}


def found(label: str = "eco", common: tuple[str, ...] = (), **entry: Any) -> Varied:
    config = SweepConfig.parse(
        {
            "name": "s", "models": ["imdn"], "objectives": {label: entry}, "data": DATA, "teacher": {},
            "search": {"common": common},
        },
        "test",
    )  # fmt: skip
    return varied(config, label)


def within(label: str = "eco", train: TrainConfig | None = None, **entry: Any) -> Axes:
    """The axes of one combination, trained as the config says."""
    return axes(found(label, **entry).search, Setting(RECIPES[label], train or TrainConfig()), label)


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
def test_what_an_objective_varies(label, entry, search, grid):
    assert found(label, **entry) == Varied(search, grid)


@pytest.mark.parametrize(
    ("label", "entry", "search"),
    [
        ("l1", {}, {"train.lr": None}),
        ("l1", {"search": []}, {"train.lr": None}),
        ("expectation", {"search": ["sigma.beta"]}, {"sigma.beta": BETA, "train.lr": None}),
        ("l1", {"search": {"train.lr": [1e-3, 1e-4]}}, {"train.lr": SearchRange(choices=(1e-3, 1e-4))}),  # its own word
        ("l1", {"grid": {"train.lr": [1e-3, 1e-4]}}, {}),
    ],
)
def test_common_axes_come_to_every_objective_that_says_nothing_of_them(label, entry, search):
    made = found(label, common=("train.lr",), **entry).search
    assert made == search


def test_a_common_rate_is_searched_around_that_of_the_combination():
    made = axes({"train.lr": None}, Setting(RECIPES["l1"], TrainConfig(lr=1e-2)), "l1")
    assert made == Axes({"train.lr": SearchRange(low=2.5e-3, high=4e-2, log=True)}, {"train.lr": 1e-2})


@pytest.mark.parametrize("common", [("train.batch_size",), ("sigma.beta",), ("lr",)])
def test_only_what_every_combination_has_can_be_common(common):
    with pytest.raises(InputError, match=rf"^search.common: '{common[0]}' cannot be searched everywhere.*train.lr"):
        found(common=common)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"low": 0.25, "high": 0.5}, SearchRange(low=0.25, high=1.0)),
        ({"low": 0.25, "high": 1.0}, SearchRange(low=0.25, high=1.0)),
        ([0.5, 0.25], SearchRange(choices=(1.0, 0.5, 0.25))),
        ([0.5, 1], SearchRange(choices=(0.5, 1.0))),
        (["5e-1", 1.0], SearchRange(choices=(0.5, 1.0))),  # YAML takes 5e-1 for a text
    ],
)
def test_a_range_holds_the_configured_value(given, expected):
    assert within(search={"target.length": given}) == Axes({"target.length": expected}, {"target.length": 1.0})


def test_a_rate_of_a_network_widens_the_absolute_range():
    made = within("l1", TrainConfig(lr=1e-2), search=["train.lr"]).ranges["train.lr"]
    assert made == SearchRange(low=5e-5, high=1e-2, log=True)


@pytest.mark.parametrize(
    ("search", "size"),
    [
        ([], 1),
        (["target.shape"], 5),
        ({"target.shape": ["step"], "target.length": [0.5, 0.25]}, 6),  # each with what is configured
        (["target.length", "target.shape"], math.inf),
    ],
)
def test_the_size_of_a_space(search, size):
    made = within(search=search)
    assert made.size == size and (size == math.inf or len(made.points) == size)
    assert size == math.inf or made.configured in made.points


@pytest.mark.parametrize(
    ("values", "kept"), [([16.0, "8"], (16, 8)), ([4], (4,)), ([[0.5], [0.2, "1e-1"]], ((0.5,), (0.2, 0.1)))]
)
def test_grid_values_are_what_the_trial_will_hold(values, kept):
    name = "train.decay_at" if isinstance(values[0], list) else "train.batch_size"
    assert found(grid={name: values}).grid == {name: kept}


def test_values_look_different_where_they_are():
    assert [shown(value) for value in (16, 1e-5, None, True, (0.5, 0.8), "step")] == [
        "16", "1e-05", "null", "true", "[0.5,0.8]", "step",
    ]  # fmt: skip


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
        ({"grid": {"train.batch_size": [16, 8, 16.0]}}, "objectives.eco.train.batch_size: 16.0 comes twice"),
        ({"search": {"target.length": [0.5, "0.5"]}}, "target.length: '0.5' comes twice"),
        ({"grid": {"train.lr": [1e-4, 1e300]}}, "train.lr: Input should be less than or equal to 1000000 (got 1e+300)"),
        ({"grid": {"target.length": [2]}}, "target.mixup.length: Input should be less than or equal to 1 (got 2)"),
        ({"grid": {"target.lenght": [1]}}, "unknown hyperparameter 'target.lenght'; did you mean 'target.length'?"),
        ({"grid": {"train.stepz": [1]}}, "unknown key 'stepz'; did you mean 'steps'?"),
        ({"search": ["target.length"], "grid": {"target.length": [1]}}, "'target.length' is in both search and grid"),
        (
            {"search": {"target.length": {"low": True, "high": 2}}},
            "search.target.length.low: expected a number, got True",
        ),
        ({"search": {"target.length": [0.5, True]}}, "eco.target.mixup.length: true and false are no numbers"),
        ({"search": {"target.shape": {"low": 0, "high": 1}}}, "target.mixup.shape: Input should be 'linear'"),
        (
            {"grid": {"train.batch_size": [8, 0]}},
            "train.batch_size: Input should be greater than or equal to 1 (got 0)",
        ),
        (
            {"grid": {"train.batch_size": [True]}},
            "objectives.eco.train.batch_size: true and false are no numbers (got True)",
        ),
        ({"grid": {"train.batch_size": ["many"]}}, "train.batch_size: Input should be a valid integer"),
        ({"grid": {"train.decay_at": [[0.5, True]]}}, "train.decay_at: true and false are no numbers"),
        ({"grid": {"train.lr": [1e-3, 0]}}, "train.lr: Input should be greater than 0 (got 0)"),
        ({"grid": {"train.ema": [None, 1]}}, "train.ema: Input should be less than 1 (got 1)"),
    ],
)
def test_bad_axes_are_one_line(entry, said):
    with pytest.raises(InputError) as caught:
        within(**entry)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_grid_points_are_the_product():
    points = Varied({}, {"a": (1, 2), "b": ("x", "y", "z")}).points
    assert len(points) == 6 and points[0] == {"a": 1, "b": "x"} and points[-1] == {"a": 2, "b": "z"}
    assert Varied({}, {}).points == [{}]


def test_distributions():
    made = Axes(
        {"a": SearchRange(low=0.1, high=10, log=True), "b": SearchRange(choices=("x", "y"))}, {}
    ).distributions()
    assert made == {"a": FloatDistribution(0.1, 10, log=True), "b": CategoricalDistribution(("x", "y"))}


def test_values_go_to_the_objective_or_to_training():
    now = apply(Setting(RECIPES["eco"], TrainConfig()), {"target.length": 0.5, "train.lr": 1e-3}, "eco")
    assert (now.spec.target.length, now.train.lr) == (0.5, 1e-3)
    assert (now.spec.loss, now.train.steps) == (RECIPES["eco"].loss, TrainConfig().steps)
    noise = Setting(RECIPES["dream"], TrainConfig(), ProcessParams())
    now = apply(noise, {"process.beta_end": 0.02, "sampling.steps": 10, "loss.p": 2.0}, "dream")
    assert (now.process, now.steps, now.spec.loss.p) == (ProcessParams(beta_end=0.02), 10, 2.0)
    with pytest.raises(InputError, match="eco: beta_end is of a noise process, and there is none"):
        apply(Setting(RECIPES["eco"], TrainConfig()), {"process.beta_end": 0.02}, "eco")


# ---- noise and sampling ----------------------------------------------------------------------------------------------


def test_the_process_is_searched_where_it_is_named_and_not_by_itself():
    assert list(found("dream").search) == ["loss.p"]
    made = found("dream", search=["loss.p", "process.beta_end"], grid={"process.T": [1000, 2e3], "sampling.steps": [5]})
    assert made.search["process.beta_end"] == SearchRange(low=5e-3, high=4e-2, log=True)
    assert made.grid == {"process.T": (1000, 2000), "sampling.steps": (5,)}
    noise = Setting(RECIPES["dream"], TrainConfig(), ProcessParams(beta_end=0.05))
    assert axes(made.search, noise, "dream").ranges["process.beta_end"].high == 0.05, "widened to what is configured"


def test_numbers_of_sampling_steps_are_choices_of_which_the_first_comes_first():
    search = found("ddpm", search={"sampling.steps": [50, 10]}).search
    made = axes(search, Setting(RECIPES["ddpm"], TrainConfig(), ProcessParams()), "ddpm")
    assert (made.ranges["sampling.steps"].choices, made.configured) == ((50, 10), {"sampling.steps": 50})


@pytest.mark.parametrize(
    ("label", "entry", "said"),
    [
        (
            "l1",
            {"search": ["process.beta_end"]},
            "objectives.l1: 'process.beta_end' is of diffusion networks, and loss",
        ),
        (
            "l1",
            {"grid": {"sampling.steps": [10]}},
            "objectives.l1: 'sampling.steps' is of diffusion networks, and loss l1",
        ),
        ("ddpm", {"search": ["sampling.steps"]}, "objectives.ddpm.search: sampling.steps needs a list of choices"),
        ("ddpm", {"search": {"sampling.steps": {"low": 1, "high": 9}}}, "sampling.steps needs a list of choices"),
        ("ddpm", {"search": ["process.T"]}, "'process.T' cannot be searched"),
        ("ddpm", {"grid": {"process.t": [9]}}, "objectives.ddpm.process: unknown key 't'"),
        ("ddpm", {"grid": {"sampling.steps": [10, 0]}}, "objectives.ddpm.sampling.steps: .*greater than or equal to 1"),
        ("ddpm", {"grid": {"sampling.steps": [10, 10.0]}}, "sampling.steps: 10.0 comes twice"),
    ],
)
def test_noise_and_steps_that_cannot_vary_are_refused(label, entry, said):
    with pytest.raises(InputError, match=said):
        found(label, **entry)


def test_ends_of_a_search_that_only_together_make_no_chain_are_refused():
    """alpha-bar at T falls with both betas, so the corner of the lowest of each is the worst."""
    noise = Setting(RECIPES["ddpm"], TrainConfig(), ProcessParams(T=1000, beta_start=1e-3, beta_end=1e-2))
    search = {
        "process.beta_start": SearchRange(low=1e-6, high=1e-3),
        "process.beta_end": SearchRange(low=7e-3, high=1e-2),
    }
    made = axes(search, noise, "objectives.ddpm")
    with pytest.raises(InputError, match=r"^objectives.ddpm.process: the chain ends with alpha-bar 0.03, above 0.02"):
        corners(noise, made, "objectives.ddpm")
    del made.ranges["process.beta_start"]
    assert [corner.process.beta_end for corner in corners(noise, made, "objectives.ddpm")] == [7e-3, 1e-2]
    with pytest.raises(InputError, match="the chain ends with alpha-bar"):
        axes({"process.beta_end": SearchRange(low=5e-3, high=1e-2)}, noise, "objectives.ddpm")
