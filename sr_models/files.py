"""Files that appear whole or not at all: written beside their place, flushed to disk, then renamed; folders held."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from sr_models.errors import DiskFullError, InputError, chain

LOCK = ".lock"
"""Name of the file by which `locked` holds a folder."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk, or quota."""

_FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full", "Local disk is full")
"""How the system, SQLite and Ray say it."""

_LITTLE = 16 * 2**20
"""Bytes; a disk that has less left is the full one."""


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
    except OSError as error:
        if error.errno in FULL and error.filename is None:  # writing names no file
            error.filename = str(part)
        raise
    finally:
        # it is there still where it was the same file by another link; of a disk that has gone, the first error is told
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and hold its lock: one builder at a time, the next one waits.

    Raises:
        InputError: the folder cannot be made or written to.
    """
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


def unreadable(path: Path | str) -> str | None:
    """Why a file of someone's must not even be opened, None if it may be.

    Reading a pipe could wait for ever, and a name that is not UTF-8 can be written nowhere.
    """
    try:
        str(path).encode()
        regular = stat.S_ISREG(Path(path).stat().st_mode)
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    except FileNotFoundError:
        return "no such file, or a link to none"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError as error:  # a path that no file can have
        return f"cannot be read: {error}"
    return None if regular else "cannot be read: not a regular file"


def full_disk(error: BaseException, folders: Iterable[Path]) -> DiskFullError | None:
    """What to say of a full disk that an error came from, however it was wrapped; None: it came from something else.

    Args:
        folders: where files are written; those on a disk with little room left are named if the error names no file.
    """
    said = next((link for link in chain(error) if any(text in str(link) for text in _FULL)), None)
    if said is None:
        return None
    named = (said.filename2 or said.filename) if isinstance(said, OSError) else None  # of a copy the target is second
    places = {folder.absolute() for folder in folders}
    full = [Path(named).parent] if named else sorted(place for place in places if _room(place) < _LITTLE)
    return DiskFullError(f"the disk of {' and '.join(map(str, full or sorted(places)))} is full (or your quota)")


@contextmanager
def writing(path: Path, option: str) -> Iterator[None]:
    """Have what cannot be written within end in one line, and likewise what cannot be read, by its own name.

    Args:
        path: of a file or folder that is written.
        option: of the command line, that named it.

    Raises:
        InputError: it cannot be written, or a file elsewhere has an error; DiskFullError, where the disk is full.
    """
    try:
        yield
    except Exception as error:  # libraries wrap a full disk in errors of their own
        if full := full_disk(error, [path]):
            raise full from None
        if isinstance(error, OSError):
            named = error.filename2 or error.filename
            if isinstance(named, str) and not _is_of(Path(named), path):
                raise InputError(f"{named}: {error.strerror}") from None
            raise InputError(f"{option}: {path} cannot be written ({error.strerror or error})") from None
        raise


def _is_of(file: Path, path: Path) -> bool:
    """Whether a file is met when a path is written: in it, a folder above it, or what `replacing` yields for it."""
    file, path = file.absolute(), path.absolute()
    part = file.parent == path.parent and file.name.startswith(f".{path.name}.")
    return part or file.is_relative_to(path) or path.is_relative_to(file)


def unwritable(folder: Path, option: str) -> str | None:
    """What `writing` would surely say of a folder that is there or is to be made; None: it looks as if it could be.

    Nothing is written to find out.
    """
    place = _nearest(folder)
    if not place.is_dir():
        number = errno.ENOTDIR
    elif not os.access(place, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(place).f_flag & os.ST_RDONLY else errno.EACCES
    else:
        return None
    return f"{option}: {folder} cannot be written ({os.strerror(number)})"


def _room(folder: Path) -> int:
    """Bytes left on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(_nearest(folder)).free


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above that is there, as far as one may see."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if os.access(place, os.F_OK))
