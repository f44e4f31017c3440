"""Declared hyperparameters of objectives: what they need, what may be searched, what is refused."""

import os
import subprocess
import sys
from typing import get_args

import pytest

import objectives
from objectives import LOSSES, RECIPES, TARGETS, TIMESTEPS, resolve
from objectives.spec import Loss, ObjectiveSpec, SigmaBranch, Steps, Target, search_ranges, with_values
from objectives.timesteps import Terminal
from sr_models.errors import InputError


@pytest.mark.parametrize(
    ("recipe", "needs"),
    [
        ("l1", set()),
        ("expectation_only", set()),
        ("kd", {"mu"}),
        ("eco_noise_free", {"mu", "mu_lr"}),
        ("eco", {"mu", "mu_lr"}),
        ("loss_mixup", {"mu", "mu_lr"}),
        ("image_mixup", {"partner"}),
        ("l1+aux", {"sigma"}),
        ("sampled_sigma", {"sigma"}),
        ("eco+expectation", {"mu", "mu_lr", "sigma"}),
        ("dream+nutl", set()),
    ],
)
def test_needs(recipe: str, needs: set[str]) -> None:
    assert RECIPES[recipe].needs == needs


def test_search_ranges_are_dotted_and_follow_the_parts() -> None:
    assert list(search_ranges(RECIPES["eco+expectation"])) == ["target.shape", "target.length", "sigma.beta"]
    assert search_ranges(RECIPES["l1"]) == {}
    beta = search_ranges(RECIPES["expectation"])["sigma.beta"]
    assert (beta.low, beta.high, beta.log) == (1e-3, 1e-1, True)
    assert list(search_ranges(RECIPES["dream+nutl"])) == ["loss.p", "timesteps.t_max", "timesteps.ratio"]
    assert search_ranges(resolve({"recipe": "dream", "loss.p": None})) == search_ranges(RECIPES["ddpm"]) == {}
    length = search_ranges(RECIPES["eco"])["target.length"]
    assert (length.low, length.high, length.log) == (0.25, 1.0, False)


def test_a_ramp_of_given_points_is_not_searched_and_may_be_a_grid() -> None:
    spec = resolve({"recipe": "eco+expectation", "target.shape": "points", "target.points": [[0, 0], [1, 1]]})
    assert list(search_ranges(spec)) == ["sigma.beta"]
    assert with_values(spec, {"target.points": [[0, 0.5]]}).target.points == ((0, 0.5),)
    assert "points" not in RECIPES["eco"].model_dump()["target"]


def test_every_searchable_default_lies_in_its_range() -> None:
    for spec in RECIPES.values():
        for name, found in search_ranges(spec).items():
            seat, field = name.split(".")
            value = getattr(getattr(spec, seat), field)
            assert value in found.choices if found.choices else found.low <= value <= found.high


def test_with_values_replaces_only_what_is_named() -> None:
    spec = with_values(RECIPES["eco+expectation"], {"target.length": 0.5, "target.shape": "cosine", "sigma.beta": 0.05})
    assert (spec.target.length, spec.target.shape, spec.sigma.beta) == (0.5, "cosine", 0.05)
    back = {"target.length": 1.0, "target.shape": "linear", "sigma.beta": 0.01}
    assert with_values(spec, back) == RECIPES["eco+expectation"]


@pytest.mark.parametrize(
    ("recipe", "values", "message"),
    [
        ("eco", {"target.lenght": 0.5}, r"unknown hyperparameter 'target.lenght'; did you mean 'target.length'\?"),
        ("eco", {"sigma.beta": 0.5}, "unknown hyperparameter 'sigma.beta'"),
        ("eco", {"target.kind": "kd"}, "unknown hyperparameter 'target.kind'"),
        ("eco", {"target.length": 1.5}, r"objective\.target\.mixup\.length: .*less than or equal to 1 \(got 1\.5\)"),
        ("eco", {"target.warm_hold": 0.95}, r"warm_hold: .*0\.9 \(got 0\.95\)"),
        ("expectation", {"sigma.beta": 0}, r"objective\.sigma\.beta: .*greater than 0 \(got 0\)"),
        ("constant_sigma", {"loss.k": float("nan")}, r"loss\.constant_sigma\.k: .*finite number"),
    ],
)
def test_with_values_refuses(recipe: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        with_values(RECIPES[recipe], values)
    assert "\n" not in str(caught.value)


def test_specs_round_trip_and_are_frozen() -> None:
    for spec in RECIPES.values():
        assert ObjectiveSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValueError, match="frozen"):
        RECIPES["l1"].sigma = SigmaBranch()


def test_unions_and_tables_hold_the_same_parts() -> None:
    for union, table in ((Target, TARGETS), (Loss, LOSSES), (Steps, TIMESTEPS)):
        assert set(get_args(union)) == set(table.values())
        assert all(part.model_fields["kind"].default == name for name, part in table.items())


def test_every_field_is_described() -> None:
    for part in (*TARGETS.values(), *LOSSES.values(), *TIMESTEPS.values(), Terminal, SigmaBranch, ObjectiveSpec):
        assert [name for name, field in part.model_fields.items() if name != "kind" and not field.description] == []


def test_imports_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import objectives; print(len(objectives.RECIPES))"
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path)
    assert done.stdout.strip() == str(len(objectives.RECIPES)), done.stderr
