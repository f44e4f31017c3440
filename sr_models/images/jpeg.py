"""JPEG on float images: its arithmetic with any real quality (ITU-T T.81, Annex K tables), and libjpeg by Pillow.

The first is what Real-ESRGAN (https://arxiv.org/abs/2107.10833) trains with, "DiffJPEG": baseline, colours halved by
averaging 2x2 and doubled by repetition, no entropy coding, tables not rounded. As in what was released, the luma table
lies on its side (T.81's for vertical frequencies quantises horizontal ones), and beyond the picture all is black, which
dims the last pixels at the right and the bottom a little.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
"""As printed: the horizontal frequency rises along a row."""
_COLOUR = np.full((8, 8), 99, np.float32)
_COLOUR[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

_TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)

_FREQUENCY, _PLACE = np.mgrid[:8, :8]
_DCT = np.where(_FREQUENCY == 0, np.sqrt(1 / 8), 0.5 * np.cos((2 * _PLACE + 1) * _FREQUENCY * np.pi / 16))
_DCT = _DCT.astype(np.float32)
"""(frequency, place), orthonormal."""


def jpeg(image_CHW: np.ndarray, quality: float) -> np.ndarray:
    """What is left of an RGB image after JPEG of a quality from 1 to 100, whole or not.

    Args:
        image_CHW: float in [0, 1], clamped; sides that are no multiples of 16 are extended by black.

    Returns:
        float32 in [0, 1] of the image's shape.
    """
    height, width = image_CHW.shape[1:]
    beyond = [(0, 0), (0, -height % 16), (0, -width % 16)]
    rgb = 255 * np.pad(np.clip(image_CHW, 0, 1).astype(np.float32), beyond)
    luma, *colours = np.tensordot(_TO_YCBCR, rgb, axes=1)
    factor = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100
    planes = [_quantised(luma - 128, _LUMA.T * factor) + 128]
    for colour in colours:
        h, w = colour.shape
        halved = _quantised(colour.reshape(h // 2, 2, w // 2, 2).mean(axis=(1, 3)), _COLOUR * factor)
        planes.append(halved.repeat(2, axis=0).repeat(2, axis=1))
    decoded = np.tensordot(_TO_RGB, np.stack(planes), axes=1)[:, :height, :width]
    return np.asarray(np.clip(decoded, 0, 255) / 255)


def libjpeg(image_CHW: np.ndarray, quality: float) -> np.ndarray:
    """The same by the codec that files come from: 8-bit, a whole quality (the nearest), 4:2:0.

    Its last bits depend on the build of libjpeg that Pillow brings.
    """
    pixels = np.floor(np.clip(image_CHW, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=round(quality), subsampling="4:2:0")
    with Image.open(file) as opened:
        return np.asarray(opened, np.float32).transpose(2, 0, 1) / 255


def _quantised(plane: np.ndarray, table: np.ndarray) -> np.ndarray:
    """A plane of 8x8 blocks after its cosine transform was rounded to multiples of `table`, (vertical, horizontal)."""
    if not table.any():  # quality 100
        return plane
    h, w = plane.shape
    blocks = plane.reshape(h // 8, 8, w // 8, 8).transpose(0, 2, 1, 3)
    coefficients = np.round(_DCT @ blocks @ _DCT.T / table) * table
    return np.asarray((_DCT.T @ coefficients @ _DCT).transpose(0, 2, 1, 3).reshape(h, w))
