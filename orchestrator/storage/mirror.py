"""What a node keeps of a run's shared storage: hash-checked patch stores, mirrored image folders, a copy of the run.

However many processes of a node ask, one fetches while the others wait for its lock; a copy that a kill left half made
is gone on with. Caches are for their user alone (mode 700): who could write them could change what trains.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import filelock

from orchestrator.storage.names import is_part
from orchestrator.storage.uri import Listed, Storage
from sr_models.errors import InputError
from sr_models.files import locked, read_json, write_json
from sr_models.hashing import digest
from sr_models.images.files import FORMATS, SUFFIXES, unread_text

_PUSHED, _LOCK = ".mirror.json", ".mirror.lock"
_THREADS = 8  # a small file costs a round trip, not bandwidth
log = logging.getLogger("orchestrator.storage.mirror")

T = TypeVar("T")
Equals = dict[str, list[Listed]]
"""name -> what the file here and the file on the storage looked like when they were last made equal."""


def cache_folder() -> Path:
    """Where this node keeps its copies: the environment's SR_CACHE, or ~/.cache/sr-sweep."""
    return Path(os.environ.get("SR_CACHE") or "~/.cache/sr-sweep").expanduser()


def localise(uri: str, cache: Path) -> Path:
    """A folder of images by URI as a folder of this node: itself where it is one (file://), else a mirror of it.

    The mirror follows the storage: files of another size or time are fetched again, and those that are gone go.

    Raises:
        InputError: not a URI that can be used, no image there, or a cache folder that is not this user's alone.
        OSError: the storage fails.
    """
    began, storage = time.monotonic(), Storage.parse(uri, "data source")
    if storage.folder is not None:
        return storage.folder
    mirror = private(cache / "images") / digest(storage.shown)[:16]
    folder = mirror / storage.name  # a patch store names images after the folder they lie in
    with locked(mirror):
        there = storage.names()
        listed = {name: what for name, what in there.items() if Path(name).suffix.lower() in SUFFIXES}
        if not listed:
            raise InputError(f"data source {storage.shown} holds no {FORMATS} file")
        if said := unread_text(map(Path, there)):
            log.warning("data source %s: %s", storage.shown, said)
        for name, path in _files(folder).items():
            if listed.get(name) != _look(path):
                log.warning("%s is not, or no longer, what %s holds: dropped", path, storage.shown)
                path.unlink()
        due = sorted(listed.keys() - _files(folder).keys())
        _pull(storage, folder, {name: listed[name] for name in due})
        if due:
            sizes = {name: what.size for name, what in listed.items()}
            log_transfer(f"fetched from {storage.shown} to {folder}", sizes, due, began)
    return folder


def push_tree(folder: Path, storage: Storage, patterns: Sequence[str]) -> list[str]:
    """Upload the files of a folder that changed since they were last made equal, and those that the storage lacks.

    Nothing is deleted. One process at a time may push a file.

    Args:
        patterns: globs over the paths below the folder, in which `*` stands for slashes too. The files of one pattern
            are there before any of the next: a file that others rely on comes first.

    Returns:
        The names uploaded.

    Raises:
        OSError: the storage fails; what arrived before that is remembered.
    """
    pushed: list[str] = []
    with _mirrored(folder, storage) as equals:
        remote, files = storage.names(), _files(folder)

        def push(name: str) -> bool:
            return _push(files[name], storage, name, remote.get(name), equals)

        for names in _in_turn(files, patterns):
            due = [name for name in names if not _is_pushed(files[name], name, remote, equals)]
            pushed += [name for name, done in zip(due, each(push, due), strict=True) if done]
    return pushed


