"""The tables of objectives, naming an objective in a configuration, and the legal combinations."""

from typing import Any

import pytest

from objectives import DESCRIPTIONS, LEGAL, LOSSES, RECIPES, TARGETS, check_legal, check_process, resolve
from objectives.losses import DREAM, L1, MinSNR, NoLoss, SampledSigma
from objectives.spec import HR, CentroidMixup, Distillation, ObjectiveSpec, SigmaBranch, search_ranges
from objectives.timesteps import Range, Terminal, Uniform
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_legal_described_and_found_by_name(recipe: str) -> None:
    loss = RECIPES[recipe].loss
    check_legal(RECIPES[recipe], loss.family, tuned_decoder="tuned_decoder" in loss.needs)
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
        (
            {"recipe": "dream", "loss.p": None, "target": "mixup", "timesteps": {"kind": "uniform"}},
            ObjectiveSpec(target=CentroidMixup(), loss=DREAM(p=None), timesteps=Uniform()),
        ),
        (
            {"recipe": "dream+nutl", "timesteps.t_max": 0.5, "timesteps.terminal": {"weight": "alpha_bar"}},
            ObjectiveSpec(target=HR(), loss=DREAM(), timesteps=Range(t_max=0.5, terminal=Terminal(weight="alpha_bar"))),
        ),
        (
            {"recipe": "l1", "loss": "min_snr", "timesteps": "range"},
            ObjectiveSpec(target=HR(), loss=MinSNR(), timesteps=Range()),
        ),
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
        ({"recipe": "l1", "timesteps": "uniform"}, r"^here: loss l1 takes no noise levels \(got timesteps uniform\)$"),
        ({"recipe": "dream", "timesteps": None}, "^here: loss dream takes timesteps: uniform or range$"),
        ({"target": "hr", "loss": "ddpm"}, "^here: loss ddpm takes timesteps: uniform or range$"),
        ({"recipe": "ddpm", "sigma": {}}, "^here: a sigma branch beside loss ddpm would have nothing to learn"),
        ({"recipe": "ddpm", "timesteps": "rang"}, r"^here\.timesteps: unknown timesteps 'rang'; did you mean 'range'"),
        ({"recipe": "nutl", "timesteps.t_max": 1}, r"^here\.timesteps\.range\.t_max: .*less than 1 \(got 1\)$"),
        (
            {"recipe": "nutl", "timesteps.terminal": {"detac": True}},
            r"terminal: unknown key 'detac'; did you mean 'det",
        ),
        ({"recipe": "dream", "loss.p": -1}, r"^here\.loss\.dream\.p: .*greater than or equal to 0 \(got -1\)$"),
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
    of = {family: sum(cls.family == family for cls in LOSSES.values()) for family in ("regression", "diffusion")}
    assert len(set(combinations)) == len(combinations)
    standard = of["diffusion"] - 2  # residual shifting and stage 2 go with one target and one choice of timesteps
    assert len(combinations) == len(TARGETS) * of["regression"] + 3 * standard * 2 + 2 + 1


def test_a_decoder_is_tuned_by_its_own_loss_alone_and_that_does_nothing_else() -> None:
    check_legal(RECIPES["ccsr_decoder"], "diffusion", tuned_decoder=True)
    with pytest.raises(InputError, match="loss 'ccsr_decoder' trains a decoder alone: give its model tuned_decoder: t"):
        check_legal(RECIPES["ccsr_decoder"], "diffusion")
    with pytest.raises(InputError, match=r"loss 'ddpm' trains no decoder, .* name the recipe ccsr_decoder"):
        check_legal(RECIPES["nutl"], "diffusion", tuned_decoder=True)
    for changed in ({"timesteps": "uniform"}, {"timesteps": {"kind": "range", "terminal": {}}}):
        with pytest.raises(InputError, match="loss ccsr_decoder samples by timesteps range, without terminal"):
            resolve({"recipe": "ccsr_decoder", **changed})
    chain = resolve({"recipe": "ccsr_decoder", "timesteps.t_max": 0.5, "loss.jump": "released"}).chain
    assert chain is not None and (chain.steps, chain.t_max, chain.jump) == (45, 0.5, "released")


@pytest.mark.parametrize("own", ["first_used", "released"])
@pytest.mark.parametrize("asked", [Sampling(steps=9), Sampling(sampler="truncated", steps=9, jump="released")])
def test_pictures_of_a_tuned_decoder_are_drawn_by_the_jump_that_it_was_tuned_on(own: str, asked: Sampling) -> None:
    drawn = resolve({"recipe": "ccsr_decoder", "loss.jump": own}).sampled(asked)
    assert drawn == Sampling(sampler="truncated", steps=9, jump=own)


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


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_objective_trains_one_family_of_networks(recipe: str) -> None:
    family = RECIPES[recipe].loss.family
    other = {"regression": "diffusion", "diffusion": "regression", "autoencoder": "regression"}[family]
    with pytest.raises(InputError, match=f"target .* with loss .* cannot train a {other} network"):
        check_legal(RECIPES[recipe], other)


@pytest.mark.parametrize("target", TARGETS)
def test_diffusion_takes_targets_that_are_one_pair_of_pictures(target: str) -> None:
    spec = resolve({"recipe": "dream+nutl", "target": target})
    if target in ("hr", "noise_free", "mixup"):
        check_legal(spec, "diffusion")
    else:
        with pytest.raises(InputError, match=f"target '{target}' with loss 'dream' cannot train a diffusion network"):
            check_legal(spec, "diffusion")


def test_a_terminal_loss_that_magnifies_is_refused_and_says_how_much() -> None:
    nutl, released = (
        resolve("nutl"),
        ProcessParams(T=1000, schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    )
    check_process(nutl, released, "here")
    with pytest.raises(InputError, match=r"^here: at T=2000 alpha-bar is 4.4e-05, .* times 151 .*weight: alpha_bar"):
        check_process(nutl, ProcessParams(), "here")
    check_process(nutl, ProcessParams(prediction="v"), "here")
    check_process(resolve("dream"), ProcessParams(), "here")
    weighed = resolve({"recipe": "nutl", "timesteps.terminal": {"weight": "alpha_bar"}})
    check_process(weighed, ProcessParams(), "here")
