"""IDN: sizes of the three variants, the release's layer names, and where its transposed convolution puts a pixel."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import sr_models
from sr_models.images.operators import resize_float, rgb_to_y
from sr_models.networks.base import parameters
from sr_models.networks.idn import AlignedDeconvolution

SIZES = [("y_deconv", scale, 552769) for scale in (2, 3, 4)] + [("rgb_deconv", scale, 590915) for scale in (2, 3, 4)]
SIZES += [("rgb_shuffle", 2, 579276), ("rgb_shuffle", 3, 587931), ("rgb_shuffle", 4, 600048)]


@pytest.mark.parametrize(("variant", "scale", "count"), SIZES)
def test_sizes_of_the_variants(variant: str, scale: int, count: int) -> None:
    with torch.device("meta"):
        assert parameters(sr_models.build("idn", scale, variant=variant)) == count


def test_layers_are_named_as_in_the_release() -> None:
    names = {key.rsplit(".", 1)[0] for key in sr_models.build("idn", 2).state_dict()}
    blocks = {f"conv{block}_{i}" for block in (3, 4, 5, 6) for i in range(1, 7)}
    assert names == {"conv1", "conv2", "upsample", "down1", "down2", "down3", "down4"} | blocks


@pytest.mark.parametrize("variant", ["y_deconv", "rgb_deconv", "rgb_shuffle"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_without_detail_it_is_bicubic_at_whole_size(variant: str, scale: int) -> None:
    net = sr_models.build("idn", scale, channels=16, blocks=1, variant=variant)
    lr = torch.rand(1, 3, 6, 5)
    assert (net(lr) - resize_float(lr, scale)).abs().max() > 1e-3
    for p in net.get_submodule("upsample").parameters():
        nn.init.zeros_(p)
    torch.testing.assert_close(net(lr), resize_float(lr, scale), rtol=0, atol=0)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_deconvolution_is_the_releases_plus_its_missing_edge(scale: int) -> None:
    layer = AlignedDeconvolution(8, 1, scale)
    x = torch.randn(2, 8, 7, 5)
    out = layer(x)
    assert out.shape == (2, 1, 7 * scale, 5 * scale)
    release = functional.conv_transpose2d(x, layer.weight, layer.bias, stride=scale, padding=8)
    assert release.shape == (2, 1, scale * 6 + 1, scale * 4 + 1)
    torch.testing.assert_close(out[..., scale - 1 :, scale - 1 :], release)


def test_luma_variant_changes_luma_only() -> None:
    net = sr_models.build("idn", 2, channels=16, blocks=1)
    lr = torch.rand(1, 3, 6, 5)
    sr, bicubic = net(lr), resize_float(lr, 2)
    torch.testing.assert_close(sr - bicubic, (sr - bicubic)[:, :1].expand_as(sr))
    detail = net.get_submodule("upsample")(net.features(lr))
    torch.testing.assert_close(rgb_to_y(sr), rgb_to_y(bicubic) + detail)


def test_a_block_keeps_the_first_quarter_and_distils_the_last_three() -> None:
    net = sr_models.build("idn", 2, channels=16, blocks=1)
    seen: dict[str, torch.Tensor] = {}
    for name in ("conv3_4", "down1"):
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, at=name: seen.update({at: inputs[0]})
        )
    with torch.no_grad():
        for name in ("conv3_3", "conv3_6"):
            nn.init.zeros_(net.get_parameter(f"{name}.weight"))
        net.get_parameter("conv3_3.bias").copy_(torch.arange(16.0) - 8)
        features = net.features(torch.rand(1, 3, 4, 4))
    expected = functional.leaky_relu(torch.arange(16.0) - 8, 0.05)
    torch.testing.assert_close(seen["conv3_4"][0, :, 0, 0], expected[4:])
    torch.testing.assert_close(seen["down1"][0, 16:, 0, 0], expected[:4])
    assert (features < 0).any()
    compressed = functional.leaky_relu(net.get_submodule("down1")(seen["down1"]), 0.05)
    torch.testing.assert_close(features, compressed)


def test_initial_weights_average_the_fans() -> None:
    net = sr_models.build("idn", 2)
    for name, fans in (("conv4_2", 9 * (12 + 32)), ("upsample", 17**2 * (64 + 1))):
        std = net.get_parameter(f"{name}.weight").std().item()
        assert std == pytest.approx(math.sqrt(4 / fans), rel=0.05)
