"""From the files of image sources to the rows of a patch store: list and hash, then read, check and downscale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from orchestrator.data.fit import check_not_flat, lr_side
from orchestrator.data.manifest import FILES, SourceFile, Split
from orchestrator.data.remembered import Look, Remembered
from orchestrator.data.table import ImageRow
from orchestrator.plan.sources import ImageSource
from sr_models.errors import InputError
from sr_models.images import files
from sr_models.images.files import is_flat, pixels_sha256, read_image, sha256_file
from sr_models.images.matlab import downscale, modcrop
from sr_models.images.pairs import check_pair_sizes


class Item(NamedTuple):
    """One image: what the manifest says of it, and where its files are."""

    file: SourceFile
    hr: Path
    lr: Path | None
    fault: str | None
    """Why its files could not be hashed."""


def list_items(sources: Sequence[ImageSource], scale: int, on_bad: Literal["fail", "skip"] = "fail") -> list[Item]:
    """Every image of the sources with the hashes of its files at one scale, read for them once as long as they stay.

    Raises:
        InputError: a source that cannot be used, or (unless `on_bad` is "skip") a file that cannot be read.
    """
    items, remembered = [], Remembered("files", (files,), ())

    def sha256_of(path: Path) -> str:
        return str(remembered.of([Look.at(path)], "sha256", lambda: sha256_file(path)))

    for source in sources:
        for hr, at_scale in source.pairs((scale,)):
            lr = at_scale.get(scale)
            name = f"{source.label}/{hr.relative_to(source.folder).as_posix()}"
            name = name.encode("utf-8", "backslashreplace").decode()  # a name that is not UTF-8 is a fault, but a name
            sha256, lr_sha256, fault = "", None if lr is None else "", None
            try:
                sha256 = sha256_of(hr)
                lr_sha256 = None if lr is None else sha256_of(lr)
            except InputError as error:
                if on_bad == "fail":
                    raise
                fault = str(error)
            file = SourceFile(name=name, sha256=sha256, lr=lr_sha256, kernel=FILES if lr else source.kernel)
            items.append(Item(file, hr, lr, fault))
    remembered.save()
    return items


def make_rows(
    items: list[Item],
    scale: int,
    split: Split,
    taken: Mapping[str, str],
    skipped: dict[str, str] | None,
    i: int,
) -> list[ImageRow] | None:
    """The rows of image i in the HR table and in the LR table, or None if it is left out.

    Args:
        taken: hashes of HR images that must not come again -> their names.
        skipped: takes the name and fault of an unusable image; None: the fault is raised.

    Raises:
        InputError: an unusable image, where `skipped` is None; one that is in another split too.
    """
    try:
        rows = _read_rows(items[i], scale)
        if split == "validation":
            check_not_flat(is_flat(rows[0].pixels), f"validation image {str(items[i].hr)!r}")
    except InputError as error:
        if skipped is None:
            raise
        skipped[items[i].file.name] = str(error)
        return None
    for sha in (rows[0].sha256, rows[1].origin):
        if sha in taken:
            raise InputError(
                f"validation image {rows[0].name} is a training image too ({taken[sha]}); exclude it from one"
            )
    return rows


def large_enough(items: Sequence[Item], scale: int, patch: int) -> tuple[list[Item], dict[str, str]]:
    """The images that an LR patch can be cut from, by their headers, and name -> why of the others."""
    kept: list[Item] = []
    small: dict[str, str] = {}
    for item in items:
        if why := _lacks(item, scale, patch):
            small[item.file.name] = why
        else:  # whatever another source calls by the same name
            kept.append(item)
    return kept, small


def _lacks(item: Item, scale: int, patch: int) -> str | None:
    side = lr_side(item.hr, item.lr, scale)
    if side is None or side >= patch:
        return None
    return f"image {str(item.hr)!r}: smaller than an LR patch of {patch} at x{scale}: its shorter side is {side}"


def _read_rows(item: Item, scale: int) -> list[ImageRow]:
    if item.fault:
        raise InputError(item.fault)
    name, hr = item.file.name, read_image(item.hr)
    if min(hr.shape[:2]) < scale:
        raise InputError(f"image {str(item.hr)!r}: {hr.shape[1]}x{hr.shape[0]} is too small for x{scale}")
    if item.lr is not None:
        lr = read_image(item.lr)
        check_pair_sizes(hr, lr, scale, name)
    else:
        lr = downscale(hr, scale, item.file.kernel)
    return [ImageRow(name, item.file.sha256, hr), ImageRow(name, pixels_sha256(modcrop(hr, scale)), lr)]
