"""The patch store: immutable, memory-mapped tables of HR, LR and centroid images, and training batches cut from them.

What ECO (https://arxiv.org/abs/2312.17526, supplement D) needs beside HR and LR is made once per teacher, on full
images: mu, the teacher's SR of the real LR, and D(mu), mu shrunk again. All four are cut and turned alike.

    store/manifest.json            what the store was built from, and the sha256 of every table
    store/hr.arrow  lr_x2.arrow    training images; row i of each belongs to row i of the others
    store/val_hr.arrow  val_lr_x2.arrow
    store/mu_x2_<teacher>.arrow  mu_lr_x2_<teacher>.arrow
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from objectives.batch import Batch
from orchestrator.data.manifest import (
    PREFIXES,
    Manifest,
    Split,
    begin,
    check_tables,
    digest,
    list_products,
    read_manifest,
    table_path,
)
from orchestrator.data.rows import Item, list_items, make_rows
from orchestrator.data.table import ImageRow, ImageTable, write_tables
from orchestrator.plan.sources import ImageSource
from sr_models.errors import InputError
from sr_models.files import locked
from sr_models.images.operators import KERNEL, downscale, modcrop, to_float, to_uint8
from sr_models.rng import keyed

BuildProgress = Callable[[str, int, int], None]
"""Called with (what is being made, images done, images in all)."""


class PatchStore:
    """A finished store. Make one with `build_store`, open one with `PatchStore.open`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._tables = {name: ImageTable(table_path(folder, name)) for name in manifest.products}

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = True) -> PatchStore:
        """Open a store read-only.

        Args:
            verify: read every table once and compare its sha256; otherwise only presence and size are checked.

        Raises:
            InputError: no store, unfinished, of another version, or damaged.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if missing := manifest.missing():
            raise InputError(f"store {folder} is not finished ({', '.join(missing)}); build it again, it resumes")
        check_tables(folder, manifest, hashes=verify)
        return cls(folder, manifest)

    @property
    def scales(self) -> tuple[int, ...]:
        return self.manifest.scales

    @property
    def data_hash(self) -> str:
        """sha256 over every training, validation and LR pixel and the kernels; teachers and paths do not enter."""
        pixels = {name: product.pixels for name, product in self.manifest.products.items() if product.teacher is None}
        return digest([pixels, [self.manifest.kernels(scale) for scale in self.scales]])

    def batch(
        self,
        *,
        seed: int,
        step: int,
        batch_size: int,
        patch: int,
        scale: int,
        teacher: str | None = None,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> Batch:
        """The training batch of one step: a pure function of (seed, step), whatever ran before.

        Args:
            batch_size: samples over all ranks; rank r of `world` gets the r-th contiguous part, as even as can be.
            patch: side of the LR crop in pixels; the HR crop is `scale` times that.
            teacher: hash of a teacher whose centroids are wanted too.

        Raises:
            InputError: a scale or teacher the store lacks, an image smaller than the patch, more ranks than samples.
        """
        if batch_size < world:
            raise InputError(f"batch_size must be at least the number of workers, got {batch_size} for {world}")
        lr = self._table(f"lr_x{scale}")
        tables = {"lr": (lr, 1), "hr": (self._table("hr"), scale)}
        if teacher is not None:
            mu, mu_lr = _centroids(scale, teacher)
            tables |= {"mu": (self._table(mu), scale), "mu_lr": (self._table(mu_lr), 1)}
        start, stop = rank * batch_size // world, (rank + 1) * batch_size // world
        sample_ids = step * batch_size + np.arange(start, stop, dtype=np.int64)
        if lr.smallest < patch:
            self.check_patch(scale, patch)
        crops = {name: np.empty((stop - start, patch * s, patch * s, 3), np.uint8) for name, (_, s) in tables.items()}
        codes = np.empty(stop - start, np.int64)
        for i, sample_id in enumerate(sample_ids):
            rng = keyed(seed, step, int(sample_id), "crop")
            number = int(rng.integers(len(lr)))
            height, width, _ = lr.images[number].shape
            top, left, codes[i] = rng.integers(height - patch + 1), rng.integers(width - patch + 1), rng.integers(8)
            for name, (table, s) in tables.items():
                crops[name][i] = table.images[number][top * s : (top + patch) * s, left * s : (left + patch) * s]
        floats = {name: to_float(torch.from_numpy(crop).to(device)) for name, crop in crops.items()}
        turned = {name: _turn_each(x_BCHW, codes) for name, x_BCHW in floats.items()}
        return Batch(**turned, sample_ids=sample_ids, step=step, seed=seed)

    def check_patch(self, scale: int, patch: int) -> None:
        """Refuse, by name, training images that an LR crop of `patch` pixels does not fit into."""
        table = self._table(f"lr_x{scale}")
        small = [
            f"{name} ({image.shape[1]}x{image.shape[0]})"
            for name, image in zip(table.names, table.images, strict=True)
            if min(image.shape[:2]) < patch
        ]
        if small:
            raise InputError(
                f"an LR patch of {patch} at x{scale} does not fit into {_some(small)}; exclude these images"
            )

    def validation(self, scale: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """(name, LR, HR) of each validation image: uint8 (H, W, 3) views, HR cropped to a multiple of the scale."""
        hr, lr = self._table("val_hr"), self._table(f"val_lr_x{scale}")
        return [(name, x, modcrop(y, scale)) for name, x, y in zip(hr.names, lr.images, hr.images, strict=True)]

    def hashes(self, split: Split) -> dict[str, str]:
        """sha256 of the pixels of every HR image, whole and as cropped for each scale -> its name."""
        hr, *lr = [self._table(name) for name in self.manifest.tables(split)]
        columns = [hr.hashes, *(table.origins for table in lr)]
        return {sha: name for column in columns for sha, name in zip(column, hr.names, strict=True)}

    def has_centroids(self, teacher: str, scale: int) -> bool:
        return all(name in self.manifest.products for name in _centroids(scale, teacher))

    def add_centroids(
        self,
        teacher: str,
        scale: int,
        model: Callable[[Tensor], Tensor],
        *,
        device: torch.device | str = "cpu",
        progress: BuildProgress | None = None,
    ) -> None:
        """Make mu and D(mu) of every training image, on full images; both are kept as uint8, as LR is at test time.

        D is the kernel that made the image's LR, or the standard one where that came as a file.
        Does nothing if they are there; goes on where a killed run stopped.

        Args:
            teacher: hash of the teacher's weights, at least 16 hexadecimal digits; it names the tables.
            model: LR float (1, 3, h, w) in [0, 1] on `device` -> SR (1, 3, scale h, scale w), on any device.

        Raises:
            ValueError: the teacher's output has the wrong size or is not finite.
        """
        lr = self._table(f"lr_x{scale}")
        names = _centroids(scale, teacher)
        kernels = self._kernels(scale)

        def make(i: int) -> list[ImageRow]:
            with torch.no_grad():
                sr = model(to_float(lr.images[i]).to(device))
            height, width, _ = lr.images[i].shape
            if sr.shape != (1, 3, height * scale, width * scale):
                raise ValueError(
                    f"teacher {teacher[:16]} made {tuple(sr.shape)} of {height}x{width} pixels at x{scale}"
                )
            mu = to_uint8(sr)[0]
            mu_row = ImageRow(lr.names[i], lr.hashes[i], mu)
            return [mu_row, ImageRow(lr.names[i], mu_row.sha256, downscale(mu, scale, kernels[i]))]

        with locked(self.folder):
            manifest = read_manifest(self.folder)  # another process may have added to it
            if not set(names) <= set(manifest.products):
                tick = _ticker(progress, f"centroids x{scale}", len(lr))
                write_tables([table_path(self.folder, name) for name in names], lr.hashes, make, tick)
                manifest = list_products(self.folder, manifest, names, teacher=teacher)
        self.manifest = manifest
        self._tables |= {name: ImageTable(table_path(self.folder, name)) for name in names}

    def _kernels(self, scale: int) -> list[str]:
        """For each training image the kernel that made its LR, or the standard one where that came as a file."""
        hr, files = self._table("hr"), iter(self.manifest.files["train"])  # the rows are the files, less those left out
        made = [
            next(file.kernel_at(scale) for file in files if (file.name, file.sha256) == row)
            for row in zip(hr.names, hr.origins, strict=True)
        ]
        return [KERNEL if kernel == "files" else kernel for kernel in made]

    def _table(self, name: str) -> ImageTable:
        if name not in self._tables:
            raise InputError(f"store {self.folder} holds no {name} (it holds: {', '.join(sorted(self._tables))})")
        return self._tables[name]


def build_store(
    folder: Path | str,
    *,
    train: Sequence[ImageSource],
    validation: Sequence[ImageSource],
    scales: Sequence[int],
    on_bad: Literal["fail", "skip"] = "fail",
    patches: Collection[tuple[int, int]] = (),
    progress: BuildProgress | None = None,
) -> PatchStore:
    """Build a store, or finish or open the one that is there; a second builder of the same folder waits for the first.

    Args:
        on_bad: a file that cannot be read, an LR file that does not fit its HR, or a validation image of one colour:
            stop, or leave the image out and list it under `skipped` in the manifest.
        patches: (scale, LR patch) that training images must hold; smaller ones are left out with "skip".

    Raises:
        InputError: a source that cannot be used, a training image among the validation images, a split of which
            nothing is left, a folder that cannot be written, holds something else, or was built from other images.
    """
    if not train:
        raise InputError("a store needs at least one source of training images, got none")
    folder, scales = Path(folder), tuple(sorted(set(scales)))
    listed: dict[Split, list[Item]] = {
        "train": list_items(train, scales, on_bad, patches),
        "validation": list_items(validation, scales, on_bad),
    }
    wanted = Manifest(
        scales=scales,
        files={split: tuple(item.file for item in items) for split, items in listed.items()},
        libraries={name: version(name) for name in ("numpy", "pillow", "pyarrow")},
    )
    with locked(folder):
        manifest = begin(folder, wanted)
        if manifest.skipped and on_bad == "fail":
            raise InputError(_some(list(manifest.skipped.values())))
        taken: dict[str, str] = {}
        for split in PREFIXES:
            names = manifest.tables(split)
            if not set(names) <= set(manifest.products):
                skipped = dict(manifest.skipped)
                make = partial(make_rows, listed[split], scales, split, taken, None if on_bad == "fail" else skipped)
                keys = [item.file.sha256 for item in listed[split]]
                tick = _ticker(progress, f"{split} images", len(keys))
                write_tables([table_path(folder, name) for name in names], keys, make, tick)
                if listed[split] and not len(ImageTable(table_path(folder, names[0]))):
                    faults = [skipped[item.file.name] for item in listed[split]]
                    raise InputError(f"no usable image is left for {split}: {_some(faults)}")
                manifest = list_products(folder, manifest.model_copy(update={"skipped": skipped}), names)
            if split == "train":
                taken = PatchStore(folder, manifest).hashes("train")
        return PatchStore.open(folder)


def check_leaks(store: PatchStore, tests: Mapping[str, str]) -> None:
    """Refuse test images that the store trains on or steers by.

    Args:
        tests: name of a test image -> `images.pixels_sha256` of its HR, whole or cropped to a multiple of the scale.

    Raises:
        InputError: some are in the store; each is named with its twin.
    """
    for split in PREFIXES:
        taken = store.hashes(split)
        if leaks := [f"{name} (= {taken[sha]})" for name, sha in tests.items() if sha in taken]:
            raise InputError(f"test images are among the {split} images: {_some(leaks)}; exclude them from one side")


def dihedral(x: Tensor, code: int) -> Tensor:
    """One of 8 flips and rotations of (..., H, W): code = flip left-right + 2 flip up-down + 4 transpose, in turn."""
    flips = [axis for bit, axis in ((1, -1), (2, -2)) if code & bit]
    x = x.flip(flips) if flips else x
    return x.transpose(-1, -2) if code & 4 else x


def _turn_each(x_BCHW: Tensor, codes: np.ndarray) -> Tensor:
    """`dihedral` of every image by its own code, one call a code."""
    turned = torch.empty_like(x_BCHW)
    for code in np.unique(codes):
        rows = torch.from_numpy(np.flatnonzero(codes == code)).to(x_BCHW.device)
        turned[rows] = dihedral(x_BCHW[rows], int(code))
    return turned


def _centroids(scale: int, teacher: str) -> tuple[str, str]:
    """Names of the tables of mu and D(mu)."""
    if not re.fullmatch("[0-9a-f]{16,}", teacher):
        raise ValueError(f"a teacher is named by at least 16 hexadecimal digits, got {teacher!r}")
    return f"mu_x{scale}_{teacher[:16]}", f"mu_lr_x{scale}_{teacher[:16]}"


def _ticker(progress: BuildProgress | None, what: str, total: int) -> Callable[[int], None]:
    return lambda done: progress(what, done, total) if progress else None


def _some(names: Sequence[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
