"""The loss that trains autoencoders: its parts, its noise, and where its gradients go."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

import sr_models
from objectives import RECIPES, check_legal, resolve
from objectives.batch import Batch
from objectives.reconstruction import ReconstructionObjective
from sr_models.diffusion.reconstruction import Autoencoder, TrainedVQ
from sr_models.errors import InputError
from sr_models.rng import SampleRng

LATENT = pytest.mark.skipif(find_spec("diffusers") is None, reason="needs the extra [latent]")

TINY = {"channels": 32, "mults": (1, 1), "blocks": 1}


def net_of(name: str) -> Autoencoder:
    torch.manual_seed(0)
    own = {"codes": 8} if name == "vq_autoencoder" else {}
    net = sr_models.build(name, 2, **TINY, latent=3, **own)
    assert isinstance(net, Autoencoder)
    return net


def batch_of(ids: list[int]) -> Batch:
    pictures = torch.stack([torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(i)) for i in ids])
    return Batch(lr=pictures[:, :, ::2, ::2], hr=pictures, sample_ids=np.array(ids), step=0, seed=0)


@pytest.mark.parametrize("name", ["vq_autoencoder", pytest.param("kl_autoencoder", marks=LATENT)])
def test_a_samples_loss_is_its_own_and_the_weight_counts(name: str) -> None:
    net, together, alone = net_of(name), batch_of([3, 5]), batch_of([5])
    with torch.no_grad():
        plain, heavy = (
            ReconstructionObjective(resolve({"recipe": "reconstruction", "loss.weight": weight})) for weight in (0, 7)
        )
        whole = heavy.loss(net, together, 0.0, SampleRng(0, 0, together.sample_ids))
        part = heavy.loss(net, alone, 0.0, SampleRng(0, 0, alone.sample_ids))
        bare = plain.loss(net, alone, 0.0, SampleRng(0, 0, alone.sample_ids))
    torch.testing.assert_close(whole.per_sample[1:], part.per_sample, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bare.per_sample.mean(), part.logs["loss_main"])
    expected = part.logs["loss_main"] + 7 * part.logs["loss_bounds"]
    torch.testing.assert_close(part.per_sample.mean(), expected)


@LATENT
def test_the_bounds_of_kl_are_the_divergence_of_its_posterior() -> None:
    net = sr_models.build("kl_autoencoder", 2, **TINY, latent=3, kl_weight=0.5)
    picture = batch_of([1]).hr
    with torch.no_grad():
        moments = net.quant_conv(net.encoder(2 * picture - 1))
        mean, log_variance = moments.chunk(2, 1)
        posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
        expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum()
        _, bounds = net(picture, torch.zeros_like(mean))
        made, _ = net(picture, torch.zeros_like(mean))
    torch.testing.assert_close(bounds, 0.5 * expected[None] / picture.numel())
    torch.testing.assert_close(made, net.reconstruct(picture))  # without noise it is the mode


def test_a_quantised_latent_passes_gradients_to_the_encoder_and_pulls_the_codes() -> None:
    net = net_of("vq_autoencoder")
    assert isinstance(net, TrainedVQ)
    picture = batch_of([1]).hr
    made, bounds = net(picture, torch.zeros(1, 3, 4, 6))
    torch.testing.assert_close(made, net.reconstruct(picture))  # the straight way is in the gradient alone
    latent = net.encode(2 * picture - 1)
    coded = net.quantize(latent)
    torch.testing.assert_close(bounds, 1.25 * (coded - latent).square().mean()[None])
    encoder, codes = net.encoder.conv_in.weight, net.quantize.embedding.weight
    of_miss = torch.autograd.grad((made - picture).abs().mean(), [encoder, codes], allow_unused=True, retain_graph=True)
    assert of_miss[0].norm() > 0 and of_miss[1] is None
    of_bounds = torch.autograd.grad(bounds.sum(), [encoder, codes])
    assert of_bounds[0].norm() > 0 and of_bounds[1].norm() > 0


def test_it_trains_autoencoders_and_nothing_else_does() -> None:
    check_legal(RECIPES["reconstruction"], "autoencoder")
    for recipe, family in (("reconstruction", "regression"), ("reconstruction", "diffusion"), ("l1", "autoencoder")):
        with pytest.raises(InputError, match=f"with loss '{recipe}' cannot train a {family} network"):
            check_legal(RECIPES[recipe], family)
    with pytest.raises(InputError, match="a sigma branch beside loss reconstruction would have nothing to learn"):
        resolve({"recipe": "reconstruction", "sigma": {}})
