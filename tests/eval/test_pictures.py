"""Pictures show what they claim: the right crop, the right values, readable sizes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval import pictures
from sr_models.errors import InputError

HR = np.random.default_rng(0).integers(0, 256, (96, 120, 3)).astype(np.uint8)


def damaged(top: int, left: int) -> np.ndarray:
    image = HR.copy()
    image[top : top + 24, left : left + 24] = 0
    return image


def test_the_crop_is_where_methods_differ_most() -> None:
    assert pictures.most_different([HR, damaged(50, 77), HR]) == (50, 77, 24, 24)


def test_the_crop_fits_an_image_smaller_than_itself() -> None:
    assert pictures.most_different([HR[:10, :14], HR[:10, :14]]) == (0, 0, 10, 10)


@pytest.mark.parametrize("methods", [1, 3, 8])
def test_comparison_is_ten_inches_wide(tmp_path: Path, methods: int) -> None:
    scores = {"psnr_y": 33.123, "ssim_y": 0.91234}
    panels = [("LR", HR[::2, ::2], None), *[("m", damaged(20, 30), scores)] * methods, ("HR", HR, None)]
    box = pictures.comparison(tmp_path / "new" / "x.png", title="t", panels=panels, protocol="classical-y-b2")
    assert box == (20, 30, 24, 24)
    assert Image.open(tmp_path / "new" / "x.png").width == 1500


def test_scores_are_written_with_unit_and_protocol() -> None:
    scores = {"psnr_y": 33.1251, "ssim_y": 0.91234}
    assert pictures._scores_text(scores) == "33.13 dB / 0.9123"
    caption = pictures._scores_caption([("LR", HR, None), ("m", HR, scores)], "classical-y-b2")
    assert caption == "PSNR of the luma Y / SSIM of the luma Y, protocol classical-y-b2"


def test_low_resolution_is_magnified_pixel_by_pixel() -> None:
    large = pictures._magnify(HR[::2, ::2], HR, "LR")
    assert large.shape == HR.shape
    for corner in (large[::2, ::2], large[1::2, ::2], large[::2, 1::2], large[1::2, 1::2]):
        np.testing.assert_array_equal(corner, HR[::2, ::2])


@pytest.mark.parametrize(
    ("panels", "crop", "message"),
    [
        ([], "disagree", "at least one panel"),
        ([("LR", HR[:50, :60], None), ("HR", HR, None)], "disagree", "panel 'LR'"),
        ([("HR", HR, None)], (90, 0, 10, 10), "leaves the image of 96x120 px"),
        ([("HR", HR, None)], (-1, 0, 10, 10), "leaves the image"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, panels: list, crop: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pictures.comparison(tmp_path / "x.png", title="t", panels=panels, crop=crop)
    assert not list(tmp_path.iterdir())


def test_curves_and_bars_are_page_wide(tmp_path: Path) -> None:
    series = {"a": ([0, 1, 2], [1.0, 2.0, 3.0]), "b": ([0], [1.5])}
    pictures.curves(tmp_path / "c.png", series, xlabel="step", ylabel="PSNR-Y (dB)", title="t")
    rows = [("a", 34.0, 0.1), ("b", 33.0, 0.0)]
    pictures.bars(tmp_path / "b.png", rows, xlabel="PSNR-Y (dB)", title="t", baseline=("bicubic", 33.5))
    assert [Image.open(tmp_path / name).width for name in ("c.png", "b.png")] == [1500, 1500]
