"""ResShift's U-Net against the released one on its own random weights, under its own key names."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from sr_models.diffusion.process import Level
from sr_models.diffusion.swin_unet import ResBlock, Swin, SwinAttention, SwinUNet, released_mask, step_encoding
from sr_models.networks.swinir import WindowAttention

TINY: dict[str, Any] = {
    "channels": 8, "mults": (1, 2), "blocks": 1, "embed": 8, "heads": 2, "mlp_ratio": 2, "attention_window": 4,
    "side": 16, "dropout": 0.0, "groups": 4,
}  # fmt: skip


class Plain(SwinUNet):
    """The U-Net on a condition and a state as they are."""

    scale = 4

    def encode(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        return lr_BCHW

    def forward(self, condition: Tensor, state_BCHW: Tensor, level: Level) -> Tensor:
        return self.denoise(torch.cat([state_BCHW, condition], 1), level.t)


def tiny(**changed: Any) -> Plain:
    torch.manual_seed(0)
    net = Plain(6, 3, **TINY | changed)
    for parameter in net.parameters():  # so that what starts at zero takes part
        torch.nn.init.normal_(parameter, std=0.1)
    return net


def level(*steps: int) -> Level:
    return Level(torch.full((len(steps),), 0.5), torch.tensor(steps))


def test_outputs_are_the_released_ones(oracle):
    told = oracle("resshift_unet")
    config = json.loads(str(told["config"]))
    assert set(config["num_res_blocks"]) == {1} and config["swin_depth"] == 2
    net = Plain(
        6, 3, channels=config["model_channels"], mults=config["channel_mult"], blocks=1, embed=config["swin_embed_dim"],
        heads=config["swin_embed_dim"] // config["num_head_channels"], mlp_ratio=config["mlp_ratio"],
        attention_window=config["window_size"], side=config["image_size"], dropout=0.0, groups=32,
    )  # fmt: skip
    net.load_state_dict({key[2:]: torch.from_numpy(told[key]).float() for key in told if key.startswith("w/")})
    net.eval()
    steps = torch.from_numpy(told["timesteps"])
    for name in ("", "_wide"):
        x, lq, out = (torch.from_numpy(told[f"{what}{name}"]) for what in ("x", "lq", "out"))
        with torch.no_grad():
            found = net(lq, x, Level(torch.ones(len(x)), steps[-len(x) :]))
        torch.testing.assert_close(found, out, rtol=0, atol=5e-5)


def test_fused_attention_is_swinirs():
    torch.manual_seed(0)
    fused, plain = SwinAttention(8, 2, 4), WindowAttention(8, 2, 4)
    torch.nn.init.normal_(fused.relative_position_bias_table)
    plain.load_state_dict(fused.state_dict())
    x, mask = torch.randn(2, 6, 16, 8), released_mask(8, 12, 4, device=torch.device("cpu"))
    for seen in (None, mask):
        torch.testing.assert_close(fused(x, seen), plain(x, seen), rtol=0, atol=1e-5)


def test_the_mask_parts_left_from_right_in_the_last_row_of_windows():
    mask = released_mask(8, 12, 4, device=torch.device("cpu"))
    left = torch.arange(16) % 4 < 2
    assert not mask[:3].any()
    assert all(torch.equal(one, -100.0 * (left[:, None] != left)) for one in mask[3:])


def test_a_level_of_one_window_is_not_shifted_and_each_level_has_a_swin_part_each_way():
    net = tiny(mults=(1, 1, 1), blocks=2)
    shifted = {name: part.shifted for name, part in net.named_modules() if isinstance(part, Swin)}
    assert shifted == {
        "input_blocks.1.1": True, "input_blocks.4.1": True, "input_blocks.7.1": False, "middle_block.1": False,
        "output_blocks.0.1": False, "output_blocks.3.1": True, "output_blocks.6.1": True,
    }  # fmt: skip


def test_checkpointing_changes_neither_loss_nor_gradients():
    net, found = tiny(dropout=0.3), []
    condition, state = torch.rand(2, 3, 8, 16), torch.randn(2, 3, 8, 16)
    for net.checkpointing in (False, True):
        torch.manual_seed(1)
        net.zero_grad()
        loss = net(condition, state, level(0, 7)).square().mean()
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in net.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_it_sees_the_step():
    net = tiny().eval()
    state = torch.randn(1, 3, 8, 8)
    assert (net(state, state, level(1)) - net(state, state, level(9))).abs().max() > 1e-3


def test_steps_are_cosines_and_sines():
    found = step_encoding(torch.tensor([0, 3]), 4)
    angle = torch.tensor([3.0, 0.03])
    torch.testing.assert_close(
        found, torch.stack([torch.tensor([1.0, 1, 0, 0]), torch.cat([angle.cos(), angle.sin()])])
    )


def test_it_starts_from_blocks_that_are_their_shortcuts_and_gives_nothing():
    net = Plain(6, 3, **TINY)
    state = torch.randn(1, 3, 8, 8)
    assert not net(state, state, level(1)).any()
    assert not any(part.out_layers[-1].weight.any() for part in net.modules() if isinstance(part, ResBlock))


def test_sides_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="sides must be multiples of 8, got 8x12"):
        tiny()(torch.zeros(1, 3, 8, 12), torch.zeros(1, 3, 8, 12), level(1))
