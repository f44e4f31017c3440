"""ACS: every output pixel comes once, from the corner it lies in, at any size."""

import pytest
import torch
from torch import Tensor

from sr_models.inference.cropping import Crop, Span, adaptive_crops, cut, paste

SIZES = [(height, (37 * height) % 131 + 1) for height in range(1, 131)] + [(1, 1), (3, 400), (64, 63), (256, 254)]


@pytest.mark.parametrize("multiple", [2, 4])
def test_every_pixel_is_covered_once(multiple: int) -> None:
    for height, width in SIZES:
        times = torch.zeros(height, width, dtype=torch.int64)
        for crop in adaptive_crops(height, width, multiple=multiple):
            times[crop.rows.first : crop.rows.last, crop.columns.first : crop.columns.last] += 1
            for span in (crop.rows, crop.columns):
                assert span.first == span.last or span.start <= span.first < span.last <= span.end
                assert (span.end - span.start) % multiple == 0
        assert (times == 1).all()


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_cutting_and_pasting_gives_the_picture(scale: int) -> None:
    for height, width in SIZES[::3]:
        x = torch.rand(2, 3, height, width)
        crops = adaptive_crops(height, width)
        parts = cut(x, crops)
        assert parts.shape[0] == 2 * len(crops)
        assert parts.shape[2] % 4 == parts.shape[3] % 4 == 0

        def enlarge(y: Tensor) -> Tensor:
            return y.repeat_interleave(scale, 2).repeat_interleave(scale, 3)

        assert torch.equal(paste(enlarge(parts), crops, scale), enlarge(x))


def test_each_corner_gives_its_own_quarter() -> None:
    crops = adaptive_crops(101, 90)
    parts = torch.arange(4.0)[:, None, None, None].expand(4, 1, 80, 76)
    picture = paste(parts, crops)[0, 0]
    assert picture.shape == (101, 90)
    expected = 2 * (torch.arange(101) >= 50).float()[:, None] + (torch.arange(90) >= 45).float()
    assert torch.equal(picture, expected)


def test_the_papers_numbers() -> None:
    """Eq. 6-8 with k = 8: a part ends 29 to 32 pixels past the middle, in steps of 4; less only where none are left."""
    top, bottom = Span(0, 80, 0, 50), Span(21, 101, 50, 101)
    left, right = Span(0, 76, 0, 45), Span(14, 90, 45, 90)
    assert adaptive_crops(101, 90) == [Crop(top, left), Crop(top, right), Crop(bottom, left), Crop(bottom, right)]
    for side in range(64, 300):
        first = adaptive_crops(side, 101)[0].rows
        assert 29 <= first.end - side // 2 <= 32
    assert adaptive_crops(100, 88) == [Crop(Span(0, 100, 0, 100), Span(0, 88, 0, 88))]  # fits: one pass
    small = adaptive_crops(41, 40)
    assert small[0] == Crop(Span(0, 40, 0, 20), Span(0, 40, 0, 20))
    assert small[3] == Crop(Span(1, 41, 20, 41), Span(0, 40, 20, 40))


def test_sides_below_the_multiple_are_mirrored() -> None:
    crops = adaptive_crops(3, 5)
    assert [crop.rows for crop in crops[::2]] == [Span(0, 4, 0, 1), Span(-1, 3, 1, 3)]
    parts = cut(torch.arange(3.0).view(1, 1, 3, 1).expand(1, 1, 3, 5), crops)
    assert parts[0, 0, :, 0].tolist() == [0, 1, 2, 2]
    assert parts[3, 0, :, 0].tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(("height", "width", "overlap"), [(0, 5, 32), (5, -1, 32), (5, 5, 3)])
def test_impossible_plans_are_refused(height: int, width: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="adaptive crops need"):
        adaptive_crops(height, width, overlap=overlap)
