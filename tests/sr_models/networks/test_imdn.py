"""IMDN: its attention's standard deviation is the release's, with a gradient that stays finite on flat maps."""

from typing import Any

import pytest
import torch

import sr_models
from sr_models.networks.imdn import DistillationBlock, spread


def test_spread_is_the_population_standard_deviation() -> None:
    x = torch.randn(2, 5, 7, 9)
    torch.testing.assert_close(spread(x), x.std((2, 3), correction=0, keepdim=True))
    reference = (x - x.mean((2, 3), keepdim=True)).pow(2).mean((2, 3), keepdim=True).pow(0.5)
    assert torch.equal(spread(x), reference)  # no epsilon: released weights give the same bits


def test_flat_maps_have_no_spread_and_a_zero_gradient() -> None:
    x = torch.randn(1, 3, 4, 4)
    x[0, 1] = 0.25
    x.requires_grad_()
    out = spread(x)
    assert out[0, 1].item() == 0
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad[0, 1].abs().max() == 0
    assert x.grad[0, 0].abs().max() > 0


def test_a_constant_image_trains_without_nan() -> None:
    net = sr_models.build("imdn", 2, channels=16, blocks=2)
    for name, p in net.named_parameters():
        if "cca" not in name:
            torch.nn.init.zeros_(p)
    net(torch.full((1, 3, 8, 8), 0.5)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_the_fourth_convolution_has_no_activation() -> None:
    block = DistillationBlock(16, "cca")
    fused: list[torch.Tensor] = []
    block.cca.register_forward_hook(lambda module, inputs, output: fused.append(inputs[0]))
    with torch.no_grad():
        for step in (block.c1, block.c4):
            torch.nn.init.zeros_(step.weight)
            step.get_parameter("bias").fill_(-1.0)
        block(torch.rand(1, 16, 4, 4))
    assert fused[0].shape[1] == 16
    torch.testing.assert_close(fused[0][:, :4], torch.full((1, 4, 4, 4), -0.05))  # LeakyReLU(0.05)
    torch.testing.assert_close(fused[0][:, 12:], torch.full((1, 4, 4, 4), -1.0))


SWITCHES: list[dict[str, Any]] = [
    {"prm": prm, "attention": attention, "iic": iic}
    for prm in (True, False) for attention in ("cca", "ca", "none") for iic in (True, False)
]  # fmt: skip


@pytest.mark.parametrize("name", ["imdn", "imdn_as"])
@pytest.mark.parametrize("switches", SWITCHES, ids=lambda switches: "-".join(map(str, switches.values())))
def test_every_variant_learns(name: str, switches: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = sr_models.build(name, 2, channels=16, blocks=2, **switches)
    x, y = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_switches_as_published_are_in_no_dump() -> None:
    dumped = sr_models.check("imdn", 2, {"prm": True, "attention": "cca", "iic": True}).model_dump()
    assert dumped == {"channels": 64, "blocks": 6}  # as before there was a choice, so fingerprints stay
    changed = {"prm": False, "attention": "none", "iic": False}
    assert sr_models.check("imdn", 2, changed).model_dump() == {"channels": 64, "blocks": 6} | changed
