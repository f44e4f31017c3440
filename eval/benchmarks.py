"""Test sets on disk: HR images, with LR files that exist (Set5, Set14, ...) or LR made by a named bicubic kernel.

HR is cropped to a multiple of the scale before anything else, as MATLAB's `modcrop` does in the SR literature
(e.g. https://arxiv.org/abs/1501.00092), and at a fraction p / q to a multiple of p, so that HR = scale x LR exactly.
The hashes say which pixels a score was measured on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from sr_models.errors import InputError
from sr_models.images.files import (
    files_below,
    find_images,
    image_size,
    is_flat,
    pixels_sha256,
    read_image,
    unread_text,
)
from sr_models.images.matlab import KERNEL, KERNELS, downscale, modcrop
from sr_models.images.pairs import check_pair_sizes, pair_folder, surplus_text
from sr_models.params import Params, nearest
from sr_models.scales import hr_step, lr_side


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One test image: its name, its HR file, and its LR file if there is one."""

    name: str
    hr: Path
    lr: Path | None


class Facts(Params):
    """What is known of a test image at one scale, without its pixels."""

    whole: str
    """Hash of the HR file's pixels, not cropped, to be compared with those of training images."""
    hr: str
    """Hash of the HR pixels that scores compare with."""
    lr: str
    """Hash of the LR pixels that models are given."""
    height: int
    width: int
    """Of HR in px."""
    flat: bool
    """Whether HR has one colour only."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A test set at one scale. `kernel` is "files" where LR files exist, else the id of the kernel that makes LR."""

    name: str
    scale: float
    kernel: str
    pairs: tuple[Pair, ...]
    left_out: tuple[str, ...] = ()
    """A line on what each folder holds that is not used: pictures of other formats, LR files without HR."""
    known: Mapping[str, Facts] = field(default_factory=dict, compare=False, repr=False)
    """name -> its facts, of images that need not be read for them."""

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(lr, hr) of one pair: (H, W, 3) and (H * scale, W * scale, 3), both uint8 RGB.

        Raises:
            InputError: an unreadable file, an image smaller than the scale, an LR file of the wrong size.
        """
        return self._cut(self.pairs[index], read_image(self.pairs[index].hr))

    def facts(self, index: int, whole: np.ndarray | None = None) -> Facts:
        """The facts of one image, which is read unless it is `known`.

        Args:
            whole: the pixels of its HR file, where they are at hand.

        Raises:
            InputError: as `read`.
        """
        pair = self.pairs[index]
        if pair.name in self.known:
            return self.known[pair.name]
        whole = read_image(pair.hr) if whole is None else whole
        lr, hr = self._cut(pair, whole)
        return Facts(
            whole=pixels_sha256(whole),
            hr=pixels_sha256(hr),
            lr=pixels_sha256(lr),
            height=hr.shape[0],
            width=hr.shape[1],
            flat=is_flat(hr),
        )

    def _cut(self, pair: Pair, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(lr, hr) of a pair whose HR file has these pixels."""
        if min(whole.shape[:2]) < (step := hr_step(self.scale)):
            whole_sides = "" if step == self.scale else f", of which whole pixels begin with {step} of HR"
            raise InputError(f"image {str(pair.hr)!r}: a side is smaller than the scale {self.scale}{whole_sides}")
        hr = modcrop(whole, self.scale)
        if pair.lr is None:
            return downscale(hr, self.scale, self.kernel), hr
        lr = read_image(pair.lr)
        check_pair_sizes(hr, lr, self.scale, str(pair.lr))
        return lr, hr

    @property
    def lr_sizes(self) -> dict[str, tuple[int, int]]:
        """name -> sides of the LR image, as the HR file's header has them; decodes nothing."""
        sides = {pair.name: image_size(pair.hr) for pair in self.pairs}
        return {
            name: (lr_side(height, self.scale), lr_side(width, self.scale)) for name, (height, width) in sides.items()
        }

    @cached_property
    def all_facts(self) -> dict[str, Facts]:
        """name -> facts of every image. Raises InputError: as `facts`."""
        return {pair.name: self.facts(i) for i, pair in enumerate(self.pairs)}

    @property
    def hr_hashes(self) -> dict[str, str]:
        """name -> `Facts.whole`."""
        return {name: facts.whole for name, facts in self.all_facts.items()}

    @property
    def lr_hash(self) -> str:
        """One hash of all LR pixels: scores with the same one had the same input."""
        return joined({name: facts.lr for name, facts in self.all_facts.items()})

    @property
    def hash(self) -> str:
        """One hash of all names, HR and LR pixels: the identity of this test set at this scale."""
        return joined(self.hr_hashes, {name: facts.lr for name, facts in self.all_facts.items()})


def load(
    name: str,
    scale: float,
    hr: Path,
    lr: Path | None = None,
    *,
    kernel: str = KERNEL,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Benchmark:
    """List a test set's files; pixels are read later, image by image.

    Args:
        name: what the set is called in scores.
        scale: the upscaling factor; a whole one is an int.
        hr, lr: folders (searched recursively). Files are paired by name; without `lr`, LR is made with `kernel`.
        include, exclude: globs on HR file names; LR files, which may be named otherwise, follow their HR.

    Raises:
        InputError: a folder that is missing or empty, an HR file without partner, two of one name, an unknown kernel,
            no LR files at scale 1.
    """
    if scale == 1 and lr is None:
        raise InputError(f"benchmark {name!r}: at scale 1 no kernel makes LR from HR; name a folder of LR files")
    hr_files = find_images(hr, include, exclude)
    files: Sequence[tuple[Path, Path | None]] = [(file, None) for file in hr_files]
    left_out = {hr: unread_text(files_below(hr), include, exclude)}
    if lr is not None:
        files, surplus = pair_folder(hr_files, find_images(hr), lr, scale, globs=(include, exclude))
        left_out[lr], kernel = surplus_text(surplus), "files"
    elif kernel not in KERNELS:
        raise InputError(f"benchmark {name!r}: unknown kernel {kernel!r}{nearest(kernel, list(KERNELS))}")
    lines = tuple(f"{folder}: {line}" for folder, line in left_out.items() if line)
    return Benchmark(name=name, scale=scale, kernel=kernel, pairs=_named(files, hr), left_out=lines)


def _named(files: Sequence[tuple[Path, Path | None]], folder: Path) -> tuple[Pair, ...]:
    """Name each image by its path below the folder without suffix; two images of one name are refused."""
    pairs = tuple(Pair(name=file.relative_to(folder).with_suffix("").as_posix(), hr=file, lr=lr) for file, lr in files)
    seen: dict[str, Path] = {}
    for pair in pairs:
        if pair.name in seen:
            raise InputError(f"images {str(seen[pair.name])!r} and {str(pair.hr)!r} share a name; exclude one")
        seen[pair.name] = pair.hr
    return pairs


def joined(*hashes: Mapping[str, str]) -> str:
    """One hash of hashes by name."""
    return hashlib.sha256(repr([sorted(each.items()) for each in hashes]).encode()).hexdigest()
