"""Pictures drawn from a denoiser: the same whatever the batch, the tiles' order or the seeds beside; crops by name."""

import itertools
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

import sr_models
from sr_models.diffusion.base import Denoiser
from sr_models.diffusion.process import Level, Process
from sr_models.diffusion.samplers import sample_state
from sr_models.diffusion.sr3 import SR3
from sr_models.errors import InputError
from sr_models.hyper.crops import CROP_RULES, CropRule, Crops
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.images.operators import pad_to_window
from sr_models.inference import sampling as module
from sr_models.inference.bound import Bound
from sr_models.inference.super_resolve import Options, super_resolve
from sr_models.inference.tiling import crop_starts, tile_starts
from sr_models.rng import noise_field

ORACLE = Path(__file__).resolve().parents[4] / "shared" / "spec" / "oracles" / "idm_tiles_handover.npz"
TINY = {"channels": 8, "mults": (1, 2), "attention": (), "blocks": 1, "dropout": 0.1, "groups": 4}
PASTED = [rule for rule in CROP_RULES.values() if rule.fused is None]
DDIM = Sampling(sampler="ddim", steps=4)


@pytest.fixture
def net() -> SR3:
    torch.manual_seed(0)
    made = sr_models.build("sr3", 4, **TINY)
    assert isinstance(made, SR3)
    made.process = ProcessParams(T=40, beta_end=0.3)
    return made


def draw(net: SR3, lr: torch.Tensor, seeds: tuple[int, ...] = (5,), **options: object) -> torch.Tensor:
    return super_resolve(net, lr, seeds=seeds, options=Options(sampling=DDIM, **options)).sr


def test_a_picture_is_what_its_seed_and_steps_make_of_it(net: SR3) -> None:
    lr = torch.rand(1, 3, 5, 6)
    net.eval()
    condition = net.encode(lr, (20, 24))

    def predict(state: torch.Tensor, level: Level) -> torch.Tensor:
        return net(condition, state, level).detach()

    def noise(step: int) -> torch.Tensor:
        return torch.from_numpy(noise_field(5, (3, 20, 24), step))[None]

    for sampling in (Sampling(), DDIM, Sampling(sampler="truncated", steps=9)):
        state = sample_state(predict, Process.of(net.process), noise, sampling)
        found = super_resolve(net.train(), lr, seeds=(5,), options=Options(sampling=sampling)).sr
        net.eval()
        torch.testing.assert_close(found, net.decode(state).clamp(0, 1), rtol=0, atol=1e-6)


def test_steps_have_noise_of_their_own_and_the_first_is_that_of_other_networks() -> None:
    fields = [noise_field(5, (3, 4, 4), step) for step in (0, 1, 2)]
    assert np.array_equal(fields[0], noise_field(5, (3, 4, 4)))
    assert not np.array_equal(fields[0], fields[1]) and not np.array_equal(fields[1], fields[2])


def test_a_batch_of_images_and_seeds_is_its_parts(net: SR3) -> None:
    lr = torch.rand(3, 3, 8, 7)
    whole = draw(net, lr, seeds=(1, 2, 1))
    parts = torch.cat([draw(net, lr[i : i + 1], seeds=(seed,)) for i, seed in enumerate((1, 2, 1))])
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-4)
    several = draw(net, lr[:1].expand(2, -1, -1, -1), seeds=(1, 2))
    assert (several[0] - several[1]).abs().max() > 0.01
    torch.testing.assert_close(several[0], whole[0], rtol=0, atol=1e-4)


def test_any_size_is_padded_to_the_windows_and_cut_back(net: SR3) -> None:
    net = sr_models.build("sr3", 1, **TINY)  # type: ignore[assignment]
    net.process = ProcessParams(T=40, beta_end=0.3)
    assert net.window == 2
    lr = torch.rand(1, 3, 5, 7)
    assert torch.equal(draw(net, lr), draw(net, pad_to_window(lr, 2))[..., :5, :7])


def test_tiles_share_one_field_of_noise_and_their_order_does_not_count(
    net: SR3, monkeypatch: pytest.MonkeyPatch
) -> None:
    lr = torch.rand(2, 3, 21, 13)
    tiled = draw(net, lr, seeds=(1, 2), tile=6, overlap=2)
    alone = torch.cat([draw(net, lr[i : i + 1], seeds=(i + 1,), tile=6, overlap=2) for i in range(2)])
    torch.testing.assert_close(tiled, alone, rtol=0, atol=1e-4)
    monkeypatch.setattr(module, "crop_starts", lambda *given: crop_starts(*given)[::-1])
    torch.testing.assert_close(draw(net, lr, seeds=(1, 2), tile=6, overlap=2), tiled, rtol=0, atol=1e-4)


