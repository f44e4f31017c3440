"""The one place that opens image files: find, read, pair and hash them, for training stores and test sets alike.

Every file becomes (H, W, 3) uint8 RGB by one stated rule (`read_image`). Decoding is Pillow's (https://python-pillow.org);
colour profiles and gamma tags are ignored, as every published benchmark does. No torch here.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sr_models.errors import InputError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})

_DECODERS = ("PNG", "JPEG", "BMP", "TIFF")
_EIGHT_BIT = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a TIFF tag and its value; Pillow obeys it for 8 bits but not for 16


def find_images(folder: Path | str, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[Path]:
    """All PNG, JPEG, BMP and TIFF files below a folder, sorted by path; hidden files and folders are left out.

    Args:
        folder: searched recursively; symbolic links are followed, each folder is visited once.
        include: keep only files whose name matches one of these globs; empty keeps all.
        exclude: then drop files whose name matches one of these.

    Raises:
        InputError: the folder is missing, no folder, unreadable, or nothing in it is left.
    """
    root = Path(folder)

    def fail(error: OSError) -> NoReturn:
        raise InputError(f"image folder {str(error.filename)!r} cannot be read: {error.strerror}") from error

    try:
        exists, is_folder = root.exists(), root.is_dir()
    except OSError as error:
        fail(error)
    if not exists:
        raise InputError(f"image folder {str(root)!r} does not exist")
    if not is_folder:
        raise InputError(f"image folder {str(root)!r} is not a folder")

    def matches(name: str, globs: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, glob) for glob in globs)

    found, visited = [], set()
    for here, folders, names in os.walk(root, onerror=fail, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in visited else sorted(name for name in folders if not name.startswith("."))
        if real not in visited:
            found += [Path(here, name) for name in names if Path(name).suffix.lower() in SUFFIXES and name[0] != "."]
        visited.add(real)
    kept = [p for p in found if (not include or matches(p.name, include)) and not matches(p.name, exclude)]
    if not kept:
        filtered = f" after include={list(include)}, exclude={list(exclude)}" if found else ""
        raise InputError(f"image folder {str(root)!r} holds no PNG, JPEG, BMP or TIFF file{filtered}")
    return sorted(kept, key=lambda path: path.relative_to(root).as_posix())


def read_image(path: Path | str, *, max_pixels: int = 100_000_000) -> np.ndarray:
    """Read one picture as (H, W, 3) uint8 RGB.

    The content decides what a file is, not its name. EXIF orientation is applied. Black-and-white, grey and palette
    become RGB; 16-bit grey is divided by 257 and rounded; of 16-bit colour the high byte is kept. An alpha channel is
    dropped if it is opaque everywhere. Of a phone's multi-picture JPEG the main picture is read.

    Raises:
        InputError: missing, unreadable, no regular file, a name that is not UTF-8, no such image, truncated, corrupt,
            more than `max_pixels` pixels, animated or multi-page, transparent, or another colour mode (CMYK, Lab,
            32-bit, ...). The message names the file. Missing pixels are always noticed; changed ones for certain
            only where the format has checksums, as PNG has.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `max_pixels` refuses such a file by name
        return _read(path, max_pixels)


