"""PSNR and SSIM against scikit-image, closed forms and the published bicubic rows."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from eval import PROTOCOLS, Protocol, benchmarks
from eval.metrics import fidelity
from eval.metrics.fidelity import consistency, psnr, score, ssim
from eval.metrics.scorer import Scorer
from eval.score import score_image
from sr_models import build
from sr_models.errors import InputError
from sr_models.images.matlab import KERNEL, KERNELS, downscale, resize
from sr_models.images.operators import rgb_to_y, to_float, to_uint8

SHARED = Path(__file__).resolve().parents[4] / "shared"
GOLDEN_DB = 10 * math.log10(255**2)  # MSE 1: 48.1308 dB


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    """Three unlike pairs of 41x37 px in [0, 1], multiples of 1/255 (an awkward, non-square size)."""
    draw = torch.Generator().manual_seed(0)
    hr = torch.randint(0, 256, (3, 3, 41, 37), generator=draw)
    noise = torch.randint(-40, 41, hr.shape, generator=draw) * torch.tensor([0.2, 0.6, 1.0]).view(3, 1, 1, 1)
    return ((hr + noise).round().clamp(0, 255) / 255).float(), (hr / 255).float()


def to_numpy(x_1CHW: Tensor, shave: int) -> np.ndarray:
    height, width = x_1CHW.shape[-2:]
    return x_1CHW[0, :, shave : height - shave, shave : width - shave].permute(1, 2, 0).numpy()


def test_psnr_of_mse_one_is_48_13_db() -> None:
    hr = torch.full((1, 3, 16, 16), 100.0)
    assert psnr(hr + 1, hr, data_range=255, shave=0, luma=None).item() == pytest.approx(48.1308, abs=1e-4)
    assert psnr((hr + 1) / 255, hr / 255, data_range=1, shave=4, luma=None).item() == pytest.approx(GOLDEN_DB, abs=1e-4)


@pytest.mark.parametrize(("channel", "weight"), [(0, 65.481), (1, 128.553), (2, 24.966)])
def test_luma_psnr_of_one_level_in_one_channel(channel: int, weight: float) -> None:
    hr = torch.full((1, 3, 16, 16), 100.0, dtype=torch.float64)
    sr = hr.clone()
    sr[:, channel] += 1
    expected = GOLDEN_DB - 20 * math.log10(weight / 255)
    assert psnr(sr, hr, data_range=255, shave=2, luma="y").item() == pytest.approx(expected, abs=1e-6)


def test_rounded_luma_loses_a_small_step() -> None:
    hr = torch.full((1, 3, 16, 16), 100.0, dtype=torch.float64)
    sr = hr.clone()
    sr[:, 2] += 1  # moves Y by 0.098 levels: nothing is left of it in 8 bits
    assert psnr(sr, hr, data_range=255, shave=0, luma="y8").item() == math.inf


def test_equal_images_have_infinite_psnr_and_ssim_one(images: tuple[Tensor, Tensor]) -> None:
    hr = images[1]
    scores = score(hr, hr, scale=2, protocol=PROTOCOLS["classical"], metrics=["psnr_y", "ssim_rgb"])
    assert scores["psnr_y"] == [math.inf] * 3
    assert scores["ssim_rgb"] == pytest.approx([1.0] * 3, abs=1e-12)


@pytest.mark.parametrize("shave", [0, 3])
@pytest.mark.parametrize("luma", [None, "y"])
def test_equal_to_scikit_image(images: tuple[Tensor, Tensor], shave: int, luma: Literal["y"] | None) -> None:
    ours = {"data_range": 1.0, "shave": shave, "luma": luma}
    window = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for sr, hr in zip(*(stack.split(1) for stack in images), strict=True):
        x, y = (to_numpy(rgb_to_y(z.double()) if luma else z.double(), shave) for z in (sr, hr))
        expected_db = peak_signal_noise_ratio(y, x, data_range=1.0)
        expected_ssim = structural_similarity(x, y, channel_axis=-1, **window)
        assert psnr(sr, hr, **ours).item() == pytest.approx(expected_db, abs=1e-6)
        assert ssim(sr, hr, **ours).item() == pytest.approx(expected_ssim, abs=1e-7)


def test_ssim_does_not_depend_on_the_strips_it_works_in(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.rand(2, 2, 3, 57, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = ssim(x, y, data_range=1.0, shave=0, luma=None)
    for pixels in (0, 40 * 13, 40 * 46):  # strips of 10, 13 and 46 of the 47 rows
        monkeypatch.setattr(fidelity, "_STRIP_PX", pixels)
        torch.testing.assert_close(ssim(x, y, data_range=1.0, shave=0, luma=None), whole, rtol=1e-13, atol=0)


def test_ssim_of_two_flat_images_is_its_luminance_term() -> None:
    a, b, c1 = 0.3, 0.5, 0.01**2
    x, y = (torch.full((1, 3, 12, 14), v, dtype=torch.float64) for v in (a, b))
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    assert ssim(x, y, data_range=1, shave=0, luma=None).item() == pytest.approx(expected, abs=1e-12)
    assert ssim(255 * x, 255 * y, data_range=255, shave=0, luma=None).item() == pytest.approx(expected, abs=1e-12)


def test_a_score_does_not_depend_on_its_batch(images: tuple[Tensor, Tensor]) -> None:
    ask = {"scale": 2, "protocol": PROTOCOLS["classical"], "metrics": ["psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb"]}
    together = score(*images, **ask)
    for i in range(3):
        alone = score(images[0][i : i + 1], images[1][i : i + 1], **ask)
        for name, values in alone.items():
            assert values == pytest.approx([together[name][i]], rel=1e-13)


def test_errors_in_the_border_do_not_count(images: tuple[Tensor, Tensor]) -> None:
    hr = images[1]
    sr = hr.clone()
    sr[..., :4, :] = sr[..., -4:, :] = 1 - hr[..., :4, :]
    sr[..., :, :4] = sr[..., :, -4:] = 0
    assert score(sr, hr, scale=4, protocol=PROTOCOLS["classical"], metrics=["psnr_rgb"])["psnr_rgb"] == [math.inf] * 3
    assert max(score(sr, hr, scale=3, protocol=PROTOCOLS["classical"], metrics=["psnr_rgb"])["psnr_rgb"]) < 30


def test_sr_is_clamped_and_rounded_like_a_file(images: tuple[Tensor, Tensor]) -> None:
    hr = images[1]
    sr = hr + 0.49 / 255
    ask = {"scale": 2, "metrics": ["psnr_rgb"]}
    assert score(sr, hr, protocol=PROTOCOLS["classical"], **ask)["psnr_rgb"] == [math.inf] * 3
    unrounded = score(sr.clamp(0.49 / 255), hr, protocol=Protocol(name="p", uint8=False), **ask)["psnr_rgb"]
    assert unrounded == pytest.approx([GOLDEN_DB - 20 * math.log10(0.49)] * 3, abs=0.05)
    white = torch.ones_like(hr)
    assert score(white + 5, white, protocol=Protocol(name="p", uint8=False), **ask)["psnr_rgb"] == [math.inf] * 3


def test_bad_input_is_named(images: tuple[Tensor, Tensor]) -> None:
    sr, hr = images
    ask = {"scale": 4, "protocol": PROTOCOLS["classical"], "metrics": ["psnr_y"]}
    with pytest.raises(InputError, match="one shape"):
        score(sr[..., 1:], hr, **ask)
    with pytest.raises(InputError, match="unknown metric 'psnr'"):
        score(sr, hr, **ask | {"metrics": ["psnr"]})
    with pytest.raises(InputError, match="too small: SSIM's window is 11 px, 10 are left inside the border"):
        score(sr[..., :18], hr[..., :18], **ask | {"metrics": ["ssim_y"]})
    with pytest.raises(ValueError, match="SR holds values that are not finite"):
        score(sr * torch.nan, hr, **ask)
    with pytest.raises(ValueError, match="SR"):
        score(sr[:, :1], hr[:, :1], **ask)


@pytest.mark.parametrize("side", [8, 9, 14, 15, 18, 19])
@pytest.mark.parametrize("metrics", [["psnr_y"], ["ssim_rgb"]])
@pytest.mark.parametrize("protocol", ["classical", "srflow-div2k"])
def test_the_sizes_that_are_refused_beforehand_are_those_that_cannot_be_scored(
    side: int, metrics: list[str], protocol: str
) -> None:
    image, ask = torch.rand(1, 3, side, 40), {"scale": 4, "protocol": PROTOCOLS[protocol], "metrics": metrics}
    said = []
    for check in (lambda: fidelity.check_size(side, 40, **ask), lambda: score(image, image, **ask)):
        try:
            check()
        except InputError as error:
            said.append(str(error))
    assert len(said) in (0, 2) and len(set(said)) == len(said) // 2


def set5(scale: int, with_lr: bool, kernel: str = KERNEL) -> benchmarks.Benchmark:
    folder = SHARED / "data" / "Set5" / f"X{scale}"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/Set5")
    return benchmarks.load("Set5", scale, folder / "HR", folder / "LR" if with_lr else None, kernel=kernel)


def reference_ssim(x: np.ndarray, y: np.ndarray, *, clamp: bool) -> float:
    """SSIM of two (H, W) images of 0..255, window by window, as its definition reads."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2, values = (0.01 * 255) ** 2, (0.03 * 255) ** 2, []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = (z[top : top + 11, left : left + 11] for z in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            structure = (2 * (window * (a - mean_a) * (b - mean_b)).sum() + c2) / (var_a + var_b + c2)
            structure = max(structure, 0.0) if clamp else structure
            values.append((2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * structure)
    return float(np.mean(values))


def test_ssim_as_scikit_image_computes_it_by_default(images: tuple[Tensor, Tensor]) -> None:
    protocol = PROTOCOLS["srflow-div2k"]
    found = score(*images, scale=4, protocol=protocol, metrics=["ssim_rgb", "psnr_rgb"])
    for i in range(3):
        x, y = (np.round(z[i].permute(1, 2, 0).numpy() * 255).astype(np.uint8) for z in images)
        assert found["ssim_rgb"][i] == pytest.approx(structural_similarity(x, y, channel_axis=-1), abs=1e-9)
        assert found["psnr_rgb"][i] == pytest.approx(peak_signal_noise_ratio(y, x), abs=1e-9)
        x, y = (to_numpy(rgb_to_y(z[i : i + 1].double()), 1) for z in images)
        ours = ssim(images[0][i : i + 1], images[1][i : i + 1], data_range=1.0, shave=1, luma="y", variant="uniform7")
        assert ours.item() == pytest.approx(structural_similarity(x, y, channel_axis=-1, data_range=1.0), abs=1e-9)


def test_ssim_as_ccsr_computes_it_rounds_luma_and_has_no_negative_structure(images: tuple[Tensor, Tensor]) -> None:
    """The second picture is the first one's negative, so nearly every window's structure is negative."""
    hr = images[1][:1]
    for sr, negative in ((1 - hr, True), (images[0][:1], False)):
        y = [np.floor(to_numpy(rgb_to_y(z.double()), 4)[..., 0] * 255 + 0.5) for z in (sr, hr)]
        [found] = score(sr, hr, scale=4, protocol=PROTOCOLS["ccsr-real"], metrics=["ssim_y"])["ssim_y"]
        assert found == pytest.approx(reference_ssim(*y, clamp=True), abs=1e-9)
        [plain] = score(sr, hr, scale=4, protocol=Protocol(name="p", luma="y8"), metrics=["ssim_y"])["ssim_y"]
        assert plain == pytest.approx(reference_ssim(*y, clamp=False), abs=1e-9)
        assert (found - plain > 0.1) == negative


def test_only_ssim_rounds_luma_under_ccsr(images: tuple[Tensor, Tensor]) -> None:
    ccsr, floor = PROTOCOLS["ccsr-real"], 1e-8
    found = score(*images, scale=2, protocol=ccsr, metrics=["psnr_y"])["psnr_y"]
    plain = score(*images, scale=4, protocol=PROTOCOLS["classical"], metrics=["psnr_y"])["psnr_y"]  # 4 px at any scale
    for value, without in zip(found, plain, strict=True):
        assert value == pytest.approx(-10 * math.log10(10 ** (-without / 10) + floor), abs=1e-9)
    assert score(images[1], images[1], scale=4, protocol=ccsr, metrics=["psnr_y"])["psnr_y"] == pytest.approx(
        [80.0] * 3
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_hr_is_consistent_with_the_lr_its_own_kernel_made(images: tuple[Tensor, Tensor], kernel: str) -> None:
    hr = images[1][..., :40, :36]
    lr = torch.cat([to_float(downscale(picture, 4, kernel)) for picture in to_uint8(hr)])
    assert consistency(hr, lr, kernel=kernel, uint8=True).tolist() == [0.0] * 3
    assert 0 < consistency(hr, lr, kernel=kernel, uint8=False).max() < 1e5 / 12 / 255**2 * 2  # LR's own rounding
    assert consistency((hr + 0.1).clamp(0, 1), lr, kernel=kernel, uint8=True).min() > 100


def test_consistency_of_a_grey_shift_by_hand() -> None:
    sr, lr = torch.full((2, 3, 8, 8), 110 / 255), torch.full((2, 3, 4, 4), 100 / 255)
    for uint8 in (True, False):
        found = consistency(sr, lr, kernel=KERNEL, uint8=uint8)
        assert found.dtype == torch.float64
        assert found.tolist() == pytest.approx([(10 / 255) ** 2 * 1e5] * 2, rel=1e-6)
    assert consistency(sr, lr, kernel="pil", uint8=True).tolist() == pytest.approx(
        [(10 / 255) ** 2 * 1e5] * 2, rel=1e-6
    )


def test_hr_is_consistent_with_matlabs_lr_files_but_for_pillow() -> None:
    files = set5(4, with_lr=True)
    found: dict[str, list[float]] = {KERNEL: [], "pil": [], "pil on its own LR": []}
    for lr, hr in map(files.read, range(len(files))):
        size = lr.shape[1], lr.shape[0]
        by_pil = np.asarray(Image.fromarray(hr).resize(size, Image.Resampling.BICUBIC))
        for name, given in ((KERNEL, lr), ("pil", lr), ("pil on its own LR", by_pil)):
            kernel = name.split()[0]
            found[name].append(consistency(to_float(hr), to_float(given), kernel=kernel, uint8=True).item())
    assert found[KERNEL] == found["pil on its own LR"] == [0.0] * 5
    assert np.mean(found["pil"]) == pytest.approx(0.334, abs=5e-4)


def test_consistency_refuses_what_does_not_go_together() -> None:
    sr, lr = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 4, 3)
    for wrong in (lr, torch.rand(1, 3, 9, 9), torch.rand(2, 3, 4, 4)):
        with pytest.raises(InputError, match="SR must be a multiple of LR in size, got"):
            consistency(sr, wrong, kernel=KERNEL, uint8=True)
    with pytest.raises(InputError, match="Pillow's bicubic works on 8-bit pictures"):
        consistency(sr, lr.expand(1, 3, 4, 3)[..., :1].expand(1, 3, 4, 4), kernel="pil", uint8=False)


def test_metrics_of_networks_are_not_taken_for_fidelity(images: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(
        InputError, match="metric 'lpips_alex' needs more than SR and HR; without it: psnr_y, psnr_rgb,"
    ):
        score(*images, scale=4, protocol=PROTOCOLS["classical"], metrics=["psnr_y", "lpips_alex"])


@pytest.mark.parametrize(("scale", "db", "similarity"), [(2, 33.674, 0.9303), (3, 30.405, 0.8689), (4, 28.430, 0.8111)])
def test_bicubic_rows_of_set5(scale: int, db: float, similarity: float) -> None:
    files = set5(scale, with_lr=True)
    scorer = Scorer(PROTOCOLS["classical"], ["psnr_y", "ssim_y"], scale=scale, kernel=files.kernel)
    rows = [score_image(build("bicubic", scale), files, i, scorer=scorer, draws=1).row for i in range(len(files))]
    assert np.mean([row["psnr_y"] for row in rows]) == pytest.approx(db, abs=6e-4)
    assert np.mean([row["ssim_y"] for row in rows]) == pytest.approx(similarity, abs=6e-5)


@pytest.mark.parametrize(("scale", "db", "similarity"), [(2, 33.682, 0.9305), (3, 30.405, 0.8690), (4, 28.431, 0.8113)])
def test_bicubic_rows_of_the_fact_sheet(scale: int, db: float, similarity: float) -> None:
    """Its rows come from the variant that mirrors the border and keeps floats between the passes, both ways."""
    made = set5(scale, with_lr=False, kernel="matlab-bicubic-symmetric-float")
    scores = []
    for lr, hr in map(made.read, range(len(made))):
        sr = resize(lr, scale, border="symmetric", round_between=False)
        ask = {"scale": scale, "protocol": PROTOCOLS["classical"], "metrics": ["psnr_y", "ssim_y"]}
        scores.append([values[0] for values in score(to_float(sr), to_float(hr), **ask).values()])
    assert np.mean(scores, axis=0) == pytest.approx([db, similarity], abs=6e-4)
    assert np.mean(scores, axis=0)[1] == pytest.approx(similarity, abs=6e-5)
