"""Networks' frozen parts, read from files that their hyperparameters name: they are in no checkpoint of ours.

One copy for each device is kept while it is in use, whatever the number of networks that look through it.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import safetensors
import safetensors.torch

from sr_models.diffusion.autoencoder import VQAutoencoder
from sr_models.errors import InputError


@functools.lru_cache(maxsize=2)
def vq_autoencoder(path: str, sha256: str | None, device: str) -> VQAutoencoder:
    """The autoencoder in a safetensors file, without gradients and in evaluation mode.

    Args:
        sha256: what the file must have; None: whatever it has.

    Raises:
        InputError: it cannot be read, has another hash, is no safetensors file, or holds no such autoencoder.
    """
    where = f"autoencoder {path!r}"
    try:
        payload = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror}") from None
    if sha256 is not None and (found := hashlib.sha256(payload).hexdigest()) != sha256:
        raise InputError(f"{where}: its sha256 is {found[:12]}, and the network was trained with {sha256[:12]}")
    try:
        state = safetensors.torch.load(payload)
    except safetensors.SafetensorError as error:
        raise InputError(f"{where}: no safetensors file ({error})") from None
    return VQAutoencoder.of(state, where).requires_grad_(False).eval().to(device)
