"""Networks' frozen parts, read from files that their hyperparameters name: they are in no checkpoint of ours.

A process keeps the few of each kind that it used last, one copy a device for all networks that look through it.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from sr_models.diffusion.autoencoder import VQAutoencoder
from sr_models.diffusion.latent import AutoencoderLayout, UNetLayout, loaded
from sr_models.errors import InputError

TOKENS = 77
"""Of a prompt's embedding."""

WITHIN = {"autoencoder": "first_stage_model.", "unet": "model.diffusion_model."}
"""Where a part lies in a checkpoint of latent diffusion that holds all of them."""


@functools.lru_cache(maxsize=2)
def vq_autoencoder(path: str, sha256: str | None, device: str) -> VQAutoencoder:
    """The autoencoder in a safetensors file, without gradients and in evaluation mode.

    Args:
        sha256: what the file must have; None: whatever it has.

    Raises:
        InputError: it cannot be read, has another hash, is no safetensors file, or holds no such autoencoder.
    """
    where = f"autoencoder {path!r}"
    return VQAutoencoder.of(tensors(path, sha256, where), where).requires_grad_(False).eval().to(device)


@functools.lru_cache(maxsize=2)
def kl_autoencoder(path: str, sha256: str | None, layout: AutoencoderLayout, device: str) -> Any:
    """Stable Diffusion's autoencoder, as diffusers has it; in diffusers' names or latent diffusion's.

    Args and raises as `vq_autoencoder`.
    """
    where = f"autoencoder {path!r}"
    return loaded("autoencoder", layout, tensors(path, sha256, where, WITHIN["autoencoder"]), where).to(device)


@functools.lru_cache(maxsize=2)
def latent_unet(path: str, sha256: str | None, layout: UNetLayout, device: str) -> Any:
    """The U-Net of latent diffusion, likewise."""
    where = f"unet {path!r}"
    return loaded("unet", layout, tensors(path, sha256, where, WITHIN["unet"]), where).to(device)


@functools.lru_cache(maxsize=4)
def prompt(path: str | None, sha256: str | None, channels: int, device: str) -> Tensor:
    """The embedding of a prompt, (1, N, `channels`); without a file a seeded stand-in that means nothing.

    Raises:
        InputError: as `vq_autoencoder`.
    """
    if path is None:
        drawn = torch.randn(1, TOKENS, channels, generator=torch.Generator().manual_seed(0))
        return drawn.to(device)
    where = f"prompt {path!r}"
    found = tensors(path, sha256, where).get("prompt")
    if found is None or found.ndim != 3 or len(found) != 1 or found.shape[2] != channels:
        shape = None if found is None else tuple(found.shape)
        raise InputError(f"{where}: its tensor `prompt` must be (1, N, {channels}), got {shape}")
    return found.float().to(device)


def tensors(path: str, sha256: str | None, where: str, within: str = "") -> dict[str, Tensor]:
    """What a safetensors file holds; where it holds names that begin with `within`, those alone, without it.

    Raises:
        InputError: it cannot be read, has another hash, or is no safetensors file; messages start with `where`.
    """
    try:
        with Path(path).open("rb") as stream:
            found = "" if sha256 is None else hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror}") from None
    if sha256 is not None and found != sha256:
        raise InputError(f"{where}: its sha256 is {found[:12]}, and the network was trained with {sha256[:12]}")
    try:
        with safetensors.safe_open(path, "pt") as file:
            names = [*file.keys()]
            chosen = [name for name in names if within and name.startswith(within)] or names
            return {name.removeprefix(within): file.get_tensor(name) for name in chosen}
    except safetensors.SafetensorError as error:
        raise InputError(f"{where}: no safetensors file ({error})") from None
