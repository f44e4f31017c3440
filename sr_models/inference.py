"""How to run a network on pictures: pad to its window, no gradients, evaluation mode, clamp. Ours, no paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from sr_models.imaging import beyond, check_images
from sr_models.network import SRNetwork
from sr_models.sigma import WithSigma


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a picture is computed; each choice may change its last digits, so scores record them.

    Attributes:
        precision: arithmetic of convolutions and matrix products; the result is float32 in either case.
        channels_last: memory layout of the activations, faster on recent GPUs.
    """

    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class Output:
    """sr: (B, 3, H * scale, W * scale) float32 in [0, 1]; sigma: the predicted spread at the same size, or None."""

    sr: Tensor
    sigma: Tensor | None = None


@torch.no_grad()
def super_resolve(
    model: SRNetwork | WithSigma, lr_BCHW: Tensor, *, seeds: Sequence[int] = (0,), options: Options = Options()
) -> Output:
    """Enlarge a batch of LR images; the model's training mode is restored afterwards.

    Args:
        model: on the device where `lr_BCHW` lies.
        lr_BCHW: (B, 3, H, W) float RGB in [0, 1], any H and W.
        seeds: one noise seed a result, for stochastic networks; all networks here are deterministic and run once.
        options: precision and memory layout.

    Raises:
        ValueError: `lr_BCHW` is not a batch of float RGB images, or `seeds` is empty.
    """
    check_images(lr_BCHW, "lr")
    if not seeds:
        raise ValueError("super_resolve needs at least one seed, got none")
    net = model.net if isinstance(model, WithSigma) else model
    height, width = (side * net.scale for side in lr_BCHW.shape[2:])
    x = pad_to_window(lr_BCHW, net.window)
    if options.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with eval_mode(model), torch.autocast(x.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
        result = model(x)
    sr, sigma = result if isinstance(result, tuple) else (result, None)
    return Output(
        sr=sr[..., :height, :width].float().clamp(0, 1).contiguous(),
        sigma=None if sigma is None else sigma[..., :height, :width].float().contiguous(),
    )


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; every submodule gets its own mode back, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def pad_to_window(x_BCHW: Tensor, window: int) -> Tensor:
    """Extend the bottom and the right by the mirror image, edge repeated, to the next multiples of `window`."""
    for axis in (2, 3):
        size = x_BCHW.shape[axis]
        if size % window:
            index = beyond(np.arange(size + -size % window), size, "symmetric")
            x_BCHW = x_BCHW.index_select(axis, torch.from_numpy(index).to(x_BCHW.device))
    return x_BCHW
