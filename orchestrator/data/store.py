"""A patch store: immutable, memory-mapped tables of HR, LR and centroid images of one scale, and batches cut from them.

What ECO (https://arxiv.org/abs/2312.17526, supplement D) needs beside HR and LR is made once per teacher, on full
images: mu, the teacher's SR of the real LR, and D(mu), mu shrunk again. All four are cut and turned alike. What
networks of a latent space need is made once per autoencoder, likewise (`orchestrator.data.latents`).

    manifest.json            what the store was built from, and the sha256 of every table
    hr.arrow  lr_x2.arrow    training images; row i of each belongs to row i of the others
    val_hr.arrow  val_lr_x2.arrow
    mu_x2_<teacher>.arrow  mu_lr_x2_<teacher>.arrow
    z_x2_<latents>.arrow  z_lr_x2_<latents>.arrow
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from objectives.batch import Batch
from orchestrator.data import cells
from orchestrator.data.degraded import degraded_crops
from orchestrator.data.manifest import (
    FILES,
    MANIFEST,
    PREFIXES,
    Manifest,
    Split,
    check_tables,
    list_products,
    read_manifest,
    table_names,
    table_path,
)
from orchestrator.data.places import Draw, crops
from orchestrator.data.scaled import scaled_crops
from orchestrator.data.table import LATENTS, SCHEMA, ImageRow, ImageTable, write_tables
from sr_models.errors import InputError
from sr_models.files import locked
from sr_models.hyper.degradation import Degradation, cut_side
from sr_models.images.matlab import KERNEL, downscale, modcrop
from sr_models.images.operators import to_float, to_uint8
from sr_models.params import nearest
from sr_models.rng import keyed
from sr_models.scales import ScaleRange

BuildProgress = Callable[[str, int, int], None]
"""Called with (what is being made, images done, images in all)."""


class PatchStore:
    """A finished store. Make one with `build_store`, open one with `PatchStore.open`.

    A table is opened when it is first used; of an image only its place in the file stays in memory.

    Args:
        skipped: unusable files that were left out of what it was asked for, name -> reason; None: of its first builder.
    """

    def __init__(self, folder: Path, manifest: Manifest, skipped: Mapping[str, str] | None = None) -> None:
        self.folder, self.scale = folder, manifest.scale
        self.skipped = manifest.skipped if skipped is None else skipped
        self._products, self._tables = manifest.products, dict[str, ImageTable]()

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
    def manifest(self) -> Manifest:
        """What the store says of itself; read anew each time, but for its tables: there is an entry a file."""
        return read_manifest(self.folder).model_copy(update={"products": self._products})

    @cached_property
    def data_hash(self) -> str:
        """By which trials know what they are computed from, as `Manifest.data_hash`."""
        return self.manifest.data_hash

    def batch(
        self,
        *,
        seed: int,
        step: int,
        batch_size: int,
        patch: int,
        teacher: str | None = None,
        partner: bool = False,
        degradation: Degradation | None = None,
        latents: str | None = None,
        scales: ScaleRange | None = None,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> Batch:
        """The training batch of one step: a pure function of (seed, step), whatever ran before.

        Args:
            batch_size: samples over all ranks; rank r of `world` gets the r-th contiguous part, as even as can be.
            patch: side of the LR crop in pixels; the HR crop is `scale` times that, or what the step's scale makes it.
            teacher: hash of a teacher whose centroids are wanted too.
            partner: whether a second pair is wanted for each sample, drawn like the first by its number.
            degradation: makes LR anew from HR, at the same places and turns; None: the store's own LR.
            scales: the step has a scale of its own among them, and LR is made from HR; None: the store's scale.
            latents: name of latents that are wanted too; places are then whole cells, and turned left to right alone.

        Raises:
            InputError: a teacher or latents the store lacks, an image smaller than the patch, more ranks than samples.
            ValueError: a teacher beside a degradation or scales: its centroids are of the store's own LR; both of them;
                latents beside a teacher, a partner or what makes LR anew; a patch that is parts of their cells.
        """
        if batch_size < world:
            raise InputError(f"batch_size must be at least the number of workers, got {batch_size} for {world}")
        made_anew = degradation is not None or scales is not None
        if teacher is not None and made_anew:
            raise ValueError("a teacher's centroids are of the store's own LR, not of what is made anew")
        if degradation is not None and scales is not None:
            raise ValueError("a degradation is of the store's scale; give it or scales, got both")
        if latents is not None and (teacher is not None or partner or made_anew):
            raise ValueError("latents are of the store's own LR at places of their own; nothing else goes with them")
        scale, lr = self.scale, self._lr
        tables = {"lr": (lr, 1), "hr": (self._table("hr"), scale)}
        if teacher is not None:
            mu, mu_lr = self._centroids(teacher)
            tables |= {"mu": (self._table(mu), scale), "mu_lr": (self._table(mu_lr), 1)}
        start, stop = rank * batch_size // world, (rank + 1) * batch_size // world
        sample_ids = step * batch_size + np.arange(start, stop, dtype=np.int64)
        needed = cut_side(patch, scale) if degradation else scales.cut_side(patch, scale) if scales else patch
        if lr.smallest < needed:
            self.check_patch(needed)
        draw = Draw(seed, step, sample_ids, patch, device)
        if latents is not None:
            grid, found = self._latents(latents)
            images = cells.crops({name: of for name, (of, _) in tables.items()} | found, grid, draw)
            return Batch(**images, sample_ids=sample_ids, step=step, seed=seed)

        def cut(draw: Draw, names: Sequence[str]) -> dict[str, Tensor]:
            hr = tables["hr"][0].images
            if degradation is not None:
                return degraded_crops(lr.images, hr, scale, degradation, draw)
            if scales is not None:
                side = scales.hr_side(patch, keyed(seed, step, 0, "scale").random())
                return scaled_crops(hr, self._kernels, side, draw)
            return crops({name: tables[name] for name in names}, draw)

        images = cut(draw, list(tables))
        if partner:
            images |= {
                f"partner_{name}": image for name, image in cut(replace(draw, purpose="partner"), ["lr", "hr"]).items()
            }
        return Batch(**images, sample_ids=sample_ids, step=step, seed=seed)

    def check_patch(self, patch: int) -> None:
        """Refuse, by name, training images that an LR crop of `patch` pixels does not fit into."""
        small = [
            f"{name} ({width}x{height})"
            for name, (height, width) in self.sizes("train").items()
            if min(height, width) < patch
        ]
        if small:
            raise InputError(
                f"an LR patch of {patch} at x{self.scale} does not fit into {some(small)}; exclude these images"
            )

    def validation(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """(name, LR, HR) of each validation image: uint8 (H, W, 3) views, HR cropped to a multiple of the scale."""
        hr, lr = self.pair("validation")
        return [(name, x, modcrop(y, self.scale)) for name, x, y in zip(hr.names, lr.images, hr.images, strict=True)]

    def training_image(self, name: str, teacher: str) -> dict[str, np.ndarray]:
        """A training image and a teacher's centroids of it: "hr" y, "lr" x, "mu", "mu_lr" D(mu); uint8 (H, W, 3) views.

        Raises:
            InputError: no image of that name, or a teacher that the store lacks.
        """
        mu, mu_lr = self._centroids(teacher)
        names = self._lr.names
        if name not in names:
            raise InputError(f"no training image {name!r}{nearest(name, list(names))}")
        tables = {"hr": self._table("hr"), "lr": self._lr, "mu": self._table(mu), "mu_lr": self._table(mu_lr)}
        found = {what: table.images[list(names).index(name)] for what, table in tables.items()}
        return found | {"hr": modcrop(found["hr"], self.scale)}

    def sizes(self, split: Split) -> dict[str, tuple[int, int]]:
        """Name -> height and width of each LR image."""
        _, lr = self.pair(split)
        return {name: (height, width) for name, (height, width) in zip(lr.names, lr.images.sizes.tolist(), strict=True)}

    def hashes(self, split: Split) -> dict[str, str]:
        """sha256 of the pixels of every HR image, whole and as cropped for the scale -> its name."""
        hr, lr = self.pair(split)
        return {sha: name for column in (hr.hashes, lr.origins) for sha, name in zip(column, hr.names, strict=True)}

    def has(self, names: Iterable[str]) -> bool:
        """Whether it holds tables of these names."""
        return {*names} <= self._products.keys()

    def has_centroids(self, teacher: str) -> bool:
        """Whether that teacher's mu, and mu shrunk again, are there."""
        return self.has(self._centroids(teacher))

    def centroids_by(
        self, model: Callable[[Tensor], Tensor], *, device: torch.device | str = "cpu"
    ) -> Callable[[int], list[ImageRow]]:
        """What makes mu and D(mu) of a training image, by its number; both in uint8, as LR is at test time.

        D is the kernel that made the image's LR, or the standard one where that came as a file.

        Args:
            model: LR float (1, 3, h, w) in [0, 1] on `device` -> SR (1, 3, scale h, scale w), on any device.

        Raises:
            ValueError: by what is returned: the teacher's output has the wrong size or is not finite.
        """
        scale, lr, kernels = self.scale, self._lr, self._kernels
        of, hashes = lr.names, lr.hashes

        def make(i: int) -> list[ImageRow]:
            with torch.no_grad():
                sr = model(to_float(lr.images[i]).to(device))
            height, width, _ = lr.images[i].shape
            if sr.shape != (1, 3, height * scale, width * scale):
                raise ValueError(f"a teacher made {tuple(sr.shape)} of {height}x{width} pixels at x{scale}")
            mu = to_uint8(sr)[0]
            mu_row = ImageRow(of[i], hashes[i], mu)
            return [mu_row, ImageRow(of[i], mu_row.sha256, downscale(mu, scale, kernels[i]))]

        return make

    def add_centroids(self, teacher: str, make: Callable[[int], Sequence[ImageRow]], *, seconds: float = 0.0) -> None:
        """Add mu and D(mu) of every training image. Does nothing if they are there; goes on where a kill stopped it.

        Args:
            teacher: names what makes mu, by at least 16 hexadecimal digits (`TeacherConfig.centroids`).
            make: number of an image -> its rows, as `centroids_by` makes them.
            seconds: that making them took.
        """
        self.add(self._centroids(teacher), self._lr.hashes, make, teacher, seconds)

    def add(
        self,
        names: Sequence[str],
        keys: Sequence[str],
        make: Callable[[int], Sequence[ImageRow]],
        by: str,
        seconds: float,
        reduction: int | None = None,
    ) -> None:
        """Add tables that something of that name made, of latents where there is a reduction, if they are not there.

        Args:
            keys, make: as of `write_tables`.
            seconds, reduction: as of `Product`.
        """
        with locked(self.folder):
            manifest = read_manifest(self.folder)  # another process may have added to it
            if not set(names) <= set(manifest.products):
                schema = SCHEMA if reduction is None else LATENTS
                write_tables([table_path(self.folder, name) for name in names], keys, make, schema=schema)
                about: dict[str, Any] = {"teacher": by, "seconds": seconds, "reduction": reduction}
                manifest = list_products(self.folder, manifest, names, **about)
        self._products = manifest.products

    def origins(self, images: range) -> list[str]:
        """What the rows of mu name as their origin: the hashes of the LR of these training images."""
        return self._lr.hashes[images.start : images.stop]

    def centroid_seconds(self, teacher: str) -> float | None:
        """How long a teacher's centroids took to make; None where the store does not know."""
        product = self._products.get(self._centroids(teacher)[0])
        return None if product is None else product.seconds

    @property
    def _lr(self) -> ImageTable:
        return self.pair("train")[1]

    def pair(self, split: Split) -> tuple[ImageTable, ImageTable]:
        """The HR table and the LR table of a split."""
        hr, lr = table_names(split, self.scale)
        return self._table(hr), self._table(lr)

    def _centroids(self, teacher: str) -> tuple[str, str]:
        """Names of the tables of mu and D(mu)."""
        if not re.fullmatch("[0-9a-f]{16,}", teacher):
            raise ValueError(f"a teacher is named by at least 16 hexadecimal digits, got {teacher!r}")
        return f"mu_x{self.scale}_{teacher[:16]}", f"mu_lr_x{self.scale}_{teacher[:16]}"

    def _latents(self, latents: str) -> tuple[cells.Grid, dict[str, ImageTable]]:
        """How their cells lie, and their tables by the fields of a batch."""
        names = cells.names(self.scale, latents)
        found = {name: self._table(table) for name, table in zip(cells.FIELDS, names, strict=True)}
        reduction = self._products[names[0]].reduction
        assert reduction is not None, "`add` of latents gives one"
        return cells.Grid.of(self.scale, reduction), found

    @cached_property
    def _kernels(self) -> list[str]:
        """For each training image the kernel that made its LR, or the standard one where that came as a file."""
        hr, files = self._table("hr"), iter(self.manifest.files["train"])  # the rows are the files, less those left out
        made = [
            next(file.kernel for file in files if (file.name, file.sha256) == row)
            for row in zip(hr.names, hr.origins, strict=True)
        ]
        return [KERNEL if kernel == FILES else kernel for kernel in made]

    def _table(self, name: str) -> ImageTable:
        if name not in self._products:
            raise InputError(f"store {self.folder} holds no {name} (it holds: {', '.join(sorted(self._products))})")
        if name not in self._tables:
            self._tables[name] = ImageTable(table_path(self.folder, name))
        return self._tables[name]


def opened(folder: Path) -> PatchStore:
    """As `PatchStore.open` without `verify`: the one that this process has, until a file of the store is another one.

    Raises:
        InputError: as `PatchStore.open`.
    """
    files = []
    for path in sorted([*folder.glob("*.arrow"), *folder.glob(MANIFEST)]):
        with suppress(FileNotFoundError):  # not listed yet: who completes its group has just renamed it
            seen = path.stat()
            files.append((path.name, seen.st_ino, seen.st_size, seen.st_mtime_ns))
    return _opened(folder, tuple(files))


@functools.lru_cache(maxsize=8)
def _opened(folder: Path, _files: tuple[tuple[str, int, int, int], ...]) -> PatchStore:
    return PatchStore.open(folder, verify=False)


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
            raise InputError(f"test images are among the {split} images: {some(leaks)}; exclude them from one side")


def ticker(progress: BuildProgress | None, what: str, total: int) -> Callable[[int], None]:
    """Takes a number of images done, for `write_tables`."""
    return lambda done: progress(what, done, total) if progress else None


def some(names: Sequence[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
