"""The patch store on a run's storage, and the one hash-checked copy of it that each node keeps."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.data.manifest import Manifest, Product, table_path
from orchestrator.data.store import PatchStore
from orchestrator.storage.mirror import each, log, log_transfer, private
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError
from sr_models.files import locked, read_json, replacing, write_json
from sr_models.hashing import digest
from sr_models.images.files import sha256_file

STORE = "store"
"""The folder of a run's storage that holds its patch store."""

_MANIFEST, _VERIFIED = "manifest.json", "verified.json"


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
        if sha256_file(path) != products[name].sha256:  # every node would refuse it, and a rebuild change nothing
            raise InputError(f"store {store_folder} is damaged: {path.name} has changed since it was sealed")
        remote.upload(path, _remote_name(name, products[name]))
    if remote.read(_MANIFEST) != data:
        remote.write(_MANIFEST, data)
    log_transfer(
        f"published to {remote.shown}", {name: product.bytes for name, product in products.items()}, due, began
    )


def fetch_store(storage: Storage, cache: Path) -> PatchStore:
    """This node's copy of the patch store on a run's storage, made or brought up to date first.

    A table's sha256 is compared when it arrives, and again once its size or time of change is not what it was then.
    The copy belongs to this function: what others add to its manifest is lost at the next call.

    Raises:
        InputError: no store there, unfinished or damaged there, or a cache folder that is not this user's alone.
        OSError: the storage fails, or holds other bytes than its manifest says.
    """
    began, remote = time.monotonic(), storage.child(STORE)
    folder = private(cache / "stores") / digest(storage.shown)[:16]
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

        each(fetch, due)
        stamps = {name: _stamp(folder, name, product) for name, product in products.items()}
        if stamps != verified:
            write_json(folder / _VERIFIED, stamps)
        if not (folder / _MANIFEST).exists() or (folder / _MANIFEST).read_bytes() != data:
            with replacing(folder / _MANIFEST) as part:
                part.write_bytes(data)
        if due:
            sizes = {name: product.bytes for name, product in products.items()}
            log_transfer(f"fetched from {remote.shown} to {folder}", sizes, due, began)
        return PatchStore.open(folder, verify=False)


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
    if path.stat().st_size == product.bytes and (known or sha256_file(path) == product.sha256):
        return True
    log.warning("%s is not what its manifest says: fetched again", path)
    return False