def pull_tree(storage: Storage, folder: Path, patterns: Sequence[str], *, only_read: bool = False) -> list[str]:
    """Download the files that changed on the storage since they were last made equal, and those missing here.

    A file that changed on both sides becomes the storage's; one that changed here alone stays. Nothing is deleted.

    Args:
        patterns: as for `push_tree`.
        only_read: nobody writes in the folder, so one that changed here alone is damaged and becomes the storage's too.

    Returns:
        The names downloaded.

    Raises:
        InputError: the storage holds a name that leads out of the folder.
        OSError: the storage fails; what arrived before that is kept.
    """
    pulled: list[str] = []
    with _mirrored(folder, storage) as equals:
        for _ in range(2):  # again if something went while it was fetched: what took its place is not in the list
            remote, files, gone = storage.names(), _files(folder), False
            for names in _in_turn(remote, patterns):
                due = {name: remote[name] for name in names}
                for name in names:
                    here = _look(files[name]) if name in files else None
                    was_here, was_there = equals.get(name, (None, None))
                    kept = was_there == remote[name] and (was_here == here or not only_read)
                    if here is not None and (here == remote[name] or kept):
                        del due[name]
                arrived = _pull(storage, folder, due)
                equals |= {name: [due[name], due[name]] for name in arrived}
                pulled += arrived
                gone = gone or len(arrived) < len(due)
            if not gone:
                break
    return pulled


def _push(path: Path, storage: Storage, name: str, before: Listed | None, equals: Equals) -> bool:
    here = _look(path)
    try:
        storage.upload(path, name)
        if storage.stat(name) == before:  # two versions within one tick of the storage's clock look like one
            time.sleep(1.1)
            storage.upload(path, name)
    except FileNotFoundError:
        return False  # gone since it was listed
    there = storage.stat(name)
    if here is not None and there is not None:
        equals[name] = [here, there]
    return True


def _pull(storage: Storage, folder: Path, listed: Mapping[str, Listed]) -> list[str]:
    """Fetch files and give them the storage's time, by which they are known to be the same; names of those found."""

    def fetch(name: str) -> bool:
        found = storage.download(name, folder / name)
        if found:
            os.utime(folder / name, ns=(listed[name].mtime_ns, listed[name].mtime_ns))
        return found

    return [name for name, found in zip(listed, each(fetch, listed), strict=True) if found]


def _is_pushed(path: Path, name: str, remote: Mapping[str, Listed], equals: Equals) -> bool:
    here = _look(path)
    return name in remote and here in (remote[name], equals[name][0] if name in equals else None)


@contextmanager
def _mirrored(folder: Path, storage: Storage) -> Iterator[Equals]:
    """Hold a folder's lock; what is known of its copy on this storage, kept in the folder for the next process."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _PUSHED
    with filelock.FileLock(folder / _LOCK):
        saved: dict[str, Any] = read_json(path) if path.exists() else {}
        known = saved["files"] if saved.get("storage") == storage.shown else {}
        equals = {name: [Listed(*here), Listed(*there)] for name, (here, there) in known.items()}
        before = dict(equals)
        try:
            yield equals
        finally:
            if equals != before:
                write_json(path, {"storage": storage.shown, "files": equals})


def _in_turn(names: Iterable[str], patterns: Sequence[str]) -> Iterator[list[str]]:
    """For each pattern the names that it is the first to match."""
    left = sorted(names)
    for pattern in patterns:
        yield [name for name in left if fnmatchcase(name, pattern)]
        left = [name for name in left if not fnmatchcase(name, pattern)]


def _files(folder: Path) -> dict[str, Path]:
    """Whole files below a folder by their relative path, our own notes left out, and links, which may lead anywhere."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and not is_part(path.name) and path.name not in (_PUSHED, _LOCK)
    }


def _look(path: Path) -> Listed | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return Listed(found.st_size, found.st_mtime_ns)


def private(folder: Path) -> Path:
    """Make a folder for this user alone, or refuse one that is not."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise InputError(f"cache folder {folder} cannot be made: {error.strerror}; set SR_CACHE to another") from None
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:  # --group lets read, and an output, not a cache
        raise InputError(f"cache folder {folder} must be yours and closed to others; chmod it, or set SR_CACHE")
    return folder


def each(action: Callable[[str], T], names: Iterable[str]) -> list[T]:
    """The action's result for every name, some at a time; the first failure ends it."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(action, names))


def log_transfer(done: str, sizes: Mapping[str, int], due: Iterable[str], began: float) -> None:
    """Log how many files and bytes a transfer moved, of how many, since `began` (`time.monotonic`)."""
    moved = [sizes[name] for name in due]
    log.info(
        "%s: %d of %d files, %.1f of %.1f MB, in %.1f s",
        *(done, len(moved), len(sizes), sum(moved) / 1e6, sum(sizes.values()) / 1e6, time.monotonic() - began),
    )
