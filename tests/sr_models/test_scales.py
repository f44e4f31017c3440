"""Factors as they are written, and the sides of HR, LR and SR that belong to them."""

import numpy as np
import pytest

from sr_models.errors import InputError
from sr_models.scales import ScaleRange, hr_step, lr_side, parse_scale, sr_side, whole_scale


@pytest.mark.parametrize(("text", "scale"), [("4", 4), ("4.0", 4), (3.0, 3), ("2.5", 2.5), (1, 1)])
def test_a_whole_factor_is_an_int(text, scale):
    found = parse_scale(text, "--scale")
    assert found == scale and type(found) is type(scale)


@pytest.mark.parametrize("text", ["0", "0.99", "-2", "inf", "nan", "two"])
def test_what_is_no_factor_is_refused(text):
    with pytest.raises(InputError, match=f"--scale must be at least 1, got {text}$"):
        parse_scale(text, "--scale")


@pytest.mark.parametrize(
    ("scale", "hr", "step", "lr"), [(2, 21, 2, 10), (2.5, 24, 5, 8), (1.1, 40, 11, 30), (3.75, 31, 15, 8), (1, 7, 1, 7)]
)
def test_hr_cropped_is_the_scale_times_lr(scale, hr, step, lr):
    assert (hr_step(scale), lr_side(hr, scale)) == (step, lr)
    assert sr_side(lr, scale) == hr - hr % step


def test_a_side_between_two_pixels_is_rounded_half_up():
    assert [sr_side(side, 2.5) for side in (1, 2, 3, 4)] == [3, 5, 8, 10]


def test_a_range_is_uniform_in_the_scale_and_knows_its_mean_and_largest_patch():
    found = ScaleRange(low=1, high=8)
    assert [found.hr_side(16, share) for share in (0, 0.5, 0.9999999)] == [16, 72, 128]
    assert [found.cut_side(16, scale) for scale in (1, 3, 8)] == [128, 43, 16]
    scales = 1 + 7 * (np.arange(1000) + 0.5) / 1000
    assert found.mean_square == pytest.approx(np.mean(scales**2), rel=1e-5)
    with pytest.raises(InputError, match="r: low must be below high, got 4 and 4"):
        ScaleRange.parse({"low": 4, "high": 4}, "r")


def test_tiles_need_a_whole_factor():
    assert whole_scale(3) == 3
    with pytest.raises(InputError, match=r"tiles are for whole scales, got 2\.5"):
        whole_scale(2.5)
