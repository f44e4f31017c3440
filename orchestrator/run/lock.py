"""One process at a time in a run folder; whoever comes second is told so at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sr_models.errors import InputError


@contextmanager
def held(folder: Path, name: str, option: str, busy: str) -> Iterator[None]:
    """Make the folder, and hold it for the length of a `with` block.

    Args:
        name: of the lock's file in it; locks of other names do not exclude each other.
        option: of the command line, that named the folder.
        busy: what another holder is doing, for the message: "another sweep is running in".

    Raises:
        InputError: another process holds it, or it cannot be written.
    """
    lock = FileLock(folder / name, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(f"{option}: {busy} {folder}") from None
    except OSError as error:
        raise InputError(f"{option}: {folder} cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()
