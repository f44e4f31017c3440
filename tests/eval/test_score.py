"""The row of one model on one image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval import PROTOCOLS, benchmarks
from eval.benchmarks import Benchmark
from eval.fidelity import score
from eval.score import score_image
from sr_models import build
from sr_models.errors import InputError
from sr_models.images import pixels_sha256
from sr_models.imaging import resize, to_float

CLASSICAL = PROTOCOLS["classical"]


@pytest.fixture
def two_images(tmp_path: Path) -> Benchmark:
    for seed, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (33, 41, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    return benchmarks.load("mine", 2, tmp_path)


def test_a_row_says_what_its_numbers_depend_on(two_images: Benchmark) -> None:
    row = score_image(build("bicubic", 2), two_images, 1, protocol=CLASSICAL, metrics=["psnr_y", "ssim_rgb"])
    lr, hr = two_images.read(1)
    by_hand = score(to_float(resize(lr, 2)), to_float(hr), scale=2, protocol=CLASSICAL, metrics=["psnr_y", "ssim_rgb"])
    assert 0 < row.pop("seconds") < 10
    assert row == {
        "benchmark": "mine",
        "image": "b",
        "index": 1,
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
        "psnr_y": by_hand["psnr_y"][0],
        "ssim_rgb": by_hand["ssim_rgb"][0],
    }


def test_an_image_too_small_for_the_metric_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(tmp_path / "tiny.png")
    tiny = benchmarks.load("mine", 2, tmp_path)
    with pytest.raises(InputError, match=r"tiny\.png.*too small: SSIM's window is 11 px, 8 are left"):
        score_image(build("bicubic", 2), tiny, 0, protocol=CLASSICAL, metrics=["ssim_y"])
