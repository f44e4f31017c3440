"""Pixel losses against closed forms: the expectation loss's identity, its signs, its below-average rule."""

import math

import pytest
import torch
from torch import Tensor

from objectives import pixel
from objectives.losses import L1, L2, Charbonnier, ConstantSigma, Expectation, LossParams, NoLoss, SampledSigma
from objectives.spec import SigmaBranch

EVERY_PIXEL = Expectation(zero_below_average=False)


def draw(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """mu, y, z in float64; mu requires a gradient."""
    g = torch.Generator().manual_seed(0)
    mu, y = torch.rand(2, *shape, dtype=torch.float64, generator=g)
    return mu.requires_grad_(), y, torch.randn(shape, dtype=torch.float64, generator=g)


def gradient(loss: Tensor, mu: Tensor) -> Tensor:
    """Elementwise gradient of the sum over elements, from per-sample means."""
    return torch.autograd.grad(loss.sum(), mu)[0] * mu[0].numel()


def test_plain_losses_are_per_sample_means() -> None:
    y = torch.zeros(2, 3, 2, 2)
    mu = torch.stack([torch.full((3, 2, 2), 0.5), torch.full((3, 2, 2), 0.1)])
    torch.testing.assert_close(pixel.l1(L1(), mu, y, None), torch.tensor([0.5, 0.1]))
    torch.testing.assert_close(pixel.l2(L2(), mu, y, None), torch.tensor([0.25, 0.01]))
    rounded = pixel.charbonnier(Charbonnier(eps=0.12), mu, 0.45 + y, None)
    torch.testing.assert_close(rounded, torch.tensor([0.13, 0.37]))
    assert pixel.none(NoLoss(), mu, y, None).tolist() == [0, 0]


def test_charbonnier_limits() -> None:
    mu, y, _ = draw(2, 3, 8, 8)
    torch.testing.assert_close(pixel.charbonnier(Charbonnier(eps=1e-9), mu, y, None), pixel.l1(L1(), mu, y, None))
    assert pixel.charbonnier(Charbonnier(eps=1e-3), y, y, None).tolist() == pytest.approx([1e-3, 1e-3])


def test_constant_sigma_is_l1_to_a_noisy_target() -> None:
    mu, y, z = draw(2, 3, 8, 8)
    noisy = pixel.constant_sigma(ConstantSigma(k=0.02), mu, y, z)
    torch.testing.assert_close(noisy, pixel.l1(L1(), mu, y + 0.02 * z, None))
    zero = torch.zeros_like(z)
    assert torch.equal(pixel.constant_sigma(ConstantSigma(), mu, y, zero), pixel.l1(L1(), mu, y, None))


def test_expectation_is_l1_weighted_by_positive_noise() -> None:
    mu, y, z = draw(2, 3, 32, 32)
    loss = pixel.expectation(EVERY_PIXEL, mu, y, z)
    sign = (y - mu).sign()
    weight = (sign - z).abs()
    torch.testing.assert_close(loss, (weight * (y - mu).abs()).mean(dim=(1, 2, 3)))
    torch.testing.assert_close(gradient(loss, mu), -sign * weight)


def test_mean_weight_is_its_closed_form() -> None:
    closed = math.sqrt(2 / math.pi) * math.exp(-0.5) + math.erf(1 / math.sqrt(2))
    assert closed == pytest.approx(1.16663, abs=1e-5)
    z = torch.randn(1, 1, 1000, 1000, generator=torch.Generator().manual_seed(1))
    one, zero = torch.ones_like(z), torch.zeros_like(z)
    assert pixel.expectation(EVERY_PIXEL, zero, one, z).item() == pytest.approx(closed, abs=3e-3)


@pytest.mark.parametrize("params", [EVERY_PIXEL, Expectation()])
def test_expectation_always_pulls_towards_the_target(params: Expectation) -> None:
    mu, y, z = draw(4, 3, 256, 256)
    assert (gradient(pixel.expectation(params, mu, y, z), mu) * (y - mu)).max() <= 0


def test_detaching_sigma_would_push_one_pixel_in_six_away() -> None:
    mu, y, z = draw(4, 3, 256, 256)
    detached = (y - (mu + (y - mu).abs().detach() * z)).abs().mean(dim=(1, 2, 3))
    wrong = gradient(detached, mu) * (y - mu) > 0
    assert wrong.double().mean().item() == pytest.approx(0.158655, abs=2e-3)  # P(N(0, 1) > 1)


def test_below_average_pixels_get_plain_l1() -> None:
    mu, y, z = draw(2, 3, 16, 16)
    size = (y - mu).abs().detach()
    above = size >= size.mean(dim=(1, 2, 3), keepdim=True)
    assert 0.3 < above.double().mean() < 0.6
    weight = torch.where(above, ((y - mu).sign() - z).abs(), 1.0)
    loss = pixel.expectation(Expectation(), mu, y, z)
    torch.testing.assert_close(loss, (weight * size).mean(dim=(1, 2, 3)))
    torch.testing.assert_close(gradient(loss, mu), -(y - mu).sign() * weight)


def test_average_is_each_images_own() -> None:
    size = torch.tensor([[[[0.1, 0.2, 0.3]]], [[[0.7, 0.8, 0.9]]]])
    assert pixel.above_average(size).tolist() == [[[[False, True, True]]], [[[False, True, True]]]]


def test_auxiliary_target() -> None:
    y = torch.tensor([[[[0.5, 0.5, 0.5, 0.5]]]])
    mu = torch.tensor([[[[0.4, 0.6, 0.1, 0.9]]]])  # |y - mu| = .1 .1 .4 .4, mean .25
    sigma_hat = torch.full_like(y, 0.3)

    def loss(**params: bool) -> float:
        return pixel.auxiliary(SigmaBranch(**params), mu, sigma_hat, y).item()

    assert loss() == pytest.approx((0.2 + 0.2 + 0.1 + 0.1) / 4)
    assert loss(zero_below_average=True) == pytest.approx((0.3 + 0.3 + 0.1 + 0.1) / 4)
    assert loss(signed=True) == pytest.approx((0.2 + 0.4 + 0.1 + 0.7) / 4)
    assert loss(signed=True, zero_below_average=True) == pytest.approx((0.3 + 0.3 + 0.1 + 0.7) / 4)
    assert pixel.auxiliary(SigmaBranch(), mu, (y - mu).abs(), y).item() == 0


def test_the_best_constant_is_a_median_that_zeroed_targets_pull_to_zero() -> None:
    """Errors with a tail, as of images: their median is the default's optimum, and 0 that of the paper's target."""
    y = torch.distributions.Exponential(50.0).icdf(torch.arange(0.5, 3000) / 3000).view(1, 3, 10, 100)
    levels = torch.linspace(0, 0.04, 401)

    def best(**params: bool) -> float:
        losses = [pixel.auxiliary(SigmaBranch(**params), torch.zeros_like(y), c.expand_as(y), y) for c in levels]
        return float(levels[torch.cat(losses).argmin()])

    assert best() == pytest.approx(math.log(2) / 50, abs=2e-4)
    assert best(zero_below_average=True) == 0


def test_sampled_sigma_is_smallest_without_sigma_whatever_the_error() -> None:
    """E|e - s z| = s sqrt(2/pi) exp(-e^2 / (2 s^2)) + |e| erf(|e| / (s sqrt 2)), which falls with s to |e| at 0."""
    z = torch.randn(1, 1, 1000, 1000, generator=torch.Generator().manual_seed(1))
    for e in (0.0, 0.5, 1.0):
        y, mu = torch.full_like(z, e), torch.zeros_like(z)
        means = []
        for s in (0.0, 0.25, 0.5, 1.0, 2.0):
            mean = pixel.sampled_sigma(SampledSigma(), mu, y, z, torch.full_like(z, s)).item()
            folded = (
                s * math.sqrt(2 / math.pi) * math.exp(-((e / s) ** 2) / 2) + e * math.erf(e / s / math.sqrt(2))
                if s
                else e
            )
            assert mean == pytest.approx(folded, abs=5e-3)
            means.append(folded)
        assert means == sorted(means) and means[0] == e < means[-1]


@pytest.mark.parametrize(
    "params",
    [L1(), L2(), Charbonnier(), ConstantSigma(), SampledSigma(), Expectation()],
    ids=lambda p: p.kind,
)
def test_nan_reaches_the_loss_of_its_own_sample_only(params: LossParams) -> None:
    mu, y, z = draw(2, 3, 4, 4)
    mu = mu.detach()
    mu[1, 0, 2, 2] = torch.nan
    assert pixel.BY_KIND[params.kind](params, mu, y, z, z.abs()).isnan().tolist() == [False, True]
    assert pixel.auxiliary(SigmaBranch(), mu, z, y).isnan().tolist() == [False, True]
