"""Kernels, the filter and sharpening are the released code's; a filter may be wider than its picture."""

import math

import numpy as np
import pytest

from sr_models.images.kernels import blur_kernel, filtered, sharpened, shifted, sinc_kernel


def image(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(2, 0, 1).astype(np.float32) / 255


@pytest.mark.parametrize("case", ["k0", "k1"])
def test_the_six_kernels_are_those_of_the_released_code(oracle, case):
    held = oracle("degrade_exact")
    size, sx, sy, theta, beta = held[f"{case}/size_sigx_sigy_theta_beta"]
    for kind, shape in {"": "gaussian", "generalized_": "generalised", "plateau_": "plateau"}.items():
        for name, spreads, turn in (("iso", (sx, sx), 0.0), ("aniso", (sx, sy), theta)):
            made = blur_kernel(int(size), spreads, turn, shape, beta)
            np.testing.assert_allclose(made, held[f"{case}/{kind}{name}"], rtol=1e-8, atol=1e-300)


@pytest.mark.parametrize("case", ["sinc0", "sinc1", "sinc2"])
def test_sinc_kernels_are_those_of_the_released_code(oracle, case):
    held = oracle("degrade_exact")
    cutoff, size, _ = held[f"{case}/cutoff_size_pad"]
    there = held[f"{case}/kernel"]
    made = np.pad(sinc_kernel(int(size), cutoff), (len(there) - int(size)) // 2)
    np.testing.assert_allclose(made, there, rtol=1e-8)


@pytest.mark.parametrize("case", ["k0", "k1"])
def test_bsrgans_kernels_blur_and_shift_as_released(oracle, case):
    held = oracle("bsrgan_degradation")
    size, theta, l1, l2, sigma = held[f"{case}/size_theta_l1_l2_sigma"]
    turned = blur_kernel(int(size), (math.sqrt(l1), math.sqrt(l2)), theta)
    np.testing.assert_allclose(turned, held[f"{case}/anisotropic"], rtol=1e-6)
    round_ = blur_kernel(int(size), (sigma, sigma))
    np.testing.assert_allclose(round_, held[f"{case}/fspecial_gaussian"], rtol=1e-6, atol=1e-15)
    moved = shifted(blur_kernel(25, (sigma, sigma)), 4)
    np.testing.assert_allclose(moved, held[f"{case}/shifted_x4"], rtol=1e-6, atol=1e-15)
    blurred = filtered(image(held["image_uint8"]), turned)
    np.testing.assert_allclose(blurred, held[f"{case}/blurred"].transpose(2, 0, 1), atol=1e-5)


def test_filter_and_sharpening_are_those_of_the_released_code(oracle):
    held = oracle("degrade_exact")
    x = image(held["image_uint8"])
    np.testing.assert_allclose(filtered(x, held["k0/aniso"]), held["filter2D_k0_aniso"][0], atol=1e-5)
    np.testing.assert_allclose(sharpened(x), held["usm_sharp"][0], atol=2e-3)
    other = oracle("bsrgan_degradation")
    np.testing.assert_allclose(sharpened(image(other["image_uint8"])), other["sharpened"].transpose(2, 0, 1), atol=2e-3)


def test_a_filter_is_a_correlation_and_leaves_flat_pictures_and_tiny_ones():
    x = np.zeros((1, 9, 9), np.float32)
    x[0, 4, 4] = 1
    kernel = np.arange(15.0).reshape(3, 5)
    np.testing.assert_allclose(filtered(x, kernel)[0, 3:6, 2:7], kernel[::-1, ::-1], atol=1e-5)
    for side in (1, 2, 5, 40):
        flat = np.full((3, side, side), 0.25, np.float32)
        np.testing.assert_allclose(filtered(flat, blur_kernel(21, (3.0, 2.0), 0.5)), flat, atol=1e-6)


def test_a_shift_moves_the_middle_up_and_left():
    moved = shifted(blur_kernel(25, (2.0, 2.0)), 4)
    place = np.arange(25) - 12
    assert moved.sum() == pytest.approx(1)
    assert (moved * place[:, None]).sum() == pytest.approx(-1.5, abs=1e-3)
    assert (moved * place[None]).sum() == pytest.approx(-1.5, abs=1e-3)


def test_sharpening_leaves_flat_pictures_and_makes_edges_steeper():
    flat = np.full((3, 60, 60), 0.5, np.float32)
    np.testing.assert_allclose(sharpened(flat), flat, atol=1e-6)
    edge = flat.copy()
    edge[..., 30:] = 0.7
    made = sharpened(edge)
    assert made[0, 30, 29] < 0.5 and made[0, 30, 30] > 0.7 and 0 <= made.min() <= made.max() <= 1
