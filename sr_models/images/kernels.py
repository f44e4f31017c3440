"""Blur kernels of degradation models, and the filter that applies them.

The six Gaussian-like kernels and the sinc are those of Real-ESRGAN (https://arxiv.org/abs/2107.10833, Sec. 3.1, 3.2),
generalised and plateau-shaped ones after https://arxiv.org/abs/1204.2994 and https://arxiv.org/abs/1907.09119; the
shifted one goes with BSRGAN's direct downsampling (https://arxiv.org/abs/2103.14006, Sec. 3.2). All are float64,
(size, size), sum to 1, and centred unless they say otherwise.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import scipy.fft
import scipy.special

Shape = Literal["gaussian", "generalised", "plateau"]


def quadratic(size: int, spreads: tuple[float, float], theta: float) -> np.ndarray:
    """xᵀ Σ⁻¹ x at each pixel, for the covariance with standard deviations `spreads` along axes turned by `theta`.

    Args:
        size: odd side.
        theta: radians from the x axis towards the y axis, which points down.
    """
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    cos, sin = math.cos(theta), math.sin(theta)
    along, across = cos * x + sin * y, cos * y - sin * x
    return np.asarray((along / spreads[0]) ** 2 + (across / spreads[1]) ** 2)


def blur_kernel(
    size: int, spreads: tuple[float, float], theta: float = 0.0, shape: Shape = "gaussian", beta: float = 1.0
) -> np.ndarray:
    """exp(-q/2), exp(-q^beta/2) or 1 / (1 + q^beta), where q is `quadratic`."""
    q = quadratic(size, spreads, theta)
    if shape == "plateau":
        return _normalised(1 / (1 + q**beta))
    return _normalised(np.exp(-0.5 * (q**beta if shape == "generalised" else q)))


def sinc_kernel(size: int, cutoff: float) -> np.ndarray:
    """The ideal low-pass filter of a disc of frequencies: cutoff J1(cutoff r) / (2 pi r); rings, as sharpening does.

    Args:
        cutoff: radians a pixel, pi being the Nyquist frequency.
    """
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    r = np.hypot(x, y)
    r[size // 2, size // 2] = 1  # any number: the centre is set below
    kernel = cutoff * scipy.special.j1(cutoff * r) / (2 * math.pi * r)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return _normalised(kernel)


def shifted(kernel: np.ndarray, scale: int) -> np.ndarray:
    """A kernel moved by (scale - 1) / 2 pixels up and left, so that every `scale`-th pixel, from 0, stays aligned.

    Interpolated linearly, the edge repeated; the sum is 1 again.
    """
    size, shift = len(kernel), (scale - 1) / 2
    at = np.clip(np.arange(size) + shift, 0, size - 1)
    low = np.minimum(at.astype(np.int64), size - 2)
    part = at - low
    for _ in range(2):
        kernel = (kernel[low].T * (1 - part) + kernel[low + 1].T * part).T.T
    return _normalised(kernel)


def filtered(image_CHW: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The correlation of each channel with a kernel of odd sides; beyond the edge the image is mirrored about it.

    By float32 FFT, which costs the same for every kernel and has the same bits at any number of threads. An image may
    be smaller than the kernel: it is mirrored again and again.

    Returns:
        float32 of the image's shape.
    """
    reach = [(side // 2, side // 2) for side in kernel.shape]
    padded = np.pad(image_CHW.astype(np.float32, copy=False), [(0, 0), *reach], mode="reflect")
    height, width = image_CHW.shape[1:]
    size = [scipy.fft.next_fast_len(side, real=True) for side in padded.shape[1:]]
    response = scipy.fft.rfft2(kernel.astype(np.float32), size).conj()
    spectrum = scipy.fft.rfft2(padded, size)
    return np.asarray(scipy.fft.irfft2(spectrum * response, size)[:, :height, :width])


def sharpened(image_CHW: np.ndarray) -> np.ndarray:
    """Unsharp masking as both papers sharpen targets: half of what a Gaussian of 51 pixels takes away, put on top.

    Where that is more than 10 levels, with the mask blurred likewise. `image_CHW` is float in [0, 1], as the result.
    """
    gaussian = blur_kernel(51, (8.0, 8.0))
    detail = image_CHW - filtered(image_CHW, gaussian)
    mask = filtered((np.abs(detail) * 255 > 10).astype(np.float32), gaussian)
    return np.asarray(image_CHW + mask * (np.clip(image_CHW + 0.5 * detail, 0, 1) - image_CHW), np.float32)


def _normalised(kernel: np.ndarray) -> np.ndarray:
    return np.asarray(kernel / kernel.sum())
