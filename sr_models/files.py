"""Files that appear whole or not at all: written beside their place, flushed to disk, then renamed; folders held."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from sr_models.errors import InputError

LOCK = ".lock"
"""Name of the file by which `locked` holds a folder."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it takes `path`'s place when the block ends well, and goes away when it does not.

    A crash at any moment leaves the old file, or none. Two writers do not mix, on two machines of one disk neither.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and hold its lock: one builder at a time, the next one waits."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / LOCK)
        lock.acquire()
    except OSError as error:
        raise InputError(f"store {folder} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """What `write_json` wrote. Raises InputError if it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error})") from None
