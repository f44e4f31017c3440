"""Where weights lie that a config or a command names, by their names alone: nothing is read, and torch not imported."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sr_models.errors import InputError
from sr_models.files import unreadable

FOLDERS = {"autoencoder": "vae", "unet": "unet"}
"""Where a part lies in a folder of https://github.com/huggingface/diffusers, here or at the hub."""

IN_FOLDER = "diffusion_pytorch_model.safetensors"
"""What a part is called there."""

_AT_HUB = re.compile(r"[\w.-]+/(?!.*\.(pth|pt|ckpt|safetensors)$)[\w.-]+")
"""A name at the hub; one that ends as files of weights do is that of a file."""


def located(given: Path | str, part: str = "") -> Path | None:
    """The file that holds a frozen part or a network's weights; None: no such file is here, and the hub may have it.

    Args:
        given: that file; a checkpoint folder of ours; of a part in `FOLDERS` also a folder of diffusers', of which
            safetensors are read alone, or such a folder's name at the hub.
        part: its name; "" for a whole network.

    Raises:
        InputError: no such file, or a folder without it.
    """
    path = Path(given)
    if os.path.isdir(path):  # noqa: PTH112  # a name that no file can have is no error
        of_diffusers = [folder / IN_FOLDER for folder in (path / FOLDERS.get(part, ""), path) if part in FOLDERS]
        for file in of_diffusers:
            if file.is_file():
                return file
        if not (path / "model.json").is_file():
            lacks = f", and as one of diffusers' it lacks {FOLDERS[part]}/{IN_FOLDER}" if of_diffusers else ""
            raise InputError(f"folder {str(path)!r} is no checkpoint of ours (it has no model.json){lacks}")
        return path / "model.safetensors"
    if fault := unreadable(path):
        if part in FOLDERS and _AT_HUB.fullmatch(str(given)):
            return None
        raise InputError(f"weights {str(path)!r}: {fault}")
    return path
