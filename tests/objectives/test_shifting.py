"""ResShift's own objective: what it minimises, what it goes with, and the steps that pictures are then drawn in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sr_models
from objectives import check_legal, resolve
from objectives.batch import Batch
from objectives.shifting import ShiftObjective
from objectives.spec import ObjectiveSpec
from sr_models.diffusion.base import Denoiser
from sr_models.diffusion.process import Level
from sr_models.diffusion.samplers import settled
from sr_models.diffusion.shifting import Shifting
from sr_models.errors import InputError
from sr_models.hyper.crops import CropRule
from sr_models.hyper.process import ProcessParams, ShiftParams
from sr_models.hyper.sampling import Sampling
from sr_models.inference.sampling import sample
from sr_models.inference.super_resolve import Options, super_resolve
from sr_models.rng import SampleRng, noise_field

TINY: dict[str, Any] = {
    "channels": 8, "mults": (1, 1), "blocks": 1, "embed": 8, "heads": 2, "mlp_ratio": 2, "attention_window": 2,
    "side": 8, "groups": 4,
}  # fmt: skip
FEW = ShiftParams(T=4, kappa=1.5)


def network(stand_in: Path, condition: str = "latent") -> Denoiser:
    torch.manual_seed(0)
    net = sr_models.build("resshift", 4, parts={"autoencoder": stand_in}, condition=condition, **TINY)
    assert isinstance(net, Denoiser)
    net.process = FEW
    for parameter in net.parameters():  # its last layer starts at 0, and what gives nothing misses the same of any y
        torch.nn.init.normal_(parameter, std=0.1)
    return net


def batch_of(count: int) -> Batch:
    torch.manual_seed(1)
    return Batch(
        lr=torch.rand(count, 3, 8, 8), hr=torch.rand(count, 3, 32, 32), sample_ids=np.arange(count), step=3, seed=7
    )


@pytest.mark.parametrize("condition", ["latent", "lr"])
@pytest.mark.parametrize("lr_noise", [None, 0.1])
def test_it_minimises_the_mean_square_miss_of_the_clean_latent(
    stand_in: Path, condition: str, lr_noise: float | None
) -> None:
    """From the latent of enlarged LR, noise and all, whatever the network is told of LR."""
    spec, batch = resolve({"recipe": "resshift", "loss.T": 4, "loss.kappa": 1.5}), batch_of(2)
    net = network(stand_in, condition)
    assert spec.shifting == FEW and not spec.takes_process
    objective = ShiftObjective(spec, lr_noise)
    terms = objective.loss(net, batch, 0.5, SampleRng(7, 3, batch.sample_ids))
    rng, chain = SampleRng(7, 3, batch.sample_ids), Shifting.of(FEW)
    lr = objective.noisy(batch.lr, rng, 0)
    y, x0 = net.enlarged(lr, (32, 32)), net.state(batch.hr)
    told = y if condition == "latent" else 2 * lr - 1
    step = torch.from_numpy(rng.integers("timestep", 1, 5))
    x_t = chain.shift(x0, y, rng.noise("diffusion_noise", tuple(x0.shape[1:]), x0.device, draw=0), step)
    guess = net(told, chain.scaled(x_t, step), Level(torch.zeros(2), step))
    torch.testing.assert_close(terms.per_sample, (guess - x0).square().flatten(1).mean(1))
    terms.per_sample.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_every_step_is_practised_as_often() -> None:
    """All steps, from the first to the last, of many samples."""
    steps = SampleRng(0, 0, np.arange(4000)).integers("timestep", 1, FEW.steps + 1)
    assert np.unique(steps).tolist() == [1, 2, 3, 4] and np.bincount(steps)[1:].min() > 900


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"recipe": "resshift", "timesteps": {"kind": "range"}}, "target 'hr' with loss 'resshift' cannot train"),
        ({"recipe": "resshift", "target": "mixup"}, "target 'mixup' with loss 'resshift' cannot train"),
        ({"recipe": "resshift", "timesteps.terminal": {}}, "loss resshift starts from LR and not from noise"),
        ({"recipe": "resshift", "timesteps": None}, "loss resshift takes timesteps"),
        ({"recipe": "resshift", "loss.min_noise_level": 3}, "min_noise_level / kappa must be below root_end"),
    ],
)
def test_what_it_does_not_go_with_is_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_legal(resolve(given), "diffusion")


def test_a_spec_of_it_comes_back_from_plain_data() -> None:
    spec = resolve({"recipe": "resshift", "loss.power": 0.5})
    assert ObjectiveSpec.parse(spec.model_dump(mode="json"), "test") == spec and spec.model_dump()["loss"]["T"] == 15
    assert spec.sampled(Sampling(sampler="ddim", steps=3, colour_fix="adain")) == Sampling(
        sampler="resshift", colour_fix="adain"
    )


@pytest.mark.parametrize("tile", [None, 4])
@pytest.mark.parametrize("condition", ["latent", "lr"])
def test_pictures_are_drawn_from_enlarged_lr_in_all_its_steps(stand_in: Path, tile: int | None, condition: str) -> None:
    """Whole it is `Shifting.sample`; in tiles there is one noise for all of the picture."""
    net, lr, asked = network(stand_in, condition).eval(), torch.rand(1, 3, 8, 12), Sampling(sampler="resshift")
    options = Options(sampling=asked) if tile is None else Options(sampling=asked, tile=tile, overlap=2)
    found = super_resolve(net, lr, seeds=[5], options=options).sr
    assert found.shape == (1, 3, 32, 48)
    if tile is None:
        y, told = net.enlarged(lr, (32, 48)), net.encode(lr, (32, 48))
        assert torch.equal(told, y if condition == "latent" else 2 * lr - 1)

        def noise(number: int) -> torch.Tensor:
            return torch.from_numpy(noise_field(5, (3, 8, 12), number))[None]

        with torch.no_grad():
            state = Shifting.of(FEW).sample(lambda x, level: net(told, x, level), y, noise)
        torch.testing.assert_close(found, net.decode(state).clamp(0, 1))


@pytest.mark.parametrize("crops", [None, CropRule(8, 4, fused="uniform")])
@pytest.mark.parametrize("condition", ["latent", "lr"])
def test_whatever_it_is_told_it_starts_from_the_latent_of_enlarged_lr(
    stand_in: Path, condition: str, crops: CropRule | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen before the decoder, whose few codes hide small differences."""
    net, lr = network(stand_in, condition).eval(), torch.rand(1, 3, 8, 8)
    monkeypatch.setattr(net, "decode", lambda state: state)
    y, told = net.enlarged(lr, (32, 32)), net.encode(lr, (32, 32))
    with torch.no_grad():
        found = sample(net, net, lr, seeds=[1], sampling=Sampling(sampler="resshift"), crops=crops, scale=4)
        state = Shifting.of(FEW).sample(
            lambda x, level: net(told, x, level), y, lambda number: torch.from_numpy(noise_field(1, (3, 8, 8), number))
        )
    torch.testing.assert_close(found, state)


