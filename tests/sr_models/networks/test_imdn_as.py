"""IMDN_AS: same size in and out, the bicubic enlargement in front of it elsewhere."""

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import sr_models
from sr_models.images.operators import resize_float
from sr_models.inference.super_resolve import super_resolve
from sr_models.networks.base import parameters

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"
SMALL = {"channels": 16, "blocks": 2}


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_size_and_keys_are_the_releases_at_any_scale(scale: int) -> None:
    with torch.device("meta"):
        net = sr_models.build("imdn_as", scale)
    assert parameters(net) == 752104
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    assert json.loads((SPEC / "param_counts.json").read_text())["IMDN_AS"]["any"] == 752104
    rows = (SPEC / "checkpoint_keys" / "IMDN_AS_x4_any_.txt").read_text().splitlines()
    assert sorted(f"{key} {tuple(value.shape)}" for key, value in net.state_dict().items()) == sorted(rows)


@pytest.mark.parametrize(("scale", "window"), [(1, 4), (2, 2), (3, 4), (4, 1), (8, 1)])
def test_other_scales_are_the_same_network_on_the_enlargement(scale: int, window: int) -> None:
    same, net = (sr_models.build("imdn_as", s, **SMALL) for s in (1, scale))
    net.load_state_dict(same.state_dict())
    lr = torch.rand(2, 3, 2 * window, 3 * window)
    large = lr if scale == 1 else resize_float(lr, scale)
    torch.testing.assert_close(net(lr), same(large), rtol=0, atol=0)
    assert net(lr).shape == (2, 3, 2 * window * scale, 3 * window * scale)
    assert net.features(lr).shape == (2, 16, window * scale // 2, 3 * window * scale // 4)
    assert (net.window, net.feature_scale_to_go) == (window, 4)


def test_sides_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4, got 8x10; super_resolve takes any size"):
        sr_models.build("imdn_as", 1, **SMALL)(torch.rand(1, 3, 8, 10))


def test_other_sizes_are_made_of_four_passes_on_the_corners() -> None:
    net = sr_models.build("imdn_as", 1, **SMALL).eval()
    lr = torch.rand(2, 3, 67, 50)
    with torch.no_grad():
        (a, b), (c, d) = (
            [net(lr[..., rows, columns]) for columns in (slice(0, 48), slice(2, 50))]
            for rows in (slice(0, 64), slice(3, 67))
        )
    top, bottom = (torch.cat([x[..., :25], y[..., 23:]], 3) for x, y in ((a, b), (c, d)))
    expected = torch.cat([top[:, :, :33], bottom[:, :, 30:]], 2).clamp(0, 1)
    torch.testing.assert_close(super_resolve(net, lr).sr, expected)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_any_size_comes_out_enlarged(scale: int) -> None:
    net = sr_models.build("imdn_as", scale, **SMALL)
    for height, width in ((1, 1), (3, 9), (8, 12), (61, 5)):
        assert super_resolve(net, torch.rand(1, 3, height, width)).sr.shape == (1, 3, scale * height, scale * width)


def test_the_head_halves_twice_with_a_leaky_step_between() -> None:
    head = sr_models.build("imdn_as", 1, **SMALL).get_submodule("fea_conv")
    middle: list[torch.Tensor] = []
    head.get_submodule("2").register_forward_hook(lambda module, inputs, output: middle.append(inputs[0]))
    x = torch.randn(1, 3, 8, 12)
    before = head.get_submodule("0")(x)
    assert head(x).shape == (1, 16, 2, 3)
    torch.testing.assert_close(middle[0], torch.where(before > 0, before, 0.05 * before))


def test_the_planned_cost_is_what_runs_on_each_output_pixel() -> None:
    net = sr_models.build("imdn_as", 1, **SMALL)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 32, 32))
    counted = counter.get_total_flops() / 2 / 32**2
    for scale in (1, 2, 3, 4, 8):
        cost = sr_models.multiply_adds("imdn_as", scale, SMALL)
        assert cost == pytest.approx(scale**2 * counted, rel=0.01)  # attention is per image
