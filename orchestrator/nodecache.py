"""What a node keeps of a run's shared storage: one hash-checked patch store, mirrored image folders, a copy of the run.

However many processes of a node ask, one fetches while the others wait for its lock; a copy that a kill left half made
is gone on with. Caches are for their user alone (mode 700): who could write them could change what trains.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import filelock

from orchestrator.patches import PatchStore
from orchestrator.rundir import read_json, write_json
from orchestrator.storage import Listed, Storage, is_part
from orchestrator.store_manifest import Manifest, Product, digest, locked, table_path
from sr_models import images
from sr_models.errors import InputError
from sr_models.files import replacing

STORE = "store"
"""The folder of a run's storage that holds its patch store."""

_MANIFEST, _VERIFIED = "manifest.json", "verified.json"
_PUSHED, _LOCK = ".mirror.json", ".mirror.lock"
_THREADS = 8  # a small file costs a round trip, not bandwidth
_log = logging.getLogger("orchestrator.nodecache")

T = TypeVar("T")
Equals = dict[str, list[Listed]]
"""name -> what the file here and the file on the storage looked like when they were last made equal."""


def cache_folder() -> Path:
    """Where this node keeps its copies: the environment's SR_CACHE, or ~/.cache/sr-sweep."""
    return Path(os.environ.get("SR_CACHE") or "~/.cache/sr-sweep").expanduser()


def publish_store(store_folder: Path, storage: Storage) -> None:
    """Put a finished patch store on a run's storage: the tables that it lacks, then the manifest that lists them.

    Tables are named there by their content: a store that grows never changes under a reader, and a publication that
    was killed goes on. A table that the manifest lists no more stays.

    Raises:
        InputError: no store, unfinished, or a table that is not what its manifest says.
        OSError: the storage fails.
    """
    began, remote = time.monotonic(), storage.child(STORE)
    PatchStore.open(store_folder, verify=False)
    data = (store_folder / _MANIFEST).read_bytes()
    products = _products(data, str(store_folder / _MANIFEST))
    there = {(name, found.size) for name, found in remote.names(recursive=False).items()}
    due = [name for name, product in products.items() if (_remote_name(name, product), product.bytes) not in there]
    for name in due:
        path = table_path(store_folder, name)
        if (
            images.sha256_file(path) != products[name].sha256
        ):  # every node would refuse it, and a rebuild change nothing
            raise InputError(f"store {store_folder} is damaged: {path.name} has changed since it was sealed")
        remote.upload(path, _remote_name(name, products[name]))
    if remote.read(_MANIFEST) != data:
        remote.write(_MANIFEST, data)
    _report(f"published to {remote.shown}", {name: product.bytes for name, product in products.items()}, due, began)


def fetch_store(storage: Storage, cache: Path) -> PatchStore:
    """This node's copy of the patch store on a run's storage, made or brought up to date first.

    A table's sha256 is compared when it arrives, and again once its size or time of change is not what it was then.
    The copy belongs to this function: what others add to its manifest is lost at the next call.

    Raises:
        InputError: no store there, unfinished or damaged there, or a cache folder that is not this user's alone.
        OSError: the storage fails, or holds other bytes than its manifest says.
    """
    began, remote = time.monotonic(), storage.child(STORE)
    folder = _private(cache / "stores") / digest(storage.shown)[:16]
    with locked(folder):
        data = remote.read(_MANIFEST)
        if data is None:
            raise InputError(f"storage {storage.shown} holds no patch store")
        products = _products(data, f"{remote.shown}/{_MANIFEST}")
        verified = read_json(folder / _VERIFIED) if (folder / _VERIFIED).exists() else {}
        due = [name for name in products if not _is_sound(folder, name, products[name], verified)]

        def fetch(name: str) -> None:
            stored = _remote_name(name, products[name])
            if not remote.download(stored, table_path(folder, name), sha256=products[name].sha256):
                raise InputError(f"store {remote.shown} is damaged: {stored} is missing; publish it again")

        _each(fetch, due)
        stamps = {name: _stamp(folder, name, product) for name, product in products.items()}
        if stamps != verified:
            write_json(folder / _VERIFIED, stamps)
        if not (folder / _MANIFEST).exists() or (folder / _MANIFEST).read_bytes() != data:
            with replacing(folder / _MANIFEST) as part:
                part.write_bytes(data)
        if due:
            sizes = {name: product.bytes for name, product in products.items()}
            _report(f"fetched from {remote.shown} to {folder}", sizes, due, began)
        return PatchStore.open(folder, verify=False)


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
    place = _private(cache / "images") / digest(storage.shown)[:16]
    folder = place / storage.name  # a patch store names images after the folder they lie in
    with locked(place):
        listed = {name: what for name, what in storage.names().items() if Path(name).suffix.lower() in images.SUFFIXES}
        if not listed:
            raise InputError(f"data source {storage.shown} holds no PNG, JPEG, BMP or TIFF file")
        for name, path in _files(folder).items():
            if listed.get(name) != _look(path):
                _log.warning("%s is not, or no longer, what %s holds: dropped", path, storage.shown)
                path.unlink()
        due = sorted(listed.keys() - _files(folder).keys())
        _pull(storage, folder, {name: listed[name] for name in due})
        if due:
            sizes = {name: what.size for name, what in listed.items()}
            _report(f"fetched from {storage.shown} to {folder}", sizes, due, began)
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
            pushed += [name for name, done in zip(due, _each(push, due), strict=True) if done]
    return pushed


