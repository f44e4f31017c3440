"""A photograph is enlarged as evaluation does it; tiles come from memory, and are said where they matter."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sr_models
from eval import enlarge
from eval.benchmarks import load
from eval.enlarge import Enlarger
from eval.metrics.scorer import Scorer
from eval.protocol import PROTOCOLS
from eval.score import score_image
from sr_models.diffusion.samplers import settled
from sr_models.errors import InputError
from sr_models.hyper.sampling import Sampling
from sr_models.images.files import read_image
from sr_models.images.matlab import downscale
from sr_models.inference.bound import Bound
from sr_models.inference.super_resolve import Options

SMALL = {"channels": 8, "blocks": 1}
SR3 = {"channels": 8, "mults": [1, 2], "attention": [], "blocks": 1, "dropout": 0.0, "groups": 4}
RANDOM = np.random.default_rng(0)


def enlarger(name: str, max_bytes: int = 10**9, seed: int = 0, **more) -> Enlarger:
    torch.manual_seed(1)
    hyper = SR3 if name == "sr3" else SMALL | ({"channels": 16} if name == "imdn" else {})
    net = sr_models.build(name, 2, **hyper)
    if name == "sr3":
        more["sampling"] = settled(net.process, Sampling(steps=3))
    bound = Bound.of(net, max_bytes, tile_exact=sr_models.tile_exact(name, hyper))
    return Enlarger(model=net, options=Options(**more), bound=bound, seed=seed)


@pytest.mark.parametrize("name", ["edsr_baseline", "imdn", "noisy_edsr", "sr3"])
def test_its_pixels_are_those_that_evaluation_scores(name, tmp_path):
    hr = RANDOM.integers(0, 256, (36, 28, 3), dtype=np.uint8)
    (tmp_path / "hr").mkdir()
    (tmp_path / "lr").mkdir()
    Image.fromarray(hr).save(tmp_path / "hr" / "a.png")
    Image.fromarray(downscale(hr, 2)).save(tmp_path / "lr" / "a.png")
    bench, made = load("toys", 2, tmp_path / "hr", tmp_path / "lr"), enlarger(name, seed=7)
    scorer = Scorer(PROTOCOLS["classical"], ["psnr_y"], scale=2, kernel="files")
    out = tmp_path / "scored"
    score_image(made.model, bench, 0, scorer=scorer, draws=1, seed=7, options=made.options, save_in=out)
    lr, shares = read_image(tmp_path / "lr" / "a.png"), []
    picture = made.picture(lr, made.how(18, 14)[0], shares.append)
    assert (picture == read_image(next(out.rglob("a.png")))).all()
    assert shares == sorted(shares) and shares[-1] == 1, "all of the work is told of"


def test_what_does_not_fit_is_cut_into_tiles_that_change_nothing_or_are_said():
    lr = RANDOM.integers(0, 256, (40, 70, 3), dtype=np.uint8)
    made = enlarger("edsr_baseline")
    options, note = made.how(40, 70)
    whole = made.picture(lr, options, lambda _: None)
    assert (options.tile, note) == (None, "")
    few = enlarger("edsr_baseline", max_bytes=round(made.bound.pixel_bytes * 35 * 35))
    options, note = few.how(40, 70)
    shares: list[float] = []
    assert options.tile and note == "" and (few.picture(lr, options, shares.append) == whole).all()
    assert len(shares) > 2 and shares[-1] == 1

    pooled = enlarger("imdn")
    few = enlarger("imdn", max_bytes=round(pooled.bound.pixel_bytes * 80 * 30), overlap=8)
    options, note = few.how(40, 70)
    assert options.tile and options.overlap == 8 and "looks at all of a picture" in note
    assert few.picture(lr, options, lambda _: None).shape == (80, 140, 3)


def test_a_diffusion_network_gets_tiles_that_its_windows_divide():
    made = enlarger("sr3")
    few = enlarger("sr3", max_bytes=round(made.bound.pixel_bytes * 17 * 17))
    options, note = few.how(20, 30)
    assert options.crop_rule is not None and options.crop_rule.length == 16 and note
    lr = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    shares: list[float] = []
    assert few.picture(lr, options, shares.append).shape == (40, 60, 3) and shares[-1] == 1


def test_a_picture_that_this_machine_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(enlarge, "machine_bytes", lambda: 10**6)
    with pytest.raises(InputError, match=r"400x200 pixels take about 0\.0 GB, and this machine has 0\.0 GB"):
        enlarger("edsr_baseline").how(100, 200)
    assert enlarge.memory_share("cpu") == 10**6 // 2
