"""What a run costs is known before it runs, and proportional to the work."""

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import sr_models
from objectives import RECIPES, ObjectiveSpec, resolve
from objectives.adversarial import AdversarialObjective
from objectives.batch import Batch
from objectives.losses import AdversarialBranch
from orchestrator.plan.cost import CPU_FLOPS, Network, calls, calls_of_step, forwards, judging, run_of, validation_flops
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.read import config_of, load
from orchestrator.plan.text import plan_text
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import Measured
from sr_models.hyper.autoencoder import KLAutoencoderHyper, VQAutoencoderHyper
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.rng import SampleRng

HYPER = {"channels": 32, "blocks": 4}
TRAIN = TrainConfig(steps=100, batch_size=4, patch=16, validate_every=50)
L1 = RECIPES["l1"]


def branch(width: int) -> ObjectiveSpec:
    return resolve({"recipe": "l1", "sigma": {"width": width}})


def trial_seconds(name: str, hyper: dict[str, Any], scale: int, train: TrainConfig, spec: ObjectiveSpec) -> float:
    network = Network(name=name, hyper=hyper, scale=scale)
    return train.steps * network.seconds(network.step_flops(train, spec))


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
    macs, sr3 = sr_models.multiply_adds("sr3", 4, {}), Network(name="sr3", hyper={}, scale=4)
    found = validation_flops(sr3, TRAIN, measured, 100)
    assert found == pytest.approx(2 * 8 * 5 * 100 * 12**2 * macs * 2)
    averaged = validation_flops(sr3, TRAIN.changed({"ema": 0.9}, "train"), measured, 100)
    assert averaged == pytest.approx(2 * found)
    assert validation_flops(sr3, TRAIN, Measured(images=8), 100) is None


@pytest.fixture
def world(monkeypatch) -> Plan:
    """CCSR from nothing."""
    for name in ("SR_DATA", "SR_CROPS"):
        monkeypatch.setenv(name, "elsewhere")
    return make_plan(load("examples/ccsr_world.yaml"))


def test_steps_in_a_latent_space_take_what_a_run_of_them_took(world):
    """What torch counted in a step, in GFLOP, and seconds of one on two cores that were busy with it."""
    counted = {"vae/reconstruction": 11.90, "unet/ddpm": 3.93, "ccsr/ddpm": 3.63,
               "ccsr/ddpm_3x[train.steps=6000]": 3.63, "ccsr/nutl": 10.91, "tuned/ccsr_decoder": 41.24}  # fmt: skip
    assert "a step of tuned/ccsr_decoder takes 16 forward of a frozen chain, and two updates" in plan_text(world, 2)
    seconds = {"ccsr/ddpm": 0.101, "ccsr/nutl": 0.29, "tuned/ccsr_decoder": 0.865}
    for c in world.combinations:
        network, name = Network.of(world, c), c.id.removeprefix("x4/")
        flops = network.step_flops(c.train, c.spec)
        assert flops / 1e9 == pytest.approx(counted[name], rel=0.02)
        if name in seconds:
            assert 0.5 < network.seconds(flops) / 2 / seconds[name] < 2


def test_a_picture_takes_its_autoencoder_once(world):
    """Enlarged LR is encoded, by all that see it, and what is drawn decoded, in any number of passes."""
    found = {c.label: Network.of(world, c) for c in world.combinations}
    vae = KLAutoencoderHyper.parse({"channels": 32, "mults": [1, 2], "blocks": 1}, "vae")
    assert found["ccsr"].coder.encoding == vae.encoding and found["vae"].coder is None
    for label, coding in {"ccsr": vae.encoding + vae.decoding, "unet": vae.decoding}.items():
        network = found[label]
        assert network.picture_flops(0, 128) == pytest.approx(2 * coding * 128**2)
        more = network.picture_flops(16, 128) - network.picture_flops(0, 128)
        assert more == pytest.approx(2 * 16 * network.multiply_adds * 32**2)
    [drawn] = [run_of(world, c).flops for c in world.combinations if c.id == "x4/ccsr/ddpm"]
    c = world.combinations[2]
    steps = c.train.steps * found["ccsr"].step_flops(c.train, c.spec)
    assert drawn - steps == pytest.approx(2 * 4 * 4 * found["ccsr"].picture_flops(45, 48))


def test_two_updates_of_a_discriminator_and_of_lpips_are_counted():
    """But for what borders lack; the network is one convolution and hardly counts."""
    net, vgg = nn.Conv2d(3, 3, 1), torchvision.models.vgg16(weights=None).features.eval().requires_grad_(False)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (vgg(a) - vgg(b)).square().flatten(1).mean(1)

    for weight, side, border in ((0.0, 256, 0.1), (1.0, 64, 0.03)):
        branch = AdversarialBranch(channels=16, norm="group", perceptual_weight=weight)
        objective = AdversarialObjective(L1, None, branch, lambda model: model.weight, distance)
        picture = torch.rand(1, 3, side, side)
        batch = Batch(lr=picture, hr=picture.flip(2), sample_ids=np.arange(1), step=1, seed=0)
        with FlopCounterMode(display=False) as counter:
            for update in objective.updates():
                if update.look is not None:
                    update.look(net, [batch], 0.0, lambda own: own)
                loss = update.loss(net, batch, 0.0, SampleRng(0, 1, np.arange(1))).per_sample.mean()
                loss.backward(inputs=list(update.parameters(net)))
        assert counter.get_total_flops() / 2 / side**2 == pytest.approx(judging(branch), rel=border)


def test_a_step_that_makes_its_latents_takes_them(world):
    """Of HR, and of enlarged LR where that is the condition."""
    [unet, ccsr] = [c for c in world.combinations if c.id in ("x4/unet/ddpm", "x4/ccsr/ddpm")]
    for c, pictures in ((unet, 1), (ccsr, 2)):
        network, encodes = Network.of(world, c), c.train.changed({"stored_latents": False}, "train")
        more = network.step_flops(encodes, c.spec) - network.step_flops(c.train, c.spec)
        assert more == pytest.approx(2 * pictures * network.coder.encoding * 8 * (4 * 8) ** 2)


def test_resshifts_autoencoder_is_the_one_that_is_trained_for_it_or_vq_f4():
    tiny = {"model": "vq_autoencoder", "channels": 32, "mults": [1, 1, 1], "blocks": 1}
    images = [{"hr": "elsewhere"}]
    config = {
        "name": "vq", "scales": [4], "objectives": ["reconstruction", "ddpm"],
        "models": {"vae": tiny | {"objectives": ["reconstruction"]},
                   "own": {"model": "resshift", "autoencoder": {"from": "x4/vae/reconstruction"}},
                   "file": {"model": "resshift", "autoencoder": "vq-f4.pth"},
                   "lr": {"model": "resshift", "autoencoder": "vq-f4.pth", "condition": "lr"}},
        "data": {"train": images, "validation": images, "test": {"toy": images[0]}},
        "train": {"steps": 10, "patch": 64},
    }  # fmt: skip
    plan = make_plan(config_of(config, "vq.yaml"))
    found = {c.label: Network.of(plan, c) for c in plan.combinations}
    assert found["own"].coder.channels == 32 and found["file"].coder == VQAutoencoderHyper()
    assert {label: network.encoded for label, network in found.items()} == {"vae": 0, "own": 2, "file": 2, "lr": 1}
