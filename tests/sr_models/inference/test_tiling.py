"""Tiles cover a picture once, are pasted where they lie, and fit the memory that they were measured for."""

import pytest
import torch
from torch import Tensor

from sr_models.hyper.crops import CropRule
from sr_models.inference.tiling import LiveBytes, bytes_per_pixel, run_tiles, spans, tile_starts, tile_weights


def test_spans_cover_each_side_once() -> None:
    for size, tile, overlap, step in ((65, 64, 16, 1), (100, 40, 5, 8), (7, 9, 3, 4), (33, 1, 0, 1)):
        parts = spans(size, tile, overlap, step)
        own = [pixel for (first, end), _ in parts for pixel in range(first, end)]
        assert own == list(range(size))
        for (first, end), (seen_first, seen_end) in parts:
            assert end - first <= tile
            assert 0 <= seen_first <= max(first - overlap, 0)
            assert min(end + overlap, size) <= seen_end <= size
            assert seen_first % step == 0
        lengths = [seen_end - seen_first for _, (seen_first, seen_end) in parts]
        assert max(lengths) - min(lengths) < step
    assert spans(100, 33, 8, 1) == [
        ((0, 25), (0, 41)),
        ((25, 50), (17, 58)),
        ((50, 75), (42, 83)),
        ((75, 100), (59, 100)),
    ]


def test_live_bytes_counts_what_is_alive_at_a_time() -> None:
    given = torch.zeros(1000)
    with LiveBytes() as memory:
        one = given + 1  # 4000 bytes
        two = one.view(10, 100).relu()  # the view is free, 4000 more
        del one
        given.add_(1)
        three = two[:5].clone()  # 2000, but the first 4000 are gone
    assert (memory.peak, memory.now, len(three)) == (8000, 6000, 5)


def doubled(lr_BCHW: Tensor) -> list[Tensor]:
    """Two pictures, twice as large: the input, and one channel of it as another type."""
    large = lr_BCHW.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return [large, large[:, :1].double()]


@pytest.mark.parametrize(("tile", "overlap", "step"), [(16, 4, 1), (5, 3, 4), (7, 0, 1), (100, 8, 1), (1, 0, 1)])
def test_pasted_tiles_are_the_whole_picture(tile: int, overlap: int, step: int) -> None:
    lr = torch.rand(2, 3, 21, 37)
    pasted = run_tiles(doubled, lr, scale=2, tile=tile, overlap=overlap, step=step)
    assert [part.dtype for part in pasted] == [torch.float32, torch.float64]
    for part, whole in zip(pasted, doubled(lr), strict=True):
        assert torch.equal(part, whole)


def test_no_tile_is_larger_than_asked_for_and_its_overlaps() -> None:
    seen = []
    run_tiles(lambda x: seen.append(tuple(x.shape[2:])) or doubled(x), torch.rand(1, 3, 40, 64), scale=2, tile=16,
              overlap=4, step=1)  # fmt: skip
    assert len(seen) == 3 * 4 and all(max(size) <= 16 + 2 * 4 for size in seen)
    assert len(set(seen)) == 1, "compilers meet one shape"


def test_each_pixel_is_that_of_the_tile_it_lies_in() -> None:
    """What a tile makes of pixels beyond its own part is never used."""
    calls = []

    def numbered(lr_BCHW: Tensor) -> list[Tensor]:
        calls.append(lr_BCHW.shape)
        return [torch.full_like(lr_BCHW, len(calls))]

    [picture] = run_tiles(numbered, torch.zeros(1, 1, 4, 6), scale=1, tile=2, overlap=1, step=1)
    assert picture[0, 0].tolist() == [[1, 1, 2, 2, 3, 3]] * 2 + [[4, 4, 5, 5, 6, 6]] * 2


def test_what_a_pixel_takes_is_measured() -> None:
    def forward(lr_BCHW: Tensor) -> Tensor:
        return lr_BCHW * 2 + 1  # two tensors of the input's size at a time: 2 * 3 * 4 bytes a pixel

    assert bytes_per_pixel(forward, torch.rand(1, 3, 10, 12)) == 48, "as much again is the convolution library's"


def test_fused_tiles_start_a_stride_apart_and_the_last_one_fits() -> None:
    rule = CropRule(8, 4, "gaussian")
    assert [tile_starts(size, rule) for size in (8, 10, 12, 14)] == [[0], [0, 2], [0, 4], [0, 4, 6]]


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 8)])
def test_a_fused_tile_counts_most_in_its_middle(height: int, width: int) -> None:
    weight = tile_weights(CropRule(8, 4, "gaussian"), height, width)
    assert weight.min() > 0 and torch.equal(weight, weight.flip(0)) and torch.equal(weight, weight.flip(1))
    away = [(torch.arange(size) - (size - 1) / 2) / size for size in (height, width)]
    wanted = torch.exp(-(away[0][:, None] ** 2 + away[1] ** 2) / 0.02)
    torch.testing.assert_close(weight, wanted)
    assert torch.equal(tile_weights(CropRule(8, 4, "uniform"), 3, 5), torch.ones(3, 5))


def test_the_released_code_has_the_middle_of_a_fused_tile_half_a_value_lower_down() -> None:
    weight = tile_weights(CropRule(8, 4, "gaussian_released"), 8, 8)
    assert weight[4].argmax() in (3, 4) and weight[:, 3].argmax() == 4 and weight.min() > 0
    assert torch.equal(weight, weight.flip(1)) and not torch.equal(weight, weight.flip(0))
    torch.testing.assert_close(weight[3], weight[5])
