"""Every network against a second forward pass: plain functions on its state dict, written from the published layers.

Keys and arithmetic are those of the releases (the networks' modules name them). All weights are redrawn, so that no
skip, slope or shift is too faint to be seen.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sr_models
from sr_models.images.operators import resize_float
from sr_models.networks.sigma import SigmaHead, WithSigma

State = dict[str, Tensor]
MEAN = torch.tensor([0.4488, 0.4371, 0.4040])[:, None, None]
NORM = ("running_mean", "running_var", "weight", "bias")
STEPS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}


@torch.no_grad()
def redrawn(net: nn.Module) -> nn.Module:
    """Weights that keep the size of what they read, other parameters and running statistics in [0.1, 0.5]; eval."""
    draw = torch.Generator().manual_seed(0)
    for p in net.parameters():
        if p.requires_grad and p.ndim > 1:
            p.normal_(std=1.5 / p[0].numel() ** 0.5, generator=draw)
        elif p.requires_grad:
            p.uniform_(0.1, 0.5, generator=draw)
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.1, 0.5, generator=draw)
    return net.eval()


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def conv(s: State, name: str, x: Tensor, *, stride: int = 1, groups: int = 1) -> Tensor:
    weight = s[f"{name}.weight"]
    return F.conv2d(x, weight, s.get(f"{name}.bias"), stride=stride, padding=weight.shape[-1] // 2, groups=groups)


def bilinear(x: Tensor, scale: int) -> Tensor:
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def with_luma(rgb: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """RGB to BT.601 YCbCr, Y changed, and back."""
    rows = [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]
    matrix = torch.tensor(rows, dtype=torch.float64) / 255
    offset = torch.tensor([16.0, 128, 128], dtype=torch.float64)[:, None, None] / 255
    ycc = torch.einsum("ij,bjhw->bihw", matrix, rgb.double()) + offset
    ycc = torch.cat([change(ycc[:, :1].to(rgb)).double(), ycc[:, 1:]], 1)
    return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(matrix), ycc - offset).to(rgb)


def msrresnet(s: State, x: Tensor, scale: int) -> Tensor:
    y = F.leaky_relu(conv(s, "conv_first", x), 0.1)
    for i in range(2):
        y = y + conv(s, f"body.{i}.conv2", F.relu(conv(s, f"body.{i}.conv1", y)))
    for i, step in enumerate(STEPS[scale], start=1):
        y = F.leaky_relu(F.pixel_shuffle(conv(s, f"upconv{i}", y), step), 0.1)
    return conv(s, "conv_last", F.leaky_relu(conv(s, "conv_hr", y), 0.1)) + bilinear(x, scale)


def srresnet_bn(s: State, x: Tensor, scale: int) -> Tensor:
    def norm(name: str, y: Tensor) -> Tensor:
        mean, var, gain, bias = (s[f"{name}.{key}"][:, None, None] for key in NORM)
        return (y - mean) / (var + 1e-5).sqrt() * gain + bias

    head = y = F.prelu(conv(s, "head.0", x), s["head.1.weight"])
    for block in ("body.0", "body.1"):
        z = F.prelu(norm(f"{block}.bn1", conv(s, f"{block}.conv1", y)), s[f"{block}.prelu.weight"])
        y = y + norm(f"{block}.bn2", conv(s, f"{block}.conv2", z))
    y = head + norm("body_end.1", conv(s, "body_end.0", y))
    for i, step in enumerate(STEPS[scale]):
        y = F.prelu(F.pixel_shuffle(conv(s, f"upsample.{3 * i}", y), step), s[f"upsample.{3 * i + 2}.weight"])
    return conv(s, "tail", y)


def edsr_tail(s: State, y: Tensor, scale: int) -> Tensor:
    for i, step in enumerate(STEPS[scale]):
        y = F.pixel_shuffle(conv(s, f"tail.0.{2 * i}", y), step)
    return conv(s, "tail.1", y) / 255 + MEAN


def edsr(s: State, x: Tensor, scale: int, res_scale: float = 1.0) -> Tensor:
    head = y = conv(s, "head.0", 255 * (x - MEAN))
    for i in range(2):
        y = y + res_scale * conv(s, f"body.{i}.body.2", F.relu(conv(s, f"body.{i}.body.0", y)))
    return edsr_tail(s, head + conv(s, "body.2", y), scale)


def rcan(s: State, x: Tensor, scale: int) -> Tensor:
    head = y = conv(s, "head.0", 255 * (x - MEAN))
    for group in ("body.0.body", "body.1.body"):
        start = y
        for block in (f"{group}.0.body", f"{group}.1.body"):
            z = conv(s, f"{block}.2", F.relu(conv(s, f"{block}.0", y)))
            pooled = F.relu(conv(s, f"{block}.3.conv_du.0", F.adaptive_avg_pool2d(z, 1)))
            y = y + z * torch.sigmoid(conv(s, f"{block}.3.conv_du.2", pooled))
        y = start + conv(s, f"{group}.2", y)
    return edsr_tail(s, head + conv(s, "body.2", y), scale)


def imdn_after(s: State, fea: Tensor, scale: int, *, contrast: bool = True) -> Tensor:
    """As released, or without what the state lacks."""
    y, outputs = fea, []
    for block in ("IMDB1", "IMDB2"):
        kept, rest = [], y
        for i in (1, 2, 3):
            z = F.leaky_relu(conv(s, f"{block}.c{i}", rest), 0.05)
            distilled, rest = z.split([16, 48], 1) if f"{block}.c4.weight" in s else (z, z)
            kept.append(distilled)
        if f"{block}.c4.weight" in s:
            z = torch.cat([*kept, conv(s, f"{block}.c4", rest)], 1)
        else:
            z = conv(s, f"{block}.c3", kept[1])
        if f"{block}.cca.conv_du.0.weight" in s:
            seen = z.mean((2, 3), keepdim=True) + contrast * z.std((2, 3), correction=0, keepdim=True)
            weight = conv(s, f"{block}.cca.conv_du.2", F.relu(conv(s, f"{block}.cca.conv_du.0", seen)))
            z = z * torch.sigmoid(weight)
        y = y + (conv(s, f"{block}.c5", z) if f"{block}.c5.weight" in s else z)
        outputs.append(y)
    fused = F.leaky_relu(conv(s, "c.0", torch.cat(outputs, 1)), 0.05) if "c.0.weight" in s else y
    return F.pixel_shuffle(conv(s, "upsampler.0", fea + conv(s, "LR_conv", fused)), scale)


def imdn(s: State, x: Tensor, scale: int, *, contrast: bool = True) -> Tensor:
    return imdn_after(s, conv(s, "fea_conv", x), scale, contrast=contrast)


def imdn_as(s: State, x: Tensor, scale: int) -> Tensor:
    x = x if scale == 1 else resize_float(x, scale)
    first = F.leaky_relu(conv(s, "fea_conv.0", x, stride=2), 0.05)
    return imdn_after(s, conv(s, "fea_conv.2", first, stride=2), 4)


def rrdb(s: State, x: Tensor, scale: int, to_go: int | None = None) -> Tensor:
    first = y = conv(s, "conv_first", F.pixel_unshuffle(x, (to_go or scale) // scale))
    for i in range(2):
        start = y
        for rdb in (f"body.{i}.rdb1", f"body.{i}.rdb2", f"body.{i}.rdb3"):
            dense = [y]
            for j in (1, 2, 3, 4):
                dense.append(F.leaky_relu(conv(s, f"{rdb}.conv{j}", torch.cat(dense, 1)), 0.2))
            y = y + 0.2 * conv(s, f"{rdb}.conv5", torch.cat(dense, 1))
        y = start + 0.2 * y
    y = first + conv(s, "conv_body", y)
    for i, step in enumerate(STEPS[to_go or scale], start=1):
        y = y.repeat_interleave(step, 2).repeat_interleave(step, 3)
        y = F.leaky_relu(conv(s, f"conv_up{i}", y), 0.2)
    return conv(s, "conv_last", F.leaky_relu(conv(s, "conv_hr", y), 0.2))


def carn(s: State, x: Tensor, scale: int, *, mobile: bool = False, up: str = "up") -> Tensor:
    groups = 4 if mobile else 1

    def unit(name: str, y: Tensor) -> Tensor:
        z = F.relu(conv(s, f"{name}.body.0", y, groups=groups))
        z = conv(s, f"{name}.body.2", z, groups=groups)
        return F.relu(y + (conv(s, f"{name}.body.4", F.relu(z)) if mobile else z))

    def block(name: str, y: Tensor) -> Tensor:
        c = o = y
        for i in (1, 2, 3):
            c = torch.cat([c, unit(f"{name}.b1" if mobile else f"{name}.b{i}", o)], 1)
            o = F.relu(conv(s, f"{name}.c{i}.body.0", c))
        return o

    c = o = conv(s, "entry", x - MEAN)
    for i in (1, 2, 3):
        c = torch.cat([c, block(f"b{i}", o)], 1)
        o = F.relu(conv(s, f"c{i}.body.0", c))
    for i, step in enumerate(STEPS[scale]):
        o = F.pixel_shuffle(F.relu(conv(s, f"upsample.{up}.body.{3 * i}", o, groups=groups)), step)
    return conv(s, "exit", o) + MEAN


def carn_m(s: State, x: Tensor, scale: int) -> Tensor:
    return carn(s, x, scale, mobile=True)


def swinir_layer(s: State, name: str, y: Tensor, shift: int) -> Tensor:
    """One layer on (B, H, W, C): all pixels attend to all, but for a mask that leaves each its own window."""
    batch, height, width, channels = y.shape
    i, j = (axis.flatten() for axis in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    window = (i - shift) // 8 * 1000 + (j - shift) // 8
    same = window[:, None] == window
    offset = (i[:, None] - i + 7) * 15 + j[:, None] - j + 7
    bias = s[f"{name}.attn.relative_position_bias_table"][offset.where(same, torch.tensor(0))].permute(2, 0, 1)

    def linear(layer: str, z: Tensor) -> Tensor:
        return F.linear(z, s[f"{name}.{layer}.weight"], s[f"{name}.{layer}.bias"])

    qkv = linear("attn.qkv", layer_norm(s, f"{name}.norm1", y)).view(batch, height * width, 3, 2, channels // 2)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    logits = query @ key.transpose(2, 3) / (channels / 2) ** 0.5 + bias
    mixed = logits.masked_fill(~same, -torch.inf).softmax(3) @ value
    y = y + linear("attn.proj", mixed.transpose(1, 2).reshape(y.shape))
    return y + linear("mlp.fc2", F.gelu(linear("mlp.fc1", layer_norm(s, f"{name}.norm2", y))))


def layer_norm(s: State, name: str, y: Tensor) -> Tensor:
    return F.layer_norm(y, y.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"])


def swinir(s: State, x: Tensor, scale: int) -> Tensor:
    first = conv(s, "conv_first", x - MEAN)
    y = layer_norm(s, "patch_embed.norm", first.permute(0, 2, 3, 1))
    for group in ("layers.0", "layers.1"):
        z = y
        for i, shift in enumerate((0, 4)):
            z = swinir_layer(s, f"{group}.residual_group.blocks.{i}", z, shift)
        y = y + conv(s, f"{group}.conv", z.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    y = first + conv(s, "conv_after_body", layer_norm(s, "norm", y).permute(0, 3, 1, 2))
    if "conv_last.weight" not in s:  # the light network
        return F.pixel_shuffle(conv(s, "upsample.0", y), scale) + MEAN
    y = F.leaky_relu(conv(s, "conv_before_upsample.0", y), 0.01)
    if "conv_hr.weight" in s:  # the real-world network
        for name in ("conv_up1", "conv_up2"):
            y = F.leaky_relu(conv(s, name, y.repeat_interleave(2, 2).repeat_interleave(2, 3)), 0.2)
        return conv(s, "conv_last", F.leaky_relu(conv(s, "conv_hr", y), 0.2)) + MEAN
    for i, step in enumerate(STEPS[scale]):
        y = F.pixel_shuffle(conv(s, f"upsample.{2 * i}", y), step)
    return conv(s, "conv_last", y) + MEAN


def vdsr_detail(s: State, x: Tensor) -> Tensor:
    y = F.relu(conv(s, "input", x))
    for i in range(2):
        y = F.relu(conv(s, f"residual_layer.{i}.conv", y))
    return x + conv(s, "output", y)


def vdsr_y(s: State, x: Tensor, scale: int) -> Tensor:
    return with_luma(resize_float(x, scale), lambda luma: vdsr_detail(s, luma))


def vdsr_rgb(s: State, x: Tensor, scale: int) -> Tensor:
    return vdsr_detail(s, resize_float(x, scale))


def idn_features(s: State, x: Tensor) -> Tensor:
    def act(name: str, y: Tensor, groups: int = 1) -> Tensor:
        return F.leaky_relu(conv(s, name, y, groups=groups), 0.05)

    y = act("conv2", act("conv1", x))
    for i in (3, 4):
        first = act(f"conv{i}_3", act(f"conv{i}_2", act(f"conv{i}_1", y), groups=4))
        last = act(f"conv{i}_6", act(f"conv{i}_5", act(f"conv{i}_4", first[:, 4:]), groups=4))
        y = act(f"down{i - 2}", last + torch.cat([y, first[:, :4]], 1))
    return y


def idn_deconvolution(s: State, y: Tensor, scale: int) -> Tensor:
    """The release's, output pixel 0 at its pixel 1 - scale, so that every size is whole."""
    whole = F.conv_transpose2d(y, s["upsample.weight"], s["upsample.bias"], stride=scale)
    rows, columns = (slice(9 - scale, 9 - scale + side * scale) for side in y.shape[2:])
    return whole[:, :, rows, columns]


