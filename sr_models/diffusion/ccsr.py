"""CCSR (https://arxiv.org/abs/2401.00877, Sec. 3.2): an adapter over a frozen U-Net of latent diffusion; that U-Net.

The adapter differs from ControlNet's (https://arxiv.org/abs/2302.05543): the condition is a latent, read beside the
state by a first convolution of twice as many channels, and there is no other way in (https://github.com/csslc/CCSR,
commit 15778ed). Stage 2 freezes it and tunes a decoder (`objectives.adversarial.DecoderObjective`).

States are latents (https://arxiv.org/abs/2112.10752) of a frozen autoencoder, its modes times `latent_scale`: computed
in float32, whatever a network's precision, and in tiles where a picture is large (`sr_models.diffusion.tiled`).
Shapes: B batch, C channels of a latent, a picture's sides over `reduction`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_models.diffusion import frozen, tiled
from sr_models.diffusion.base import Denoiser
from sr_models.diffusion.latent import (
    AutoencoderLayout,
    UNetLayout,
    adapter,
    autoencoder,
    check_diffusers,
    recompute,
    renamed_adapter,
    renamed_autoencoder,
    renamed_unet,
    unet,
)
from sr_models.diffusion.process import Level
from sr_models.errors import InputError
from sr_models.hyper.latent import LatentUNetHyper
from sr_models.hyper.process import ProcessParams

Part = tuple[str | None, str | None]
"""File of a frozen part and what its sha256 must be, where they are given."""


class LatentDenoiser(Denoiser):
    """Base of the networks in the latent space of a frozen autoencoder, under an embedding that stands for a prompt.

    Args:
        layout, vae: sizes of the U-Net and of the autoencoder.
        latent_scale: what latents are multiplied by.
        autoencoder: read when it is first used; without a file nothing can be encoded.
        prompt: without a file a seeded stand-in.

    Raises:
        InputError: diffusers is not installed.
    """

    process = ProcessParams(**LatentUNetHyper.process)
    discrete = True

    def __init__(
        self, scale: int, layout: UNetLayout, vae: AutoencoderLayout, latent_scale: float, *, autoencoder: Part,
        prompt: Part,
    ) -> None:  # fmt: skip
        super().__init__()
        check_diffusers()
        self.scale, self.layout, self.vae, self.latent_scale = scale, layout, vae, latent_scale
        self.reduction = 2 ** (len(vae.mults) - 1)
        multiple = self.reduction * 2 ** (len(layout.mults) - 1)
        self.window = multiple // math.gcd(multiple, scale)
        self._autoencoder, self._prompt = autoencoder, prompt

    def state_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        return self.layout.latent, size[0] // self.reduction, size[1] // self.reduction

    def state(self, picture_BCHW: Tensor) -> Tensor:
        """The mode of a picture's latent, scaled; float32 and without gradient.

        Raises:
            InputError: no autoencoder is named, or its file cannot be used.
        """
        coder = self._coder(picture_BCHW)

        def mode(image_BCHW: Tensor) -> Tensor:
            latent: Tensor = coder.encode(image_BCHW).latent_dist.mode()
            return latent

        with torch.no_grad(), torch.autocast(picture_BCHW.device.type, enabled=False):
            return self.latent_scale * tiled.encoded(mode, 2 * picture_BCHW.float() - 1, self.reduction)

    def enlarged(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """The state of LR at a picture's size, enlarged as Pillow's bicubic does, in [0, 1]. Raises as `state`."""
        if tuple(lr_BCHW.shape[2:]) != size:
            large = functional.interpolate(lr_BCHW.float(), size=size, mode="bicubic", antialias=True)
            lr_BCHW = large.clamp(0, 1)
        return self.state(lr_BCHW)

    def decode(self, state_BCHW: Tensor) -> Tensor:
        coder = self._coder(state_BCHW)
        with torch.no_grad():
            return self._picture(coder.decoder, coder.post_quant_conv, state_BCHW)

    def _picture(self, decoder: nn.Module, before: nn.Module, state_BCHW: Tensor) -> Tensor:
        with torch.autocast(state_BCHW.device.type, enabled=False):
            latent = state_BCHW.float() / self.latent_scale
            return (tiled.decoded(lambda part: decoder(before(part)), latent, self.reduction) + 1) / 2

    def _coder(self, like: Tensor) -> Any:
        path, sha256 = self._autoencoder
        if path is None:
            raise InputError("a network of latents needs an autoencoder: give its file, autoencoder=FILE")
        return frozen.kl_autoencoder(path, sha256, self.vae, str(like.device))

    def check_part(self, name: str) -> None:
        if name == "autoencoder":
            self._coder(torch.zeros(1))
        if name == "prompt":
            self.context(torch.zeros(1))

    def context(self, like: Tensor) -> Tensor:
        """The prompt's embedding, once for each sample of a state. Raises InputError: its file cannot be used."""
        found = frozen.prompt(*self._prompt, self.layout.context, str(like.device))
        return found.expand(len(like), -1, -1)


