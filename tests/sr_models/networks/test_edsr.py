"""EDSR: released weights are for [0, 255] around the mean; ours takes and gives [0, 1]."""

import pytest
import torch

import sr_models

MEAN = torch.tensor([0.4488, 0.4371, 0.4040])[None, :, None, None]


def test_a_silent_tail_gives_the_mean_colour() -> None:
    net = sr_models.build("edsr_baseline", 3, channels=8, blocks=1)
    for name in ("tail.1.weight", "tail.1.bias"):
        torch.nn.init.zeros_(net.get_parameter(name))
    torch.testing.assert_close(net(torch.rand(1, 3, 4, 4)), MEAN.expand(1, 3, 12, 12))


def test_the_head_sees_0_to_255_around_the_mean() -> None:
    net = sr_models.build("edsr_baseline", 2, channels=8, blocks=1)
    seen: list[torch.Tensor] = []
    net.get_submodule("head").register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    lr = torch.rand(1, 3, 4, 4)
    net(lr)
    torch.testing.assert_close(seen[0], 255 * (lr - MEAN))


def test_mean_shifts_are_saved_but_never_trained() -> None:
    net = sr_models.build("edsr_baseline", 2, channels=8, blocks=1)
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {f"{a}_mean.{b}" for a in ("sub", "add") for b in ("weight", "bias")}
    assert frozen <= set(net.state_dict())


def test_residuals_are_scaled() -> None:
    full, tenth = (sr_models.build("edsr", 2, channels=8, blocks=1, res_scale=r) for r in (1.0, 0.1))
    tenth.load_state_dict(full.state_dict())
    x = torch.rand(1, 8, 5, 5)
    residual, scaled = (net.get_submodule("body.0")(x) - x for net in (full, tenth))
    torch.testing.assert_close(scaled, 0.1 * residual)


def test_bfloat16_keeps_the_mean_shift_exact() -> None:
    net = sr_models.build("edsr_baseline", 2, channels=8, blocks=1).eval()
    for name in ("tail.1.weight", "tail.1.bias"):
        torch.nn.init.zeros_(net.get_parameter(name))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        sr = net(torch.rand(1, 3, 4, 4))
    assert sr.dtype == torch.float32
    assert (sr - MEAN).abs().max().item() == pytest.approx(0, abs=1e-6)  # bfloat16 alone would miss by 0.001
