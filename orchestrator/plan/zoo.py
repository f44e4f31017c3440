"""`models: {mine: {weights: FILE}}`: a file that says its network, which is known from then on without the file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sr_models
from sr_models.errors import InputError
from sr_models.hyper.zoo import ZooHyper

WEIGHTS = "weights"


def recognised(models: Mapping[str, Any]) -> dict[str, Any]:
    """The same entries, `weights: FILE` of one replaced by the network that the file is of, and `init: FILE`.

    Raises:
        InputError: an entry that names a network or a start too, or a file that is not recognised.
    """
    return {label: _one(label, given) if _names_a_file(given) else given for label, given in models.items()}


def _names_a_file(entry: Any) -> bool:
    return isinstance(entry, Mapping) and WEIGHTS in entry


def _one(label: str, given: Mapping[str, Any]) -> dict[str, Any]:
    from sr_models.checkpoints import zoo  # with torch

    where = f"models.{label}.{WEIGHTS}"
    if beside := [key for key in ("model", "init", *ZooHyper.model_fields) if key in given]:
        raise InputError(
            f"{where} says all of the network and where it starts; leave out {beside[0]}, or give init: FILE alone"
        )
    file = given[WEIGHTS]
    if not isinstance(file, str):
        raise InputError(f"{where}: expected a file, got {file!r}")
    try:
        found, _ = zoo.read(Path(os.path.expandvars(file)).expanduser())
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    rest = {key: value for key, value in given.items() if key != WEIGHTS}
    return {"model": sr_models.ZOO.name, **found.model_dump(), "init": file, **rest}
