"""ResShift's network (https://arxiv.org/abs/2307.12348): the latent of a picture is drawn beside that of enlarged LR.

Under DDPM it is the baseline of DREAM (https://arxiv.org/abs/2312.00210), which does not say what the condition is; see
`ResShiftHyper.condition`. The latent space is a frozen VQ autoencoder's (`sr_models.diffusion.autoencoder`), a quarter
of the picture's sides: noise and losses are there, and its size is the state's. LR is enlarged by torch's bicubic,
without antialiasing, as ResShift's code does before it encodes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from sr_models.diffusion import tiled
from sr_models.diffusion.autoencoder import VQAutoencoder
from sr_models.diffusion.frozen import vq_autoencoder
from sr_models.diffusion.process import Level
from sr_models.diffusion.swin_unet import SwinUNet
from sr_models.errors import InputError
from sr_models.hyper.latent import LATENT, REDUCTION, ResShiftHyper
from sr_models.hyper.process import ProcessParams


class ResShift(SwinUNet):
    """A Swin U-Net on the noisy latent and the condition, six channels, which gives three; told the step, from 0.

    Args:
        autoencoder: safetensors file of the frozen part, read when it is first used; None: nothing can be encoded.
        autoencoder_sha256: what the file must have; None: not checked.
    """

    process = ProcessParams.parse(ResShiftHyper.process, "resshift")
    discrete = True
    reduction = REDUCTION

    def __init__(
        self, scale: int, *, channels: int, mults: Sequence[int], blocks: int, embed: int, heads: int, mlp_ratio: int,
        attention_window: int, side: int, dropout: float, groups: int, condition: Literal["latent", "lr"],
        autoencoder: str | None, autoencoder_sha256: str | None,
    ) -> None:  # fmt: skip
        super().__init__(
            2 * LATENT, LATENT, channels=channels, mults=mults, blocks=blocks, embed=embed, heads=heads,
            mlp_ratio=mlp_ratio, attention_window=attention_window, side=side, dropout=dropout, groups=groups,
        )  # fmt: skip
        self.scale, self.condition = scale, condition
        multiple = REDUCTION * self.multiple
        self.window = multiple // math.gcd(multiple, scale)
        self._file = autoencoder, autoencoder_sha256

    def encode(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """As `Denoiser.encode`. Raises InputError: as `latent`; LR as it is, whose size is not the latent's."""
        if self.condition == "latent":
            return self.enlarged(lr_BCHW, size)
        if tuple(lr_BCHW.shape[2:]) != self.state_shape(size)[1:]:
            raise InputError(f"condition lr is for x{REDUCTION}, where LR has the latent's size, not for x{self.scale}")
        return 2 * lr_BCHW - 1

    def forward(self, condition: Tensor, state_BCHW: Tensor, level: Level) -> Tensor:
        return self.denoise(torch.cat([state_BCHW, condition], 1), level.t - 1)

    def state_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        return LATENT, size[0] // REDUCTION, size[1] // REDUCTION

    def state(self, picture_BCHW: Tensor) -> Tensor:
        """The latent before quantisation, (B, 3, H / 4, W / 4), float32 and without gradient; of large ones, in tiles.

        Raises:
            InputError: no autoencoder is named, or its file cannot be used.
        """
        coder = self._coder(picture_BCHW)
        with torch.no_grad(), torch.autocast(picture_BCHW.device.type, enabled=False):
            return tiled.encoded(coder.encode, 2 * picture_BCHW.float() - 1, REDUCTION)

    def enlarged(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """The latent of LR at a picture's size. Raises as `state`."""
        return self.state(functional.interpolate(lr_BCHW, size=size, mode="bicubic", align_corners=False))

    def start(self, condition: Tensor, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        return condition if self.condition == "latent" else self.enlarged(lr_BCHW, size)

    def decode(self, state_BCHW: Tensor) -> Tensor:
        with torch.no_grad():
            image = tiled.decoded(self._coder(state_BCHW).decode, state_BCHW, REDUCTION)
        return (image.float() + 1) / 2

    def check_part(self, name: str) -> None:
        """As `Denoiser.check_part`, of the autoencoder alone. Raises InputError: as `state`."""
        self._coder(torch.empty(0, device="cpu"))

    def _coder(self, like: Tensor) -> VQAutoencoder:
        path, sha256 = self._file
        if path is None:
            raise InputError("resshift works in an autoencoder's latent space: give its file, autoencoder=FILE")
        coder = vq_autoencoder(path, sha256, str(like.device))
        if (coder.reduction, coder.latent_channels) != (REDUCTION, LATENT):
            raise InputError(
                f"autoencoder {path!r}: latents of {coder.latent_channels} channels and 1/{coder.reduction} of the "
                f"sides; needed: {LATENT} and 1/{REDUCTION}"
            )
        return coder
