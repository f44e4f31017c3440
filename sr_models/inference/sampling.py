"""Pictures drawn from diffusion networks: one field of noise for a whole picture at each step, whatever its tiles.

So what comes out depends on the picture, its seed and how it is sampled, and not on the batch or the order of tiles.
Tiles are sampled side by side, as DREAM (https://arxiv.org/abs/2312.00210) cuts and pastes them, but with shared noise;
or one state of the whole picture is, and at each step the guesses of its tiles are fused, as CCSR's code
(https://github.com/csslc/CCSR) does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sr_models.diffusion.base import Denoiser
from sr_models.diffusion.process import Level, Process
from sr_models.diffusion.samplers import Noise, Predict, sample_state
from sr_models.diffusion.shifting import Shifting
from sr_models.errors import InputError
from sr_models.hyper.crops import CropRule
from sr_models.hyper.process import ShiftParams
from sr_models.hyper.sampling import Sampling, check_sampler
from sr_models.images.operators import pad_to, pad_to_window
from sr_models.inference.tiling import crop_starts, tile_starts, tile_weights
from sr_models.rng import noise_field
from sr_models.scales import sr_side, whole_scale

Run = Callable[[Tensor, Tensor, Level], Tensor]
"""A denoiser on (condition, state, level)."""


def sample(
    net: Denoiser, run: Run, lr_BCHW: Tensor, *, seeds: Sequence[int], sampling: Sampling, crops: CropRule | None,
    scale: float,
) -> Tensor:  # fmt: skip
    """Draw a picture for each LR image.

    Args:
        run: `net` itself, or compiled.
        seeds: one for each image, or one for all.
        scale: how much larger the picture is: the network's, or 1 for an LR image that was enlarged before.
        crops: how the picture is cut into tiles, in pixels of `lr_BCHW`; None draws it whole. One tile of each image is
            computed at a time.

    Returns:
        (B, 3, H * scale, W * scale), by `sr_side`, about [0, 1] and not clamped; tiles that are pasted lie on the CPU.

    Raises:
        InputError: as `sample_state`, or tiles that the network's windows do not divide, or of a scale that is not
            whole.
    """
    if crops is not None and crops.fused is not None:
        return _fused(net, run, lr_BCHW, seeds, sampling, crops, whole_scale(scale))
    height, width = lr_BCHW.shape[2:]
    window = _window(net, scale)
    if crops is None:
        x = pad_to_window(lr_BCHW, window)
        rows, columns = ([(0, (0, sr_side(side, scale)))] for side in x.shape[2:])
    else:
        _check_tiles(net, crops, window)
        x = pad_to(lr_BCHW, *(max(side, crops.length) for side in (height, width)))
        rows, columns = (crop_starts(side, crops, whole_scale(scale)) for side in x.shape[2:])
    length = x.shape[2:] if crops is None else (crops.length, crops.length)
    tiles = [*itertools.product(rows, columns)]
    size = sr_side(length[0], scale), sr_side(length[1], scale)
    cut = [x[..., top : top + length[0], left : left + length[1]] for (top, _), (left, _) in tiles]
    conditions = [net.encode(lr, size) for lr in cut]
    noise = _Field(net, x, seeds, [(top, left) for (top, _), (left, _) in tiles], size, scale)

    def predict(state: Tensor, level: Level) -> Tensor:
        parts = zip(conditions, state.split(len(x)), level.gamma.split(len(x)), level.t.split(len(x)), strict=True)
        return torch.cat([run(condition, part, Level(gamma, t)).float() for condition, part, gamma, t in parts])

    def beginning() -> Tensor:
        return torch.cat([net.start(condition, lr, size) for condition, lr in zip(conditions, cut, strict=True)])

    states = _state(net, predict, noise, sampling, beginning).split(len(x))
    if crops is None:
        return net.decode(states[0])[..., : sr_side(height, scale), : sr_side(width, scale)]
    times = whole_scale(scale)
    picture = torch.empty(len(x), 3, x.shape[2] * times, x.shape[3] * times)
    for ((top, (first, last)), (left, (start, end))), state in zip(tiles, states, strict=True):
        above, before = top * times, left * times
        part = net.decode(state)[..., first - above : last - above, start - before : end - before]
        picture[..., first:last, start:end] = part
    return picture[..., : height * times, : width * times]


def _state(net: Denoiser, predict: Predict, noise: Noise, sampling: Sampling, start: Callable[[], Tensor]) -> Tensor:
    """The clean state; `start` gives that of enlarged LR, where residual shifting begins."""
    check_sampler(net.process, sampling)
    if isinstance(net.process, ShiftParams):
        return Shifting.of(net.process).sample(predict, start(), noise)
    return sample_state(predict, Process.of(net.process), noise, sampling)


def _window(net: Denoiser, scale: float) -> int:
    """Multiples that sides of a picture must have which is enlarged by `scale`: the network's, or of one that was."""
    return net.window if scale == net.scale else net.window * whole_scale(net.scale) // whole_scale(scale)