def pull_tree(storage: Storage, folder: Path, patterns: Sequence[str]) -> list[str]:
    """Download the files that changed on the storage since they were last made equal, and those missing here.

    A file that changed on both sides becomes the storage's; one that changed here alone stays. Nothing is deleted.

    Args:
        patterns: as for `push_tree`.

    Returns:
        The names downloaded.

    Raises:
        InputError: the storage holds a name that leads out of the folder.
        OSError: the storage fails; what arrived before that is kept.
    """
    pulled: list[str] = []
    with _mirrored(folder, storage) as equals:
        remote, files = storage.names(), _files(folder)
        for names in _in_turn(remote, patterns):
            due = {name: remote[name] for name in names}
            for name in names:
                here = _look(files[name]) if name in files else None
                if here is not None and remote[name] in (here, equals[name][1] if name in equals else None):
                    del due[name]
            arrived = _pull(storage, folder, due)
            equals |= {name: [due[name], due[name]] for name in arrived}
            pulled += arrived
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

    return [name for name, found in zip(listed, _each(fetch, listed), strict=True) if found]


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
    """Whole files below a folder by their relative path, our own notes left out."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and not is_part(path.name) and path.name not in (_PUSHED, _LOCK)
    }


def _look(path: Path) -> Listed | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return Listed(found.st_size, found.st_mtime_ns)


def _products(manifest: bytes, where: str) -> dict[str, Product]:
    """The tables that a manifest lists, their names fit to be file names."""
    try:
        products = Manifest.parse(json.loads(manifest), where).products
    except json.JSONDecodeError:
        raise InputError(f"{where} is damaged: it is not JSON; delete it and publish the store again") from None
    for name, product in products.items():
        if not re.fullmatch("[a-z0-9_]+", name) or not re.fullmatch("[0-9a-f]{64}", product.sha256):
            raise InputError(f"{where} lists {name!r} with sha256 {product.sha256!r}, which no store of ours does")
    return products


def _remote_name(name: str, product: Product) -> str:
    return f"{name}-{product.sha256[:16]}.arrow"


def _stamp(folder: Path, name: str, product: Product) -> list[Any]:
    """By what a verified table is known again."""
    found = table_path(folder, name).stat()
    return [product.sha256, found.st_size, found.st_mtime_ns]


def _is_sound(folder: Path, name: str, product: Product, verified: Mapping[str, Any]) -> bool:
    path = table_path(folder, name)
    if not path.exists():
        return False
    known = verified.get(name) == _stamp(folder, name, product)
    if path.stat().st_size == product.bytes and (known or images.sha256_file(path) == product.sha256):
        return True
    _log.warning("%s is not what its manifest says: fetched again", path)
    return False


def _private(folder: Path) -> Path:
    """Make a folder for this user alone, or refuse one that is not."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise InputError(f"cache folder {folder} cannot be made: {error.strerror}; set SR_CACHE to another") from None
    if found.st_uid != os.geteuid() or found.st_mode & 0o002:
        raise InputError(f"cache folder {folder} must be yours and closed to others; chmod it, or set SR_CACHE")
    return folder


def _each(action: Callable[[str], T], names: Iterable[str]) -> list[T]:
    """The action's result for every name, some at a time; the first failure ends it."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(action, names))


def _report(done: str, sizes: Mapping[str, int], due: Iterable[str], began: float) -> None:
    moved = [sizes[name] for name in due]
    _log.info(
        "%s: %d of %d files, %.1f of %.1f MB, in %.1f s",
        *(done, len(moved), len(sizes), sum(moved) / 1e6, sum(sizes.values()) / 1e6, time.monotonic() - began),
    )
