"""SwinIR: sizes and keys, attention against a slow reference, windows for any size, stochastic depth."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import sr_models
from sr_models.errors import InputError
from sr_models.inference.super_resolve import super_resolve
from sr_models.networks.base import parameters
from sr_models.networks.swinir import TransformerLayer, from_windows, shift_mask, to_windows

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"
SMALL = {"channels": 12, "blocks": 2, "layers": 2, "heads": 2}
MEAN = torch.tensor([0.4488, 0.4371, 0.4040])[None, :, None, None]
RELEASES: list[tuple[str, int, dict[str, Any], int, str]] = [
    ("swinir_light", 2, {}, 910152, "SwinIR-light"),
    ("swinir_light", 3, {}, 918267, "SwinIR-light"),
    ("swinir_light", 4, {}, 929628, "SwinIR-light"),
    ("swinir", 2, {}, 11752487, "SwinIR-classical"),
    ("swinir", 3, {}, 11937127, "SwinIR-classical"),
    ("swinir", 4, {}, 11900199, "SwinIR-classical"),
    ("swinir", 8, {}, 12047911, "SwinIR-classical"),
    ("swinir", 4, {"tail": "nearest+conv"}, 11715559, "SwinIR-real-M"),
]


@pytest.mark.parametrize(("name", "scale", "hyper", "count", "sheet"), RELEASES)
def test_sizes_and_keys_are_the_releases(name: str, scale: int, hyper: dict[str, Any], count: int, sheet: str) -> None:
    with torch.device("meta"):
        net = sr_models.build(name, scale, **hyper)
    assert parameters(net) == count
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    counts = json.loads((SPEC / "param_counts.json").read_text())[sheet]
    assert counts[f"x{scale}"] == count
    if printed := counts.get("without_conv_after_body"):
        assert printed[f"x{scale}"] == count - parameters(net.get_submodule("conv_after_body"))
    file = SPEC / "checkpoint_keys" / f"{sheet.replace('real-M', 'realM')}_x{scale}.txt"
    kept = [row for row in file.read_text().splitlines() if "position_index" not in row and "attn_mask" not in row]
    assert sorted(f"{key} {tuple(value.shape)}" for key, value in net.state_dict().items()) == sorted(kept)


def test_windows_are_read_row_by_row() -> None:
    x = torch.arange(16 * 24.0).view(1, 16, 24, 1)
    windows = to_windows(x)
    assert windows.shape == (1, 6, 64, 1)
    assert windows[0, 4, [0, 1, 8, 63], 0].tolist() == [8 * 24 + 8, 8 * 24 + 9, 9 * 24 + 8, 15 * 24 + 15]
    assert torch.equal(from_windows(windows, 16, 24), x)


def slow_attention(layer: TransformerLayer, x_HWC: Tensor, shift: int) -> Tensor:
    """Each pixel attends to the pixels of its cell; the cells of a grid moved by `shift` are cut off at the border."""
    height, width, channels = x_HWC.shape
    attn = layer.attn
    query, key, value = attn.qkv(x_HWC).view(height, width, 3, attn.heads, -1).unbind(2)
    cells: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i in range(height):
        for j in range(width):
            cells.setdefault(((i - shift) // 8, (j - shift) // 8), []).append((i, j))
    mixed = torch.zeros(height, width, attn.heads, channels // attn.heads)
    for cell in cells.values():
        for i, j in cell:
            logits = torch.stack(
                [
                    (query[i, j] * key[a, b]).sum(-1) / (channels / attn.heads) ** 0.5
                    + attn.relative_position_bias_table[(i - a + 7) * 15 + j - b + 7]
                    for a, b in cell
                ]
            )
            weights = logits.softmax(0)
            mixed[i, j] = sum(w[:, None] * value[a, b] for w, (a, b) in zip(weights, cell, strict=True))
    out: Tensor = attn.proj(mixed.flatten(2))
    return out


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 8), (8, 24)])
@pytest.mark.parametrize("shift", [0, 4])
@torch.no_grad()
def test_attention_is_the_slow_reference(height: int, width: int, shift: int) -> None:
    layer = TransformerLayer(6, 2, 2.0, 0.0)
    nn.init.normal_(layer.attn.relative_position_bias_table)
    for name in ("fc1", "fc2"):
        nn.init.zeros_(layer.mlp[name].get_parameter("weight"))
        nn.init.zeros_(layer.mlp[name].get_parameter("bias"))
    x = torch.randn(1, height, width, 6)
    mask = shift_mask(height, width, device=x.device) if shift else None
    expected = x[0] + slow_attention(layer, layer.norm1(x[0]), shift)
    torch.testing.assert_close(layer(x, mask)[0], expected, rtol=1e-5, atol=1e-5)


def test_every_second_layer_is_shifted() -> None:
    net = sr_models.build("swinir", 2, **SMALL | {"layers": 4}).eval()
    shifted: list[bool] = []
    for name, module in net.named_modules():
        if name.endswith(".attn"):
            module.register_forward_hook(lambda _module, inputs, _output: shifted.append(inputs[1] is not None))
    net(torch.rand(1, 3, 8, 8))
    assert shifted == [False, True] * 4


def test_the_mask_is_that_of_each_size() -> None:
    net = sr_models.build("swinir_light", 2, **SMALL).eval()
    for height, width in ((16, 8), (24, 24), (16, 8), (8, 16)):
        lr = torch.rand(2, 3, height, width)
        fresh = sr_models.build("swinir_light", 2, **SMALL).eval()
        fresh.load_state_dict(net.state_dict())
        assert torch.equal(net(lr), fresh(lr))
    assert not any("mask" in key or "index" in key for key in net.state_dict())


@pytest.mark.parametrize(("height", "width"), [(8, 16), (9, 7), (13, 40), (1, 3)])
def test_any_picture_is_padded_by_1_to_8_pixels(height: int, width: int) -> None:
    net = sr_models.build("swinir_light", 2, **SMALL)
    seen: list[Tensor] = []
    net.get_submodule("conv_first").register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    lr = torch.rand(1, 3, height, width)
    assert super_resolve(net, lr).sr.shape == (1, 3, 2 * height, 2 * width)
    rows, columns = (height // 8 + 1) * 8, (width // 8 + 1) * 8
    assert seen[0].shape == (1, 3, rows, columns)
    mirrored = lr
    while mirrored.shape[2] < rows or mirrored.shape[3] < columns:  # a tiny picture needs more than one reflection
        mirrored = torch.cat([mirrored, mirrored.flip(2)], 2)
        mirrored = torch.cat([mirrored, mirrored.flip(3)], 3)
    torch.testing.assert_close(seen[0] + MEAN, mirrored[..., :rows, :columns])


def test_stochastic_depth_leaves_out_whole_branches_of_samples() -> None:
    layer = TransformerLayer(6, 2, 2.0, 0.25)
    for p in layer.attn.proj.parameters():
        nn.init.zeros_(p)  # leaves the MLP's branch alone
    x = torch.randn(1, 8, 8, 6)
    branch = layer.eval()(x, None) - x
    torch.manual_seed(0)
    changes = layer.train()(x.expand(2000, -1, -1, -1), None) - x
    left_out = changes.abs().amax((1, 2, 3)) == 0
    assert left_out.float().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(changes[~left_out], (branch / 0.75).expand(int((~left_out).sum()), -1, -1, -1))


def test_stochastic_depth_grows_with_depth_and_follows_the_seed() -> None:
    net = sr_models.build("swinir", 2, **SMALL | {"drop_path": 0.6})
    rates = [module.drop_path for module in net.modules() if isinstance(module, TransformerLayer)]
    assert rates == pytest.approx([0, 0.2, 0.4, 0.6])
    lr = torch.rand(8, 3, 8, 8)

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        out: Tensor = net(lr)
        return out

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    net.eval()
    assert torch.equal(run(1), run(2))


@pytest.mark.parametrize(("name", "last"), [("swinir_light", "upsample.0"), ("swinir", "conv_last")])
def test_a_silent_tail_gives_the_mean_colour(name: str, last: str) -> None:
    net = sr_models.build(name, 3, **SMALL)
    for p in net.get_submodule(last).parameters():
        nn.init.zeros_(p)
    torch.testing.assert_close(net(torch.rand(1, 3, 8, 8)), MEAN.expand(1, 3, 24, 24))


@pytest.mark.parametrize(
    ("scale", "hyper", "message"),
    [
        (2, {"tail": "nearest+conv"}, r"tail 'nearest\+conv' has scale 4, not 2"),
        (2, {"channels": 10}, "channels must be a multiple of heads, got 10 and 6"),
        (2, {"tail": "bilinear"}, "tail: .*'bilinear'"),
    ],
)
def test_bad_values_are_refused(scale: int, hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sr_models.check("swinir", scale, hyper)


def test_a_patch_that_is_no_multiple_of_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8, got 16x12; super_resolve takes any size"):
        sr_models.build("swinir", 2, **SMALL)(torch.rand(1, 3, 16, 12))


@pytest.mark.parametrize(("name", "scale", "hyper"), [row[:3] for row in RELEASES])
def test_the_planned_cost_is_what_runs(name: str, scale: int, hyper: dict[str, Any]) -> None:
    hyper = SMALL | hyper
    net = sr_models.build(name, scale, **hyper)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 16, 16))
    counted = counter.get_total_flops() / 2 / 16**2
    assert sr_models.multiply_adds(name, scale, hyper) == pytest.approx(counted, rel=1e-9)
