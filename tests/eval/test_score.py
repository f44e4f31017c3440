"""The row of one model on one image, and what draws of a stochastic network leave in it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval import PROTOCOLS, benchmarks
from eval import score as eval_score
from eval.benchmarks import Benchmark
from eval.metrics.fidelity import score
from eval.metrics.scorer import Scorer
from eval.protocol import UNCERTAINTY
from eval.score import Scored, machine_bytes, score_image
from eval.score import noisy as score_noise
from sr_models import build
from sr_models.errors import InputError
from sr_models.images.files import pixels_sha256
from sr_models.images.matlab import resize
from sr_models.images.operators import quantize, to_float
from sr_models.inference.super_resolve import Options, super_resolve
from sr_models.networks.base import SRNetwork
from sr_models.networks.sigma import SigmaHead, WithSigma
from sr_models.rng import noise_seed

CLASSICAL = PROTOCOLS["classical"]
BOTH = ["psnr_y", "ssim_rgb"]


def scorer(*metrics: str, protocol: str = "classical") -> Scorer:
    return Scorer(PROTOCOLS[protocol], metrics, scale=2, kernel="matlab-bicubic-replicate-u8")


@pytest.fixture
def two_images(tmp_path: Path) -> Benchmark:
    for seed, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (33, 41, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    return benchmarks.load("mine", 2, tmp_path)


@pytest.fixture
def noisy() -> SRNetwork:
    torch.manual_seed(0)
    return build("noisy_edsr", 2, channels=8, blocks=1, noise=30.0)


def test_a_row_says_what_its_numbers_depend_on(two_images: Benchmark) -> None:
    scored = score_image(build("bicubic", 2), two_images, 1, scorer=scorer(*BOTH), draws=10, seed=3)
    lr, hr = two_images.read(1)
    by_hand = score(to_float(resize(lr, 2)), to_float(hr), scale=2, protocol=CLASSICAL, metrics=BOTH)
    assert 0 < scored.row.pop("seconds") < 10
    assert scored.row == {
        "benchmark": "mine",
        "image": "b",
        "index": 1,
        "images": 2,
        "scale": 2,
        "protocol": "classical-y-b2",
        "kernel": "matlab-bicubic-replicate-u8",
        "width": 40,
        "height": 32,
        "lr_sha256": pixels_sha256(lr),
        "hr_sha256": pixels_sha256(hr),
        "precision": "fp32",
        "channels_last": False,
        "compile": False,
        "tile": None,
        "overlap": 32,
        "self_ensemble": False,
        "draws": 1,
        "deterministic": True,
        "noise_seed": None,
        "psnr_y": by_hand["psnr_y"][0],
        "ssim_rgb": by_hand["ssim_rgb"][0],
        "g_std.psnr_y": 0.0,
        "g_std.ssim_rgb": 0.0,
        "l_std": 0.0,
        "per_draw": {"psnr_y": by_hand["psnr_y"], "ssim_rgb": by_hand["ssim_rgb"]},
        "not_computed": {},
    }


def draw_by_hand(net: SRNetwork, bench: Benchmark, index: int, seed: int, number: int) -> torch.Tensor:
    lr = bench.read(index)[0]
    return super_resolve(net, to_float(lr), seeds=(noise_seed(seed, pixels_sha256(lr), number),)).sr


def test_draws_are_averaged_and_their_spread_is_that_of_the_population(two_images: Benchmark, noisy: SRNetwork) -> None:
    scored = score_image(noisy, two_images, 0, scorer=scorer(*BOTH), draws=4, seed=7)
    row, hr = scored.row, to_float(two_images.read(0)[1])
    draws = [draw_by_hand(noisy, two_images, 0, 7, number) for number in range(4)]
    values = [score(sr, hr, scale=2, protocol=CLASSICAL, metrics=BOTH) for sr in draws]
    assert (row["draws"], row["deterministic"], row["noise_seed"]) == (4, False, 7)
    assert row["protocol"] == "classical-y-b2-n4"
    for name in BOTH:
        expected = [value[name][0] for value in values]
        assert row["per_draw"][name] == expected
        assert row[name] == pytest.approx(np.mean(expected), rel=1e-12)
        assert row[f"g_std.{name}"] == pytest.approx(np.std(expected), rel=1e-9)
        assert np.std(expected) > 1e-4
    inside = torch.cat([quantize(sr) for sr in draws]).double().numpy()[:, :, 2:-2, 2:-2]
    assert row["l_std"] == pytest.approx(inside.std(axis=0).mean(), abs=1e-6)
    assert row["l_std"] > 0.001
    best, worst = (int(pick(row["per_draw"]["psnr_y"])) for pick in (np.argmax, np.argmin))
    assert scored.by == "psnr_y" and scored.best is not None and scored.worst is not None
    assert (scored.best.number, scored.worst.number) == (best, worst)
    assert np.array_equal(scored.best.picture, (quantize(draws[best])[0] * 255).round().byte().permute(1, 2, 0).numpy())
    assert torch.equal(scored.first.sr, draws[0])


def test_a_metric_of_a_plugin_that_fails_in_one_draw_has_no_value(
    two_images: Benchmark, noisy: SRNetwork, plugin
) -> None:
    source = """
