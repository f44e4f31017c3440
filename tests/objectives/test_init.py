"""The tables of objectives, naming an objective in a configuration, and the legal combinations."""

from typing import Any

import pytest

from objectives import DESCRIPTIONS, LEGAL, LOSSES, RECIPES, TARGETS, check_legal, resolve
from objectives.spec import (
    HR,
    L1,
    CentroidMixup,
    Distillation,
    NoLoss,
    ObjectiveSpec,
    SampledSigma,
    SigmaBranch,
    search_ranges,
)
from sr_models.errors import InputError


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_legal_described_and_found_by_name(recipe: str) -> None:
    check_legal(RECIPES[recipe], "regression")
    assert resolve(recipe) is RECIPES[recipe]
    assert DESCRIPTIONS[recipe].count("\n") == 0
    assert list(DESCRIPTIONS) == sorted(DESCRIPTIONS, key=list(RECIPES).index)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"target": "hr", "loss": "l1"}, RECIPES["l1"]),
        ({"target": {"kind": "hr"}, "loss": {"kind": "l1"}, "sigma": {}}, RECIPES["l1+aux"]),
        ({"recipe": "l1", "sigma": {}}, RECIPES["l1+aux"]),
        ({"recipe": "expectation", "sigma": None}, RECIPES["expectation_only"]),
        ({"recipe": "eco", "target": "kd"}, RECIPES["kd"]),
        ({"recipe": "eco", "target.length": 0.5}, ObjectiveSpec(target=CentroidMixup(length=0.5), loss=L1())),
        ({"recipe": "eco", "target": {"length": 0.5}}, ObjectiveSpec(target=CentroidMixup(length=0.5), loss=L1())),
        (
            {"target.length": 0.5, "target": "mixup", "target.shape": "step", "loss": "l1"},
            ObjectiveSpec(target=CentroidMixup(length=0.5, shape="step"), loss=L1()),
        ),
        (
            {"recipe": "expectation", "loss": "l1", "sigma.width": 16},
            ObjectiveSpec(target=HR(), loss=L1(), sigma=SigmaBranch(width=16)),
        ),
        (RECIPES["eco"], RECIPES["eco"]),
    ],
)
def test_resolve(given: Any, expected: ObjectiveSpec) -> None:
    assert resolve(given) == expected


def test_resolve_leaves_its_input_and_the_recipe_alone() -> None:
    given = {"recipe": "eco", "target": {"length": 0.5}, "target.shape": "step"}
    resolve(given)
    assert given == {"recipe": "eco", "target": {"length": 0.5}, "target.shape": "step"}
    assert RECIPES["eco"].target == CentroidMixup()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("ecco", r"^here: unknown objective 'ecco'; did you mean 'eco'\? \(valid: aux_only, "),
        ({"recipe": ["eco"]}, r"unknown objective \['eco'\]"),
        (7, "^here: expected a recipe's name or a mapping, got int 7"),
        ({}, "target: required"),
        ({"target": "hr"}, r"^here\.loss: required"),
        ({"target": "mixpu", "loss": "l1"}, r"^here\.target: unknown target 'mixpu'; did you mean 'mixup'\?"),
        (
            {"target": 5, "loss": "l1"},
            r"^here\.target: name its kind, one of hr, kd, noise_free, mixup, loss_mixup, .*noise_regression \(got 5\)",
        ),
        ({"target": {"length": 0.5}, "loss": "l1"}, r"^here\.target: name its kind"),
        ({"recipe": "eco", "los": "l1"}, r"^here: unknown key 'los'; did you mean 'loss'\?"),
        ({"target.lenght": 1, "recipe": "eco"}, r"unknown key 'lenght'; did you mean 'length'\?"),
        ({"recipe": "eco", "target": {"kind": "kd", "length": 0.5}}, "unknown key 'length'"),
        ({"recipe": "l1", "timesteps": "uniform"}, r"^here\.timesteps: .*None"),
        ({"recipe": "l1", "sigma": True}, r"^here\.sigma: "),
        ({"recipe": "l1", "sigma": None, "sigma.beta": 0.1}, r"^here\.sigma\.beta: sigma is already given as None"),
        ({1: 2}, "unknown key 1"),
    ],
)
def test_resolve_refuses_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        resolve(given, "here")
    assert "\n" not in str(caught.value)


def test_legal_table_is_the_product_and_names_each_combination_once() -> None:
    combinations = [row[:4] for row in LEGAL]
    assert len(set(combinations)) == len(combinations) == len(TARGETS) * len(LOSSES)


def test_a_branch_is_all_that_can_train_without_a_loss() -> None:
    lone = ObjectiveSpec(target=Distillation(), loss=NoLoss())
    with pytest.raises(InputError, match="target 'kd' with loss 'none' needs sigma"):
        check_legal(lone, "regression")
    check_legal(lone.model_copy(update={"sigma": SigmaBranch()}), "regression")


def test_a_sampled_sigma_needs_the_branch_and_refuses_what_would_do_nothing() -> None:
    with pytest.raises(InputError, match="target 'hr' with loss 'sampled_sigma' needs sigma"):
        check_legal(ObjectiveSpec(target=HR(), loss=SampledSigma()), "regression")
    for name, value in (("beta", 0.1), ("signed", True), ("zero_below_average", True)):
        with pytest.raises(InputError, match=f"^here: sigma.{name} has no effect with loss sampled_sigma, .*{value}"):
            resolve({"recipe": "sampled_sigma", f"sigma.{name}": value}, "here")
    spec = resolve({"recipe": "sampled_sigma", "sigma.width": 8})
    assert spec.sigma == SigmaBranch(width=8) and search_ranges(spec) == {}


def test_no_regression_objective_trains_diffusion() -> None:
    with pytest.raises(InputError, match=r"nothing here trains a diffusion network \(families: regression\)"):
        check_legal(RECIPES["l1"], "diffusion")
