"""Memory that a picture may take: what is computed whole, and in which tiles what does not fit. Ours, no paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from sr_models.diffusion.base import Denoiser
from sr_models.errors import InputError
from sr_models.inference.sampling import one_call
from sr_models.inference.super_resolve import Options, eval_mode, super_resolve
from sr_models.inference.tiling import bytes_per_pixel
from sr_models.networks.base import Network, SRNetwork
from sr_models.networks.sigma import WithSigma, without_head


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a network may take at a time beside its weights and the picture itself; `of` measures what it does take.

    Attributes:
        max_bytes: the bound, on the device that holds the network.
        pixel_bytes: of one pass, for each LR pixel that it sees.
        window: the network's.
        overlap: at which tiles are the whole picture; None where they never are, as at a scale that is a fraction.
    """

    max_bytes: int
    pixel_bytes: float
    window: int
    overlap: int | None

    @classmethod
    def of(cls, model: Network | WithSigma, max_bytes: int, *, tile_exact: bool) -> Self:
        """Measure a network on a small picture, on the device that holds it; of one that samples, one call."""
        net = without_head(model)
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        probe = torch.zeros(1, 3, *[-(-48 // net.window) * net.window] * 2, device=device)
        return cls(
            max_bytes=max_bytes,
            pixel_bytes=bytes_per_pixel(_one_pass(model), probe),
            window=net.window,
            overlap=reach(model) if tile_exact and isinstance(net, SRNetwork) and isinstance(net.scale, int) else None,
        )

    def takes(self, height: int, width: int, options: Options) -> int:
        """Bytes that a picture takes, or one of its tiles."""
        seen = options.crop_rule.length if options.crops is not None and options.crop_rule is not None else None
        if options.tile is not None:
            seen = options.tile + self._beyond(options.overlap)
        if seen is not None:
            height, width = min(height, seen), min(width, seen)
        return round(self.pixel_bytes * height * width)

    def tile(self, overlap: int) -> int:
        """The largest tile that fits.

        Raises:
            InputError: not even one of one pixel does, with its overlap.
        """
        found = math.isqrt(int(self.max_bytes / self.pixel_bytes)) - self._beyond(overlap)
        if found < 1:
            raise InputError(f"{self.max_bytes} bytes are too few for one tile with an overlap of {overlap} pixels")
        return found

    def options(self, height: int, width: int, options: Options) -> Options:
        """How a picture is computed: as `options` say, but in tiles where it does not fit and these are the same.

        Raises:
            InputError: as `tile`.
        """
        declared = options.crop_rule is not None
        if declared or self.overlap is None or self.takes(height, width, options) <= self.max_bytes:
            return options
        return replace(options, tile=self.tile(self.overlap), overlap=self.overlap)

    def _beyond(self, overlap: int) -> int:
        """What a tile sees beyond its own part, and its padding."""
        return 2 * overlap + 3 * self.window


def fitted(bound: Bound | None, lr_BCHW: Tensor, options: Options) -> Options:
    """`Bound.options` of a batch of pictures; as `options` say where there is no bound."""
    height, width = lr_BCHW.shape[2:]
    return options if bound is None else bound.options(height, width, options)


def _one_pass(model: Network | WithSigma) -> Callable[[Tensor], object]:
    """What is alive at a time in `super_resolve`: a network's only pass, or one call of many."""
    if not isinstance(model, Denoiser):
        return lambda lr: super_resolve(model, lr)

    def call(lr_BCHW: Tensor) -> Tensor:
        with torch.no_grad(), eval_mode(model):
            return one_call(model, lr_BCHW)

    return call


def reach(model: Network | WithSigma) -> int:
    """LR pixels that an output pixel looks from its place at most, if the network is `tile_exact`: enough overlap.

    The half widths of all convolutions, each at the size that it works at, the modules that say their `reach`, one
    window, and 2 for what is enlarged or averaged beside them: more than it is where some work side by side.
    """
    net = without_head(model)
    assert isinstance(net, SRNetwork)
    side, found = 2 * net.window, 2.0 + net.window

    def add(module: nn.Module, inputs: tuple[Tensor, ...], _output: object) -> None:
        nonlocal found
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            found += module.kernel_size[0] // 2 * side / inputs[0].shape[2]
        else:
            found += int(module.reach)  # type: ignore[arg-type]

    looking = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) or hasattr(m, "reach")]
    hooks = [module.register_forward_hook(add) for module in looking]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), eval_mode(model):
            model(torch.zeros(1, 3 + net.noise_channels, side, side, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return math.ceil(found)
