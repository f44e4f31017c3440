"""The VQ autoencoder: the released one's outputs, size and keys; what a file must hold."""

import json
from pathlib import Path

import pytest
import torch

from sr_models.diffusion.autoencoder import Codebook, VQAutoencoder
from sr_models.errors import InputError
from sr_models.networks.base import parameters

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"


def tiny() -> VQAutoencoder:
    torch.manual_seed(0)
    return VQAutoencoder(channels=32, mults=(1, 2), blocks=1, latent=4, codes=16)


def test_outputs_are_the_released_ones(oracle):
    told = oracle("vq_f4")
    config = json.loads(str(told["config"]))
    weights = {key.removeprefix("w/"): torch.from_numpy(told[key]) for key in told if key.startswith("w/")}
    net = VQAutoencoder.of(weights, "the oracle")
    sizes = config["ddconfig"]
    assert net.reduction == 2 ** (len(sizes["ch_mult"]) - 1) and net.latent_channels == sizes["z_channels"]
    image, z = torch.from_numpy(told["image"]), torch.from_numpy(told["z"])
    with torch.no_grad():
        found = net.encode(image), net.decode(z), net.decode(z, quantise=False)
    for one, name in zip(found, ("z", "decoded", "decoded_not_quantised"), strict=True):
        torch.testing.assert_close(one, torch.from_numpy(told[name]), rtol=0, atol=1e-4)


def test_size_and_keys_are_the_published_ones():
    with torch.device("meta"):
        net = VQAutoencoder()
    assert parameters(net) == 55_322_782
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    rows = (SPEC / "checkpoint_keys" / "ResShift_vq.txt").read_text().splitlines()
    listed = dict(row.split(" ", 1) for row in rows)
    assert {key: str(tuple(value.shape)) for key, value in net.state_dict().items()} == listed
    assert VQAutoencoder.of(net.state_dict(), "meta").reduction == 4


def test_a_pixel_becomes_its_nearest_code():
    book = Codebook(5, 3)
    latent = torch.randn(2, 3, 4, 6)
    away = (latent.movedim(1, -1)[..., None, :] - book.embedding.weight).square().sum(-1)
    torch.testing.assert_close(book(latent), book.embedding.weight[away.argmin(-1)].movedim(-1, 1))


def test_a_file_tells_its_sizes():
    net, image = tiny(), torch.rand(1, 3, 16, 24)
    again = VQAutoencoder.of(net.state_dict(), "tiny")
    assert (again.reduction, again.latent_channels) == (2, 4)
    with torch.no_grad():
        assert net.encode(image).shape == (1, 4, 8, 12)
        assert net.decode(net.encode(image)).shape == image.shape
        assert torch.equal(again.decode(again.encode(image)), net.decode(net.encode(image)))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"encoder.conv_in.weight": None}, "lacks 'encoder.conv_in.weight'"),
        ({"decoder.conv_out.bias": None}, "decoder.conv_out.bias"),
        ({"more": torch.zeros(1)}, "Unexpected key.*more"),
        ({"encoder.conv_in.weight": torch.zeros(24, 3, 3, 3)}, r"num_channels \(24\)"),
        ({"quantize.embedding.weight": torch.zeros(16)}, "not enough values"),
    ],
)
def test_what_is_no_such_autoencoder_is_refused(changed, said):
    state = {key: value for key, value in (tiny().state_dict() | changed).items() if value is not None}
    with pytest.raises(InputError, match=f"weights 'x': holds no VQ autoencoder .*{said}"):
        VQAutoencoder.of(state, "weights 'x'")


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="sides must be multiples of 2, got 16x23"):
        tiny().encode(torch.rand(1, 3, 16, 23))
