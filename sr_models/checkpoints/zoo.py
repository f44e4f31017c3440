"""Community checkpoints: a file that says by its tensors what network it is of."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sr_models.checkpoints.tensors import tensors
from sr_models.errors import InputError
from sr_models.hyper.zoo import ZooHyper
from sr_models.networks.zoo import recognised


def read(path: Path | str, key: str | None = None) -> tuple[ZooHyper, dict[str, Tensor]]:
    """What network a file is of, and its tensors under the keys of `sr_models.networks.zoo.Zoo`.

    The file is read without pickle (`tensors`), which finds them where training codes keep them.

    Raises:
        InputError: as `tensors` and `recognised`.
    """
    return recognised(tensors(path, key, whole=True), f"weights {str(path)!r}")


def named_by(path: Path | str, key: str | None = None) -> ZooHyper:
    """What network a file is of, for a command that was given no --model.

    Raises:
        InputError: as `read`; it says the way to a network of ours too.
    """
    try:
        return read(path, key)[0]
    except InputError as error:
        raise InputError(
            f"{error}; if it is one of ours, name it: --model NAME --scale S (python -m sr_models list)"
        ) from None
