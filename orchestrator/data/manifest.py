"""What a patch store says of itself: which files it was built from, which tables are sealed, and their hashes.

A store is of one scale. The manifest is rewritten atomically after tables are sealed, so a table that it does not list
is unfinished.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from orchestrator.data.table import ImageTable, part_path, replace_durably
from sr_models.errors import InputError
from sr_models.files import replacing
from sr_models.hashing import digest
from sr_models.images.files import sha256_file
from sr_models.params import Params

Split = Literal["train", "validation"]
PREFIXES: dict[Split, str] = {"train": "", "validation": "val_"}

FILES = "files"
"""Stands for a kernel where LR files were given."""

MANIFEST = "manifest.json"

log = logging.getLogger(__name__)


class SourceFile(Params):
    """One HR file and what belongs to it, independent of any path."""

    name: str
    sha256: str
    """Empty where the file could not be read."""
    lr: str | None
    """sha256 of its LR file; None: LR is made with the kernel."""
    kernel: str
    """What made its LR image: a kernel id, or `FILES`."""


class Product(Params):
    """One sealed table."""

    sha256: str
    bytes: int
    images: int
    pixels: str
    """sha256 over the pixel hashes of its images, in order."""
    teacher: str | None = None
    """Name of what made them, for centroids (`TeacherConfig.centroids`) and latents (`TrialConfig.latents`)."""
    seconds: float | None = None
    """That the workers who made these centroids or latents took for them, all together."""
    reduction: int | None = Field(default=None, exclude_if=lambda reduction: reduction is None)
    """Of latents: HR pixels of a cell, a side."""


class Manifest(Params):
    """`manifest.json`."""

    format: Literal["sr-patch-store"] = "sr-patch-store"
    version: Literal[2] = 2
    scale: int
    files: dict[Split, tuple[SourceFile, ...]]
    libraries: dict[str, str]
    """Versions at the build; a JPEG's pixels may depend on its decoder."""
    skipped: dict[str, str] = Field(default={})
    """Unusable files that the user allowed to be left out: name -> reason."""
    same_pixels: dict[str, dict[str, str]] = Field(default={})
    """Keys of other files that the same images came out of -> `skipped` of those."""
    products: dict[str, Product] = Field(default={})

    @property
    def key(self) -> str:
        """Digest of what the store is asked to hold."""
        return digest(self.model_dump(mode="json", include={"version", "scale", "files"}))

    @property
    def data_hash(self) -> str:
        """sha256 over every HR and LR pixel of a finished store, and the kernels; not over what was made of them."""
        assert not self.missing()
        pixels = {name: product.pixels for name, product in self.products.items() if product.teacher is None}
        return digest([pixels, self.kernels])

    def skipped_of(self, key: str) -> dict[str, str] | None:
        """Unusable files among those of a key: name -> reason. None: this is not their store."""
        return self.skipped if key == self.key else self.same_pixels.get(key)

    def tables(self, split: Split) -> list[str]:
        """Names of the HR table and the LR table of a split."""
        return table_names(split, self.scale)

    def missing(self) -> list[str]:
        """The image tables that are not sealed yet."""
        return [name for split in PREFIXES for name in self.tables(split) if name not in self.products]

    @property
    def kernels(self) -> list[str]:
        """What made the LR images: kernel ids, and `FILES` where LR files were given."""
        return sorted({file.kernel for split in self.files.values() for file in split})


def table_names(split: Split, scale: int) -> list[str]:
    """Names of the HR table and the LR table of a split."""
    return [f"{PREFIXES[split]}hr", f"{PREFIXES[split]}lr_x{scale}"]


def table_path(folder: Path, name: str) -> Path:
    """Where a store keeps the table of that name."""
    return folder / f"{name}.arrow"


def stored_name(name: str, product: Product) -> str:
    """What a table is called on a storage, where those of all stores lie in one folder."""
    return f"{name}-{product.sha256[:16]}.arrow"


def finished(stores: Path) -> list[Path]:
    """The folders of finished stores; one whose name begins with a dot is being built, or being removed."""
    return sorted(path.parent for path in stores.glob(f"[!.]*/{MANIFEST}"))


def read_manifest(folder: Path) -> Manifest:
    """Raises InputError: no manifest, damaged, or of another version."""
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} is not a patch store: it holds no {MANIFEST}") from None
    except ValueError:
        raise InputError(f"store {folder} is damaged: {MANIFEST} is not JSON; delete it and build again") from None
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
    """The manifest to go on from in a folder that is named by its key: the one that is there, or a new one."""
    if (folder / MANIFEST).exists():
        return read_manifest(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, wanted)
    return wanted


def link_twin(stores: Path, folder: Path, name: str, product: Product) -> bool:
    """Give a store that table of another one which holds the same bytes: HR is the same at every scale.

    Args:
        stores: the folder of the finished ones.

    Returns:
        Whether the table now is a link; False too where files cannot be linked.
    """
    for other in finished(stores):
        twin = table_path(other, name)
        try:
            if other == folder or read_manifest(other).products.get(name) != product:
                continue
            if sha256_file(twin) == product.sha256:
                with replacing(table_path(folder, name)) as part:
                    os.link(twin, part)
                return True
        except (InputError, OSError) as error:
            log.info("%s is not linked: %s", twin, error)
    return False


def list_products(
    folder: Path,
    manifest: Manifest,
    names: Sequence[str],
    *,
    teacher: str | None = None,
    seconds: float | None = None,
    reduction: int | None = None,
) -> Manifest:
    """Add sealed tables to the manifest, on disk too."""
    about: dict[str, Any] = {"teacher": teacher, "seconds": seconds, "reduction": reduction}
    added = {name: _describe(table_path(folder, name)).model_copy(update=about) for name in names}
    manifest = manifest.model_copy(update={"products": manifest.products | added})
    write_manifest(folder, manifest)
    return manifest


def _describe(path: Path) -> Product:
    table = ImageTable(path)
    return Product(
        sha256=sha256_file(path),
        bytes=path.stat().st_size,
        images=len(table),
        pixels=digest(table.hashes),
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a store's manifest, whole or not at all."""
    part = part_path(folder / MANIFEST)
    with part.open("w", encoding="utf-8") as file:
        file.write(manifest.model_dump_json(indent=1))
        file.flush()
        os.fsync(file.fileno())
    replace_durably(part, folder / MANIFEST)