def image_size(path: Path | str) -> tuple[int, int]:
    """Height and width that a picture's header says, before EXIF orientation; nothing is decoded or checked.

    Raises:
        InputError: there is no such header.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_DECODERS) as opened:
                width, height = opened.size
                return height, width
    except OSError as error:
        raise InputError(f"image {str(path)!r}: {error.strerror or 'its header is damaged'}") from None


def _read(path: Path | str, max_pixels: int) -> np.ndarray:
    def refuse(reason: str) -> InputError:
        return InputError(f"image {str(path)!r}: {reason}")

    if fault := _fault(path):
        raise refuse(fault)
    try:
        with Image.open(path, formats=_DECODERS) as probe:
            width, height = probe.size
            if width * height > max_pixels:
                raise refuse(f"{width}x{height} pixels, more than the allowed {max_pixels}")
            if probe.format != "MPO" and getattr(probe, "n_frames", 1) > 1:
                raise refuse("animated or multi-page; one picture a file is needed")
            probe.verify()  # checksums, where the format has them; the file must be opened again afterwards
        with Image.open(path, formats=_DECODERS) as opened:
            opened.load()
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I;16") and "transparency" not in picture.info:
                grey = np.asarray(picture).astype(np.float64)
                if getattr(opened, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
                    grey = 65535 - grey
                return np.repeat(np.floor(grey / 257 + 0.5).astype(np.uint8)[:, :, None], 3, axis=2)
            if picture.mode not in _EIGHT_BIT:
                raise refuse(f"colour mode {picture.mode} (allowed: 8-bit RGB, grey, palette, 1-bit; 16-bit grey)")
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                if picture.getchannel("A").getextrema() != (255, 255):
                    raise refuse("has transparent pixels; flatten it onto a background first")
            return np.array(picture.convert("RGB"))
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError:  # Pillow's own limit, met before its size can be asked
        raise refuse(f"more than the allowed {max_pixels} pixels") from None
    except UnidentifiedImageError:
        raise refuse("not a PNG, JPEG, BMP or TIFF image, or its header is damaged") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        cause = " ".join(str(error).split()) or type(error).__name__
        raise refuse(f"cannot be read, truncated or corrupt ({cause})") from error


def pair_images(
    hr_files: Sequence[Path], lr_files: Sequence[Path], scale: int, *, partner: str = "LR"
) -> list[tuple[Path, Path]]:
    """Match each HR file with its LR file by name, in the order of `hr_files`.

    Where both sides have files in several folders, a pair lies in the same folder below each side's common one.
    Names are compared without their extension; where that does not match all files, the endings that benchmark folders
    add are ignored: `x2`, `_HR`, `_LR`, `_SR`, `_GT`, `_LR2`, `_SRF_2` (with this scale's number). `partner` is what
    messages call the second files.

    Raises:
        InputError: an HR file without an LR file or the reverse, or two files of one name on a side.
    """
    ending = re.compile(rf"([_-]?x{scale}|[_-](HR|SR|LR{scale}?|GT)|[_-]SRF[_-]{scale})$", re.IGNORECASE)

    def bare(path: Path) -> str:
        stem = path.stem
        while (shorter := ending.sub("", stem)) and shorter != stem:
            stem = shorter
        return stem

    exact = {p.stem for p in hr_files} == {p.stem for p in lr_files}
    name = (lambda path: path.stem) if exact else bare
    nested = all(len({path.parent for path in files}) > 1 for files in (hr_files, lr_files))
    hr, lr = _by_name(hr_files, name, "HR", nested), _by_name(lr_files, name, partner, nested)
    if alone := sorted(hr.keys() ^ lr.keys()):
        side, other, path = ("HR", partner, hr[alone[0]]) if alone[0] in hr else (partner, "HR", lr[alone[0]])
        more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
        raise InputError(f"{side} image {str(path)!r} has no {other} image of the same name at scale {scale}{more}")
    return [(path, lr[key]) for key, path in hr.items()]


def _by_name(files: Sequence[Path], name: Callable[[Path], str], side: str, nested: bool) -> dict[str, Path]:
    """The files by name; `nested`: by name and folder below the one that all share."""
    root = os.path.commonpath([path.parent for path in files]) if nested else ""
    found: dict[str, Path] = {}
    for path in files:
        key = (path.parent.relative_to(root) / name(path)).as_posix() if nested else name(path)
        if key in found:
            raise InputError(f"two {side} images share the name {key!r}: {str(found[key])!r} and {str(path)!r}")
        found[key] = path
    return found


def check_pair_sizes(hr: np.ndarray, lr: np.ndarray, scale: int, name: str) -> None:
    """Hold that an LR image is exactly its HR image's size divided by `scale`, remainder dropped.

    Raises:
        InputError: it is not; `name` says which pair.
    """
    expected = (hr.shape[0] // scale, hr.shape[1] // scale)
    if lr.shape[:2] != expected:
        raise InputError(
            f"pair {name!r}: LR is {lr.shape[0]}x{lr.shape[1]} pixels (height x width), "
            f"but HR {hr.shape[0]}x{hr.shape[1]} at scale {scale} needs {expected[0]}x{expected[1]}"
        )


def sha256_file(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes.

    Raises:
        InputError: missing, unreadable, no regular file, or a name that is not UTF-8.
    """
    if fault := _fault(path):
        raise InputError(f"file {str(path)!r}: {fault}")
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"file {str(path)!r}: cannot be read: {error.strerror}") from error


def _fault(path: Path | str) -> str | None:
    """Why a file must not even be opened: reading a pipe could wait for ever, such a name can be written nowhere."""
    try:
        str(path).encode()
        regular = stat.S_ISREG(Path(path).stat().st_mode)
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    except FileNotFoundError:
        return "no such file, or a link to none"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if regular else "cannot be read: not a regular file"


def pixels_sha256(image: np.ndarray) -> str:
    """Hex SHA-256 of a picture's shape and uint8 pixels: the same for every file format and metadata."""
    if image.dtype != np.uint8:
        raise ValueError(f"pixels_sha256 expects uint8, got {image.dtype}")
    digest = hashlib.sha256(str(tuple(image.shape)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()
