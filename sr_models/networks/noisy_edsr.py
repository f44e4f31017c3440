"""EDSR-baseline (https://arxiv.org/abs/1707.02921) with Gaussian noise on its features: a small stochastic network.

Ours, to hold everything that draws several times to its word without a diffusion network's cost. The noise adds no
weights, so EDSR-baseline's fit as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sr_models.networks.edsr import EDSR


class NoisyEDSR(EDSR):
    """`noise` times one standard normal field a feature channel, added before the upsampler."""

    def __init__(self, scale: int, *, channels: int, blocks: int, res_scale: float, noise: float) -> None:
        super().__init__(scale, channels=channels, blocks=blocks, res_scale=res_scale)
        self.noise = noise
        self.noise_channels = channels

    def features(self, lr_BCHW: Tensor) -> Tensor:
        rgb_BCHW, noise_BCHW = lr_BCHW[:, :3], lr_BCHW[:, 3:]
        clean = super().features(rgb_BCHW)
        if noise_BCHW.shape[1] == 0:
            noise_BCHW = torch.randn_like(clean)
        return clean + self.noise * noise_BCHW
