"""Where networks compute: a device by its name, looked at before anything is loaded for it."""

from __future__ import annotations

import torch

from sr_models.errors import InputError


def check_device(name: str, option: str) -> None:
    """Raises InputError: torch cannot compute on a device of that name here.

    Args:
        name: such as cpu, cuda or cuda:1.
        option: of the command line, that named it.
    """
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:  # the second where torch was built without CUDA
        reason = str(error).partition("\n")[0]
        raise InputError(f"{option}: {name!r} cannot be used here ({reason}); give cpu, cuda or cuda:N") from None