def idn_y_deconv(s: State, x: Tensor, scale: int) -> Tensor:
    luma = (65.481 * x[:, :1] + 128.553 * x[:, 1:2] + 24.966 * x[:, 2:] + 16) / 255
    detail = idn_deconvolution(s, idn_features(s, luma), scale)
    return with_luma(resize_float(x, scale), lambda enlarged: enlarged + detail)


def idn_rgb_deconv(s: State, x: Tensor, scale: int) -> Tensor:
    return resize_float(x, scale) + idn_deconvolution(s, idn_features(s, x), scale)


def idn_rgb_shuffle(s: State, x: Tensor, scale: int) -> Tensor:
    y = conv(s, "upsample.1", conv(s, "upsample.0", idn_features(s, x)))
    return resize_float(x, scale) + F.pixel_shuffle(y, scale)


WIDE = {"channels": 16, "blocks": 2}
RCAN = WIDE | {"groups": 2, "reduction": 4}
IMDN = {"channels": 64, "blocks": 2}  # fewer leave an attention so few hidden channels that a ReLU may silence all
SWINIR = {"channels": 12, "blocks": 2, "layers": 2, "heads": 2}
CARN = {"channels": 8}
RRDB = {"channels": 8, "growth": 4, "blocks": 2}
CASES: list[tuple[Callable[..., Tensor], str, tuple[int, ...], dict[str, Any]]] = [
    (msrresnet, "srresnet", (2, 3, 4), WIDE),
    (srresnet_bn, "srresnet_bn", (2, 3, 4, 8), WIDE),
    (edsr, "edsr_baseline", (2, 3, 4, 8), WIDE),
    (partial(edsr, res_scale=0.1), "edsr", (2,), WIDE),
    (rcan, "rcan", (2, 3, 8), RCAN),
    (imdn, "imdn", (2, 3, 4), IMDN),
    (partial(imdn, contrast=False), "imdn", (2,), IMDN | {"attention": "ca"}),
    (imdn, "imdn", (2,), IMDN | {"attention": "none", "iic": False}),
    (imdn, "imdn", (2,), IMDN | {"prm": False, "attention": "none", "iic": False}),
    (imdn, "imdn", (2,), IMDN | {"prm": False}),
    (imdn_as, "imdn_as", (1, 2), IMDN),
    (imdn_as, "imdn_as", (1,), IMDN | {"prm": False, "iic": False}),
    (rrdb, "rrdb", (2, 3, 4, 8), RRDB),
    (partial(rrdb, to_go=4), "rrdb", (2,), RRDB | {"unshuffle": True}),
    (carn, "carn", (2, 3, 8), CARN),
    (partial(carn, up="up4"), "carn", (4,), CARN | {"scales": (2, 3, 4)}),
    (carn_m, "carn_m", (2, 3, 4), CARN),
    (swinir, "swinir_light", (2, 3), SWINIR),
    (swinir, "swinir", (2, 4), SWINIR),
    (swinir, "swinir", (4,), SWINIR | {"tail": "nearest+conv"}),
    (vdsr_y, "vdsr", (2,), WIDE),
    (vdsr_rgb, "vdsr", (3,), WIDE | {"color": "rgb", "bias": True}),
    (idn_y_deconv, "idn", (2, 4), WIDE),
    (idn_rgb_deconv, "idn", (3,), WIDE | {"variant": "rgb_deconv"}),
    (idn_rgb_shuffle, "idn", (2, 3), WIDE | {"variant": "rgb_shuffle"}),
]


