"""CCSR's adapter over a frozen U-Net of latent diffusion (https://arxiv.org/abs/2401.00877, Sec. 3.2); the autoencoder.

U-Net, ControlNet (https://arxiv.org/abs/2302.05543) and autoencoder (https://arxiv.org/abs/2112.10752) are those of
https://github.com/huggingface/diffusers, which also renames the weights of released files; it is optional, by the extra
[latent]. The adapter differs from ControlNet's: the condition is a latent, read beside the state by a first convolution
of twice as many channels, and there is no other way in (https://github.com/csslc/CCSR, commit 15778ed).

Latents are (B, 4, H, W), an eighth of their picture a side for the default layouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from sr_models.errors import InputError


@dataclass(frozen=True, kw_only=True)
class UNetLayout:
    """Sizes of a U-Net of latent diffusion; the defaults are Stable Diffusion 2.1's.

    Attributes:
        channels, mults: features at full size, and each level's in multiples of these.
        attention: levels, by halvings of the latent, that attend; the middle always does.
        blocks: residual blocks of a level on the way down.
        head: channels of an attention head.
        context: channels of the prompt's embedding.
        latent: channels of a latent.
    """

    channels: int = 320
    mults: tuple[int, ...] = (1, 2, 4, 4)
    attention: tuple[int, ...] = (0, 1, 2)
    blocks: int = 2
    head: int = 64
    context: int = 1024
    latent: int = 4

    def down(self) -> dict[str, Any]:
        """What diffusers' U-Net and ControlNet are both told."""
        widths = tuple(self.channels * mult for mult in self.mults)
        attends = [level in self.attention for level in range(len(self.mults))]
        return {
            "block_out_channels": widths,
            "down_block_types": tuple("CrossAttnDownBlock2D" if one else "DownBlock2D" for one in attends),
            "layers_per_block": self.blocks,
            "attention_head_dim": tuple(width // self.head for width in widths),  # their name for how many heads
            "cross_attention_dim": self.context,
            "use_linear_projection": True,
        }

    def whole(self) -> dict[str, Any]:
        """What diffusers' U-Net is told."""
        attends = [level in self.attention for level in reversed(range(len(self.mults)))]
        ups = tuple("CrossAttnUpBlock2D" if one else "UpBlock2D" for one in attends)
        return self.down() | {"in_channels": self.latent, "out_channels": self.latent, "up_block_types": ups}


@dataclass(frozen=True, kw_only=True)
class AutoencoderLayout:
    """Sizes of the autoencoder; the defaults are Stable Diffusion's. Attributes as of `UNetLayout`."""

    channels: int = 128
    mults: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    latent: int = 4

    def whole(self) -> dict[str, Any]:
        """What diffusers' autoencoder is told."""
        levels = len(self.mults)
        return {
            "latent_channels": self.latent,
            "block_out_channels": tuple(self.channels * mult for mult in self.mults),
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "layers_per_block": self.blocks,
        }


class Controlled(nn.Module):
    """A frozen U-Net that an adapter steers: the only thing that stage 1 trains.

    Args:
        layout: of both.
        encoder_in_gradient: whether a gradient with respect to the state goes through the U-Net's first half too. The
            released code leaves it out, and so does the default: it goes through the adapter and the second half alone.

    Raises:
        InputError: diffusers is not installed.
    """

    def __init__(self, layout: UNetLayout, *, encoder_in_gradient: bool = False) -> None:
        super().__init__()
        check_diffusers()
        self.encoder_in_gradient = encoder_in_gradient
        self.unet, self.control = unet(layout).requires_grad_(False), adapter(layout)

    @torch.no_grad()
    def begin(self) -> None:
        """The adapter starts as the U-Net's first half that does not see the condition, and says nothing."""
        own = self.control.state_dict()
        copied = {name: value for name, value in self.unet.state_dict().items() if name in own}
        first = torch.zeros_like(own["conv_in.weight"])
        first[:, : copied["conv_in.weight"].shape[1]] = copied["conv_in.weight"]
        self.control.load_state_dict(own | copied | {"conv_in.weight": first})
        for layer in (*self.control.controlnet_down_blocks, self.control.controlnet_mid_block):
            for parameter in layer.parameters():
                parameter.zero_()

    def controls(self, state: Tensor, condition: Tensor, t: Tensor, context: Tensor) -> list[Tensor]:
        """What the adapter adds to each of the U-Net's skips, and last to its middle."""
        seen = torch.cat([state, condition], 1)
        skips, middle = self.control(seen, t, context, controlnet_cond=condition, return_dict=False)
        return [*skips, middle]

    def forward(self, state: Tensor, condition: Tensor | None, t: Tensor, context: Tensor) -> Tensor:
        """The noise in a latent.

        Args:
            condition: the LR's latent, (B, 4, H, W); None: the U-Net alone.
            t: (B,) the chain's step, counted from 0 as latent diffusion does.
            context: (B, N, C) the prompt's embedding.
        """
        skips, middle = None, None
        if condition is not None:
            *skips, middle = self.controls(state, condition, t, context)
        seen = state if self.encoder_in_gradient else state.detach()  # frozen weights: nothing else has a gradient
        out: Tensor = self.unet(
            seen, t, context, down_block_additional_residuals=skips, mid_block_additional_residual=middle,
            return_dict=False,
        )[0]  # fmt: skip
        return out


class _NoHint(nn.Module):
    """In the place of ControlNet's encoder of pictures."""

    def forward(self, hint: Tensor) -> float:
        return 0.0


def unet(layout: UNetLayout) -> Any:
    """diffusers' U-Net."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**layout.whole())


def adapter(layout: UNetLayout) -> Any:
    """diffusers' ControlNet, whose first convolution reads the condition beside the state."""
    from diffusers import ControlNetModel

    made: Any = ControlNetModel(**layout.down(), in_channels=2 * layout.latent)
    made.controlnet_cond_embedding = _NoHint()
    return made


def autoencoder(layout: AutoencoderLayout) -> Any:
    """diffusers' autoencoder."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(**layout.whole())


def renamed_unet(weights: Mapping[str, Tensor], layout: UNetLayout) -> dict[str, Tensor]:
    """Released names, without `model.diffusion_model.`, as diffusers has them."""
    from diffusers.loaders import single_file_utils as ldm

    named = {ldm.LDM_UNET_KEY + name: value for name, value in weights.items()}
    return dict(ldm.convert_ldm_unet_checkpoint(named, layout.whole()))


def renamed_adapter(weights: Mapping[str, Tensor], layout: UNetLayout) -> dict[str, Tensor]:
    """Released names, without `control_model.`, as diffusers has them."""
    from diffusers.loaders import single_file_utils as ldm

    return dict(ldm.convert_controlnet_checkpoint(dict(weights), layout.down()))


def renamed_autoencoder(weights: Mapping[str, Tensor], layout: AutoencoderLayout) -> dict[str, Tensor]:
    """Released names, without `first_stage_model.`, as diffusers has them."""
    from diffusers.loaders import single_file_utils as ldm

    return dict(
        ldm.convert_ldm_vae_checkpoint({f"first_stage_model.{k}": v for k, v in weights.items()}, layout.whole())
    )


def check_diffusers() -> None:
    """Raises InputError: diffusers is not installed."""
    if find_spec("diffusers") is None:
        raise InputError("latent diffusion needs diffusers, which is not installed: pip install 'sr-sweep[latent]'")
