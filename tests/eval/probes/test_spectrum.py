"""Rings of frequency: Parseval's sum, one wave in one ring, white noise flat, and parts that add up."""

import math

import pytest
import torch

from eval.probes.spectrum import MOST_RINGS, Spectrum, rings


@pytest.mark.parametrize(("height", "width"), [(24, 24), (25, 40), (192, 130)])
def test_the_rings_hold_all_power(height: int, width: int) -> None:
    x = torch.randn(3, 2, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = Spectrum.of(x)
    assert float(found.energy.sum()) == pytest.approx(float(x.square().mean((1, 2, 3)).sum()), rel=1e-12)
    assert len(found.power) == min(height // 2, width // 2, MOST_RINGS) + 2
    assert torch.bincount(rings(height, width).flatten()).min() > 0, "no ring is empty"
    assert found.share_from(0) == pytest.approx(1) and found.share_from(0.71) == 0


@pytest.mark.parametrize("cycles", [0, 3, 8, 16])
def test_a_wave_lies_in_its_own_ring(cycles: int) -> None:
    wave = torch.cos(2 * math.pi * cycles * torch.arange(32) / 32).expand(1, 1, 32, 32)
    found = Spectrum.of(wave)
    assert int(found.energy.argmax()) == cycles and found.frequencies[cycles] == cycles / 32
    assert float(found.energy[cycles] / found.energy.sum()) == pytest.approx(1)
    assert found.share_from(0.25) == pytest.approx(float(cycles >= 8))


def test_white_noise_is_flat_and_parts_add_up() -> None:
    x = torch.randn(40, 3, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = Spectrum.of(x)
    assert whole.mean_power[1:].tolist() == pytest.approx([1.0] * (len(whole.power) - 1), abs=0.15)
    torch.testing.assert_close((Spectrum.of(x[:7]) + Spectrum.of(x[7:])).mean_power, whole.mean_power)
    assert float(whole.beside(whole).mean_power[3]) == pytest.approx(2 * float(whole.mean_power[3]))


def test_no_gradient_has_no_share() -> None:
    assert Spectrum.of(torch.zeros(1, 3, 8, 8)).share_from(0.25) == 0
