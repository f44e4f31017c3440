"""Autoencoders as networks: their sizes, what their files hold, and what a frozen part reads of them."""

from importlib.util import find_spec

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import sr_models
from sr_models.checkpoints.folder import load_checkpoint, save_checkpoint
from sr_models.diffusion.frozen import kl_autoencoder, vq_autoencoder
from sr_models.diffusion.latent import AutoencoderLayout
from sr_models.diffusion.reconstruction import TrainedVQ
from sr_models.errors import InputError
from sr_models.networks.base import parameters

TINY = {"channels": 32, "mults": (1, 2), "blocks": 1}
OWN = {"vq_autoencoder": {"codes": 16}, "kl_autoencoder": {}}
LATENT = pytest.mark.skipif(find_spec("diffusers") is None, reason="needs the extra [latent]")
KL = pytest.param("kl_autoencoder", marks=LATENT)


@pytest.mark.parametrize(
    ("name", "count"), [("vq_autoencoder", 55_322_782), pytest.param("kl_autoencoder", 83_653_863, marks=LATENT)]
)
def test_sizes_are_the_published_ones(name: str, count: int) -> None:
    with torch.device("meta"):
        assert parameters(sr_models.build(name, 4)) == count == sr_models.MODELS[name].counts[4]


@pytest.mark.parametrize("name", ["vq_autoencoder", KL])
def test_its_file_is_a_frozen_part_under_its_own_names(name: str, tmp_path) -> None:
    net = sr_models.build(name, 4, **TINY, **OWN[name])
    info = save_checkpoint(
        tmp_path, net, model=name, scale=4, hyper=TINY | OWN[name], sigma=None, ema=False, fingerprint=None
    )
    picture = torch.rand(1, 3, 16, 8)
    with torch.no_grad():
        assert torch.equal(load_checkpoint(tmp_path)[0].reconstruct(picture), net.reconstruct(picture))
        if name == "vq_autoencoder":
            part = vq_autoencoder(str(tmp_path / "model.safetensors"), info.weights_sha256, "cpu")
            assert torch.equal(part.encode(2 * picture - 1), net.encode(2 * picture - 1))
        else:
            layout = AutoencoderLayout(channels=32, mults=(1, 2), blocks=1)
            part = kl_autoencoder(str(tmp_path / "model.safetensors"), info.weights_sha256, layout, "cpu")
            again = part.decode(part.encode(2 * picture - 1).latent_dist.mode()).sample
            torch.testing.assert_close((again + 1) / 2, net.reconstruct(picture))


@pytest.mark.parametrize("name", ["vq_autoencoder", KL])
def test_multiply_adds_are_those_of_its_convolutions(name: str) -> None:
    net = sr_models.build(name, 2, **TINY, **OWN[name])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.rand(1, 3, 16, 16), torch.zeros(1, *net.latent_shape((16, 16))))
    found = counter.get_flop_counts()["Global"]
    linear = sum(
        flops for op, flops in found.items() if "convolution" in str(op) or "addmm" in str(op) or str(op) == "aten.mm"
    )
    if name == "vq_autoencoder":
        linear -= sum(flops for op, flops in found.items() if str(op) == "aten.mm")  # the distances to the codes
    assert linear / 2 / 8**2 == pytest.approx(sr_models.multiply_adds(name, 2, TINY | OWN[name]))
    z = torch.zeros(1, *net.latent_shape((16, 16)))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.decode(z, quantise=False) if isinstance(net, TrainedVQ) else net.decoder(net.post_quant_conv(z))
    found = counter.get_flop_counts()["Global"]
    linear = sum(flops for op, flops in found.items() if "bmm" not in str(op) and "attention" not in str(op))
    assert linear / 2 / 16**2 == pytest.approx(sr_models.check(name, 2, TINY | OWN[name]).decoding)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="channels: Input should be a multiple of 32"):
        sr_models.check("vq_autoencoder", 4, {"channels": 48})
    with pytest.raises(InputError, match="mults must be from 1 to 64"):
        sr_models.check("kl_autoencoder", 4, {"mults": [0]})
    assert sr_models.check("kl_autoencoder", 4, {}).window(4) == 2
    assert sr_models.check("vq_autoencoder", 4, {}).window(4) == 1
