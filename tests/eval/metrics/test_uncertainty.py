"""PLL and PSNR of σ against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from eval.metrics.uncertainty import CONSTANT_BELOW, SIGMA_FLOOR, is_constant, pll, psnr_sigma, sigma_r
from sr_models.errors import InputError

LUMA = (65.738 / 256, 129.057 / 256, 25.064 / 256)


def gaussian(sigma: float, size: int = 256) -> tuple[Tensor, Tensor]:
    """SR, and HR that is SR plus noise of spread `sigma`, two images."""
    draw = torch.Generator().manual_seed(0)
    sr = torch.full((2, 3, size, size), 0.5, dtype=torch.float64)
    return sr, sr + sigma * torch.randn(sr.shape, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_pll_of_a_calibrated_gaussian_is_its_negative_entropy(sigma: float) -> None:
    sr, hr = gaussian(sigma)
    expected = -0.5 * math.log(2 * math.pi) - 0.5 - math.log(sigma)
    error = 5 * math.sqrt(0.5 / sr[0].numel())  # z^2 / 2 has variance 1/2
    assert pll(sr, hr, torch.full_like(sr, sigma), shave=0).tolist() == pytest.approx([expected] * 2, abs=error)


def test_pll_is_worse_for_a_wrong_sigma_by_what_the_divergence_says() -> None:
    sr, hr = gaussian(0.05)
    right = pll(sr, hr, torch.full_like(sr, 0.05), shave=0)
    for wrong in (0.025, 0.1):
        loss = right - pll(sr, hr, torch.full_like(sr, wrong), shave=0)
        expected = math.log(wrong / 0.05) + 0.5 * ((0.05 / wrong) ** 2 - 1)
        assert loss.tolist() == pytest.approx([expected] * 2, abs=0.03)


def test_pll_of_one_value_by_hand_and_in_float64() -> None:
    sr, hr, sigma = (torch.full((1, 3, 4, 4), value) for value in (0.5, 0.6, 0.2))
    expected = -0.5 * math.log(2 * math.pi) - math.log(0.2) - 0.1**2 / (2 * 0.2**2)
    found = pll(sr, hr, sigma, shave=1)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_sigma_has_a_floor() -> None:
    sr = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
    floor = pll(sr, sr, torch.full_like(sr, SIGMA_FLOOR), shave=0)
    assert torch.equal(pll(sr, sr, torch.zeros_like(sr), shave=0), floor)
    assert floor.item() == pytest.approx(-0.5 * math.log(2 * math.pi) - math.log(SIGMA_FLOOR), abs=1e-6)


def test_psnr_of_sigma_joins_the_channels_with_their_signs_before_it_squares() -> None:
    sr, hr = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    hr[:, 0], hr[:, 1] = 0.3, -0.1  # the error's sign does not count
    sigma = torch.zeros(1, 3, 4, 4)
    sigma[:, 0], sigma[:, 1], sigma[:, 2] = 0.2, 0.2, 0.1
    miss = LUMA[0] * -0.1 + LUMA[1] * 0.1 + LUMA[2] * 0.1
    assert psnr_sigma(sr, hr, sigma, shave=0).item() == pytest.approx(-20 * math.log10(miss), abs=1e-5)
    assert psnr_sigma(sr, hr, hr.abs(), shave=0).item() == math.inf


def test_r_is_that_of_all_pixels_and_channels_whatever_the_scale_of_sigma() -> None:
    sr, hr, sigma = (torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(i)) for i in range(3))
    error = (hr - sr).abs()
    expected = [torch.corrcoef(torch.stack([error[i].flatten(), sigma[i].flatten()]))[0, 1].item() for i in range(2)]
    assert sigma_r(sr, hr, sigma, shave=0).tolist() == pytest.approx(expected, abs=1e-6)
    for perfect, r in ((0.1 * error + 0.2, 1.0), (1 - error, -1.0)):
        assert sigma_r(sr, hr, perfect, shave=0).tolist() == pytest.approx([r] * 2, abs=1e-6)
    for same in (torch.zeros_like(sr), torch.full_like(sr, 0.25)):
        assert sigma_r(sr, hr, same, shave=0).tolist() == [0, 0]
        assert sigma_r(torch.zeros_like(sr), same, sigma, shave=0).tolist() == [0, 0]


def test_a_sigma_that_varies_by_less_than_the_bound_is_constant() -> None:
    wave = torch.tensor([1.0, -1.0]).repeat(3 * 6 * 4).view(1, 3, 6, 8)
    sigma = torch.cat([0.02 * (1 + k * CONSTANT_BELOW * wave) for k in (0.0, 0.9, 1.1)])
    assert is_constant(sigma, shave=1).tolist() == [True, True, False]
    dead = torch.rand(1, 3, 6, 8) * 1e-18  # as a saturated sigmoid leaves it: it varies, but below the floor
    assert is_constant(dead, shave=0).item() and not is_constant(dead * 1e17, shave=0).item()


def test_only_what_is_inside_the_border_counts() -> None:
    sr, hr, sigma = (torch.rand(1, 3, 12, 10, generator=torch.Generator().manual_seed(i)) for i in range(3))
    worse = hr.clone()
    worse[..., :3, :] = worse[..., -3:, :] = worse[..., :3] = worse[..., -3:] = 9.0
    for measure in (pll, psnr_sigma, sigma_r):
        assert torch.equal(measure(sr, worse, sigma, shave=3), measure(sr, hr, sigma, shave=3))
        inner = [x[..., 3:-3, 3:-3] for x in (sr, hr, sigma)]
        assert torch.equal(measure(sr, hr, sigma, shave=3), measure(*inner, shave=0))


def test_wrong_input_is_named() -> None:
    image = torch.rand(1, 3, 8, 8)
    with pytest.raises(InputError, match="SR, HR and sigma must have one shape"):
        pll(image, image, image[..., 1:], shave=0)
    with pytest.raises(InputError, match="too small for a border of 4 px"):
        psnr_sigma(image, image, image, shave=4)
    with pytest.raises(ValueError, match="sigma must be float RGB"):
        pll(image, image, image[:, :1], shave=0)
