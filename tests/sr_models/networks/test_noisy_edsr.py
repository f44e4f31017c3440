"""A stochastic network: its noise belongs to a seed and a picture, whatever the batch, the tiles or the ensemble."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import sr_models
from sr_models.checkpoints.published import load_weights
from sr_models.inference.super_resolve import Options, super_resolve
from sr_models.networks.base import SRNetwork, parameters
from sr_models.networks.noisy_edsr import NoisyEDSR
from sr_models.networks.sigma import SigmaHead, WithSigma
from sr_models.rng import noise_field


class Shown(SRNetwork):
    """Its picture is its noise: three fields, doubled in size, a quarter of their strength around grey."""

    scale, feature_channels, feature_scale_to_go, noise_channels = 2, 3, 2, 3

    def features(self, lr_BCHW: Tensor) -> Tensor:
        assert lr_BCHW.shape[1] == 6
        return lr_BCHW[:, 3:]

    def reconstruct(self, feat_BCHW: Tensor, lr_BCHW: Tensor) -> Tensor:
        return feat_BCHW.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4 + 0.5


def field(seed: int, height: int, width: int) -> Tensor:
    """What `Shown` makes of a seed."""
    noise = torch.from_numpy(noise_field(seed, (3, height, width)))[None]
    return (noise.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4 + 0.5).clamp(0, 1)


@pytest.fixture
def net() -> SRNetwork:
    """Sees 6 LR pixels in each direction, as EDSR of one block does."""
    torch.manual_seed(0)
    return sr_models.build("noisy_edsr", 2, channels=8, blocks=1, noise=3.0)


@pytest.mark.parametrize("options", [Options(), Options(tile=5, overlap=3), Options(tile=7, overlap=0)])
def test_tiles_are_cut_from_one_field(options: Options) -> None:
    lr = torch.rand(2, 3, 13, 18)
    sr = super_resolve(Shown(), lr, seeds=(4, 9), options=options).sr
    assert torch.equal(sr, torch.cat([field(4, 13, 18), field(9, 13, 18)]))


def test_padding_and_the_ensemble_treat_noise_as_colours() -> None:
    class Windowed(Shown):
        window = 8

    lr = torch.rand(1, 3, 13, 18)
    for options in (Options(), Options(self_ensemble=True), Options(self_ensemble=True, tile=9)):
        torch.testing.assert_close(
            super_resolve(Windowed(), lr, seeds=(7,), options=options).sr, field(7, 13, 18), rtol=0, atol=1e-6
        )


def test_an_image_gets_the_same_noise_in_any_batch(net: SRNetwork) -> None:
    lr, seeds = torch.rand(3, 3, 9, 12), (5, 2**62, 0)
    together = super_resolve(net, lr, seeds=seeds).sr
    backwards = super_resolve(net, lr.flip(0), seeds=seeds[::-1]).sr.flip(0)
    alone = torch.cat([super_resolve(net, lr[i : i + 1], seeds=seeds[i : i + 1]).sr for i in range(3)])
    assert torch.equal(together, backwards)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    shared = super_resolve(net, lr, seeds=(5,)).sr
    assert torch.equal(shared[:1], together[:1]) and not torch.equal(shared[2:], together[2:])


def test_tiles_leave_no_seam(net: SRNetwork) -> None:
    lr = torch.rand(1, 3, 21, 37)
    whole = super_resolve(net, lr, seeds=(3,)).sr
    tiled = super_resolve(net, lr, seeds=(3,), options=Options(tile=8, overlap=6)).sr
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_seeds_give_draws_and_the_global_generator_counts_only_in_training(net: SRNetwork) -> None:
    lr = torch.rand(1, 3, 9, 12)
    first, again, other = (super_resolve(net, lr, seeds=(seed,)).sr for seed in (1, 1, 2))
    assert torch.equal(first, again) and (first - other).abs().max() > 0.01
    assert not torch.equal(net(lr), net(lr))
    torch.manual_seed(1)
    once = net(lr)
    torch.manual_seed(1)
    assert torch.equal(net(lr), once)


def test_deterministic_networks_ignore_seeds() -> None:
    net, lr = sr_models.build("edsr_baseline", 2, channels=8, blocks=1), torch.rand(1, 3, 9, 12)
    assert torch.equal(super_resolve(net, lr, seeds=(1,)).sr, super_resolve(net, lr, seeds=(2,)).sr)


@torch.no_grad()
def test_noise_is_added_to_the_features_of_edsr_baseline(net: SRNetwork, tmp_path: Path) -> None:
    edsr = sr_models.build("edsr_baseline", 2, channels=8, blocks=1)
    torch.save(edsr.state_dict(), tmp_path / "edsr_baseline.pth")
    hyper = {"channels": 8, "blocks": 1, "noise": 3.0}
    noisy = load_weights(tmp_path / "edsr_baseline.pth", model="noisy_edsr", scale=2, hyper=hyper)
    assert isinstance(noisy, NoisyEDSR)
    lr, noise = torch.rand(2, 3, 9, 12), torch.from_numpy(noise_field(1, (2, 8, 9, 12)))
    features = edsr.features(lr) + 3 * noise
    assert torch.equal(noisy(torch.cat([lr, noise], 1)), edsr.reconstruct(features, lr))
    assert torch.equal(noisy(torch.cat([lr, 0 * noise], 1)), edsr(lr))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_it_has_edsr_baselines_parameters(scale: int) -> None:
    with torch.device("meta"):
        ours, theirs = (sr_models.build(name, scale) for name in ("noisy_edsr", "edsr_baseline"))
    assert parameters(ours) == parameters(theirs) == sr_models.MODELS["noisy_edsr"].counts[scale]
    assert ours.state_dict().keys() == theirs.state_dict().keys()


@torch.no_grad()
def test_noise_in_training_has_the_strength_it_says(net: SRNetwork) -> None:
    lr = torch.rand(1, 3, 40, 50)
    clean = net.features(torch.cat([lr, torch.zeros(1, 8, 40, 50)], 1))
    noise = (net.features(lr.expand(8, -1, -1, -1)) - clean).numpy()
    limit = 4 / np.sqrt(noise.size)  # four standard errors
    assert abs(noise.mean() / 3) < limit and abs(noise.std() / 3 - 1) < limit


def test_a_sigma_head_sees_the_noise_too(net: SRNetwork) -> None:
    model, lr = WithSigma(net, SigmaHead(8, 2, width=4)), torch.rand(1, 3, 20, 26)
    whole = super_resolve(model, lr, seeds=(1,))
    tiled = super_resolve(model, lr, seeds=(1,), options=Options(tile=9, overlap=10))
    assert whole.sigma is not None
    torch.testing.assert_close(tiled.sigma, whole.sigma, rtol=0, atol=1e-5)
    assert torch.equal(whole.sr, super_resolve(net, lr, seeds=(1,)).sr)
    assert not torch.equal(super_resolve(model, lr, seeds=(2,)).sigma, whole.sigma)
