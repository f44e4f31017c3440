"""IDM against the released code on its own random weights, its size and keys, any size and any scale."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import sr_models
from sr_models.diffusion.idm import IDM, EqualConv, EqualLinear, ImplicitUpsample, nearest
from sr_models.diffusion.process import Level
from sr_models.hyper.diffusion import IDMHyper
from sr_models.hyper.sampling import Sampling
from sr_models.inference.super_resolve import Options, super_resolve
from sr_models.networks.base import parameters

SPEC = Path(__file__).resolve().parents[4] / "shared" / "spec"
TINY = {
    "channels": 8, "mults": (1, 2, 2), "attention": (1,), "blocks": 1, "dropout": 0.0, "groups": 2, "features": 6,
    "encoder_blocks": 2, "highest_scale": 4.0,
}  # fmt: skip


def tiny(scale: float = 4, **changes: Any) -> IDM:
    torch.manual_seed(0)
    net = sr_models.build("idm", scale, **TINY | changes)
    assert isinstance(net, IDM)
    return net.eval()


def at(told: dict[str, Any], case: int) -> Callable[[str], Tensor]:
    return lambda name: torch.from_numpy(told[f"case{case}/{name}"])


@pytest.mark.parametrize("case", [0, 1, 2])
def test_the_implicit_layer_is_the_released_one(oracle, case):
    told, part = oracle("idm_upsampler"), ImplicitUpsample(6)
    part.load_state_dict({key[2:]: torch.from_numpy(told[key]) for key in told if key.startswith("w/")})
    given, (height, width) = at(told, case), told[f"case{case}/shape"].tolist()
    with torch.no_grad():
        out = part(given("x"), (height, width), given("scale1"), given("scale2"), given("shift"))
    expected = given("out_B_HW_C").reshape(2, height, width, 6).movedim(-1, 1)
    # from 4 to 9 the middle pixel lies just between two: float rounding decided there
    sure = [i for i in range(height) if (2 * i + 1) * given("x").shape[2] % (2 * height)]
    assert len(sure) == height - (case == 1)
    torch.testing.assert_close(out[:, :, sure][..., sure], expected[:, :, sure][..., sure], rtol=0, atol=1e-5)


def released(told: dict[str, Any]) -> IDM:
    """The network that the oracle holds, under its keys but those of levels that nothing is computed with."""
    config, encoder = json.loads(str(told["config"])), json.loads(str(told["encoder"]))
    hyper = {
        "channels": config["inner_channel"], "mults": config["channel_mults"], "blocks": config["res_blocks"],
        "dropout": 0, "groups": config["norm_groups"], "features": encoder["n_feats"],
        "encoder_blocks": encoder["n_resblocks"], "attention": (1,),
    }  # fmt: skip
    assert config["image_size"] / config["attn_res"][0] == 2
    net = tiny(**hyper)
    held = [key for key in told if key.startswith(("unet/", "encoder/"))]
    names = {key: key.removeprefix("unet/").replace("encoder/", "encoder.") for key in held}
    state = {name: torch.from_numpy(told[key]).float() for key, name in names.items()}
    unused = [key for key in state if key not in net.state_dict()]
    assert all(re.match(r"conv_body_down\.2\.|condition_(scale1|scale2|shift)\.0\.", key) for key in unused)
    net.load_state_dict({key: value for key, value in state.items() if key not in unused})
    return net


@pytest.mark.parametrize("case", [0, 1])
def test_encoder_and_unet_are_the_released_ones(oracle, case):
    told = oracle("idm_unet")
    net, given = released(told), at(told, case)
    state = given("y_t")
    with torch.no_grad():
        condition = net.encoder(given("lr"), tuple(state.shape[2:]))
        eps = net.conditioned(given("condition"), state, given("scaler"), given("gamma")[:, 0])
    torch.testing.assert_close(condition, given("condition"), rtol=0, atol=1e-4)
    torch.testing.assert_close(eps, given("eps"), rtol=0, atol=1e-5)


def test_size_is_the_published_one_without_what_is_never_computed_with():
    with torch.device("meta"):
        net = sr_models.build("idm", 8)
    assert parameters(net) == sr_models.MODELS["idm"].counts[8] == 99_801_670
    if not SPEC.is_dir():
        pytest.skip("needs ../shared/spec")
    sheets = {"IDM_unet": "", "IDM_edsr": "encoder."}
    rows = [
        (before + key, shape)
        for name, before in sheets.items()
        for key, shape in (row.split(" ", 1) for row in (SPEC / "checkpoint_keys" / f"{name}.txt").open())
    ]
    listed = {key: shape.strip() for key, shape in rows}
    own = {key: str(tuple(value.shape)) for key, value in net.state_dict().items()}
    assert own.items() <= listed.items()
    unbuilt = sum(math.prod(map(int, re.findall(r"\d+", listed[key]))) for key in listed.keys() - own.keys())
    sheet = json.loads((SPEC / "param_counts.json").read_text())["IDM"]
    assert parameters(net) + unbuilt == sheet["unet"] + sheet["edsr_encoder"]
    assert parameters(net) + unbuilt + sheet["unused_imnet_MLP"] == sheet["total_in_optimizer"]


@pytest.mark.parametrize(
    ("scale", "sides", "size"),
    [(4, (5, 7), (20, 28)), (2.5, (6, 9), (15, 22)), (1, (4, 4), (4, 4)), (3, (1, 2), (3, 6))],
)
def test_any_scale_and_any_size_go(scale, sides, size):
    net = tiny(scale)
    condition = net.encode(torch.rand(2, 3, *sides), size)
    level = Level(torch.tensor([0.9, 0.1]), torch.tensor([1, 2000]))
    assert net(condition, torch.randn(2, 3, *size), level).shape == (2, 3, *size)
    assert net.window == 1 and net.scale == scale


def test_the_condition_carries_a_picture_and_how_much_is_enlarged():
    net, lr = tiny(), torch.rand(2, 3, 4, 6)
    for size, scaler in (((4, 6), 0), ((16, 24), 1), ((10, 15), 0.5)):
        condition = net.encode(lr, size)
        assert condition.shape == (2, 4, *size)
        torch.testing.assert_close(condition[:, 3], torch.full((2, *size), float(scaler)))
        torch.testing.assert_close(condition[:, :3], net.encoder(2 * lr - 1, size))


def test_it_sees_the_condition_the_scaler_the_state_and_the_noise_level():
    net = tiny()
    condition, state, gamma = torch.rand(1, 4, 8, 8), torch.randn(1, 3, 8, 8), torch.tensor([0.5])

    def out(condition: Tensor = condition, state: Tensor = state, gamma: Tensor = gamma) -> Tensor:
        return net(condition, state, Level(gamma, torch.tensor([1]))).detach()

    other = condition.clone()
    other[:, 3] += 0.5
    picture = condition.clone()
    picture[:, :3] += 0.1
    changed = [out(condition=picture), out(condition=other), out(state=state + 0.1), out(gamma=gamma - 0.3)]
    assert all((one - out()).abs().max() > 1e-4 for one in changed)


def test_the_implicit_layer_reads_each_pixel_by_itself():
    """What is computed once a feature pixel is what the two maps give at every pixel, for sides of any ratio."""
    part, x, shift = ImplicitUpsample(4), torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    one, two = torch.randn(2, 4), torch.randn(2, 4)
    length = (one**2 + two**2).sqrt()
    mixed = x * (one / length)[..., None, None] + shift * (two / length)[..., None, None]
    feat = functional.leaky_relu(mixed, 0.2) * 2**0.5
    out = part(x, (7, 8), one, two, shift)
    for row, column in ((0, 0), (3, 4), (6, 7), (5, 2)):
        y, x_ = (row + 0.5) * 3 / 7, (column + 0.5) * 5 / 8
        place = torch.tensor([2 * (y - int(y)) - 1, 2 * (x_ - int(x_)) - 1]).expand(2, 2)
        expected = part.imnet(torch.cat([feat[:, :, int(y), int(x_)], place], 1))
        torch.testing.assert_close(out[:, :, row, column], expected, rtol=1e-4, atol=1e-5)


def test_the_nearest_pixel_and_the_distance_to_it():
    index, distance = nearest(4, 9, torch.device("cpu"))
    assert index.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3]  # the fifth lies between 1 and 2
    middles = (torch.arange(9) + 0.5) * 4 / 9
    torch.testing.assert_close(distance, 2 * (middles - index - 0.5))


def test_equalised_layers_start_normal_and_others_orthogonal():
    net = sr_models.build("idm", 4, **TINY | {"channels": 32, "groups": 4})
    weights = torch.cat([part.weight.flatten() for part in net.modules() if isinstance(part, EqualConv | EqualLinear)])
    assert weights.std().item() == pytest.approx(1, abs=0.02)
    flat = net.encoder.head[0].weight.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(6), rtol=0, atol=1e-5)
    assert all((net.condition_scale1[level].bias == 1).all() for level in ("1", "2"))


def test_all_weights_are_trained():
    net = tiny().train()
    condition = net.encode(torch.rand(2, 3, 3, 5), (10, 16))
    net(condition, torch.randn(2, 3, 10, 16), Level(torch.rand(2), torch.ones(2, dtype=torch.int64))).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("changes", [{}, {"attention": (), "mults": (1, 3), "blocks": 2, "encoder_blocks": 1}])
def test_a_plan_knows_the_cost_of_a_call(changes):
    net, total = tiny(2, **changes), 0

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += layer.weight.numel() * output.shape[2] * output.shape[3]

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | EqualConv):
            layer.register_forward_hook(count)
        if isinstance(layer, ImplicitUpsample):
            channels = layer.imnet[1].out_features
            layer.register_forward_pre_hook(lambda _, given, c=channels: add(512 * c * given[0].shape[2] ** 2))

    def add(more: int) -> None:
        nonlocal total
        total += more

    condition = net.encode(torch.zeros(1, 3, 8, 8), (16, 16))
    net(condition, torch.zeros(1, 3, 16, 16), Level(torch.ones(1), torch.ones(1, dtype=torch.int64)))
    assert sr_models.multiply_adds("idm", 2, TINY | changes) == pytest.approx(total / 8**2)


@pytest.mark.parametrize(
    ("scale", "values", "said"),
    [
        (0.5, {}, r"model 'idm' has no scale 0\.5 \(it has 1, 2, 3, 4, 5, 8; any other from 1 to 64\)"),
        (100, {}, "has no scale 100"),
        (4, {"highest_scale": 1}, "highest_scale: .*greater than 1"),
        (4, {"channels": 48}, "channels must be a multiple of groups"),
    ],
)
def test_impossible_networks_are_refused(scale, values, said):
    with pytest.raises(sr_models.InputError, match=said):
        sr_models.check("idm", scale, values)
    with pytest.raises(
        sr_models.InputError,
        match=r"'sr3' has no scale 2\.5 \(it has 1, 2, 3, 4, 5, 8; any other whole one from 1 to 64\)",
    ):
        sr_models.check("sr3", 2.5, {})


def test_scales_beyond_p_of_1_are_told():
    of = IDMHyper(highest_scale=8)
    assert (of.beyond(1), of.beyond(8)) == ("", "")
    assert of.beyond(12) == "x12 is beyond highest_scale 8: idm is told p = 1.57, of 0 to 1"
    told = tiny(12, highest_scale=8).encode(torch.rand(1, 3, 4, 4), (48, 48))[0, 3, 0, 0].detach()
    assert float(told) == pytest.approx(11 / 7)


def test_pictures_of_any_scale_and_size_are_drawn_whole():
    lr = torch.rand(1, 3, 6, 9)
    for scale, size in ((2, (12, 18)), (2.5, (15, 23)), (3, (18, 27)), (4, (24, 36))):
        sampling = Sampling(sampler="idm_ddim", steps=3)
        sr = super_resolve(tiny(scale), lr, options=Options(sampling=sampling)).sr
        assert sr.shape == (1, 3, *size) and sr.isfinite().all()
    with pytest.raises(sr_models.InputError, match=r"tiles are for whole scales, got 2\.5"):
        super_resolve(tiny(2.5), lr, options=Options(sampling=Sampling(steps=2), tile=4, overlap=0))
