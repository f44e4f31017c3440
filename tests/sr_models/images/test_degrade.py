"""Degradations: distributions of the released code, a function of picture and key, and the usual LR without any."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from sr_models.hyper.degradation import NAMES, Degradation, parse_degradation
from sr_models.images.degrade import (
    degrade,
    gaussian_noise,
    mixed_kernel,
    noisy_by_channels,
    poisson_counts,
    poisson_noise,
)
from sr_models.images.matlab import downscale, resize
from sr_models.rng import keyed

QUANTILES = (5, 25, 50, 75, 95)
NOTHING = {
    "blur_share": 0, "resize_shares": [0, 0, 1], "gaussian_share": 1, "noise": [0, 0], "jpeg_share": 0,
}  # fmt: skip


def of(name: str, **changes: object) -> Degradation:
    return parse_degradation({"set": name, **changes}, "degradation")


def rngs(count: int) -> list[np.random.Generator]:
    return [keyed(0, 0, sample, "degrade") for sample in range(count)]


def picture(height: int = 96, width: int = 96) -> np.ndarray:
    wide = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return resize(wide, 8)[:height, :width]


def correlation(noise: np.ndarray) -> float:
    return float(np.corrcoef(noise[:, 0].ravel(), noise[:, 1].ravel())[0, 1])


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("sigma", [5, 20])
def test_gaussian_noise_has_its_spread(oracle, sigma, grey):
    held = oracle("degrade_statistics")
    noise = np.stack([gaussian_noise(np.zeros((3, 32, 32), np.float32), sigma, grey, rng) for rng in rngs(200)])
    key = f"gaussian/sigma{sigma}_gray{grey:d}"
    assert noise.std() == pytest.approx(held[f"{key}/std"], rel=0.03)
    assert correlation(noise) == pytest.approx(held[f"{key}/channel_corr_rg"], abs=0.02)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("factor", [0.5, 2.5])
def test_poisson_noise_grows_with_the_light(oracle, factor, grey):
    held = oracle("degrade_statistics")
    x = np.broadcast_to(held["poisson/ramp"], (3, 32, 32)).astype(np.float32)
    noise = np.stack([poisson_noise(x, factor, grey, rng) for rng in rngs(200)])
    key = f"poisson/scale{factor}_gray{grey:d}"
    np.testing.assert_allclose(noise.var(axis=(0, 1, 2)), held[f"{key}/var_by_column"], rtol=0.15)
    assert correlation(noise) == pytest.approx(held[f"{key}/channel_corr_rg"], abs=0.02)


@pytest.mark.parametrize("name", ["first", "second"])
def test_kernels_are_mixed_as_released(oracle, name):
    held = oracle("degrade_statistics")
    how = of("realesrgan", **{name: {"kernel_size": [21, 21], "sinc_share": 0}})
    kernels = np.stack([mixed_kernel(getattr(how, name), rng) for rng in rngs(3000)])
    place = np.arange(21) - 10
    xx, yy = (np.einsum(pattern, kernels, place**2) for pattern in ("nyx,x->n", "nyx,y->n"))
    xy = np.einsum("nyx,y,x->n", kernels, place, place)
    key = f"mixed_kernel_{name}"
    moments = [xx.mean(), yy.mean(), xy.mean()]
    np.testing.assert_allclose(moments, held[f"{key}/second_moment_xx_yy_xy_mean"], rtol=0.06, atol=0.08)
    np.testing.assert_allclose(
        np.percentile(kernels[:, 10, 10], QUANTILES), held[f"{key}/centre_quantiles_05_25_50_75_95"], rtol=0.1
    )
    np.testing.assert_allclose(
        np.percentile(xx, QUANTILES)[1:4], held[f"{key}/second_moment_xx_quantiles"][1:4], rtol=0.1
    )
    np.testing.assert_allclose(kernels.mean(axis=0), held[f"{key}/mean_kernel"], atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("key", "name"), [("pipeline_realesrgan", "realesrgan"), ("pipeline_ccsr_mild", "ccsr")])
def test_two_rounds_leave_what_the_released_code_leaves(oracle, key, name):
    held = oracle("degrade_statistics")
    hr = np.ascontiguousarray(held["pipeline_hr_uint8"].transpose(1, 2, 0))
    made = np.stack([degrade(hr, 4, of(name), rng).lr for rng in rngs(300)]) / 255
    assert_the_same_spread(
        made,
        held,
        key,
        "rmse_to_antialiased_bicubic",
        resize(hr, 1 / 4) / 255,
        held[f"{key}/mean_lr"].transpose(1, 2, 0),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bsrgan", "bsrgan_plus"])
def test_a_shuffled_order_leaves_what_the_released_code_leaves(oracle, name):
    held = oracle("bsrgan_degradation")
    hr = held["image_uint8"]
    made = np.stack([degrade(hr, 4, of(name), rng).lr for rng in rngs(400)]) / 255
    area = hr.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)) / 255
    assert_the_same_spread(made, held, name, "rmse_to_area", area, held[f"{name}/mean_lr"])


def assert_the_same_spread(made, held, key, what, plain, mean_lr):
    quantiles = np.percentile(np.sqrt(((made - plain) ** 2).mean(axis=(1, 2, 3))), QUANTILES)
    ratios = quantiles / held[f"{key}/{what}_quantiles_05_25_50_75_95"]
    assert abs(ratios[2] - 1) < 0.12 and np.abs(ratios[[0, 4]] - 1).max() < 0.25, ratios
    assert made.std(axis=0).mean() == pytest.approx(held[f"{key}/std_over_draws_mean"], rel=0.12)
    np.testing.assert_allclose(made.mean(axis=0), mean_lr, atol=0.03)


def test_bsrgans_noises_have_the_spreads_of_the_released_code(oracle):
    held = oracle("bsrgan_degradation")
    grey = np.full((3, 48, 48), 0.5, np.float32)
    made = {
        "gaussian_noise": [noisy_by_channels(grey, (2, 25), False, rng) for rng in rngs(600)],
        "speckle_noise": [noisy_by_channels(grey, (2, 25), True, rng) for rng in rngs(600)],
        "poisson_noise": [poisson_counts(grey, rng) for rng in rngs(600)],
    }
    for name, noisy in made.items():
        spreads = np.percentile([(x - grey).std() for x in noisy], QUANTILES)
        np.testing.assert_allclose(spreads, held[f"{name}/std_quantiles_05_25_50_75_95"], rtol=0.15)
    one_for_all = [np.abs(x - x[:1]).max() < 1e-6 for x in made["gaussian_noise"]]
    assert np.mean(one_for_all) == pytest.approx(held["gaussian_noise/share_grey"], abs=0.07)


@pytest.mark.parametrize("mode", ["area", "bilinear", "bicubic"])
def test_resizes_are_torchs_as_released(oracle, mode):
    held = oracle("degrade_exact")
    x = torch.from_numpy(held["image_uint8"].transpose(2, 0, 1).astype(np.float32) / 255)[None]
    for factor in (0.37, 1.3):
        made = functional.interpolate(x, scale_factor=factor, mode=mode)
        np.testing.assert_allclose(made, held[f"torch_resize/{mode}_{factor}"], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_is_a_function_of_picture_and_key_alone(name):
    hr, how = picture(96, 120), of(name)
    one = degrade(hr, 4, how, keyed(1, 2, 3, "degrade"))
    assert one.hr.shape == hr.shape and one.lr.shape == (24, 30, 3) and one.lr.dtype == np.uint8
    for other in rngs(2):
        degrade(hr, 2, how, other)
    again = degrade(hr.copy(), 4, how, keyed(1, 2, 3, "degrade"))
    assert (one.lr == again.lr).all() and (one.hr == again.hr).all()
    others = [degrade(hr, 4, how, keyed(*key, "degrade")).lr for key in ((0, 2, 3), (1, 0, 3), (1, 2, 0))]
    assert all((one.lr != other).any() for other in others)
    assert (one.hr == hr).all() is np.bool_(not how.usm)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_without_any_strength_lr_is_matlabs(scale):
    hr = picture(96, 108)
    for name in ("realesrgan", "ccsr"):
        how = of(
            name, first=NOTHING, second=NOTHING, final_sinc_share=0, final_resize="matlab", usm=False
        )  # fmt: skip
        pair = degrade(hr, scale, how, keyed(0, 0, 0, "degrade"))
        assert (pair.lr == downscale(hr, scale)).all() and (pair.hr == hr).all()
    drawn = of("realesrgan", first=NOTHING, second=NOTHING, final_sinc_share=0, usm=False)
    kept = degrade(hr, scale, drawn, keyed(0, 0, 0, "degrade")).lr
    assert (kept == downscale(hr, scale)).all() == (scale == 1), "torch's resizes are not MATLAB's"
    alone = degrade(hr, scale, of("additive", noise=[0, 0]), keyed(0, 0, 0, "degrade"))
    assert (alone.lr == downscale(hr, scale)).all()


def test_noise_alone_has_its_spread():
    grey = np.full((96, 96, 3), 128, np.uint8)
    lr = degrade(grey, 2, of("additive", noise=[20, 20]), keyed(0, 0, 0, "degrade")).lr.astype(float)
    assert (lr - 128).std() == pytest.approx(20, rel=0.05)
    assert abs(np.corrcoef(lr[..., 0].ravel(), lr[..., 1].ravel())[0, 1]) < 0.1
    same = degrade(grey, 2, of("additive", noise=[20, 20], grey_share=1), keyed(0, 0, 0, "degrade")).lr
    assert (same == same[..., :1]).all()


@pytest.mark.parametrize("codec", ["diffjpeg", "libjpeg"])
def test_both_codecs_work_in_both_rounds(codec):
    how = of("ccsr", codec=codec)
    assert degrade(picture(), 4, how, keyed(0, 0, 0, "degrade")).lr.shape == (24, 24, 3)


@pytest.mark.parametrize(
    "image", [np.zeros((97, 96, 3), np.uint8), np.zeros((96, 96), np.uint8), np.zeros((96, 96, 3))]
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="degrade expects uint8"):
        degrade(image, 4, of("ccsr"), keyed(0, 0, 0, "degrade"))
