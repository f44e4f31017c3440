"""Which LR (or SR) file belongs to which HR file, by the names that benchmark folders and codes give them. No pixels.

The endings known are those of DIV2K (https://data.vision.ee.ethz.ch/cvl/DIV2K), RealSR, DRealSR, the folders of
https://github.com/jbhuang0604/SelfExSR and of https://github.com/yulunzhang/RCAN.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sr_models.errors import InputError
from sr_models.images.files import find_images, matches, some
from sr_models.scales import lr_side

ENDINGS = "x4 _x4 _x1 _HR _GT _SR _LR _LR4 _LRBI _SRF_4"
"""The endings that say which side or scale a file is of, with the 4 of x4; capitals or not, `-` as well as `_`."""

_SEPARATORS = "_-. "  # what an ending that no table knows begins with

Name = tuple[str, str]
"""(folder below the one that all files of a side share, name without suffix)."""


class Pairing(NamedTuple):
    """Files that belong together, in the order of the HR files, and the second files that no HR file has."""

    pairs: list[tuple[Path, Path]]
    surplus: list[Path]


def pair_images(hr_files: Sequence[Path], lr_files: Sequence[Path], scale: float, *, partner: str = "LR") -> Pairing:
    """Match each HR file with its LR file by name.

    Where both sides have files in several folders, a pair lies in the same folder below each side's common one. Of the
    rules that follow, the first one that gives each HR file exactly one partner holds for all of them: equal names
    without their suffix; equal names without the `ENDINGS`; LR names that are HR's with one more beginning or ending
    (`_SwinIR`), the same everywhere. LR files that no HR file has are left over. `partner` is what messages call the
    second files.

    Raises:
        InputError: no rule does, or the last one in several ways.
    """
    nested = all(len({path.parent for path in files}) > 1 for files in (hr_files, lr_files))
    hr, lr = _names(hr_files, nested), _names(lr_files, nested)
    bare = _without_endings(scale)
    chosen = _partners(hr, lr) or _partners([*map(bare, hr)], [*map(bare, lr)])
    if chosen is None:
        ways = [way for key in (_as_it_is, bare) for way in _by_one_ending([*map(key, hr)], lr, scale)]
        if len(several := list(dict.fromkeys(map(tuple, ways)))) > 1:
            first, second = (lr_files[way[0]] for way in several[:2])
            raise InputError(
                f"{partner} images fit the HR names in {len(several)} ways: {str(hr_files[0])!r} has "
                f"{str(first)!r} or {str(second)!r}; exclude all but one"
            )
        if not several:
            raise _unmatched(hr_files, lr_files, [*map(bare, hr)], [*map(bare, lr)], partner, scale)
        chosen = list(several[0])
    used = set(chosen)
    return Pairing(
        [(file, lr_files[i]) for file, i in zip(hr_files, chosen, strict=True)],
        [file for i, file in enumerate(lr_files) if i not in used],
    )


def pair_folder(
    hr_files: Sequence[Path],
    whole: Sequence[Path],
    folder: Path,
    scale: float,
    *,
    globs: tuple[Sequence[str], Sequence[str]],
) -> Pairing:
    """Match HR files that globs chose with the LR files of a folder, which may be named otherwise.

    The folders are paired whole, so that a glob never gives an image another partner; where they do not pair, what the
    globs leave of both is.

    Args:
        hr_files, whole: the HR files chosen, and all there are.
        globs: (include, exclude) by which they were chosen.

    Raises:
        InputError: as `pair_images` and `find_images`.
    """
    chosen = set(hr_files)
    lr_files = [file for file in find_images(folder) if file not in chosen]  # both sides may lie in one folder
    try:
        pairs, surplus = pair_images(whole, lr_files, scale)
    except InputError:
        if not any(globs):
            raise
        return pair_images(hr_files, find_partners(folder, *globs, beside=chosen), scale)
    partner = dict(pairs)
    return Pairing([(file, partner[file]) for file in hr_files], surplus)


def find_partners(
    folder: Path, include: Sequence[str], exclude: Sequence[str], *, beside: Set[Path] = frozenset()
) -> list[Path]:
    """What globs on HR names leave of a folder of second files: `exclude` holds, `include` where it matches any.

    Args:
        beside: HR files, which are none of them, wherever they lie.

    Raises:
        InputError: as `find_images`.
    """
    files = [file for file in find_images(folder, exclude=exclude) if file not in beside]
    kept = [file for file in files if matches(file, include)]
    return kept or files


def surplus_text(surplus: Sequence[Path], partner: str = "LR") -> str | None:
    """A line on second files that were left out; None if there are none."""
    if not surplus:
        return None
    return f"{len(surplus)} {partner} image{'s'[: len(surplus) > 1]} without an HR image left out: {some(surplus)}"


def check_pair_sizes(hr: np.ndarray, lr: np.ndarray, scale: float, name: str) -> None:
    """Hold that an LR image is exactly its HR image's size divided by `scale`, remainder dropped (`lr_side`).

    Args:
        hr, lr: (H, W, 3) pixels.

    Raises:
        InputError: it is not; `name` says which pair.
    """
    expected = (lr_side(hr.shape[0], scale), lr_side(hr.shape[1], scale))
    if lr.shape[:2] != expected:
        raise InputError(
            f"pair {name!r}: LR is {lr.shape[0]}x{lr.shape[1]} pixels (height x width), "
            f"but HR {hr.shape[0]}x{hr.shape[1]} at scale {scale} needs {expected[0]}x{expected[1]}"
        )


def _names(files: Sequence[Path], nested: bool) -> list[Name]:
    root = os.path.commonpath([path.parent for path in files]) if nested else ""
    return [(path.parent.relative_to(root).as_posix() if nested else "", path.stem) for path in files]


def _as_it_is(name: Name) -> Name:
    return name


def _without_endings(scale: float) -> Callable[[Name], Name]:
    """What takes the `ENDINGS` of this scale off a name, and the same words off its beginning; never all of it."""
    own = re.escape(str(scale))
    number = "[234]" if scale == 1 else own  # RealSR's LR, as large as HR, keep the number of their focal length
    ending = rf"[_-]?x{own}|[_-](x1|HR|SR|GT|LR(BI|BD|DN)?{number}?)|[_-]SRF[_-]{own}"
    affix = re.compile(rf"({ending})$|^(HR|SR|GT|LR|x{own})[_-](?=.)", re.IGNORECASE)

    def bare(name: Name) -> Name:
        folder, stem = name
        while (shorter := affix.sub("", stem, count=1)) and shorter != stem:
            stem = shorter
        return folder, stem

    return bare


def _index(names: Sequence[Name]) -> Mapping[Name, list[int]]:
    found = defaultdict(list)
    for i, name in enumerate(names):
        found[name].append(i)
    return found


def _partners(hr: Sequence[Name], lr: Sequence[Name]) -> list[int] | None:
    """For each HR name the place of the one LR name that equals it; None unless all have one, each its own."""
    there = _index(lr)
    chosen = [there[name][0] for name in hr if len(there.get(name, ())) == 1]
    return chosen if len(set(chosen)) == len(hr) else None


def _by_one_ending(hr: Sequence[Name], lr: Sequence[Name], scale: float) -> Iterator[list[int]]:
    """Every way to find all HR names among the LR names by one common beginning and ending more."""
    folder, stem = hr[0]
    other_scale = re.compile(r"(?:x|LR|SRF[_-])(\d+(?:\.\d+)?)", re.IGNORECASE)
    tried = set()
    for there, longer in lr:
        before, found, after = longer.partition(stem)
        if there != folder or not found or (before, after) in tried:
            continue
        tried.add((before, after))
        apart = not before or before[-1] in _SEPARATORS
        apart &= not after or after[0] in _SEPARATORS or after.lower().startswith(f"x{scale}")
        scales = {float(number) for affix in (before, after) for number in other_scale.findall(affix)}
        if apart and scales <= {scale} and (way := _partners([(f, before + s + after) for f, s in hr], lr)):
            yield way


def _unmatched(
    hr_files: Sequence[Path],
    lr_files: Sequence[Path],
    hr: Sequence[Name],
    lr: Sequence[Name],
    partner: str,
    scale: float,
) -> InputError:
    """What keeps files from being paired by their names without endings."""
    wanted = set(hr)
    for side, files, names in (("HR", hr_files, hr), (partner, lr_files, lr)):
        for name, places in _index(names).items():
            if len(places) > 1 and name in wanted:
                first, second = (str(files[i]) for i in places[:2])
                shared = "/".join(part for part in name if part)
                return InputError(f"two {side} images share the name {shared!r}: {first!r} and {second!r}; exclude one")
    there = set(lr)
    alone = [file for file, name in zip(hr_files, hr, strict=True) if name not in there]
    more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
    return InputError(
        f"HR image {str(alone[0])!r} has no {partner} image of the same name at scale {scale}{more}; "
        f"HR: {some(hr_files)}, {partner}: {some(lr_files)}. Known endings, at this scale: "
        f"{ENDINGS.replace('4', str(scale))}, or one of your own that all {partner} files share, such as _mine; "
        "include and exclude choose files on both sides"
    )
