"""The one place that opens image files: find, read and hash them, for training stores, test sets and photographs.

Every file becomes (H, W, 3) uint8 RGB by one stated rule (`read_image`). Decoding is Pillow's (https://python-pillow.org);
colour profiles and gamma tags are ignored, as every published benchmark does. No torch here.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sr_models.errors import InputError
from sr_models.files import unreadable

FORMATS = "PNG, JPEG, BMP, TIFF, WebP or PPM"
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Of the files that are taken for pictures; `read_image` goes by their content."""

_OTHER_PICTURES = frozenset(
    {".gif", ".apng", ".avif", ".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".tga", ".dds", ".exr", ".hdr", ".pfm",
     ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw", ".mat", ".npy"}
)  # fmt: skip
_DECODERS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
_EIGHT_BIT = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
_NAMES_SHOWN = 3
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a TIFF tag and its value; Pillow obeys it for 8 bits but not for 16


def find_images(folder: Path | str, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[Path]:
    """All files of the `FORMATS` below a folder, by suffix, sorted by path; hidden files and folders are left out.

    Args:
        folder: searched recursively; symbolic links are followed, each folder is visited once.
        include: keep only files whose name matches one of these globs; empty keeps all.
        exclude: then drop files whose name matches one of these.

    Raises:
        InputError: the folder is missing, no folder, unreadable, or nothing in it is left.
    """
    found = [path for path in files_below(folder) if path.suffix.lower() in SUFFIXES]
    kept = _chosen(found, include, exclude)
    if not kept:
        filtered = f" after include={list(include)}, exclude={list(exclude)}" if found else ""
        others = f" ({said})" if not found and (said := unread_text(files_below(folder))) else ""
        raise InputError(f"image folder {str(folder)!r} holds no {FORMATS} file{filtered}{others}")
    return sorted(kept, key=lambda path: path.relative_to(folder).as_posix())


def unread_text(files: Iterable[Path], include: Sequence[str] = (), exclude: Sequence[str] = ()) -> str | None:
    """A line on the pictures among some files whose format is not read; None without any that the globs would take."""
    others = sorted(_chosen([path for path in files if path.suffix.lower() in _OTHER_PICTURES], include, exclude))
    return f"{len(others)} left out, as not {FORMATS}: {some(others)}" if others else None


def some(files: Sequence[Path]) -> str:
    """The first names of files, and how many more there are."""
    more = f" and {len(files) - _NAMES_SHOWN} more" if len(files) > _NAMES_SHOWN else ""
    return ", ".join(repr(file.name) for file in files[:_NAMES_SHOWN]) + more


def matches(path: Path, globs: Sequence[str]) -> bool:
    """Whether a file's name is like one of the globs."""
    return any(fnmatch.fnmatchcase(path.name, glob) for glob in globs)


def _chosen(files: Sequence[Path], include: Sequence[str], exclude: Sequence[str]) -> list[Path]:
    return [path for path in files if (not include or matches(path, include)) and not matches(path, exclude)]


def files_below(folder: Path | str) -> Iterator[Path]:
    """Every file below a folder that is neither hidden nor in a hidden folder, of whatever kind.

    Raises:
        InputError: the folder is missing, no folder, or unreadable.
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
    visited = set()
    for here, folders, names in os.walk(root, onerror=fail, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in visited else sorted(name for name in folders if not name.startswith("."))
        if real not in visited:
            yield from (Path(here, name) for name in names if name[0] != ".")
        visited.add(real)


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
    with decoded(path, max_pixels=max_pixels) as (picture, _file):
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            if picture.getchannel("A").getextrema() != (255, 255):
                raise InputError(f"image {str(path)!r}: has transparent pixels; flatten it onto a background first")
        return np.array(picture.convert("RGB"))


def image_size(path: Path | str) -> tuple[int, int]:
    """Height and width that a picture's header says, of one to be turned maybe in the other order; nothing is decoded.

    Raises:
        InputError: as `read_image` of a header.
    """
    with header(path) as opened:
        width, height = opened.size
    return height, width


@contextmanager
def header(path: Path | str) -> Iterator[Image.Image]:
    """A picture of which nothing but its header was read. Raises InputError: as `read_image` of a header."""
    if fault := unreadable(path):
        raise InputError(f"image {str(path)!r}: {fault}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path, formats=_DECODERS)
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        cause = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"image {str(path)!r}: its header cannot be read ({cause})") from error
    with opened:
        yield opened


@contextmanager
def decoded(path: Path | str, *, max_pixels: int = 100_000_000) -> Iterator[tuple[Image.Image, Image.Image]]:
    """A picture, whole, upright and of 8 bits, and its file as it was opened.

    Raises:
        InputError: as `read_image`, but for transparency.
    """
    with ExitStack() as stack:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `max_pixels` refuses such a file by name
            found = _decoded(path, stack, max_pixels)
        yield found


def _decoded(path: Path | str, stack: ExitStack, max_pixels: int) -> tuple[Image.Image, Image.Image]:
    """As `decoded`; its file is open until the stack ends. What is done with them is no part of what is caught here."""

    def refuse(reason: str) -> InputError:
        return InputError(f"image {str(path)!r}: {reason}")

    if fault := unreadable(path):
        raise refuse(fault)
    try:
        with Image.open(path, formats=_DECODERS) as probe:
            width, height = probe.size
            if width * height > max_pixels:
                raise refuse(f"{width}x{height} pixels, more than the allowed {max_pixels}")
            if probe.format != "MPO" and getattr(probe, "n_frames", 1) > 1:
                raise refuse("animated or multi-page; one picture a file is needed")
            probe.verify()  # checksums, where the format has them; the file must be opened again afterwards
        opened = stack.enter_context(Image.open(path, formats=_DECODERS))
        opened.load()
        picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I;16") and "transparency" not in picture.info:
            picture = _eight_bits(picture, getattr(opened, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
        if picture.mode not in _EIGHT_BIT:
            raise refuse(f"colour mode {picture.mode} (allowed: 8-bit RGB, grey, palette, 1-bit; 16-bit grey)")
        return picture, opened
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError:  # Pillow's own limit, met before its size can be asked
        raise refuse(f"more than the allowed {max_pixels} pixels") from None
    except UnidentifiedImageError:
        raise refuse(f"not a {FORMATS} image, or its header is damaged") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        cause = " ".join(str(error).split()) or type(error).__name__
        raise refuse(f"cannot be read, truncated or corrupt ({cause})") from error


def _eight_bits(picture: Image.Image, white_is_zero: bool) -> Image.Image:
    """16-bit grey as 8-bit grey."""
    grey = np.asarray(picture).astype(np.float64)
    if white_is_zero:
        grey = 65535 - grey
    return Image.fromarray(np.floor(grey / 257 + 0.5).astype(np.uint8))


def sha256_file(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes.

    Raises:
        InputError: missing, unreadable, no regular file, or a name that is not UTF-8.
    """
    if fault := unreadable(path):
        raise InputError(f"file {str(path)!r}: {fault}")
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"file {str(path)!r}: cannot be read: {error.strerror}") from error


def is_flat(image: np.ndarray) -> bool:
    """Whether a picture, (H, W, C), has one colour only."""
    return bool((image == image[0, 0]).all())


def pixels_sha256(image: np.ndarray) -> str:
    """Hex SHA-256 of a picture's shape and uint8 pixels: the same for every file format and metadata."""
    if image.dtype != np.uint8:
        raise ValueError(f"pixels_sha256 expects uint8, got {image.dtype}")
    digest = hashlib.sha256(str(tuple(image.shape)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()
