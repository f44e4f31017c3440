"""The stores that all runs of an output share, one a scale: found if a run has built it, else built.

<stores>/<data hash>/              a finished one
<stores>/.building/<key>/.lock     held by who looks for one, or builds it
<stores>/.building/<key>/store/    what a killed builder left, and the next one goes on from
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from orchestrator.data.manifest import (
    PREFIXES,
    Manifest,
    Split,
    begin,
    finished,
    link_twin,
    list_products,
    read_manifest,
    table_path,
    write_manifest,
)
from orchestrator.data.rows import Item, large_enough, list_items, make_rows
from orchestrator.data.store import BuildProgress, PatchStore, some, ticker
from orchestrator.data.table import ImageTable, replace_durably, write_tables
from orchestrator.plan.sources import ImageSource
from sr_models.command import say
from sr_models.errors import InputError
from sr_models.files import locked


def build_store(
    stores: Path | str,
    *,
    train: Sequence[ImageSource],
    validation: Sequence[ImageSource],
    scale: int,
    on_bad: Literal["fail", "skip"] = "fail",
    patch: int = 1,
    progress: BuildProgress | None = None,
) -> PatchStore:
    """The store of these files at one scale: the one that is there, or a new one; a second builder waits for the first.

    Args:
        stores: the folder of all of them.
        on_bad: a file that cannot be read, an LR file that does not fit its HR, or a validation image of one colour:
            stop, or leave the image out and list it under `skipped` in the manifest.
        patch: side of the largest LR patch that training cuts; "skip" takes smaller images for none of the files.

    Raises:
        InputError: a source that cannot be used, a training image among the validation images, a split of which
            nothing is left, a folder that cannot be written, a store of these images that is damaged or of another
            version.
    """
    if not train:
        raise InputError("a store needs at least one source of training images, got none")
    stores = Path(stores)
    wanted, listed, small = _listed(train, validation, scale, on_bad, patch)
    with locked(building := stores / ".building" / wanted.key[:16]):
        folder = _find(stores, wanted.key)
        if folder is None:
            work = building / "store"
            try:
                built = _build(work, wanted, listed, on_bad, progress)
            except InputError:
                shutil.rmtree(work, ignore_errors=True)  # a mended file is another one, and has another key
                raise
            folder = _place(stores, work, built)
        manifest = PatchStore.open(folder).manifest
        skipped = manifest.skipped_of(wanted.key)
        _check_skipped(skipped or {}, on_bad)
        return PatchStore(folder, manifest, {**(skipped or {}), **small})


def find_store(
    stores: Path,
    *,
    train: Sequence[ImageSource],
    validation: Sequence[ImageSource],
    scale: int,
    on_bad: Literal["fail", "skip"] = "fail",
    patch: int = 1,
) -> Manifest | None:
    """What the finished store of these files at one scale says of itself; None if nobody has built it yet.

    Raises:
        InputError: as for `build_store`.
    """
    if not stores.exists():
        return None  # before every file is read for its hash
    folder = _find(stores, _listed(train, validation, scale, on_bad, patch)[0].key)
    return None if folder is None else read_manifest(folder)


def _listed(
    train: Sequence[ImageSource],
    validation: Sequence[ImageSource],
    scale: int,
    on_bad: Literal["fail", "skip"],
    patch: int,
) -> tuple[Manifest, dict[Split, list[Item]], dict[str, str]]:
    """The manifest of a store of these files that holds nothing yet, the files, and why some are too small for it."""
    listed: dict[Split, list[Item]] = {
        "train": list_items(train, scale, on_bad),
        "validation": list_items(validation, scale, on_bad),
    }
    small: dict[str, str] = {}
    if on_bad == "skip":
        listed["train"], small = large_enough(listed["train"], scale, patch)
    wanted = Manifest(
        scale=scale,
        files={split: tuple(item.file for item in items) for split, items in listed.items()},
        libraries={name: version(name) for name in ("numpy", "pillow", "pyarrow")},
    )
    return wanted, listed, small


def _find(stores: Path, key: str) -> Path | None:
    """The finished store of the files and scale that have this key.

    One that cannot be read is passed over: if it holds the same images, the new store finds it in its place.
    """
    for folder in finished(stores):
        try:
            if read_manifest(folder).skipped_of(key) is not None:
                return folder
        except (InputError, OSError) as error:
            say(f"{error}; passed over")
    return None


def _build(
    work: Path,
    wanted: Manifest,
    listed: Mapping[Split, list[Item]],
    on_bad: Literal["fail", "skip"],
    progress: BuildProgress | None,
) -> Manifest:
    """Write what lacks of a store's tables."""
    manifest = begin(work, wanted)
    _check_skipped(manifest.skipped, on_bad)
    taken: dict[str, str] = {}
    for split in PREFIXES:
        names = manifest.tables(split)
        if not set(names) <= set(manifest.products):
            skipped, items = dict(manifest.skipped), listed[split]
            make = partial(make_rows, items, wanted.scale, split, taken, None if on_bad == "fail" else skipped)
            keys = [item.file.sha256 for item in items]
            tick = ticker(progress, f"x{wanted.scale} {split} images", len(keys))
            write_tables([table_path(work, name) for name in names], keys, make, tick)
            if items and not len(ImageTable(table_path(work, names[0]))):
                faults = [skipped[item.file.name] for item in items]
                raise InputError(f"no usable image is left for {split}: {some(faults)}")
            manifest = list_products(work, manifest.model_copy(update={"skipped": skipped}), names)
        if split == "train":
            taken = PatchStore(work, manifest).hashes("train")
    return manifest


def _place(stores: Path, work: Path, built: Manifest) -> Path:
    """Where a finished store now lies: the same images may be there already, out of other files."""
    folder = stores / built.data_hash[:16]
    for name, product in built.products.items():
        link_twin(stores, work, name, product)
    try:
        replace_durably(work, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        with locked(folder):
            there = read_manifest(folder)
            same = there.same_pixels | {built.key: built.skipped}
            write_manifest(folder, there.model_copy(update={"same_pixels": same}))
        shutil.rmtree(work)
    return folder


def _check_skipped(skipped: Mapping[str, str], on_bad: Literal["fail", "skip"]) -> None:
    if skipped and on_bad == "fail":
        raise InputError(some(list(skipped.values())))