@pytest.mark.parametrize("condition", ["latent", "lr"])
def test_tiles_of_one_state_are_drawn_too(stand_in: Path, condition: str) -> None:
    """Fused ones as CCSR's, of which one is the whole picture."""
    net, asked = network(stand_in, condition).eval(), Sampling(sampler="resshift")

    def drawn(side: int, crops: CropRule | None) -> torch.Tensor:
        lr = torch.full((1, 3, side, side), 0.5)
        with torch.no_grad():
            return sample(net, net, lr, seeds=[1], sampling=asked, crops=crops, scale=4)

    rule = CropRule(8, 4, fused="uniform")
    torch.testing.assert_close(drawn(8, rule), drawn(8, None))
    assert drawn(12, rule).shape == (1, 3, 48, 48)


def test_scores_name_its_steps_and_others_are_refused() -> None:
    named = settled(FEW, Sampling(colour_fix="wavelet"))
    assert (named.sampler, named.steps, named.mark) == ("resshift", 4, "resshift4wavelet")
    assert settled(FEW, named) == named
    with pytest.raises(InputError, match="residual shifting has 4 steps, and all are taken, not 3"):
        settled(FEW, Sampling(steps=3))
    with pytest.raises(InputError, match="sampler ddim: this network was trained by residual shifting"):
        settled(FEW, Sampling(sampler="ddim"))
    with pytest.raises(InputError, match="sampler resshift: this network has no such steps"):
        settled(ProcessParams(), Sampling(sampler="resshift"))