@pytest.mark.parametrize(
    ("reference", "name", "scale", "hyper"),
    [
        pytest.param(reference, name, scale, hyper, id="-".join(map(str, (name, scale, *list(hyper.values())[2:]))))
        for reference, name, scales, hyper in CASES
        for scale in scales
    ],
)
@torch.no_grad()
def test_the_forward_pass_is_the_published_one(
    reference: Callable[..., Tensor], name: str, scale: int, hyper: dict[str, Any]
) -> None:
    net = redrawn(sr_models.build(name, scale, **hyper))
    lr = images(2, 3, 8, 16)
    expected = reference(net.state_dict(), lr, scale)
    atol = 2e-5 * float(expected.abs().max())  # rounding in float32 goes with the size of what is added
    torch.testing.assert_close(net(lr), expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("to_go", [1, 2, 3])
@torch.no_grad()
def test_the_sigma_head_is_its_layers(to_go: int) -> None:
    head = SigmaHead(6, to_go, width=8, depth=3)
    assert [layer.weight.tolist() for layer in head.modules() if isinstance(layer, nn.PReLU)] == [[0.25] * 8] * 3
    redrawn(head)
    s = head.state_dict()
    x = features = images(2, 6, 5, 7) - 0.5
    for i in (0, 2, 4):
        assert s[f"body.{i}.weight"].shape[2:] == (3, 3)
        x = F.prelu(conv(s, f"body.{i}", x), s[f"body.{i + 1}.weight"])
    expected = torch.sigmoid(F.pixel_shuffle(conv(s, "tail.0", x), to_go))
    assert expected.shape == (2, 3, 5 * to_go, 7 * to_go)
    torch.testing.assert_close(head(features), expected)


@torch.no_grad()
def test_the_sigma_head_reads_what_the_upsampler_reads() -> None:
    net = sr_models.build("edsr_baseline", 2, **WIDE)
    both = redrawn(WithSigma(net, SigmaHead(16, 2, width=8)))
    read: list[Tensor] = []
    net.get_submodule("tail").register_forward_hook(lambda module, inputs, output: read.append(inputs[0]))
    sr, sigma_hat = both(images(1, 3, 6, 5))
    torch.testing.assert_close(sr, net(images(1, 3, 6, 5)))
    torch.testing.assert_close(sigma_hat, both.get_submodule("head")(read[0]))
