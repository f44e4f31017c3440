"""Plain state dicts on disk: written whole or not at all, ended by their own sha256, loaded with `weights_only=True`.

The hash stands in the file whose bytes it is of, so no crash and no copy can part them; torch's reader does not mind
what follows its archive. The checkpoint before the last one is kept beside it: what is damaged costs steps, never
numbers.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from orchestrator.run.progress import say_once
from sr_models.errors import InputError
from sr_models.files import replacing

CHECKPOINT = "checkpoint.pt"
BEFORE = "checkpoint.before.pt"
"""The one that `CHECKPOINT` took the place of."""

_FORMAT = "sr checkpoint ended by its sha256"
"""A key of each state on disk: a file that holds it and does not end so is damaged, one without it is older."""

_DIGITS = 64
"""Of a sha256, which end the file."""

_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)
"""What torch raises, depending on where the damage is, of a file that no hash vouches for."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, dicts and lists of them) atomically.

    What was there is kept as `BEFORE`; a crash at any moment leaves one of the two, or both, and no part of one.
    """
    with replacing(path) as part:
        with part.open("wb") as file:
            hashed = _Hashed(file)
            torch.save({_FORMAT: 1, **state}, hashed)  # type: ignore[arg-type]  # it only writes
            file.write(hashed.sha256.hexdigest().encode())
        if path.exists():
            path.replace(path.with_name(BEFORE))


def load(path: Path, device: str | torch.device = "cpu") -> dict[str, Any] | None:
    """The state saved at `path`, or None if there is none.

    Raises:
        InputError: the file is damaged, or is no plain checkpoint (it holds objects that would have to be executed).
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    whole = hashlib.sha256(memoryview(data)[:-_DIGITS]).hexdigest().encode() == data[-_DIGITS:]
    if not whole and (_FORMAT.encode() in data or data[-_DIGITS:].isalnum()):  # an archive ends with zeros
        raise InputError(f"{path} is damaged: its bytes are not those that were written")
    unreadable = (pickle.UnpicklingError,) if whole else _UNREADABLE  # no memory for a whole one is no damage
    try:
        state = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
        state = {key: value for key, value in state.items() if key != _FORMAT}
    except torch.OutOfMemoryError:
        raise
    except unreadable as error:
        reason = str(error).partition("\n")[0] or "it ends too early"
        raise InputError(f"{path} is damaged: not a readable checkpoint ({reason})") from None
    if not whole:
        say_once("checkpoints of an earlier format, without checksums, are read as they are")
    return state


def newest(
    folder: Path, device: str | torch.device = "cpu", check: Callable[[Path, dict[str, Any]], None] = lambda *_: None
) -> tuple[dict[str, Any] | None, dict[Path, str]]:
    """The last sound state of a folder's two, None if there is none, and why those after it are passed over.

    Args:
        check: raises InputError for a state that nothing can go on from.
    """
    passed_over: dict[Path, str] = {}
    for path in (folder / CHECKPOINT, folder / BEFORE):
        try:
            if (state := load(path, device)) is not None:
                check(path, state)
                return state, passed_over
        except InputError as error:
            passed_over[path] = str(error)
    return None, passed_over


class _Hashed:
    """A file to write to, and the sha256 of what was written: a second look at a large state would cost more."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: memoryview) -> int:
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()
