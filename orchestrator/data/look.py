"""What names, sizes and headers tell of a sweep's images: looked at by a dry run, and in the first second of a run.

No pixel is decoded and nothing heavy is imported. What only pixels tell (a file that ends too early, one colour, the
same picture in another format) a run finds once it has read them (`Inputs.check`, `build_store`).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orchestrator.data.fit import Sizes, lr_side
from orchestrator.data.inputs import expanded, load_benchmark, local, located
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.evaluation import ValidationConfig
from orchestrator.plan.read import is_uri
from orchestrator.plan.sources import ImageSource
from sr_models.command import say
from sr_models.errors import InputError
from sr_models.hyper.degradation import LEAST_SIDE, cut_side
from sr_models.images.files import image_size, read_image, sha256_file, some

MANY = 1000
"""Files beyond which the look says that it is at work."""

_SHOWN = 3  # names in a line
_END_BYTES = 2**16


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What there is, what is left out, and for what a run would be refused."""

    images: tuple[str, ...]
    """A line on each group of images."""
    left_out: tuple[str, ...]
    """A line on what is there and not used."""
    faults: tuple[str, ...]
    store_bytes: Mapping[int, tuple[int, int]]
    """Scale -> what HR and LR take once decoded, in bytes: of all images, and of those to train on."""


@dataclass(frozen=True)
class _Image:
    name: str
    """As messages and stores call it: the folder's name and its path below that."""
    hr: Path
    lr: Mapping[float, Path]


def look(config: SweepConfig, patches: Collection[tuple[int, int]], *, fetch: bool = False) -> Looked:
    """Look at every image that a config names.

    Args:
        patches: (scale, LR patch) that training cuts.
        fetch: also at those at a URI, which are mirrored here first; otherwise they are left to the run.
    """
    found, left_out, faults = _listed(config, fetch)
    count = sum(len({image.hr for image in images}) for images in found.values())
    if count > MANY:
        say(f"looking at the headers of {count:,} images")

    @cache
    def size(path: Path) -> tuple[int, int] | None:
        try:
            return image_size(path)
        except InputError:
            return None

    skips = config.data.on_bad == "skip"
    for split, images in found.items():
        files = [file for image in images for file in (image.hr, *image.lr.values())]
        if bad := list(dict.fromkeys(file for file in files if size(file) is None)):
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            if skips and split != "test":
                left_out.append(f"data.{split}: {len(bad)} cannot be read, and are left out: {some(bad)}")
            else:
                faults.append(f"{_fault_of(bad[0])}{more}")
        if wrong := _unequal(images, size):
            (left_out if skips and split != "test" else faults).append(wrong)
    for scale, patch in sorted(patches):
        line, refused = _small(config, found["train"], size, scale, patch)
        (faults if refused else left_out).extend(line)
    sound = {split: [image for image in images if size(image.hr)] for split, images in found.items()}
    faults += _twins(sound)
    if fetch or not any(is_uri(source.hr) for source in config.data.validation):
        left_out += _less(config.validation, [side for image in found["validation"] if (side := size(image.hr))])
    return Looked(
        images=tuple(_counted(split, images, size) for split, images in found.items() if images),
        left_out=tuple(dict.fromkeys(left_out)),
        faults=tuple(faults),
        store_bytes={
            scale: (
                _pixel_bytes((*found["train"], *found["validation"]), size, scale),
                _pixel_bytes(found["train"], size, scale),
            )
            for scale in config.scales
        },
    )


def _listed(config: SweepConfig, fetch: bool) -> tuple[dict[str, list[_Image]], list[str], list[str]]:
    """Split -> its images; a line on each thing that is left out; why folders cannot be used."""
    found: dict[str, list[_Image]] = {"train": [], "validation": [], "test": []}
    left_out: list[str] = []
    faults: list[str] = []
    for split, sources in (("train", config.data.train), ("validation", config.data.validation)):
        for source in sources:
            try:
                given = expanded(source, f"data.{split}")
                if fetch:
                    lr = {scale: str(local(path)) for scale, path in given.lr.items()}
                    given = given.model_copy(update={"hr": str(local(given.hr)), "lr": lr})
                if far := [path for path in (given.hr, *given.lr.values()) if is_uri(path)]:
                    left_out.append(f"data.{split}: {far[0]} is looked at once a run has fetched it")
                    continue
                found[split] += [
                    _Image(_name(given, hr), hr, {float(scale): file for scale, file in lr.items()})
                    for hr, lr in given.pairs(config.scales)
                ]
                left_out += given.left_out(config.scales)
            except InputError as error:
                faults.append(str(error))
    for name, test in config.data.test.items():
        for scale in test.at(config.scales):
            try:
                there = located(name, test, scale)
                if not fetch and (is_uri(there.hr) or is_uri(there.lr or "")):
                    left_out.append(f"data.test.{name}: {there.hr} is looked at once a run has fetched it")
                    continue
                bench = load_benchmark(name, there, scale)
                found["test"] += [
                    _Image(f"{name}/{pair.name}", pair.hr, {scale: pair.lr} if pair.lr else {}) for pair in bench.pairs
                ]
                left_out += bench.left_out
            except InputError as error:
                faults.append(str(error))
    return found, left_out, list(dict.fromkeys(faults))


def _name(source: ImageSource, hr: Path) -> str:
    return f"{source.label}/{hr.relative_to(source.folder).as_posix()}"


def _fault_of(path: Path) -> str:
    """Why a file whose header cannot be read is refused, in the words of whoever reads it whole."""
    try:
        read_image(path)
    except InputError as error:
        return str(error)
    return f"image {str(path)!r}: its header cannot be read"


