"""JPEG's arithmetic is the released code's at any quality; the codec of files agrees with OpenCV's."""

import numpy as np
import pytest

from sr_models.images.jpeg import jpeg, libjpeg


@pytest.mark.parametrize("quality", ["30", "62.5", "95"])
def test_the_arithmetic_is_that_of_the_released_code(oracle, quality):
    held = oracle("degrade_exact")
    x = held["image_uint8"].transpose(2, 0, 1).astype(np.float32) / 255
    np.testing.assert_allclose(jpeg(x, float(quality)), held[f"diffjpeg/q{quality}"][0], atol=2e-3)


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_the_codec_is_that_of_files(oracle, quality):
    held = oracle("degrade_exact")
    x = held["image_uint8"].transpose(2, 0, 1).astype(np.float32) / 255
    made = 255 * libjpeg(x, quality).transpose(1, 2, 0)
    assert np.abs(made - held[f"libjpeg_opencv/q{quality}"]).mean() < 1


@pytest.mark.parametrize("codec", [jpeg, libjpeg])
def test_any_size_keeps_its_size_and_a_better_quality_keeps_more(codec):
    x = np.random.default_rng(0).random((3, 37, 21), dtype=np.float32)
    x = (x + x.mean(axis=0)) / 2
    errors = [np.abs(codec(x, quality) - x).mean() for quality in (10, 50, 95)]
    assert errors == sorted(errors, reverse=True) and codec(x, 50).shape == x.shape
    flat = np.full((3, 32, 48), 128 / 255, np.float32)
    np.testing.assert_allclose(codec(flat, 10), flat, atol=1 / 255)


def test_quality_100_rounds_nothing_but_colours_are_halved():
    grey = np.broadcast_to(np.random.default_rng(0).random((1, 32, 32), dtype=np.float32), (3, 32, 32))
    np.testing.assert_allclose(jpeg(grey, 100), grey, atol=1e-5)
