"""The benchmark of inference computes a picture in tiles that keep to the bound."""

from benchmarks.inference import SCALE, _one_picture
from sr_models import build
from sr_models.inference.bound import Bound
from sr_models.inference.super_resolve import Options


def test_a_picture_within_a_bound_is_computed_in_tiles_that_keep_to_it() -> None:
    net = build("imdn", SCALE)
    bound = Bound.of(net, 64_000_000, tile_exact=False)
    tile, _, _ = _one_picture(24, 32, bound.max_bytes, 1)
    assert tile is not None
    assert (
        bound.takes(1000, 1000, Options(tile=tile)) <= bound.max_bytes < bound.takes(1000, 1000, Options(tile=tile + 1))
    )
    assert _one_picture(24, 32, None, 1)[0] is None
