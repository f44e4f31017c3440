"""The U-Net against the released one on its own random weights, under its own key names."""

import json

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sr_models.diffusion.process import Level
from sr_models.diffusion.sr3 import SR3
from sr_models.diffusion.unet import Attention, Layer, orthogonal

TINY = {"channels": 8, "mults": (1, 2, 2), "attention": (1,), "blocks": 1, "dropout": 0.0, "groups": 4}


def test_outputs_are_the_released_ones(oracle):
    told = oracle("sr3_unet")
    config = json.loads(str(told["config"]))
    assert config["image_size"] / config["attn_res"][0] == 2
    net = SR3(
        4, channels=config["inner_channel"], mults=config["channel_mults"], attention=(1,), blocks=config["res_blocks"],
        dropout=config["dropout"], groups=config["norm_groups"],
    )  # fmt: skip
    weights = {key.removeprefix("w/"): torch.from_numpy(told[key]).float() for key in told if key.startswith("w/")}
    net.load_state_dict(weights)
    net.eval()
    gamma = torch.from_numpy(told["gamma"])[:, 0]
    for name, rows in (("", slice(None)), ("_wide", slice(1))):
        x = torch.from_numpy(told[f"x{name}"])
        level = Level(gamma[rows][: len(x)], torch.ones(len(x), dtype=torch.int64))
        with torch.no_grad():
            out = net(x[:, :3], x[:, 3:], level)
        torch.testing.assert_close(out, torch.from_numpy(told[f"out{name}"]), rtol=0, atol=2e-5)


def test_attention_is_softmax_of_scaled_products():
    part = Attention(8, 4)
    x = torch.randn(2, 8, 3, 5)
    query, key, value = part.qkv(part.norm(x)).flatten(2).chunk(3, 1)
    weights = torch.softmax(torch.einsum("bci,bcj->bij", query, key) / 8**0.5, 2)
    seen = torch.einsum("bij,bcj->bci", weights, value).reshape(x.shape)
    torch.testing.assert_close(part(x), part.out(seen) + x, rtol=0, atol=1e-5)


def test_attention_stands_at_its_levels_and_in_the_middle():
    net = SR3(8, **TINY | {"mults": (1, 2, 2, 2), "attention": (2,)})
    attending = [name for name, part in net.named_modules() if isinstance(part, Attention)]
    downs = [i for i, part in enumerate(net.downs) if isinstance(part, Layer)]
    assert attending == [f"downs.{downs[2]}.attn", "mid.0.attn", "ups.3.attn", "ups.4.attn"]


def test_checkpointing_changes_neither_loss_nor_gradients():
    torch.manual_seed(0)
    net = SR3(4, **TINY | {"dropout": 0.3})
    condition, state = torch.rand(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    level, found = Level(torch.tensor([0.9, 0.3]), torch.tensor([1, 2])), []
    for net.checkpointing in (False, True):
        torch.manual_seed(1)
        net.zero_grad()
        loss = net(condition, state, level).square().mean()
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in net.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_dropout_is_in_the_second_half_of_a_block_alone():
    net = SR3(4, **TINY | {"dropout": 0.3})
    dropping = [name for name, part in net.named_modules() if isinstance(part, nn.Dropout)]
    assert dropping and all(name.endswith("block2.block.2") for name in dropping)


def test_it_starts_from_orthogonal_weights_without_bias():
    layer = nn.Conv2d(8, 4, 3)
    orthogonal(layer)
    flat = layer.weight.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(4), rtol=0, atol=1e-5)
    assert not layer.bias.any()


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="sides must be multiples of 4, got 8x10"):
        SR3(4, **TINY).denoise(torch.zeros(1, 6, 8, 10), torch.ones(1))


@pytest.mark.parametrize("sides", [(8, 8), (6, 10)])
def test_attention_keeps_no_table_of_all_pairs_of_pixels(sides):
    """With three dimensions, or channels that do not lie side by side, torch fell back to the N x N one."""
    found, x = Attention(32, 8), torch.randn(2, 32, *sides)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # raises where it cannot be used
        assert found(x).shape == x.shape
