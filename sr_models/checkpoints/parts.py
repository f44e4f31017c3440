"""Frozen parts of networks as files: whatever holds one, released or ours, in the one form that is hashed and kept.

An autoencoder of latent diffusion (https://arxiv.org/abs/2112.10752) comes as a `.pth`, a `.ckpt` with its training's
discriminator beside it, or a checkpoint folder of ours. Kept is a safetensors file of the tensors alone, so that a part
has the same hash whatever file it came in.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from pathlib import Path

import safetensors.torch

from sr_models.checkpoints.folder import CheckpointInfo
from sr_models.checkpoints.tensors import tensors

_OF_TRAINING = "loss."
"""What the keys of a training's own tensors begin with in released autoencoders: its discriminator's and LPIPS's."""


def packed(path: Path | str) -> tuple[str, bytes]:
    """The sha256 of a part, and it as a safetensors file.

    Args:
        path: a PyTorch or safetensors file, or a checkpoint folder of ours.

    Raises:
        InputError: it cannot be read, needs code to be run, or holds no tensors.
    """
    if Path(path).is_dir():
        CheckpointInfo.read(path)  # refuses what is no checkpoint of ours
        path = Path(path) / "model.safetensors"
    state = {key: value.contiguous() for key, value in tensors(path).items() if not key.startswith(_OF_TRAINING)}
    payload = safetensors.torch.save(state)
    return hashlib.sha256(payload).hexdigest(), payload


def packed_file(path: Path | str) -> tuple[str, Path]:
    """The sha256 of a part, and a safetensors file of it, which goes with this process. Raises as `packed`."""
    sha256, payload = packed(path)
    found = Path(_scratch().name) / f"{sha256[:16]}.safetensors"
    found.write_bytes(payload)
    return sha256, found


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="sr-parts-")