from eval import Metric
calls = []
def third(sr):
    calls.append(sr)
    if len(calls) == 3: raise RuntimeError("no more")
    return sr.mean(dim=(1, 2, 3))
ROW = Metric(unit="", higher_is_better=True, reads=("sr",), decimals=2, description="own", compute=third)
"""
    plugin(source, {"metrics": {"third": "ROW"}}, "pc")
    scored = score_image(noisy, two_images, 0, scorer=scorer("third", "ssim_y"), draws=4, seed=7)
    where = str(two_images.pairs[0].hr)
    assert scored.row["not_computed"] == {
        "third": f"plug-in pc 1.0: metric 'third' on {where!r}: RuntimeError: no more"
    }
    assert scored.row["per_draw"].keys() == {"ssim_y"} and len(scored.row["per_draw"]["ssim_y"]) == 4
    assert "third" not in scored.row and "g_std.third" not in scored.row and scored.by == ""
    with pytest.raises(InputError, match=r"^plug-in pc 1.0: metric 'third': RuntimeError: no more$"):
        sys.modules["pc"].calls[:] = [None, None]
        scorer("third").image(torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 20))


def test_a_metric_that_runs_out_of_memory_is_no_outcome_of_a_picture(
    two_images: Benchmark, noisy: SRNetwork, plugin
) -> None:
    """Else the next scoring would take it for measured."""
    source = """
from eval import Metric
def hungry(sr): raise MemoryError("900 GB")
ROW = Metric(unit="", higher_is_better=True, reads=("sr",), decimals=2, description="own", compute=hungry)
"""
    plugin(source, {"metrics": {"hungry": "ROW"}}, "pc")
    with pytest.raises(MemoryError, match="900 GB"):
        score_image(noisy, two_images, 0, scorer=scorer("hungry"), draws=1, seed=7)


def test_a_metric_of_a_plugin_cannot_change_what_others_measure(
    two_images: Benchmark, noisy: SRNetwork, plugin
) -> None:
    source = """
from eval import Metric
def spoil(sr, hr):
    sr.zero_(), hr.zero_()
    return sr.mean(dim=(1, 2, 3))
