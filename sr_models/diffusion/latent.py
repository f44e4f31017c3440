"""Networks of Stable Diffusion's layout, by diffusers: U-Net, ControlNet-like adapter, autoencoder, and released names.

U-Net, ControlNet (https://arxiv.org/abs/2302.05543) and autoencoder (https://arxiv.org/abs/2112.10752) are those of
https://github.com/huggingface/diffusers, which also renames the weights of released files; it is optional, by the extra
[latent]. Its attention is torch's `scaled_dot_product_attention`, and with its gradient checkpointing activations are
computed again on the way back (`recompute`).

Latents are (B, 4, H, W), an eighth of their picture a side for the default layouts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

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


def loaded(kind: Literal["unet", "autoencoder"], layout: Any, state: Mapping[str, Tensor], where: str) -> Any:
    """A frozen network in evaluation mode, float32, with the weights of a file; no generator is drawn from.

    Args:
        layout: of the kind's class.
        state: in diffusers' names, of today or before 0.17, or in latent diffusion's; below any words that all share.

    Raises:
        InputError: diffusers is not installed; or a key is missing, has no place or another shape: the first one is
            named after `where`.
    """
    check_diffusers()
    make, renamed, theirs = _KINDS[kind]
    with torch.device("meta"):
        module = make(layout)
    wanted, bare = module.state_dict(), dict(state)
    while len(bare) > 1 and len(words := {name.partition(".")[0] for name in bare}) == 1:
        bare = {name.removeprefix(f"{next(iter(words))}."): value for name, value in bare.items()}
    if any(name.startswith(theirs) for name in bare):
        try:
            bare = renamed(bare, layout)
        except KeyError as error:
            raise InputError(f"{where} is no {kind} of these sizes: it lacks key {error}") from None
    given = {_today(name): value for name, value in bare.items()}
    for name in [*wanted, *given]:
        if name not in given or name not in wanted:
            raise InputError(
                f"{where} is no {kind} of these sizes: "
                + (f"its key {name!r} has no place" if name in given else f"it lacks key {name!r}")
            )
        if wanted[name].shape != given[name].shape:
            shapes = f"{tuple(given[name].shape)} where {tuple(wanted[name].shape)} is needed"
            raise InputError(f"{where} is no {kind} of these sizes: its key {name!r} has shape {shapes}")
    module.load_state_dict({name: value.float() for name, value in given.items()}, assign=True)
    return module.requires_grad_(False).eval()


_KINDS: dict[str, tuple[Callable[[Any], Any], Callable[..., dict[str, Tensor]], str]] = {
    "unet": (unet, renamed_unet, "input_blocks."),
    "autoencoder": (autoencoder, renamed_autoencoder, "encoder.down."),
}
"""Kind -> what makes one, what renames latent diffusion's names, and what only these begin with."""

_BEFORE = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""An autoencoder's attention, as diffusers called it before 0.17, and Stable Diffusion's files still do."""


def _today(name: str) -> str:
    found = re.fullmatch(r"(.+\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)", name)
    return f"{found[1]}.{_BEFORE[found[2]]}.{found[3]}" if found else name


def recompute(module: nn.Module, on: bool) -> None:
    """Have a module of diffusers' compute activations again on the way back, or keep them; the numbers are the same."""
    part: Any
    for part in module.modules():
        if getattr(part, "gradient_checkpointing", on) is not on:
            part.gradient_checkpointing = on
            part._gradient_checkpointing_func = _again


def _again(module: nn.Module, *given: Any) -> Any:
    return checkpoint(module, *given, use_reentrant=False)


def check_diffusers() -> None:
    """Raises InputError: diffusers is not installed."""
    if find_spec("diffusers") is None:
        raise InputError("latent diffusion needs diffusers, which is not installed: pip install 'sr-sweep[latent]'")
