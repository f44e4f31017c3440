"""What a run costs is known before it runs, and proportional to the work."""

import pytest

import sr_models
from objectives import RECIPES, ObjectiveSpec, resolve
from orchestrator.plan.cost import CPU_FLOPS, calls, calls_of_step, forwards, trial_seconds, validation_seconds
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import Measured
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling

HYPER = {"channels": 32, "blocks": 4}
TRAIN = TrainConfig(steps=100, batch_size=4, patch=16, validate_every=50)
L1 = RECIPES["l1"]


def branch(width: int) -> ObjectiveSpec:
    return resolve({"recipe": "l1", "sigma": {"width": width}})


def test_three_forwards_of_two_operations_a_multiply_add():
    pixels, macs = 100 * 4 * 16**2, sr_models.multiply_adds("edsr_baseline", 2, HYPER)
    assert trial_seconds("edsr_baseline", HYPER, 2, TRAIN, L1) == pytest.approx(pixels * macs * 3 * 2 / CPU_FLOPS)


@pytest.mark.parametrize(("change", "factor"), [({"steps": 200}, 2), ({"batch_size": 8}, 2), ({"patch": 32}, 4)])
def test_the_cost_grows_with_the_work(change, factor):
    base = trial_seconds("edsr_baseline", HYPER, 2, TRAIN, L1)
    more = trial_seconds("edsr_baseline", HYPER, 2, TRAIN.changed(change, "train"), L1)
    assert more == pytest.approx(factor * base) and base > 0


def test_a_full_sigma_head_costs_more_than_a_small_network():
    base = trial_seconds("edsr_baseline", HYPER, 2, TRAIN, L1)
    assert base < trial_seconds("edsr_baseline", HYPER, 2, TRAIN, branch(8)) < 4 * base
    assert trial_seconds("edsr_baseline", HYPER, 2, TRAIN, branch(160)) > 4 * base


def test_dream_costs_a_third_more_than_ddpm_and_a_terminal_loss_three_times_as_much():
    of = {name: forwards(spec) / forwards(RECIPES["ddpm"]) for name, spec in RECIPES.items() if spec.timesteps}
    of_dream = {"drm": 4 / 3, "dream": 4 / 3, "dream+nutl": 10 / 3}
    assert of == {
        "ddpm": 1,
        "min_snr": 1,
        "resshift": 1,
        "nutl": 3,
        "ccsr_decoder": 16 / 3,
        **of_dream,
    }  # of the frozen chain
    assert forwards(resolve({"recipe": "dream", "loss.p": None})) == forwards(RECIPES["l1"]) == 3
    passes = {name: calls_of_step(RECIPES[name]) for name in ("ddpm", "dream", "nutl", "dream+nutl")}
    assert passes == {"ddpm": (1, 1), "dream": (2, 1), "nutl": (3, 3), "dream+nutl": (4, 3)}
    steps = {name: trial_seconds("sr3", {}, 2, TRAIN, RECIPES[name]) for name in ("ddpm", "dream")}
    assert steps["dream"] / steps["ddpm"] == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    ("sampling", "passes"),
    [
        (Sampling(), 2000),
        (Sampling(sampler="ddim", steps=50), 50),
        (Sampling(sampler="truncated", steps=45), 16),  # CCSR's, as the spec sheet counts them
        (Sampling(sampler="truncated", steps=45, t_max=0.8, t_min=1 / 3), 22),
    ],
)
def test_a_picture_takes_a_pass_a_step(sampling, passes):
    assert calls(sampling, ProcessParams()) == passes


def test_validations_cost_what_they_draw_and_what_is_not_declared_is_not_known():
    measured = Measured(images=8, crop=48, draws=5)
    macs = sr_models.multiply_adds("sr3", 4, {})
    found = validation_seconds("sr3", {}, 4, TRAIN, measured, 100)
    assert found == pytest.approx(2 * 8 * 5 * 100 * 12**2 * macs * 2 / CPU_FLOPS)
    averaged = validation_seconds("sr3", {}, 4, TRAIN.changed({"ema": 0.9}, "train"), measured, 100)
    assert averaged == pytest.approx(2 * found)
    assert validation_seconds("sr3", {}, 4, TRAIN, Measured(images=8), 100) is None
