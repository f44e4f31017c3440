"""An autoencoder in tiles: what is local is the whole's, what looks at all of a picture is near it, without a seam."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

import sr_models
from sr_models.diffusion import tiled
from sr_models.diffusion.reconstruction import TrainedVQ


@pytest.mark.parametrize("size", [(24, 96), (64, 64), (56, 72)])
def test_what_looks_at_no_neighbours_is_the_whole(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled, "TILE", 4)
    monkeypatch.setattr(tiled, "OVERLAP", 2)
    seen = []

    def shrink(x):
        seen.append(tuple(x.shape[2:]))
        return functional.avg_pool2d(x, 8)

    picture = torch.rand(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(tiled.encoded(shrink, picture, 8), functional.avg_pool2d(picture, 8))
    assert max(max(one) for one in seen) == 32 and len(seen) > 1
    latent = torch.rand(2, 3, size[0] // 8, size[1] // 8, dtype=torch.float64)
    enlarge = torch.nn.Upsample(scale_factor=8)
    torch.testing.assert_close(tiled.decoded(enlarge, latent, 8), enlarge(latent))


def test_a_picture_no_larger_than_a_tile_is_computed_whole() -> None:
    whole = []
    picture = torch.rand(1, 3, 8 * tiled.TILE, 16)
    tiled.encoded(lambda x: whole.append(x) or functional.avg_pool2d(x, 8), picture, 8)
    assert len(whole) == 1 and whole[0] is picture


def test_the_docs_say_which_pictures_are_cut_and_how() -> None:
    said = " ".join((Path(__file__).resolve().parents[3] / "docs" / "diffusion.md").read_text().split())
    sides = f"({8 * tiled.TILE} pixels of Stable Diffusion's autoencoder, {4 * tiled.TILE} of VQ-f4)"
    assert f"beyond {tiled.TILE} cells of a latent a side {sides}" in said
    assert f"in tiles that share {tiled.OVERLAP} and" in said


def test_tiles_of_an_autoencoder_are_near_the_whole_and_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalisation and attention see a tile in place of all, so there is no equality; measured of weights as drawn:

    off by 11 % of a latent's spread, and by 24 % of a picture's; where tiles begin, no steeper than elsewhere.
    """
    monkeypatch.setattr(tiled, "TILE", 32)
    monkeypatch.setattr(tiled, "OVERLAP", 24)
    torch.manual_seed(0)
    net = sr_models.build("vq_autoencoder", 4, channels=32, mults=(1, 1, 1), blocks=1, codes=16)
    assert isinstance(net, TrainedVQ)
    picture = functional.interpolate(torch.rand(1, 3, 24, 24), size=(192, 192), mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        latent = net.encode(2 * picture - 1)
        tiles = tiled.encoded(net.encode, 2 * picture - 1, 4)
        whole = net.decode(latent, quantise=False)
        back = tiled.decoded(lambda z: net.decode(z, quantise=False), latent, 4)
    for made, wanted, most, cell in ((tiles, latent, 0.15, 1), (back, whole, 0.3, 4)):
        off = made - wanted
        assert off.std() < most * wanted.std()
        steps = off.diff(dim=3)
        for begin in (16, 32):  # tiles are 0 to 32 and 16 to 48
            assert steps[..., cell * begin - 1].std() < 1.5 * steps.std()
