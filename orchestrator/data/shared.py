"""The patch stores on a storage, and the one hash-checked copy of each that a node keeps."""

from __future__ import annotations

import fnmatch
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.data.manifest import (
    MANIFEST,
    Manifest,
    Product,
    link_twin,
    stored_name,
    table_path,
    write_manifest,
)
from orchestrator.data.store import PatchStore, opened
from orchestrator.storage.mirror import each, log, log_transfer, private
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError
from sr_models.files import locked, read_json, write_json
from sr_models.hashing import digest
from sr_models.images.files import sha256_file

_VERIFIED = "verified.json"


def publish_store(store: PatchStore, storage: Storage) -> None:
    """Put what a storage lacks of a finished patch store there: tables, then what lists them.

    <data hash>.json              the images
    <data hash>-<teacher>.json    its centroids: runs that add those of different teachers do not meet
    <table>-<sha256>.arrow        of any store: HR of all scales is there once

    A store that grows never changes under a reader, and a publication that was killed goes on.

    Args:
        storage: the folder of all stores.

    Raises:
        InputError: a table that is not what the store's manifest says.
        OSError: the storage fails.
    """
    began, sizes, due = time.monotonic(), dict[str, int](), list[str]()
    with locked(store.folder):  # another process that adds centroids renames their tables
        there = {(name, found.size) for name, found in storage.names(recursive=False).items()}
        for listing, part in _parts(store.manifest).items():
            sizes |= {name: product.bytes for name, product in part.products.items()}
            data = storage.read(listing)
            listed = _manifest(data, f"{storage.shown}/{listing}").products if data is not None else {}
            if listed and all((stored_name(name, product), product.bytes) in there for name, product in listed.items()):
                continue  # the same images or centroids, maybe under other names
            for name, product in part.products.items():
                if (stored_name(name, product), product.bytes) in there:
                    continue
                path = table_path(store.folder, name)
                if sha256_file(path) != product.sha256:  # every node would refuse it, and a rebuild change nothing
                    raise InputError(f"store {store.folder} is damaged: {path.name} has changed since it was sealed")
                storage.upload(path, stored_name(name, product))
                due.append(name)
            storage.write(listing, part.model_dump_json(indent=1).encode())
    log_transfer(f"published to {storage.shown}", sizes, due, began)


def fetch_store(storage: Storage, data_hash: str, cache: Path) -> PatchStore:
    """This node's copy of a patch store on a storage, made or brought up to date first.

    A table's sha256 is compared when it arrives, and again once its size or time of change is not what it was then.
    The copy's manifest belongs to this function: what others add to it is lost at the next call.

    Args:
        storage: the folder of all stores.

    Raises:
        InputError: no such store there, unfinished or damaged there, or a cache folder that is not this user's alone.
        OSError: the storage fails, or holds other bytes than its manifest says.
    """
    began, key = time.monotonic(), data_hash[:16]
    stores = private(cache / "stores") / digest(storage.shown)[:16]
    folder = stores / key
    with locked(folder):
        listings = sorted(fnmatch.filter(storage.names(recursive=False), f"{key}*.json"))
        if f"{key}.json" not in listings:
            raise InputError(f"storage {storage.shown} holds no patch store of data {key}")
        read = {name: _manifest(storage.read(name) or b"", f"{storage.shown}/{name}") for name in listings}
        products = {name: product for part in read.values() for name, product in part.products.items()}
        manifest = read[f"{key}.json"].model_copy(update={"products": products})
        verified = read_json(folder / _VERIFIED) if (folder / _VERIFIED).exists() else {}
        lacking = [name for name in products if not _is_sound(folder, name, products[name], verified)]
        due = [name for name in lacking if not link_twin(stores, folder, name, products[name])]

        def fetch(name: str) -> None:
            stored = stored_name(name, products[name])
            if not storage.download(stored, table_path(folder, name), sha256=products[name].sha256):
                raise InputError(f"store {storage.shown}/{key} is damaged: {stored} is missing; publish it again")

        each(fetch, due)
        stamps = {name: _stamp(folder, name, product) for name, product in products.items()}
        if stamps != verified:
            write_json(folder / _VERIFIED, stamps)
        data = manifest.model_dump_json(indent=1).encode()
        if not (folder / MANIFEST).exists() or (folder / MANIFEST).read_bytes() != data:
            write_manifest(folder, manifest)
        if due:
            sizes = {name: product.bytes for name, product in products.items()}
            log_transfer(f"fetched from {storage.shown} to {folder}", sizes, due, began)
        return opened(folder)


def _parts(manifest: Manifest) -> dict[str, Manifest]:
    """What lists a store on a storage: name -> the part of its manifest."""
    bare = Manifest(scale=manifest.scale, files={"train": (), "validation": ()}, libraries={})
    parts: dict[str, dict[str, Product]] = {}
    for name, product in manifest.products.items():
        of = f"-{product.teacher[:16]}" if product.teacher else ""
        parts.setdefault(f"{manifest.data_hash[:16]}{of}.json", {})[name] = product
    return {
        name: (bare if "-" in name else manifest).model_copy(update={"products": products})
        for name, products in parts.items()
    }


def _manifest(data: bytes, where: str) -> Manifest:
    """A manifest from a storage, the names of its tables fit to be file names."""
    try:
        manifest = Manifest.parse(json.loads(data), where)
    except json.JSONDecodeError:
        raise InputError(f"{where} is damaged: it is not JSON; delete it and publish the store again") from None
    for name, product in manifest.products.items():
        if not re.fullmatch("[a-z0-9_]+", name) or not re.fullmatch("[0-9a-f]{64}", product.sha256):
            raise InputError(f"{where} lists {name!r} with sha256 {product.sha256!r}, which no store of ours does")
    return manifest


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
