"""Networks of Stable Diffusion's layout: counts, the names of released weights, what does not fit; activations."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("diffusers", reason="needs the extra [latent]")

from sr_models.diffusion import latent
from sr_models.diffusion.latent import (
    AutoencoderLayout,
    UNetLayout,
    adapter,
    autoencoder,
    check_diffusers,
    loaded,
    recompute,
    renamed_adapter,
    renamed_autoencoder,
    renamed_unet,
    unet,
)
from sr_models.errors import InputError
from sr_models.networks.base import parameters

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"
TINY = UNetLayout(channels=32, mults=(1, 1), attention=(1,), blocks=1, head=16, context=12)
TINY_VAE = AutoencoderLayout(channels=32, mults=(1, 1), blocks=1)


@pytest.fixture(scope="module")
def full() -> dict[str, nn.Module]:
    """Networks of the released sizes, without memory."""
    with torch.device("meta"):
        return {"unet": unet(UNetLayout()), "control": adapter(UNetLayout()), "vae": autoencoder(AutoencoderLayout())}


@pytest.mark.parametrize(("name", "count"), [("control", 363_153_280), ("unet", 865_910_724), ("vae", 83_653_863)])
def test_counts_are_the_released_ones(full, name, count):
    assert parameters(full[name]) == count


def keys_of(file: str, prefix: str = "") -> dict[str, Tensor]:
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    lines = (SPEC / "checkpoint_keys" / f"CCSR_{file}.txt").read_text().splitlines()
    shapes = {name: json.loads(shape.replace("(", "[").replace(",)", ")").replace(")", "]"))
              for name, _, shape in (line.partition(" ") for line in lines if line.strip())}  # fmt: skip
    return {prefix + name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def fits(net: nn.Module, weights: dict[str, Tensor]) -> None:
    own = {name: value.shape for name, value in net.state_dict().items()}
    assert {name: value.shape for name, value in weights.items()} == own


def test_released_names_load_through_diffusers_conversion(full):
    fits(full["unet"], renamed_unet(keys_of("unet"), UNetLayout()))
    fits(full["control"], renamed_adapter(keys_of("control"), UNetLayout()))
    quant = {"quant_conv.weight": (8, 8, 1, 1), "quant_conv.bias": (8,), "post_quant_conv.weight": (4, 4, 1, 1),
             "post_quant_conv.bias": (4,)}  # fmt: skip
    halves = keys_of("vaeenc", "encoder.") | keys_of("vaedec", "decoder.")
    halves |= {name: torch.empty(shape, device="meta") for name, shape in quant.items()}
    fits(full["vae"], renamed_autoencoder(halves, AutoencoderLayout()))
    assert not loaded("unet", UNetLayout(), keys_of("unet"), "file").training


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_file_of_either_naming_becomes_a_frozen_network(dtype):
    """Below a word that all share, as a checkpoint of ours has it; in the names that diffusers had before 0.17."""
    torch.manual_seed(0)
    made = {"unet": unet(TINY), "autoencoder": autoencoder(TINY_VAE)}
    layouts, before = {"unet": TINY, "autoencoder": TINY_VAE}, torch.get_rng_state()
    for kind, net in made.items():
        state = {f"net.{name}": value.to(dtype) for name, value in net.state_dict().items()}
        found = loaded(kind, layouts[kind], state, "file")
        assert torch.equal(torch.get_rng_state(), before) and not found.training
        assert not any(p.requires_grad for p in found.parameters())
        for name, value in net.state_dict().items():
            assert torch.equal(found.state_dict()[name], value.to(dtype).float())
    state, older = made["autoencoder"].state_dict(), {v: k for k, v in latent._BEFORE.items()}
    renamed = {re.sub(r"(attentions\.0\.)(to_q|to_k|to_v|to_out\.0)\.", lambda m: f"{m[1]}{older[m[2]]}.", name): value
               for name, value in state.items()}  # fmt: skip
    assert renamed.keys() != state.keys()
    assert loaded("autoencoder", TINY_VAE, renamed, "file").state_dict().keys() == state.keys()


def test_what_does_not_fit_is_refused_by_its_first_key():
    state = autoencoder(TINY_VAE).state_dict()
    rest = {name: value for name, value in state.items() if name != "encoder.conv_in.weight"}
    with pytest.raises(InputError, match=r"^file is no autoencoder of these sizes: it lacks key 'encoder\.conv_in\.w"):
        loaded("autoencoder", TINY_VAE, rest, "file")
    with pytest.raises(InputError, match=r"its key 'encoder\.conv_in\.weight' has shape \(32, .* \(64, 3, 3, 3\) is"):
        loaded("autoencoder", AutoencoderLayout(channels=64, mults=(1, 1), blocks=1), state, "file")
    with pytest.raises(InputError, match=r"its key 'other\.bias' has no place"):
        loaded("autoencoder", TINY_VAE, state | {"other.bias": torch.zeros(1)}, "file")
    with pytest.raises(InputError, match="file is no unet of these sizes: it lacks key"):
        loaded("unet", TINY, {f"input_blocks.0.0.{name}": torch.zeros(1) for name in ("weight", "bias")}, "file")


def test_activations_that_are_computed_again_are_the_same():
    torch.manual_seed(0)
    net, x, context = unet(TINY), torch.randn(1, 4, 4, 4), torch.randn(1, 5, 12)
    gradients = []
    for on in (False, True, False):
        recompute(net, on)
        assert {part.gradient_checkpointing for part in net.down_blocks} == {on}
        loss = net(x, torch.tensor([7]), context, return_dict=False)[0].square().mean()
        gradients.append(torch.autograd.grad(loss, [*net.parameters()]))
    for once, again, back in zip(*gradients, strict=True):
        assert torch.equal(once, again) and torch.equal(once, back)


def test_without_diffusers_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(latent, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"latent diffusion needs diffusers, .* pip install 'sr-sweep\[latent\]'"):
        check_diffusers()
