"""CCSR's adapter against released code: outputs, both gradients, counts, and the names of released weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("diffusers", reason="needs the extra [latent]")

from sr_models.diffusion import ccsr
from sr_models.diffusion.ccsr import (
    AutoencoderLayout,
    Controlled,
    UNetLayout,
    adapter,
    autoencoder,
    renamed_adapter,
    renamed_autoencoder,
    renamed_unet,
    unet,
)
from sr_models.errors import InputError
from sr_models.networks.base import parameters

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"
TINY = UNetLayout(channels=32, mults=(1, 1), attention=(1,), blocks=1, head=16, context=12)


def told(arrays: dict[str, Any], name: str) -> Tensor:
    value = torch.from_numpy(np.asarray(arrays[name]))
    return value.float() if value.is_floating_point() else value


def released(arrays: dict[str, Any], **flags: bool) -> Controlled:
    """The handed networks, by their own names through diffusers' conversion."""
    net = Controlled(TINY, **flags)
    for module, renamed, prefix in ((net.unet, renamed_unet, "unet/"), (net.control, renamed_adapter, "control/")):
        weights = {name.removeprefix(prefix): told(arrays, name) for name in arrays if name.startswith(prefix)}
        module.load_state_dict(renamed(weights, TINY))
    return net


def asked(arrays: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tuple(told(arrays, name) for name in ("x", "hint", "timesteps", "context"))  # type: ignore[return-value]


def test_the_adapter_and_what_it_steers_are_the_released_ones(oracle):
    arrays = oracle("ccsr_adapter")
    config = json.loads(str(arrays["config"]))
    assert (config["model_channels"], tuple(config["channel_mult"])) == (TINY.channels, TINY.mults)
    net, (x, hint, t, context) = released(arrays), asked(arrays)
    controls = net.controls(x, hint, t, context)
    assert len(controls) == 5
    for i, control in enumerate(controls):
        torch.testing.assert_close(control, told(arrays, f"control_out/{i}"), rtol=0, atol=5e-5)
    torch.testing.assert_close(net(x, hint, t, context), told(arrays, "eps"), rtol=0, atol=5e-5)
    torch.testing.assert_close(net(x, None, t, context), told(arrays, "eps_without_control"), rtol=0, atol=5e-5)


@pytest.mark.parametrize(("whole", "name"), [(False, "grad_x_released_graph"), (True, "grad_x_full_graph")])
def test_the_gradient_goes_around_the_encoder_or_through_it(oracle, whole, name):
    arrays = oracle("ccsr_adapter")
    net, (x, hint, t, context) = released(arrays, encoder_in_gradient=whole), asked(arrays)
    x.requires_grad_()
    net(x, hint, t, context).square().mean().backward()
    wanted = told(arrays, name)
    torch.testing.assert_close(x.grad, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    assert all(p.grad is None for p in net.unet.parameters())
    norm = torch.stack([p.grad.norm() for p in net.control.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(float(arrays["control_grad_norm"]), rel=1e-3)


def test_a_new_adapter_says_nothing_and_does_not_see_the_condition():
    torch.manual_seed(0)
    net = Controlled(TINY)
    with torch.no_grad():
        for parameter in net.control.parameters():
            parameter.normal_()
    net.begin()
    x, t, context = torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.randn(1, 5, 12)
    assert torch.equal(net(x, torch.randn_like(x), t, context), net(x, None, t, context))
    assert torch.equal(net.control.mid_block.resnets[0].conv1.weight, net.unet.mid_block.resnets[0].conv1.weight)
    assert torch.equal(net.control.conv_in.weight[:, :4], net.unet.conv_in.weight)
    assert not net.control.conv_in.weight[:, 4:].any()
    assert [p for p in net.parameters() if p.requires_grad] == list(net.control.parameters())


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


def test_without_diffusers_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(ccsr, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"latent diffusion needs diffusers, .* pip install 'sr-sweep\[latent\]'"):
        Controlled(TINY)
