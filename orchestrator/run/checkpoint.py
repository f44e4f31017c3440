"""Plain state dicts on disk: written whole or not at all, loaded with `weights_only=True`."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from sr_models.errors import InputError
from sr_models.files import replacing

CHECKPOINT = "checkpoint.pt"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, dicts and lists of them) atomically: a crash leaves the old file."""
    with replacing(path) as part:
        torch.save(state, part)


def load(path: Path, device: str | torch.device = "cpu") -> dict[str, Any] | None:
    """The state saved at `path`, or None if there is none.

    Raises:
        InputError: the file is not a plain checkpoint (damaged, or holds objects that would have to be executed).
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except torch.OutOfMemoryError:
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0] or "it ends too early"
        raise InputError(f"{path}: not a readable checkpoint ({reason}); delete it to start over") from None