def _check_tiles(net: Denoiser, crops: CropRule, window: int) -> None:
    """Raises InputError: tiles that the network's windows, of so many pixels of what is cut, do not divide."""
    if not crops.fits(window):
        times = window // net.window  # what is cut may be an enlarged LR
        shared = "" if crops.fused is None else f" with an overlap of {crops.overlap // times}"
        raise InputError(
            f"tiles of {crops.length // times} LR pixels{shared}: this network needs multiples of {net.window}"
        )


def _fused(
    net: Denoiser, run: Run, lr_BCHW: Tensor, seeds: Sequence[int], sampling: Sampling, crops: CropRule, scale: int
) -> Tensor:
    """`sample` with one state for the whole picture, of which the network sees a tile at a time."""
    height, width = lr_BCHW.shape[2:]
    window = _window(net, scale)
    _check_tiles(net, crops, window)
    x = pad_to_window(pad_to(lr_BCHW, *(max(side, crops.length) for side in (height, width))), window)
    tops, lefts = (tile_starts(side, crops) for side in x.shape[2:])
    corners = [*itertools.product(tops, lefts)]
    length, size = crops.length, (crops.length * scale, crops.length * scale)
    conditions = [net.encode(x[..., top : top + length, left : left + length], size) for top, left in corners]
    noise = _Field(net, x, seeds, [(0, 0)], (x.shape[2] * scale, x.shape[3] * scale), scale)
    rows, columns = net.state_shape(size)[1:]
    places = [(..., slice(top, top + rows), slice(left, left + columns)) for top, left in noise.places(corners)]
    weight = tile_weights(crops, rows, columns).to(x)
    total = torch.zeros(noise.shape[1:]).to(x)
    for place in places:
        total[place] += weight

    def predict(state: Tensor, level: Level) -> Tensor:
        out = torch.zeros_like(state)
        for condition, place in zip(conditions, places, strict=True):
            out[place] += weight * run(condition, state[place], level).float()
        return out / total

    whole = x.shape[2] * scale, x.shape[3] * scale
    state = _state(net, predict, noise, sampling, lambda: net.start(net.encode(x, whole), x, whole))
    return net.decode(state)[..., : height * scale, : width * scale]


def one_call(net: Denoiser, lr_BCHW: Tensor) -> Tensor:
    """What sampling does again and again, and at its end, on states of nothing: it shows what a network takes."""
    size = sr_side(lr_BCHW.shape[2], net.scale), sr_side(lr_BCHW.shape[3], net.scale)
    state = torch.zeros(len(lr_BCHW), *net.state_shape(size), device=lr_BCHW.device)
    last = torch.full((len(lr_BCHW),), net.process.steps, device=lr_BCHW.device)
    level = Level(torch.full_like(last, 0.5, dtype=torch.float64), last)
    return net.decode(net(net.encode(lr_BCHW, size), state, level))


class _Field:
    """The noise of each step for a batch of pictures, as their tiles see it: tile by tile, images within a tile."""

    def __init__(
        self, net: Denoiser, x_BCHW: Tensor, seeds: Sequence[int], corners: Sequence[tuple[int, int]],
        size: tuple[int, int], scale: float,
    ) -> None:  # fmt: skip
        self.like, self.corners = x_BCHW, corners
        self.seeds = list(seeds) if len(seeds) == len(x_BCHW) else [seeds[0]] * len(x_BCHW)
        height, width = x_BCHW.shape[2:]
        self.shape = net.state_shape((sr_side(height, scale), sr_side(width, scale)))
        self.seen = net.state_shape(size)[1:]
        self.per_pixel = self.shape[1] / height, self.shape[2] / width

    def __call__(self, step: int) -> Tensor:
        drawn = {seed: torch.from_numpy(noise_field(seed, self.shape, step)) for seed in self.seeds}
        fields = torch.stack([drawn[seed] for seed in self.seeds])
        height, width = self.seen
        parts = [fields[..., top : top + height, left : left + width] for top, left in self.places(self.corners)]
        return torch.cat(parts).to(self.like)

    def places(self, corners: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Where LR pixels lie in the state."""
        return [(round(top * self.per_pixel[0]), round(left * self.per_pixel[1])) for top, left in corners]
