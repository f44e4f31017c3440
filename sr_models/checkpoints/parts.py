"""Frozen parts of networks as files: whatever holds one, released or ours, in the one form that is hashed and kept.

An autoencoder of latent diffusion (https://arxiv.org/abs/2112.10752) comes as a `.pth`, a `.ckpt` with its training's
discriminator beside it, or a checkpoint folder of ours; Stable Diffusion's parts as one file of all of them too, or as
a folder of https://github.com/huggingface/diffusers, here or at the hub. Kept is a safetensors file of the part's
tensors alone, so that it has the same hash whatever file it came in under the same names; one
under other names (latent diffusion's, diffusers') is another part, with other trials.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch

import sr_models
from sr_models.checkpoints.folder import CheckpointInfo
from sr_models.checkpoints.located import FOLDERS, IN_FOLDER, located
from sr_models.checkpoints.tensors import tensors
from sr_models.diffusion.frozen import WITHIN
from sr_models.errors import InputError

_OF_TRAINING = "loss."
"""What the keys of a training's own tensors begin with in released autoencoders: its discriminator's and LPIPS's."""


def packed(path: Path | str, name: str = "") -> tuple[str, bytes]:
    """The sha256 of a part, and it as a safetensors file.

    Args:
        path: a PyTorch or safetensors file, or what `part_file` takes in its place.
        name: the field of a network's hyperparameters; of a file that holds several parts, it says which.

    Raises:
        InputError: it cannot be read, needs code to be run, or holds no tensors.
    """
    state = {key: value for key, value in tensors(part_file(path, name)).items() if not key.startswith(_OF_TRAINING)}
    within = WITHIN.get(name, "")
    if any(key.startswith(within) for key in state):
        state = {key.removeprefix(within): value for key, value in state.items() if key.startswith(within)}
    payload = safetensors.torch.save({key: value.contiguous() for key, value in state.items()})
    return hashlib.sha256(payload).hexdigest(), payload


def part_file(given: Path | str, name: str) -> Path:
    """The file that holds a part.

    Args:
        given: as of `located`; what is at the hub is fetched, or taken from its cache where there is no network or
            HF_HUB_OFFLINE says so.

    Raises:
        InputError: as `located`; a folder that is no checkpoint of ours, or it cannot be fetched.
    """
    found = located(given, name)
    if found is None:
        return _fetched(str(given), f"{FOLDERS[name]}/{IN_FOLDER}")
    if found.parent == Path(given) and found.name != IN_FOLDER:
        CheckpointInfo.read(given)  # refuses what is no checkpoint of ours
    return found


def _fetched(repository: str, file: str) -> Path:
    from huggingface_hub import constants, hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, local_files_only=constants.HF_HUB_OFFLINE))
    except (OSError, ValueError) as error:  # what it raises of a name, of a network, and of an empty cache
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{repository!r} is no file or folder here, and of the hub {file} is not had: {reason}"
        ) from None


def packed_file(path: Path | str, name: str = "") -> tuple[str, Path]:
    """The sha256 of a part, and a safetensors file of it, which goes with this process. Raises as `packed`."""
    sha256, payload = packed(path, name)
    found = Path(_scratch().name) / f"{sha256[:16]}.safetensors"
    found.write_bytes(payload)
    return sha256, found


def check_parts(model: str, hyper: Mapping[str, Any], given: Mapping[str, str]) -> None:
    """Refuse a network without the frozen parts that it stands on.

    Args:
        hyper: its hyperparameters, with the hashes of parts that it was trained with.
        given: part -> sha256 of the file that --part names.

    Raises:
        InputError: one is not given, or is another one.
    """
    row, known = sr_models.spec(model).hyper, sr_models.part_hashes(model, hyper)
    for part in row.parts:
        sha256 = known.get(part)
        if part not in given and (sha256 or part not in row.optional_parts):
            which = f" with the sha256 {sha256}" if sha256 else ""
            raise InputError(f"{model} stands on a frozen {part}{which}: give --part {part}=FILE")
        if part in given and given[part] != sha256:
            trained = f"trained with {sha256}" if sha256 else f"trained without it (its {part}_sha256 is null)"
            raise InputError(f"--part {part}: its sha256 is {given[part]}; the network was {trained}")


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="sr-parts-")
