"""One process at a time in a run folder, and none while its output is cleaned; whoever comes second is told so."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from orchestrator.run.folder import SHARED
from sr_models.errors import InputError

DRIVER_LOCK, EVALUATE_LOCK = ".driver.lock", ".evaluate.lock"
"""Of a run folder."""

CLEAN_LOCK = ".clean.lock"
"""Of the folder that the runs of an output share."""

PROBE_SECONDS = 1.0
"""How long a lock that is only looked at may be held: by others that look at it too."""


@contextmanager
def held(folder: Path, name: str, option: str, busy: str, *, wait: float = 0) -> Iterator[None]:
    """Make the folder, and hold it for the length of a `with` block.

    Args:
        name: of the lock's file in it; locks of other names do not exclude each other.
        option: of the command line, that named the folder.
        busy: what another holder is doing, for the message: "another sweep is running in".
        wait: seconds to wait for another holder.

    Raises:
        InputError: another process holds it, or it cannot be written.
    """
    lock = FileLock(folder / name, timeout=wait)
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


def refuse_if_held(folder: Path, name: str, option: str, busy: str) -> None:
    """Look whether another process holds a lock; arguments and faults are those of `held`."""
    if (folder / name).exists():
        with held(folder, name, option, busy, wait=PROBE_SECONDS):
            pass


def is_held(folder: Path, name: str) -> bool:
    """Whether another process holds a lock; makes none where there is none, and needs no right to write."""
    try:
        with (folder / name).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # filelock's is exclusive, and opens the file to write
        return False
    except FileNotFoundError:
        return False
    except (BlockingIOError, PermissionError):  # one that is closed to us is held by its owner, or will be
        return True
    except OSError as error:
        if error.errno != errno.ENOSYS:  # a file system without flock, where filelock goes by the file alone
            raise
    try:
        with FileLock(folder / name, timeout=0):
            return False
    except Timeout:
        return True


def refuse_while_cleaned(output: Path, option: str) -> None:
    """For one that has just taken its own lock in a run folder: who cleans the output takes its lock, then looks there.

    Raises:
        InputError: the output is being cleaned.
    """
    refuse_if_held(output / SHARED, CLEAN_LOCK, option, "orchestrator.clean is at work in")