def _counted(split: str, images: Sequence[_Image], size: Sizes) -> str:
    """How many images there are, and from which size to which."""
    sides = sorted({found for image in images if (found := size(image.hr))}, key=lambda side: side[0] * side[1])
    shown = [f"{width}x{height}" for height, width in (sides[:1] + sides[1:][-1:])]
    files = len({image.hr for image in images})
    return f"{split}: {files} image{'s'[: files != 1]}" + (f", {' to '.join(shown)} pixels" if shown else "")


def _unequal(images: Sequence[_Image], size: Sizes) -> str | None:
    """Which LR files have not the sides of their HR over the scale, whichever way they are turned."""
    wrong = []
    for image in images:
        for scale, lr in image.lr.items():
            sides, others = size(image.hr), size(lr)
            if sides and others and scale == int(scale) and sorted(others) != sorted(s // int(scale) for s in sides):
                wrong.append(f"pair {image.name!r}: LR is {others[1]}x{others[0]} pixels, HR {sides[1]}x{sides[0]} at "
                             f"scale {scale:g}")  # fmt: skip
    return wrong[0] + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "") if wrong else None


def _small(
    config: SweepConfig, images: Sequence[_Image], size: Sizes, scale: int, patch: int
) -> tuple[list[str], bool]:
    """A line on the training images that an LR patch does not fit into, if there are any, and whether it is refused."""
    sides = {
        image.hr: side for image in images if (side := lr_side(image.hr, image.lr.get(scale), scale, size)) is not None
    }
    small = [hr for hr, side in sides.items() if side < patch]
    if not small:
        return [], False
    count = f"{len(small)} of {len(sides)} images"
    if config.data.on_bad == "skip" and len(small) < len(sides):
        line = f"data.train: {count} are smaller than an LR patch of {patch} at x{scale}, and left out: {some(small)}"
        return [line], False
    degraded = config.train.degradation is not None and patch == cut_side(1, scale)
    least = f"; train.degradation cuts at least {LEAST_SIDE} HR pixels" if degraded else ""
    if any(config.network(label)[2].scales for label in config.models):
        least += "; train.scales cuts up to scales.high times train.patch HR pixels"
    others = ", exclude them, or leave them out by data.on_bad=skip" if len(small) < len(sides) else ""
    return [
        f"data.train: an LR patch of {patch} at x{scale} does not fit into {count}: {some(small)}{_all_of(small)}; "
        f"the largest patch that fits all is {min(sides.values())}: set train.patch{others}{least}"
    ], True


def _less(validation: ValidationConfig, sides: Sequence[tuple[int, int]]) -> list[str]:
    """A line on each thing that validations are to look at, and that the images have less of."""
    lines, asked = [], sides[: validation.images]
    if sides and validation.images is not None and validation.images > len(sides):
        lines.append(f"validation.images: {validation.images} are asked for, and there are {len(sides)}")
    if validation.crop is not None and (small := sum(min(side) < validation.crop for side in asked)):
        lines.append(
            f"validation.crop: {small} of {len(asked)} images are smaller than {validation.crop} pixels a side, and "
            "looked at as far as they go"
        )
    return lines


def _all_of(files: Sequence[Path]) -> str:
    """Where all names are written, if they are more than a line holds."""
    if len(files) <= _SHOWN:
        return ""
    with tempfile.NamedTemporaryFile("w", prefix="sr-too-small-", suffix=".txt", delete=False, encoding="utf-8") as out:
        out.writelines(f"{file}\n" for file in files)
    return f" (all in {out.name})"


def _twins(found: Mapping[str, Sequence[_Image]]) -> list[str]:
    """A fault where files of two splits are the same ones, or have the same bytes."""
    of_size: dict[int, dict[str, dict[str, _Image]]] = defaultdict(lambda: defaultdict(dict))
    for split, images in found.items():
        for image in images:
            of_size[image.hr.stat().st_size][split].setdefault(os.path.realpath(image.hr), image)
    alike = [splits for splits in of_size.values() if len(splits) > 1]
    faults = []
    for one, other in (("test", "train"), ("test", "validation"), ("validation", "train")):
        pairs: list[str] = []
        for splits in alike:
            pairs += _same(splits[one], splits[other], _SHOWN + 1 - len(pairs))
        if not pairs:
            continue
        named = ", ".join(pairs[:_SHOWN]) + (" and more" if len(pairs) > _SHOWN else "")
        faults.append(f"{one} images are among the {other} images: {named}; exclude them from one side")
    return faults


def _same(some_: Mapping[str, _Image], others: Mapping[str, _Image], most: int) -> list[str]:
    """`name (= name)` of files of one size that are the same, at most so many; the whole of a file is read last."""
    ends = {path: _ends(path) for path in {*some_, *others}} if not some_.keys() & others.keys() else {}
    pairs: list[str] = []
    for path, image in some_.items():
        for there, twin in others.items():
            if len(pairs) >= most:
                return pairs
            if path == there or (ends and ends[path] == ends[there] and sha256_file(path) == sha256_file(there)):
                pairs.append(f"{image.name} (= {twin.name})")
    return pairs


def _ends(path: str) -> bytes:
    """A hash of a file's first and last bytes, which tells most files of one size apart."""
    with Path(path).open("rb") as file:
        first = file.read(_END_BYTES)
        file.seek(max(Path(path).stat().st_size - _END_BYTES, 0))
        return hashlib.sha256(first + file.read()).digest()


def _pixel_bytes(images: Sequence[_Image], size: Sizes, scale: int) -> int:
    """What HR and LR of images take in a patch store."""
    pixels = (height * width for image in images if (sides := size(image.hr)) for height, width in [sides])
    return sum(3 * hr + 3 * hr // scale**2 for hr in pixels)