class LatentUNet(LatentDenoiser):
    """The U-Net of latent diffusion, which sees no LR: what CCSR's adapter then steers.

    Args: as of `LatentUNetHyper`.
    """

    def __init__(
        self, scale: int, *, channels: int, mults: Sequence[int], attention: Sequence[int], blocks: int, head: int,
        context: int, latent: int, latent_scale: float, vae_channels: int, vae_mults: Sequence[int], vae_blocks: int,
        autoencoder: str | None, autoencoder_sha256: str | None, prompt: str | None, prompt_sha256: str | None,
    ) -> None:  # fmt: skip
        layout = UNetLayout(
            channels=channels, mults=tuple(mults), attention=tuple(attention), blocks=blocks, head=head,
            context=context, latent=latent,
        )  # fmt: skip
        vae = AutoencoderLayout(channels=vae_channels, mults=tuple(vae_mults), blocks=vae_blocks, latent=latent)
        coder, said = (autoencoder, autoencoder_sha256), (prompt, prompt_sha256)
        super().__init__(scale, layout, vae, latent_scale, autoencoder=coder, prompt=said)
        self.unet = unet(layout)

    def encode(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """Nothing of LR: (B, 0, H', W')."""
        return lr_BCHW.new_empty(len(lr_BCHW), 0, *self.state_shape(size)[1:])

    def condition_of(self, latent_lr_BCHW: Tensor) -> Tensor:
        return latent_lr_BCHW[:, :0]

    def renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of a checkpoint of latent diffusion, which holds more than the U-Net."""
        found = _below("model.diffusion_model.", state)
        return renamed_unet(found, self.layout) if found else dict(state)

    def forward(self, condition: Tensor, state_BCHW: Tensor, level: Level) -> Tensor:
        recompute(self.unet, self.checkpointing)
        out: Tensor = self.unet(state_BCHW, level.t - 1, self.context(state_BCHW), return_dict=False)[0]
        return out


class CCSR(LatentDenoiser):
    """A frozen U-Net that an adapter steers: stage 1 trains the adapter; stage 2, `tuned_decoder`, a decoder alone.

    Args: as of `CCSRHyper`; without a file of the U-Net nothing can be computed.

    Attributes:
        decoder, post_quant_conv: of stage 2, which it decodes with; None before.
    """

    begun = ("decoder.", "post_quant_conv.")

    def __init__(
        self, scale: int, *, channels: int, mults: Sequence[int], attention: Sequence[int], blocks: int, head: int,
        context: int, latent: int, latent_scale: float, vae_channels: int, vae_mults: Sequence[int], vae_blocks: int,
        autoencoder: str | None, autoencoder_sha256: str | None, prompt: str | None, prompt_sha256: str | None,
        unet: str | None, unet_sha256: str | None, encoder_in_gradient: bool, tuned_decoder: bool,
    ) -> None:  # fmt: skip
        layout = UNetLayout(
            channels=channels, mults=tuple(mults), attention=tuple(attention), blocks=blocks, head=head,
            context=context, latent=latent,
        )  # fmt: skip
        vae = AutoencoderLayout(channels=vae_channels, mults=tuple(vae_mults), blocks=vae_blocks, latent=latent)
        coder, said = (autoencoder, autoencoder_sha256), (prompt, prompt_sha256)
        super().__init__(scale, layout, vae, latent_scale, autoencoder=coder, prompt=said)
        self._unet, self.encoder_in_gradient = (unet, unet_sha256), encoder_in_gradient
        self.control = adapter(layout)
        self.decoder: Any = None
        self.post_quant_conv: Any = None
        if tuned_decoder:
            self.control.requires_grad_(False)
            self.decoder, self.post_quant_conv = decoder_of(vae)

    @torch.no_grad()
    def begin(self) -> None:
        """The adapter starts as the U-Net's first half, which does not see the condition, and says nothing.

        A decoder of stage 2 starts as the autoencoder's. Raises InputError: a part's file cannot be used.
        """
        own = self.control.state_dict()
        source = self.steered(own["conv_in.weight"]).state_dict()
        copied = {name: value for name, value in source.items() if name in own}
        first = torch.zeros_like(own["conv_in.weight"])
        first[:, : self.layout.latent] = copied["conv_in.weight"]
        self.control.load_state_dict(own | copied | {"conv_in.weight": first})
        for layer in (*self.control.controlnet_down_blocks, self.control.controlnet_mid_block):
            for parameter in layer.parameters():
                parameter.zero_()
        if self.decoder is not None:
            coder = self._coder(first)
            self.decoder.load_state_dict(coder.decoder.state_dict())
            self.post_quant_conv.load_state_dict(coder.post_quant_conv.state_dict())

    def encode(self, lr_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
        """As `enlarged`."""
        return self.enlarged(lr_BCHW, size)

    def forward(self, condition: Tensor, state_BCHW: Tensor, level: Level) -> Tensor:
        """The noise in a state; the U-Net is told the step, counted from 0 as latent diffusion does."""
        return self.denoise(state_BCHW, condition, level.t - 1, self.context(state_BCHW))

    def denoise(self, state: Tensor, condition: Tensor | None, t: Tensor, context: Tensor) -> Tensor:
        """`forward` in the U-Net's own words.

        Args:
            condition: None: the U-Net alone.
            t: (B,) the step, from 0.
            context: (B, N, C) the prompt's embedding.
        """
        skips, middle = None, None
        if condition is not None:
            *skips, middle = self.controls(state, condition, t, context)
        steered = self.steered(state)
        recompute(steered, self.checkpointing)
        seen = state if self.encoder_in_gradient else state.detach()  # frozen weights: nothing else has a gradient
        out: Tensor = steered(
            seen, t, context, down_block_additional_residuals=skips, mid_block_additional_residual=middle,
            return_dict=False,
        )[0]  # fmt: skip
        return out

    def controls(self, state: Tensor, condition: Tensor, t: Tensor, context: Tensor) -> list[Tensor]:
        """What the adapter adds to each of the U-Net's skips, and last to its middle."""
        recompute(self.control, self.checkpointing)
        seen = torch.cat([state, condition], 1)
        skips, middle = self.control(seen, t, context, controlnet_cond=condition, return_dict=False)
        return [*skips, middle]

    def decode(self, state_BCHW: Tensor) -> Tensor:
        """By the tuned decoder, and then with a gradient, where there is one."""
        if self.decoder is None:
            return super().decode(state_BCHW)
        recompute(self.decoder, self.checkpointing)
        return self._picture(self.decoder, self.post_quant_conv, state_BCHW)

    def reconstruct(self, picture_BCHW: Tensor) -> Tensor:
        """By the frozen decoder, whatever is tuned."""
        return super().decode(self.state(picture_BCHW))

    def renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of a checkpoint of CCSR's, which holds the parts too; with `tuned_decoder` the decoder is its own."""
        if not (adapters := _below("control_model.", state)):
            return dict(state)
        found = {f"control.{name}": value for name, value in renamed_adapter(adapters, self.layout).items()}
        if self.decoder is not None:
            coder = renamed_autoencoder(_below("first_stage_model.", state), self.vae)
            found |= {name: value for name, value in coder.items() if name.startswith(self.begun)}
        return found

    @property
    def last_layer(self) -> Tensor:
        """The weight of the tuned decoder's last convolution."""
        weight: Tensor = self.decoder.conv_out.weight
        return weight

    def check_part(self, name: str) -> None:
        super().check_part(name)
        if name == "unet":
            self.steered(torch.zeros(1))

    def steered(self, like: Tensor) -> Any:
        """The frozen U-Net, on a tensor's device. Raises InputError: it has no file, or one that cannot be used."""
        path, sha256 = self._unet
        if path is None:
            raise InputError("ccsr steers a frozen U-Net: give its file, unet=FILE")
        return frozen.latent_unet(path, sha256, self.layout, str(like.device))


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def decoder_of(vae: AutoencoderLayout) -> tuple[Any, Any]:
    """diffusers' decoder of an autoencoder, and the convolution before it."""
    whole = autoencoder(vae)
    return whole.decoder, whole.post_quant_conv