def test_each_tile_is_the_sample_of_its_part_with_its_part_of_the_noise(net: SR3) -> None:
    lr = torch.rand(1, 3, 9, 22)
    tiled = draw(net.eval(), lr, tile=6, overlap=2)  # tiles of 10 pixels, the picture is padded to 10 rows
    whole = torch.cat([lr, lr[:, :, -1:]], 2)
    columns = crop_starts(22, CropRule(10, 4), 4)
    assert crop_starts(10, CropRule(10, 4), 4) == [(0, (0, 40))] and len(columns) == 3
    for left, (start, end) in columns:
        seen = slice(4 * left, 4 * left + 40)
        condition = net.encode(whole[..., left : left + 10], (40, 40))

        def predict(state: torch.Tensor, level: Level, condition: torch.Tensor = condition) -> torch.Tensor:
            return net(condition, state, level).detach()

        def noise(step: int, seen: slice = seen) -> torch.Tensor:
            return torch.from_numpy(noise_field(5, (3, 40, 88), step))[None, ..., seen]

        state = sample_state(predict, Process.of(net.process), noise, DDIM)
        part = net.decode(state).clamp(0, 1)[..., :36, start - seen.start : end - seen.start]
        torch.testing.assert_close(tiled[..., start:end], part, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", [0, 1])
def test_dreams_crops_are_idms(case: int) -> None:
    if not ORACLE.exists():
        pytest.skip("needs ../shared/spec")
    told = np.load(ORACLE)
    length, overlap, scale, height, width = told[f"case{case}/L_overlap_scale_H_W"].tolist()
    rule = CROP_RULES["dream40o5"]
    assert (length, overlap) == (rule.length, rule.overlap)
    rows, columns = (crop_starts(size, rule, scale) for size in (height, width))
    starts = [(top, left) for top, _ in rows for left, _ in columns]
    tops, lefts = (told[f"case{case}/tile_{side}_start"].tolist() for side in ("row", "col"))
    assert starts == list(zip(tops, lefts, strict=True)) or starts == [
        (top // scale, left // scale) for top, left in zip(tops, lefts, strict=True)
    ]
    for axis, tiles in (("row", rows), ("col", columns)):
        source = np.concatenate([np.arange(first, last) - at * scale for at, (first, last) in tiles])
        assert source.tolist() == told[f"case{case}/source_{axis}_by_{axis}"].tolist()
        number = np.repeat(np.arange(len(tiles)), [last - first for _, (first, last) in tiles])
        named = told[f"case{case}/source_tile_by_{axis}"]
        assert (number == (named[:, 0] // len(columns) if axis == "row" else named % len(columns))).all()


@pytest.mark.parametrize("rule", [CropRule(7, 3), CropRule(8, 1), CropRule(5, 0), *PASTED])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_crops_cover_any_side_once_and_stay_inside_their_tiles(rule: CropRule, scale: int) -> None:
    for size in range(rule.length, 3 * rule.length + 2):
        tiles = crop_starts(size, rule, scale)
        edges = [own for _, own in tiles]
        assert edges[0][0] == 0 and edges[-1][1] == size * scale
        assert all(one[1] == after[0] for one, after in itertools.pairwise(edges))
        assert all(at * scale <= first < last <= (at + rule.length) * scale for at, (first, last) in tiles)
        assert all(0 <= at <= size - rule.length for at, _ in tiles)


class Latent(Denoiser):
    """The stub of CCSR's tiles, on the states of pictures of eight times their size: tiles disagree by a ramp."""

    scale, window = 1, 8

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b
        self.process = ProcessParams(T=1000, schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clamp=False)
        self.calls: list[tuple[torch.Tensor, int]] = []

    def encode(self, lr_BCHW: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        pooled = torch.nn.functional.avg_pool2d(lr_BCHW, 8)
        return 2 * torch.cat([pooled, pooled[:, :1]], 1) - 1

    def state_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        return 4, size[0] // 8, size[1] // 8

    def forward(self, condition: torch.Tensor, state_BCHW: torch.Tensor, level: Level) -> torch.Tensor:
        self.calls.append((state_BCHW, int(level.t[0]) - 1))
        height, width = state_BCHW.shape[2:]
        ramp = torch.linspace(-0.1, 0.1, height)[:, None] + torch.linspace(-0.2, 0.2, width)
        return self.a * state_BCHW + self.b * condition + ramp

    def decode(self, state_BCHW: torch.Tensor) -> torch.Tensor:
        return state_BCHW


@pytest.mark.parametrize("fused", ["gaussian", "uniform"])
def test_fused_tiles_are_ccsrs_call_by_call(fused, oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = oracle("ccsr_tiled_sampling")
    told = {name.partition("/")[2]: arrays[name] for name in arrays if name.startswith(fused)}
    noises = [told["x_T"], *told["noises_in_order"]]
    monkeypatch.setattr(module, "noise_field", lambda seed, shape, step: noises[step][0])
    net, (side, stride) = Latent(*arrays["stub_coef_x_clatent"].tolist()), arrays["tile_stride_latent"].tolist()
    sampling = Sampling(sampler="truncated", steps=9, t_max=0.6667, t_min=0.3333)
    rule = CropRule(8 * side, 8 * (side - stride), "gaussian_released" if fused == "gaussian" else fused)
    lr = torch.from_numpy(told["cond_img"])
    state = module.sample(net, net, lr, seeds=(0,), sampling=sampling, crops=rule, scale=1)
    assert [t for _, t in net.calls] == told["network_timesteps"].tolist()
    for (seen, _), wanted in zip(net.calls, told["network_inputs_tiles"], strict=True):
        torch.testing.assert_close(seen, torch.from_numpy(wanted), rtol=0, atol=1e-4)
    if fused == "gaussian":
        torch.testing.assert_close(state, torch.from_numpy(told["output_x0_latent"]), rtol=0, atol=1e-4)
    else:
        corners = itertools.product(tile_starts(80, rule), tile_starts(112, rule))
        parts = [state[..., i // 8 : i // 8 + side, j // 8 : j // 8 + side] for i, j in corners]
        wanted = torch.from_numpy(told["decoded_tile_latents"])
        torch.testing.assert_close(torch.stack(parts), wanted, rtol=0, atol=1e-4)


class Enlarging(Latent):
    """The same as a network at x4, with pictures of its states."""

    scale, window = 4, 2

    def encode(self, lr_BCHW: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return super().encode(torch.nn.functional.interpolate(lr_BCHW, size), size)

    def decode(self, state_BCHW: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(state_BCHW[:, :3], scale_factor=8)


@pytest.mark.parametrize("crops", ["ccsr128o64", "ccsr128o64released", "ccsr128o64mean", "dream64o8"])
def test_a_network_sees_tiles_of_one_size_on_a_canvas_and_without(crops: str) -> None:
    """CCSR's are 64 values of a latent, 32 apart: 512 pixels of SR, which the canvas of LR of 192 x 160 has 768 of."""
    seen = []
    for canvas in (None, "ccsr"):
        net = Enlarging(0.5, 0.1)
        options = Options(sampling=DDIM.model_copy(update={"canvas": canvas}), crops=crops)
        assert super_resolve(net, torch.rand(1, 3, 192, 160), options=options).sr.shape == (1, 3, 768, 640)
        seen.append([tuple(state.shape[2:]) for state, _ in net.calls])
    assert seen[0] == seen[1] and set(seen[0]) == {(8 * CROP_RULES[crops].length // 16,) * 2}
    if crops.startswith("ccsr"):
        assert len(seen[0]) == 4 * 2 * 2 and set(seen[0]) == {(64, 64)}


def test_one_fused_tile_is_the_picture_and_several_are_a_batchs_parts(
    net: SR3, monkeypatch: pytest.MonkeyPatch
) -> None:
    lr = torch.rand(2, 3, 8, 8)
    monkeypatch.setitem(CROP_RULES, "one", CropRule(8, 4, "gaussian"))
    monkeypatch.setitem(CROP_RULES, "many", CropRule(6, 2, "gaussian"))
    torch.testing.assert_close(draw(net, lr, crops="one"), draw(net, lr), rtol=0, atol=1e-4)
    whole = draw(net, lr, seeds=(1, 2), crops="many")
    parts = torch.cat([draw(net, lr[i : i + 1], seeds=(i + 1,), crops="many") for i in range(2)])
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-4)
    assert draw(net, lr[..., :5, :], crops="many").shape == (2, 3, 20, 32)


def test_crops_by_name_are_drawn(net: SR3) -> None:
    assert draw(net, torch.rand(1, 3, 8, 43), crops="dream40o5").shape == (1, 3, 32, 172)


def test_arithmetic_and_layout_change_little(net: SR3) -> None:
    lr = torch.rand(1, 3, 8, 8)
    plain = draw(net, lr)
    torch.testing.assert_close(draw(net, lr, channels_last=True), plain, rtol=0, atol=1e-4)
    bf16 = draw(net, lr, precision="bf16")
    assert bf16.dtype == torch.float32 and 0 < (bf16 - plain).abs().mean() < 0.05


def test_what_does_not_go_together_is_refused(net: SR3) -> None:
    with pytest.raises(InputError, match="self_ensemble is for networks of one pass"):
        Options(sampling=DDIM, self_ensemble=True)
    for given in ({"crops": "dream"}, {"crops": "dream40o5", "tile": 8}):
        with pytest.raises(InputError, match="crops is one of dream40o5, dream64o8, ccsr128o64, ccsr128o64released, "):
            Options(sampling=DDIM, **given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sampling goes with diffusion networks, got None for SR3"):
        super_resolve(net, torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="sampling goes with diffusion networks, got Sampling"):
        super_resolve(sr_models.build("bicubic", 2), torch.rand(1, 3, 8, 8), options=Options(sampling=DDIM))
    wide = sr_models.build("sr3", 1, **TINY)
    with pytest.raises(InputError, match="tiles of 9 LR pixels: this network needs multiples of 2"):
        super_resolve(wide, torch.rand(1, 3, 8, 8), options=Options(sampling=DDIM, tile=7, overlap=1))
    odd = CropRule(8, 3, "gaussian")
    with pytest.raises(InputError, match="tiles of 8 LR pixels with an overlap of 3: this network needs multiples"):
        module.sample(wide, wide, torch.rand(1, 3, 8, 8), seeds=(0,), sampling=DDIM, crops=odd, scale=1)  # type: ignore[arg-type]


def test_marks_and_columns_say_how_a_picture_was_drawn() -> None:
    options = Options(sampling=DDIM, crops="dream40o5", precision="bf16")
    assert options.marks == "+ddim4+dream40o5+bf16"
    assert options.columns == {**Options(precision="bf16").columns, "crops": "dream40o5", **DDIM.model_dump()}
    assert tuple(CROP_RULES) == get_args(Crops)
    assert "sampler" not in Options().columns and "sampling" not in Options().columns


@pytest.mark.parametrize(
    ("canvas", "tiles", "marks"),
    [
        (None, {}, "+ddim4"),
        ("ccsr", {}, "+ddim4ccsr"),
        (None, {"tile": 36, "overlap": 2}, "+ddim4+tile36o2"),
        ("ccsr", {"tile": 36, "overlap": 2}, "+ddim4ccsrlrtiles+tile36o2"),
        (None, {"crops": "ccsr128o64"}, "+ddim4+ccsr128o64symmetric"),
        (None, {"crops": "ccsr128o64released"}, "+ddim4+ccsr128o64released"),
        (None, {"crops": "ccsr128o64mean"}, "+ddim4+ccsr128o64mean"),
        ("ccsr", {"crops": "ccsr128o64mean"}, "+ddim4ccsrlrtiles+ccsr128o64mean"),
    ],
)
def test_marks_tell_pictures_from_those_of_tiles_as_they_were(canvas, tiles, marks) -> None:
    """Tiles were 4 times smaller on a canvas at x4, and the plain name of CCSR's had the released, lopsided weights."""
    assert Options(sampling=DDIM.model_copy(update={"canvas": canvas}), **tiles).marks == marks


def test_memory_is_that_of_one_call(net: SR3) -> None:
    bound = Bound.of(net, 10_000_000, tile_exact=sr_models.tile_exact("sr3", TINY))
    assert bound.overlap is None and bound.pixel_bytes > 0
    options = Options(sampling=DDIM, crops="dream40o5")
    assert bound.takes(500, 500, options) == bound.takes(40, 40, Options(sampling=DDIM))
    assert bound.options(500, 500, options) == options
    net.process = ProcessParams(T=4000)
    assert Bound.of(net, 10_000_000, tile_exact=False).pixel_bytes == bound.pixel_bytes
