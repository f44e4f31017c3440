"""What a patch store says of itself: which files it was built from, which tables are sealed, and their hashes.

The manifest is rewritten atomically after tables are sealed, so a table that it does not list is unfinished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from orchestrator.data.table import ImageTable, part_path, replace_durably
from sr_models.errors import InputError
from sr_models.files import LOCK
from sr_models.hashing import digest
from sr_models.images.files import sha256_file
from sr_models.params import Params

Split = Literal["train", "validation"]
PREFIXES: dict[Split, str] = {"train": "", "validation": "val_"}

_FILE = "manifest.json"


class SourceFile(Params):
    """One HR file and what belongs to it, independent of any path."""

    name: str
    sha256: str
    """Empty where the file could not be read."""
    lr: dict[int, str]
    """scale -> sha256 of the LR file, for the scales that have files."""
    kernel: str
    """How LR is made at the other scales."""

    def kernel_at(self, scale: int) -> str:
        """What made its LR image: a kernel id, or `files`."""
        return "files" if scale in self.lr else self.kernel


class Product(Params):
    """One sealed table."""

    sha256: str
    bytes: int
    images: int
    pixels: str
    """sha256 over the pixel hashes of its images, in order."""
    teacher: str | None = None
    """Hash of the teacher's weights, for centroids."""


class Manifest(Params):
    """`manifest.json`."""

    format: Literal["sr-patch-store"] = "sr-patch-store"
    version: Literal[1] = 1
    scales: tuple[int, ...]
    files: dict[Split, tuple[SourceFile, ...]]
    libraries: dict[str, str]
    """Versions at the build; a JPEG's pixels may depend on its decoder."""
    skipped: dict[str, str] = Field(default={})
    """Unusable files that the user allowed to be left out: name -> reason."""
    products: dict[str, Product] = Field(default={})

    def tables(self, split: Split) -> list[str]:
        """Names of the HR table and the LR tables of a split."""
        return [f"{PREFIXES[split]}hr", *(f"{PREFIXES[split]}lr_x{scale}" for scale in self.scales)]

    def missing(self) -> list[str]:
        """The image tables that are not sealed yet."""
        return [name for split in PREFIXES for name in self.tables(split) if name not in self.products]

    def kernels(self, scale: int) -> list[str]:
        """What made the LR images at a scale: kernel ids, and `files` where LR files were given."""
        return sorted({file.kernel_at(scale) for split in self.files.values() for file in split})


def table_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.arrow"


def read_manifest(folder: Path) -> Manifest:
    """Raises InputError: no manifest, damaged, or of another version."""
    path = folder / _FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} is not a patch store: it holds no {_FILE}") from None
    except ValueError:
        raise InputError(f"store {folder} is damaged: {_FILE} is not JSON; delete it and build again") from None
    return Manifest.parse(values, str(path))


def check_tables(folder: Path, manifest: Manifest, *, hashes: bool) -> None:
    """Refuse a store whose sealed tables are missing or have another size, or (`hashes`) other bytes."""
    for name, product in manifest.products.items():
        path = table_path(folder, name)
        if not path.is_file():
            fault = "is missing"
        elif path.stat().st_size != product.bytes or (hashes and sha256_file(path) != product.sha256):
            fault = "has changed since it was sealed"
        else:
            continue
        raise InputError(f"store {folder} is damaged: {path.name} {fault}; delete it and build again")


def begin(folder: Path, wanted: Manifest) -> Manifest:
    """The manifest to go on from: the one that is there if it is of the same files and scales, or a new one.

    An unfinished store of other files starts over: its user has mended what stopped the build.

    Raises:
        InputError: a finished store of other files, or a folder that holds something else.
    """
    if (folder / _FILE).exists():
        found = read_manifest(folder)
        if (found.scales, found.files) == (wanted.scales, wanted.files):
            return found
        if not found.missing():
            raise InputError(f"store {folder} was built from other images or scales; delete it or use another folder")
        for name in (name for split in PREFIXES for name in found.tables(split)):
            for path in (table_path(folder, name), part_path(table_path(folder, name))):
                path.unlink(missing_ok=True)
    elif any(path.name not in (LOCK, part_path(Path(_FILE)).name) for path in folder.iterdir()):
        raise InputError(f"{folder} is not a patch store but holds other files; use another folder")
    _write(folder, wanted)
    return wanted


def list_products(folder: Path, manifest: Manifest, names: Sequence[str], *, teacher: str | None = None) -> Manifest:
    """Add sealed tables to the manifest, on disk too."""
    added = {name: _describe(table_path(folder, name), teacher) for name in names}
    manifest = manifest.model_copy(update={"products": manifest.products | added})
    _write(folder, manifest)
    return manifest


def _describe(path: Path, teacher: str | None) -> Product:
    table = ImageTable(path)
    return Product(
        sha256=sha256_file(path),
        bytes=path.stat().st_size,
        images=len(table),
        pixels=digest(table.hashes),
        teacher=teacher,
    )


def _write(folder: Path, manifest: Manifest) -> None:
    part = part_path(folder / _FILE)
    with part.open("w", encoding="utf-8") as file:
        file.write(manifest.model_dump_json(indent=1))
        file.flush()
        os.fsync(file.fileno())
    replace_durably(part, folder / _FILE)
