"""Pictures that tell what was cut from where, and folders of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.plan.sources import ImageSource

SIZES = [(41, 50), (60, 37), (33, 33), (48, 64)]  # not multiples of the scales


@pytest.fixture(scope="session")
def pixels() -> Callable[[int], np.ndarray]:
    """Makes a picture whose every pixel tells its place: red = row, green = column, blue = which picture."""
    return _pixels


@pytest.fixture(scope="session")
def write_images() -> Callable[[Path, range], ImageSource]:
    """Makes a folder of such pictures."""

    def write(folder: Path, seeds: range) -> ImageSource:
        folder.mkdir(parents=True)
        for seed in seeds:
            Image.fromarray(_pixels(seed)).save(folder / f"{seed:02}.png")
        return ImageSource(hr=str(folder))

    return write


def _pixels(seed: int) -> np.ndarray:
    height, width = SIZES[seed % 4]
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = np.arange(height)[:, None], np.arange(width), seed
    return image