ROW = Metric(unit="", higher_is_better=True, reads=("sr", "hr"), decimals=2, description="own", compute=spoil)
"""
    plugin(source, {"metrics": {"spoil": "ROW"}}, "pc")
    beside, alone = (
        score_image(noisy, two_images, 0, scorer=scorer(*names), draws=3, seed=7).row
        for names in (["spoil", "psnr_y", "ssim_y"], ["psnr_y", "ssim_y"])
    )
    assert beside["per_draw"] == {"spoil": [0.0] * 3} | alone["per_draw"]


def test_noisy_inputs_are_fixed_and_alike_for_every_network(two_images: Benchmark, noisy: SRNetwork) -> None:
    """Each draw is of another one, in 8 bits; clean scores keep their name, and those of noisy inputs have another."""
    clean, ask = scorer(*BOTH), {"draws": 4, "seed": 7}
    of_noise = Scorer(
        clean.protocol.model_copy(update={"lr_noise": 0.01}), BOTH, scale=2, kernel="matlab-bicubic-replicate-u8"
    )
    bicubic = build("bicubic", 2)
    row = score_image(bicubic, two_images, 0, scorer=of_noise, **ask).row
    assert (row["protocol"], row["draws"]) == ("classical-y-b2-n4-noise0.01", 4)
    assert (row["deterministic"], row["noise_seed"]) == (False, 7) and row["g_std.psnr_y"] > 0 < row["l_std"]
    lr, hr = two_images.read(0)
    sha = pixels_sha256(lr)
    inputs = [score_noise(lr, 0.01, noise_seed(7, sha, number)) for number in range(4)]
    by_hand = [score(to_float(resize(x, 2)), to_float(hr), scale=2, protocol=CLASSICAL, metrics=BOTH) for x in inputs]
    for name in BOTH:
        assert row["per_draw"][name] == [values[name][0] for values in by_hand]
        assert row[name] == pytest.approx(np.mean(row["per_draw"][name]), rel=1e-12)
    seen = [to_float(x) for x in inputs]
    found = score_image(noisy, two_images, 0, scorer=of_noise, **ask)
    first = super_resolve(noisy, seen[0], seeds=(noise_seed(7, sha, 0),)).sr
    assert torch.equal(found.first.sr, first), "the same input, and the network's own noise beside"
    assert score_image(bicubic, two_images, 0, scorer=clean, **ask).row["protocol"] == "classical-y-b2-n4"
    again = score_image(bicubic, two_images, 0, scorer=of_noise, **ask).row
    assert again["per_draw"] == row["per_draw"]


def test_noise_of_a_picture_has_its_strength_in_each_channel_and_keeps_to_8_bits() -> None:
    lr = np.full((200, 300, 3), 128, np.uint8)
    x = score_noise(lr, 0.01, 5)
    error = (x.astype(np.float64) - 128) / 255
    assert x.dtype == np.uint8 and not np.array_equal(x, score_noise(lr, 0.01, 6))
    assert error.std() == pytest.approx(np.hypot(0.01, 1 / 255 / np.sqrt(12)), rel=0.01)
    assert np.abs(np.corrcoef(error.reshape(-1, 3).T) - np.eye(3)).max() < 0.02
    ends = score_noise(np.concatenate([0 * lr, 0 * lr + 255]), 0.1, 5)
    assert (ends[:200] < 130).all() and (ends[200:] > 125).all()


def numbers(scored: Scored) -> dict:
    return {key: value for key, value in scored.row.items() if key not in ("seconds", "index", "images", "benchmark")}


def test_an_images_draws_do_not_depend_on_the_others(two_images: Benchmark, noisy: SRNetwork, tmp_path: Path) -> None:
    """Neither on the order, nor on the set, nor on how many draws follow."""
    ask = {"scorer": scorer(*BOTH), "seed": 7}
    forth = [score_image(noisy, two_images, i, draws=3, **ask) for i in (0, 1)]
    back = [score_image(noisy, two_images, i, draws=3, **ask) for i in (1, 0)]
    assert [numbers(one) for one in forth] == [numbers(one) for one in reversed(back)]
    (tmp_path / "a.png").unlink()
    alone = score_image(noisy, benchmarks.load("mine", 2, tmp_path), 0, draws=3, **ask)
    assert numbers(alone) == numbers(forth[1])
    more = score_image(noisy, two_images, 1, draws=5, **ask)
    assert more.row["per_draw"]["psnr_y"][:3] == forth[1].row["per_draw"]["psnr_y"]
    other = score_image(noisy, two_images, 1, scorer=ask["scorer"], draws=3, seed=8)
    assert other.row["per_draw"]["psnr_y"][0] not in more.row["per_draw"]["psnr_y"]


def test_tiles_see_the_noise_of_the_whole_picture(two_images: Benchmark, noisy: SRNetwork) -> None:
    whole, tiled = (
        score_image(noisy, two_images, 0, scorer=scorer("psnr_y"), draws=2, options=options).row
        for options in (Options(), Options(tile=7, overlap=6))
    )
    assert tiled["per_draw"]["psnr_y"] == pytest.approx(whole["per_draw"]["psnr_y"], abs=1e-3)
    assert tiled["l_std"] == pytest.approx(whole["l_std"], abs=1e-5)
    assert tiled["tile"] == 7


def test_a_network_without_noise_strength_spreads_by_exactly_0(two_images: Benchmark) -> None:
    still = build("noisy_edsr", 2, channels=8, blocks=1, noise=0.0)
    row = score_image(still, two_images, 0, scorer=scorer("psnr_y"), draws=3).row
    assert (row["draws"], row["deterministic"]) == (3, False)
    assert (row["g_std.psnr_y"], row["l_std"]) == (0.0, 0.0)


def test_draws_are_saved_in_a_folder_each(two_images: Benchmark, noisy: SRNetwork, tmp_path: Path) -> None:
    score_image(noisy, two_images, 0, scorer=scorer("psnr_y"), draws=2, save_in=tmp_path / "sr")
    saved = sorted(path.relative_to(tmp_path / "sr").as_posix() for path in (tmp_path / "sr").rglob("*.png"))
    assert saved == ["draw_0/a.png", "draw_1/a.png"]
    score_image(build("bicubic", 2), two_images, 0, scorer=scorer("psnr_y"), draws=2, save_in=tmp_path / "one")
    assert (tmp_path / "one" / "a.png").is_file()


def test_a_large_image_is_announced_and_one_that_memory_cannot_hold_is_refused(
    two_images: Benchmark, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2**28 < machine_bytes() < 2**50
    height, width = two_images.read(0)[1].shape[:2]
    monkeypatch.setattr(eval_score, "_LARGE_PX", height * width)
    score_image(build("bicubic", 2), two_images, 0, scorer=scorer("psnr_y"), draws=1)
    assert f"{width}x{height} pixels; scoring it takes about 0.0 GB, and minutes\n" in capsys.readouterr().err
    monkeypatch.setattr(eval_score, "_BYTES_A_PIXEL", 1e15)
    with pytest.raises(
        InputError, match=rf"image '.*': {width}x{height} pixels take about .* GB to be scored, and this"
    ):
        score_image(build("bicubic", 2), two_images, 0, scorer=scorer("psnr_y"), draws=1)
    monkeypatch.setattr(eval_score, "_LARGE_PX", height * width + 1)
    score_image(build("bicubic", 2), two_images, 0, scorer=scorer("psnr_y"), draws=1)
    assert capsys.readouterr().err == ""


def test_a_containers_limit_is_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval_score, "_CONTAINER", tmp_path / "memory.max")
    physical = machine_bytes()
    for text, there in (("max\n", physical), ("1000000\n", 1_000_000), (f"{2 * physical}", physical)):
        (tmp_path / "memory.max").write_text(text)
        assert machine_bytes() == there


def test_what_needs_sigma_has_it_or_a_reason(two_images: Benchmark) -> None:
    net = build("edsr_baseline", 2, channels=8, blocks=1)
    ask = {"scorer": scorer("psnr_y", *UNCERTAINTY), "draws": 1}
    without = score_image(net, two_images, 0, **ask).row
    assert without["not_computed"].keys() == set(UNCERTAINTY)
    assert "pll" not in without and "sigma" in without["not_computed"]["pll"]
    model = WithSigma(net, SigmaHead(8, 2, width=4, constant=0.02))
    with torch.no_grad():
        model.head.tail[0].weight.mul_(100)  # before it has learned anything it hardly varies
    having = score_image(model, two_images, 0, **ask)
    assert having.row["not_computed"] == {} and all(np.isfinite(having.row[name]) for name in UNCERTAINTY)
    assert having.first.sigma is not None


def test_a_constant_sigma_is_called_so_and_has_no_score(two_images: Benchmark) -> None:
    model = WithSigma(build("edsr_baseline", 2, channels=8, blocks=1), SigmaHead(8, 2, width=4, constant=0.02))
    with torch.no_grad():
        model.head.tail[0].weight.zero_()
        model.head.tail[0].bias.fill_(-200.0)  # as a saturated sigmoid leaves it: exactly 0
    row = score_image(model, two_images, 0, scorer=scorer("psnr_y", *UNCERTAINTY), draws=1).row
    of_sigma = {"psnr_sigma", "sigma_r", "pll"}
    assert row["not_computed"] == dict.fromkeys(
        of_sigma, "sigma is constant (its standard deviation is below 1% of its mean)"
    )
    assert not of_sigma & (row.keys() | row["per_draw"].keys()) and np.isfinite(row["psnr_constant"])


@pytest.mark.parametrize("metric", ["ssim_y", "l_std"])
def test_an_image_too_small_for_the_metric_is_named(tmp_path: Path, metric: str) -> None:
    side = {"ssim_y": 12, "l_std": 4}[metric]
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(tmp_path / "tiny.png")
    tiny = benchmarks.load("mine", 2, tmp_path)
    said = {"ssim_y": "too small: SSIM's window is 11 px, 8 are left", "l_std": "too small for a border of 2 px"}
    with pytest.raises(InputError, match=rf"tiny\.png.*{said[metric]}"):
        score_image(build("bicubic", 2), tiny, 0, scorer=scorer(metric), draws=1)
