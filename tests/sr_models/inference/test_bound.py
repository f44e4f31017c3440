"""Pictures that do not fit a bound are computed in tiles, where these are the same."""

from dataclasses import replace

import pytest
import torch

import sr_models
from sr_models.errors import InputError
from sr_models.inference.bound import Bound, fitted
from sr_models.inference.super_resolve import Options, super_resolve
from sr_models.inference.tiling import LiveBytes
from sr_models.networks.base import SRNetwork


@pytest.fixture
def edsr() -> SRNetwork:
    torch.manual_seed(0)
    return sr_models.build("edsr_baseline", 2, channels=8, blocks=1)


def test_a_tile_is_found_that_keeps_within_a_bound(edsr: SRNetwork) -> None:
    bound = Bound.of(edsr, 2_000_000, tile_exact=True)
    options = Options(overlap=8, tile=bound.tile(8))
    lr = torch.rand(1, 3, 150, 200)
    with LiveBytes() as memory:
        out = super_resolve(edsr, lr, options=options)
    assert 0.25 * bound.max_bytes < memory.peak - out.sr.nbytes < 0.6 * bound.max_bytes, "the rest is the library's"
    assert 0.8 * bound.max_bytes < bound.takes(150, 200, options) <= bound.max_bytes
    with LiveBytes() as memory:
        super_resolve(edsr, lr)
    assert memory.peak > 2 * bound.max_bytes
    assert bound.takes(150, 200, Options()) == pytest.approx(2 * memory.peak, rel=0.1)
    with pytest.raises(InputError, match="10000 bytes are too few for one tile with an overlap of 8 pixels"):
        replace(bound, max_bytes=10_000).tile(8)


def test_only_what_does_not_fit_and_stays_the_same_is_computed_in_tiles(edsr: SRNetwork) -> None:
    lr = torch.rand(1, 3, 150, 200)
    bound = Bound.of(edsr, 2_000_000, tile_exact=True)
    chosen = fitted(bound, lr, Options())
    assert chosen == Options(tile=bound.tile(9), overlap=9)
    torch.testing.assert_close(
        super_resolve(edsr, lr, options=chosen).sr, super_resolve(edsr, lr).sr, rtol=0, atol=1e-6
    )
    declared = Options(tile=500)
    assert fitted(bound, lr, declared) == declared
    assert fitted(bound, lr[..., :40, :40], Options()) == Options()
    assert fitted(replace(bound, overlap=None), lr, Options()) == Options(), "tiles would change what it computes"
    assert fitted(None, lr, Options()) == Options()
