"""The σ branch at work: after a short run it tells where SR is wrong, and its file says which constant it must beat."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from eval.metrics.uncertainty import is_constant, psnr_sigma, sigma_r
from objectives import resolve
from orchestrator.data.build import build_store
from orchestrator.data.store import PatchStore
from orchestrator.plan.sources import ImageSource
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.training.loop import run_trial
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.images.operators import to_float
from sr_models.inference.super_resolve import Output, super_resolve

NETWORKS = {"edsr_baseline": ({"channels": 16, "blocks": 1}, 5e-3), "imdn": ({"channels": 16, "blocks": 1}, 1e-2)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    """Two photographs to learn from, a third one held out."""
    train = [ImageSource(hr="skimage:", include=("astronaut.png", "coffee.png"))]
    held_out = [ImageSource(hr="skimage:", include=("chelsea.png",))]
    return build_store(tmp_path_factory.mktemp("sigma") / "store", scale=2, train=train, validation=held_out)


def trained(name: str, recipe: str, store: PatchStore, folder: Path) -> tuple[Output, Tensor]:
    """What a network makes of the held-out image after `quick`'s rates and a shorter run; and HR."""
    hyper, lr = NETWORKS[name]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = TrialConfig(
        model=name, scale=2, hyper=hyper, objective=resolve({"recipe": recipe, "sigma.width": 16}),
        train=TrainConfig(steps=120, batch_size=8, patch=16, lr=lr, warmup=0.1, clip_norm=1.0, validate_every=120),
        seed=0, protocol="classical", metrics=("psnr_y",), data_hash=store.data_hash,
    )  # fmt: skip
    run_trial(config, store, lambda step, metrics: "continue", out_dir=folder)
    model, info = load_checkpoint(folder / "model")
    _, lr_image, hr_image = store.validation()[0]
    out = super_resolve(model, to_float(lr_image))
    torch.set_num_threads(threads)
    assert out.sigma_constant == info.sigma["constant"] and 0.002 < out.sigma_constant < 0.1
    return out, to_float(hr_image)


@pytest.mark.parametrize("name", NETWORKS)
def test_sigma_lives_and_beats_the_constant_of_its_training_images(name: str, store: PatchStore, tmp_path: Path):
    """With the old head, or the masked target, σ is 0 everywhere by then."""
    out, hr_BCHW = trained(name, "expectation", store, tmp_path)
    sigma = out.sigma
    assert not is_constant(sigma, shave=2) and sigma.std() > 0.1 * sigma.mean()
    constant = torch.full_like(sigma, out.sigma_constant)
    scores = [psnr_sigma(out.sr, hr_BCHW, each, shave=2) for each in (sigma, constant)]
    assert scores[0] > scores[1]
    assert sigma_r(out.sr, hr_BCHW, sigma, shave=2) > 0.3


@pytest.mark.parametrize("name", NETWORKS)
def test_a_sigma_that_learns_from_sampled_noise_collapses(name: str, store: PatchStore, tmp_path: Path):
    """He & Cheng Fig. 2: beside the same errors, with the auxiliary loss it stays at their size."""
    collapsed, _ = trained(name, "sampled_sigma", store, tmp_path / "sampled")
    alive, _ = trained(name, "expectation", store, tmp_path / "expectation")
    shares = [float(out.sigma.mean() / out.sigma_constant) for out in (collapsed, alive)]
    print(f"\n{name}: mean sigma / mean |y - mu|: {shares[0]:.4f} sampled, {shares[1]:.2f} with the auxiliary loss")
    assert shares[0] < 0.1 * shares[1] and shares[1] > 0.2
