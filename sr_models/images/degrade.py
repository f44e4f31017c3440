"""LR out of HR by degradations drawn within declared ranges (`sr_models.hyper.degradation`), from a generator.

Real-ESRGAN's two rounds (https://arxiv.org/abs/2107.10833, Fig. 2, appendix) and BSRGAN's shuffled order
(https://arxiv.org/abs/2103.14006, Sec. 3.5), without the noise of a camera's processing. What comes out is a function
of the picture and the generator's key alone: `keyed(seed, step, sample, "degrade")`. On the CPU, 8 bits at both ends.

Shapes: pictures are (C, H, W), C = 3 channels, float32 in [0, 1] between the ends, not always clamped where the papers'
code does not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from sr_models.hyper.degradation import (
    Additive,
    Degradation,
    Interval,
    OwnDegradation,
    Round,
    SecondOrder,
    Shuffled,
    ShuffledMore,
)
from sr_models.images.jpeg import jpeg, libjpeg
from sr_models.images.kernels import Shape, blur_kernel, filtered, sharpened, shifted, sinc_kernel
from sr_models.images.matlab import downscale, resize

Generator = np.random.Generator

_MODES = ("area", "bilinear", "bicubic")
_KINDS: tuple[tuple[Shape, bool], ...] = (  # of kernels, in the order of `kernel_shares`: shape, anisotropic
    ("gaussian", False), ("gaussian", True), ("generalised", False), ("generalised", True), ("plateau", False),
    ("plateau", True),
)  # fmt: skip
_GREY = np.array([0.2989, 0.587, 0.114], np.float32)
_SHUFFLED = ("blur", "blur", "down", "down to LR", "noise", "jpeg", "isp")
_SHUFFLED_MORE = ("blur", "resize", "noise", "poisson", "speckle", "isp", "jpeg", "blur", "resize", "noise", "poisson",
                  "speckle", "isp")  # fmt: skip


class Pair(NamedTuple):
    """What is trained or tested on: uint8 (H, W, 3), and (H / s, W / s, 3)."""

    hr: np.ndarray
    """As it came, or sharpened."""
    lr: np.ndarray


def degrade(hr: np.ndarray, scale: int, how: Degradation, rng: Generator) -> Pair:
    """Make the LR of one HR picture.

    Args:
        hr: uint8 (H, W, 3), sides multiples of `scale`.
        rng: drawn from only here; the same state gives the same pair.

    Raises:
        ValueError: another shape or type.
    """
    if hr.ndim != 3 or hr.shape[2] != 3 or hr.dtype != np.uint8 or hr.shape[0] % scale or hr.shape[1] % scale:
        raise ValueError(f"degrade expects uint8 (H, W, 3), sides multiples of {scale}, got {hr.shape}, {hr.dtype}")
    if how.usm:
        hr = _to_u8(sharpened(_to_float(hr)))
    if isinstance(how, OwnDegradation):
        return Pair(hr, _own(hr, scale, how, rng))
    if isinstance(how, SecondOrder):
        lr = _second_order(hr, scale, how, rng)
    elif isinstance(how, Shuffled):
        lr = _shuffled(_to_float(hr), scale, how, rng)
    elif isinstance(how, ShuffledMore):
        lr = _shuffled_more(_to_float(hr), scale, how, rng)
    else:
        lr = _additive(hr, scale, how, rng)
    return Pair(hr, _to_u8(lr))


# ---- Real-ESRGAN -----------------------------------------------------------------------------------------------------


def _second_order(hr: np.ndarray, scale: int, how: SecondOrder, rng: Generator) -> np.ndarray:
    lr_size = (hr.shape[0] // scale, hr.shape[1] // scale)
    codec = jpeg if how.codec == "diffjpeg" else libjpeg
    x = _blurred(_to_float(hr), how.first, rng)
    x = _noisy(_resized(x, factor=_factor(how.first, rng), mode=_mode(rng)), how.first, rng)
    if _happens(how.first.jpeg_share, rng):
        x = codec(x, rng.uniform(*how.first.jpeg))
    x = _blurred(x, how.second, rng)
    factor, mode = _factor(how.second, rng), _mode(rng)
    if how.final_resize == "drawn" or factor != 1:  # kept, it waits for MATLAB's
        x = _resized(x, size=_size(lr_size, factor), mode=mode)
    x = _noisy(x, how.second, rng)
    coded = _happens(how.second.jpeg_share, rng)
    quality, first = rng.uniform(*how.second.jpeg), rng.random() < 0.5
    if coded and first:
        x = codec(x, quality)
    mode = _mode(rng)
    if how.final_resize == "matlab":
        x = _to_float(resize(_to_u8(x), 1, out_shape=lr_size))
    else:
        x = _resized(x, size=lr_size, mode=mode)
    if _happens(how.final_sinc_share, rng):
        x = filtered(x, sinc_kernel(_side(how.second, rng), rng.uniform(math.pi / 3, math.pi)))
    return codec(x, quality) if coded and not first else x


def mixed_kernel(how: Round, rng: Generator) -> np.ndarray:
    """A blur kernel of one round: size, kind, widths, turn and exponent are all drawn."""
    size = _side(how, rng)
    if _happens(how.sinc_share, rng):
        return sinc_kernel(size, rng.uniform(math.pi / (3 if size < 13 else 5), math.pi))
    shape, anisotropic = _KINDS[rng.choice(len(_KINDS), p=np.array(how.kernel_shares) / sum(how.kernel_shares))]
    first, second, theta = rng.uniform(*how.sigma), rng.uniform(*how.sigma), rng.uniform(-math.pi, math.pi)
    beta = _about_one(how.beta_generalised if shape == "generalised" else how.beta_plateau, rng)
    return blur_kernel(size, (first, second if anisotropic else first), theta, shape, beta)


def gaussian_noise(x: np.ndarray, sigma: float, grey: bool, rng: Generator) -> np.ndarray:
    """(C, H, W) noise of standard deviation `sigma` / 255; `grey`: one for all channels."""
    shape = (1, *x.shape[1:]) if grey else x.shape
    return np.broadcast_to(rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma / 255), x.shape)


def poisson_noise(x: np.ndarray, factor: float, grey: bool, rng: Generator) -> np.ndarray:
    """(C, H, W) `factor` times what counting photons adds, of as many as the picture has levels, up to a power of two.

    `grey`: one for all channels, of the luma.
    """
    levels = np.round(np.clip(x, 0, 1) * 255)
    if grey:
        levels = np.round(np.tensordot(_GREY, levels, axes=1))[None]
    count = 2.0 ** math.ceil(math.log2(np.count_nonzero(np.bincount(levels.astype(np.uint8).ravel(), minlength=256))))
    clean = levels / 255
    noise = factor * (rng.poisson(clean.astype(np.float64) * count) / count - clean)
    return np.broadcast_to(noise.astype(np.float32), x.shape)


def _blurred(x: np.ndarray, how: Round, rng: Generator) -> np.ndarray:
    return filtered(x, mixed_kernel(how, rng)) if _happens(how.blur_share, rng) else x


def _noisy(x: np.ndarray, how: Round, rng: Generator) -> np.ndarray:
    gaussian, grey = _happens(how.gaussian_share, rng), _happens(how.grey_share, rng)
    if gaussian:
        noise = gaussian_noise(x, rng.uniform(*how.noise), grey, rng)
    else:
        noise = poisson_noise(x, rng.uniform(*how.poisson), grey, rng)
    return np.clip(x + noise, 0, 1)


def _factor(how: Round, rng: Generator) -> float:
    up, down, _ = how.resize_shares
    drawn, low, high = rng.random(), rng.uniform(how.resize[0], 1), rng.uniform(1, how.resize[1])
    return float(high if drawn < up else low if drawn < up + down else 1)


def _side(how: Round, rng: Generator) -> int:
    low, high = how.kernel_size
    return int(rng.integers(low // 2, high // 2 + 1)) * 2 + 1


def _about_one(interval: Interval, rng: Generator) -> float:
    below, above = rng.uniform(interval[0], 1), rng.uniform(1, interval[1])
    return float(below if rng.random() < 0.5 else above)


# ---- BSRGAN ----------------------------------------------------------------------------------------------------------


def _shuffled(x: np.ndarray, scale: int, how: Shuffled, rng: Generator) -> np.ndarray:
    lr_size = (x.shape[1] // scale, x.shape[2] // scale)
    if scale == 4 and _happens(how.halve_share, rng):
        if rng.random() < 0.5:
            x = _resized(x, size=_size(x.shape[1:], 0.5), mode=_mode(rng))
        else:
            x = _to_float(resize(_to_u8(x), 0.5))
        x, scale = np.clip(x, 0, 1), 2
    order = [_SHUFFLED[i] for i in rng.permutation(len(_SHUFFLED))]
    down, last = sorted((order.index("down"), order.index("down to LR")))
    order[down], order[last] = "down", "down to LR"
    for operation in order:
        if operation == "blur":
            x = _blurred_by(x, scale, how.blur, rng)
        elif operation == "down" and _happens(how.kernel_share, rng):
            kernel = shifted(blur_kernel(25, (rng.uniform(0.1, 0.6 * scale),) * 2), scale)
            x = np.clip(filtered(x, kernel[::-1, ::-1])[:, ::scale, ::scale], 0, 1)  # convolved, not correlated
        elif operation == "down":
            x = np.clip(_resized(x, size=_size(x.shape[1:], 1 / rng.uniform(1, 2 * scale)), mode=_mode(rng)), 0, 1)
        elif operation == "down to LR":
            x = np.clip(_resized(x, size=lr_size, mode=_mode(rng)), 0, 1)
        elif operation == "noise":
            x = noisy_by_channels(x, how.noise, False, rng)
        elif operation == "jpeg" and _happens(how.jpeg_share, rng):
            x = libjpeg(x, _whole(how.jpeg, rng))
    return libjpeg(x, _whole(how.jpeg, rng))


def _shuffled_more(x: np.ndarray, scale: int, how: ShuffledMore, rng: Generator) -> np.ndarray:
    lr_size = (x.shape[1] // scale, x.shape[2] // scale)
    places = np.arange(len(_SHUFFLED_MORE))
    if _happens(how.shuffle_share, rng):
        rng.shuffle(places)
    else:
        for noises in (slice(2, 6), slice(9, 13)):
            rng.shuffle(places[noises])
    for operation in (_SHUFFLED_MORE[i] for i in places):
        if operation == "blur":
            x = _blurred_by(x, scale, how.blur, rng)
        elif operation == "resize":
            up, down, _ = how.resize_shares
            drawn, low, high = rng.random(), rng.uniform(0.5 / scale, 1), rng.uniform(1, 2)
            factor = high if drawn < up else low if drawn < up + down else 1.0
            x = np.clip(_resized(x, size=_size(x.shape[1:], factor), mode=_mode(rng)), 0, 1)
        elif operation == "noise":
            x = noisy_by_channels(x, how.noise, False, rng)
        elif operation == "poisson" and _happens(how.poisson_share, rng):
            x = poisson_counts(x, rng)
        elif operation == "speckle" and _happens(how.speckle_share, rng):
            x = noisy_by_channels(x, how.noise, True, rng)
        elif operation == "jpeg":
            x = libjpeg(x, _whole(how.jpeg, rng))
    return libjpeg(_resized(x, size=lr_size, mode=_mode(rng)), _whole(how.jpeg, rng))


def noisy_by_channels(x: np.ndarray, levels: Interval, speckle: bool, rng: Generator) -> np.ndarray:
    """A picture with Gaussian noise, clamped: of each channel by itself (0.4), one for all (0.4), or tied channels.

    Args:
        levels: least and most standard deviation, of 255; tied channels have the most, by a random covariance.
        speckle: noise times the picture.
    """
    sigma, kind = np.float32(_whole(levels, rng) / 255), rng.random()
    if kind > 0.6:
        noise = sigma * rng.standard_normal(x.shape, dtype=np.float32)
    elif kind < 0.4:
        noise = sigma * rng.standard_normal((1, *x.shape[1:]), dtype=np.float32)
    else:
        turn = np.linalg.svd(rng.random((3, 3)))[0]
        variances, axes = np.linalg.eigh(np.abs((levels[1] / 255) ** 2 * (turn.T * rng.random(3)) @ turn))
        root = (axes * np.sqrt(np.maximum(variances, 0))).astype(np.float32)
        noise = np.tensordot(root, rng.standard_normal(x.shape, dtype=np.float32), axes=1)
    return np.clip(x + (x * noise if speckle else noise), 0, 1)


def poisson_counts(x: np.ndarray, rng: Generator) -> np.ndarray:
    """A picture of counted photons, 100 to 10,000 for white: in each channel, or half of the time in its luma alone."""
    x = np.round(np.clip(x, 0, 1) * 255) / 255
    count = 10 ** rng.uniform(2, 4)
    if rng.random() < 0.5:
        return np.clip(rng.poisson(x * count) / count, 0, 1).astype(np.float32)
    grey = np.round(np.tensordot(_GREY, x, axes=1) * 255) / 255
    return np.clip(x + (rng.poisson(grey * count) / count - grey), 0, 1).astype(np.float32)


def _blurred_by(x: np.ndarray, scale: int, factor: float, rng: Generator) -> np.ndarray:
    """By an anisotropic Gaussian, or an isotropic one, half each, as wide as the scale lets them be."""
    size, anisotropic = 2 * int(rng.integers(2, 12)) + 3, rng.random() < 0.5
    if anisotropic:
        wide, theta = factor * (4 + scale), rng.uniform(0, math.pi)
        first, second = (math.sqrt(max(wide * rng.random(), 1e-6)) for _ in range(2))
        return filtered(x, blur_kernel(size, (first, second), theta))
    sigma = max(factor * (2 + 0.2 * scale) * rng.random(), 1e-3)
    return filtered(x, blur_kernel(size, (sigma, sigma)))


# ---- noise alone -----------------------------------------------------------------------------------------------------


def _additive(hr: np.ndarray, scale: int, how: Additive, rng: Generator) -> np.ndarray:
    x, sigma, grey = _to_float(downscale(hr, scale)), rng.uniform(*how.noise), _happens(how.grey_share, rng)
    return x + gaussian_noise(x, sigma, grey, rng)


def _own(hr: np.ndarray, scale: int, how: OwnDegradation, rng: Generator) -> np.ndarray:
    """A plug-in's. Raises ValueError: it gives another shape or type than it must."""
    lr, shape = how.lr(hr, scale, rng), (hr.shape[0] // scale, hr.shape[1] // scale, 3)
    if not isinstance(lr, np.ndarray) or lr.shape != shape or lr.dtype != np.uint8:
        got = f"{lr.shape} {lr.dtype}" if isinstance(lr, np.ndarray) else type(lr).__name__
        raise ValueError(f"{type(how).__name__}.lr gives {got} where uint8 {shape} is expected")
    return lr


# ---- what all share --------------------------------------------------------------------------------------------------


def _happens(share: float, rng: Generator) -> bool:
    return bool(rng.random() < share)


def _whole(interval: Interval, rng: Generator) -> int:
    """Uniform among the whole numbers of an interval, ends included."""
    return int(rng.integers(int(interval[0]), int(interval[1]) + 1))


def _mode(rng: Generator) -> str:
    return _MODES[rng.integers(len(_MODES))]


def _size(of: tuple[int, ...], factor: float) -> tuple[int, int]:
    return max(int(of[0] * factor), 1), max(int(of[1] * factor), 1)


def _resized(
    x: np.ndarray, *, mode: str, size: tuple[int, int] | None = None, factor: float | None = None
) -> np.ndarray:
    """torch's resize without antialiasing, to a size or by a factor, which also says where pixels lie."""
    if factor == 1 or size == x.shape[1:]:
        return x
    made = functional.interpolate(torch.from_numpy(x)[None], size=size, scale_factor=factor, mode=mode)
    return np.asarray(made[0].numpy())


def _to_float(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> (3, H, W)."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32) / 255


def _to_u8(x: np.ndarray) -> np.ndarray:
    """(3, H, W) -> uint8 (H, W, 3), clamped and rounded."""
    return np.ascontiguousarray(np.round(np.clip(x, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))
