"""From the files of image sources to the rows of a patch store: list and hash, then read, check and downscale."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from orchestrator.data.manifest import SourceFile, Split
from orchestrator.data.table import ImageRow
from orchestrator.plan.sources import ImageSource
from sr_models.errors import InputError
from sr_models.images.files import pixels_sha256, read_image, sha256_file, shorter_side
from sr_models.images.operators import downscale, modcrop
from sr_models.images.pairs import check_pair_sizes


class Item(NamedTuple):
    """One image: what the manifest says of it, and where its files are."""

    file: SourceFile
    hr: Path
    lr: dict[int, Path]
    fault: str | None
    """Why its files could not be hashed."""


def list_items(
    sources: Sequence[ImageSource],
    scales: tuple[int, ...],
    on_bad: Literal["fail", "skip"] = "fail",
    patches: Collection[tuple[int, int]] = (),
) -> list[Item]:
    """Every image of the sources with the hashes of its files.

    Args:
        patches: (scale, LR patch) that each image must hold; with "skip", a smaller one has a fault.

    Raises:
        InputError: a source that cannot be used, or (unless `on_bad` is "skip") a file that cannot be read.
    """
    items = []
    for source in sources:
        for hr, lr in source.pairs(scales):
            name = f"{source.label}/{hr.relative_to(source.folder).as_posix()}"
            name = name.encode("utf-8", "backslashreplace").decode()  # a name that is not UTF-8 is a fault, but a name
            sha256, lr_hashes, fault = "", dict.fromkeys(lr, ""), None
            try:
                sha256 = sha256_file(hr)
                lr_hashes = {scale: sha256_file(path) for scale, path in lr.items()}
            except InputError as error:
                if on_bad == "fail":
                    raise
                fault = str(error)
            if on_bad == "skip" and fault is None:
                fault = next(filter(None, (lacks(hr, lr, scale, patch) for scale, patch in sorted(patches))), None)
            items.append(Item(SourceFile(name=name, sha256=sha256, lr=lr_hashes, kernel=source.kernel), hr, lr, fault))
    return items


def make_rows(
    items: list[Item],
    scales: tuple[int, ...],
    split: Split,
    taken: Mapping[str, str],
    skipped: dict[str, str] | None,
    i: int,
) -> list[ImageRow] | None:
    """The rows of image i in the HR table and in each LR table, or None if it is left out.

    Args:
        taken: hashes of HR images that must not come again -> their names.
        skipped: takes the name and fault of an unusable image; None: the fault is raised.
    """
    try:
        rows = _read_rows(items[i], scales)
        if split == "validation":
            check_not_flat(rows[0].pixels, f"validation image {str(items[i].hr)!r}")
    except InputError as error:
        if skipped is None:
            raise
        skipped[items[i].file.name] = str(error)
        return None
    for sha in [rows[0].sha256, *(row.origin for row in rows[1:])]:
        if sha in taken:
            raise InputError(
                f"validation image {rows[0].name} is a training image too ({taken[sha]}); exclude it from one"
            )
    return rows


def lacks(hr: Path, lr: Mapping[int, Path], scale: int, patch: int) -> str | None:
    """Why no LR patch can be cut from an image, by its header; None if one can, or if the header is damaged."""
    side = lr_side(hr, lr, scale)
    if side is None or side >= patch:
        return None
    return f"image {str(hr)!r}: smaller than an LR patch of {patch} at x{scale}: its shorter side is {side}"


def lr_side(hr: Path, lr: Mapping[int, Path], scale: int) -> int | None:
    """The shorter side of an image's LR in pixels, by a header; None if that is damaged, which reading will tell."""
    try:
        return shorter_side(lr[scale]) if scale in lr else shorter_side(hr) // scale
    except InputError:
        return None


def check_not_flat(image: np.ndarray, what: str) -> None:
    """Refuse an image to be scored on that is one colour; `what` it is begins the message."""
    if (image == image[0, 0]).all():
        raise InputError(
            f"{what} has one colour only: every model makes it without error, so no mean PSNR over it is finite; "
            "exclude it"
        )


def _read_rows(item: Item, scales: tuple[int, ...]) -> list[ImageRow]:
    if item.fault:
        raise InputError(item.fault)
    name, hr = item.file.name, read_image(item.hr)
    rows = [ImageRow(name, item.file.sha256, hr)]
    for scale in scales:
        if min(hr.shape[:2]) < scale:
            raise InputError(f"image {str(item.hr)!r}: {hr.shape[1]}x{hr.shape[0]} is too small for x{scale}")
        if scale in item.lr:
            lr = read_image(item.lr[scale])
            check_pair_sizes(hr, lr, scale, name)
        else:
            lr = downscale(hr, scale, item.file.kernel)
        rows.append(ImageRow(name, pixels_sha256(modcrop(hr, scale)), lr))
    return rows
