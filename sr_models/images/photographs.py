"""A user's photograph, with what networks do not see of it, and the enlarged picture that gets it back.

The rule: a network sees what evaluation shows it (`sr_models.images.files.read_image`: 8-bit RGB, upright). The picture
is a PNG of 8 bits that is RGB, or grey where the photograph is (the luma of what the network gives); alpha is enlarged
by MATLAB's bicubic, beside colours as they are stored; the ICC profile and EXIF go along, EXIF without orientation,
sizes and thumbnail. Colours are those of the profile before and after: nothing is converted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from sr_models.errors import InputError
from sr_models.files import replacing
from sr_models.images.files import decoded, header
from sr_models.images.matlab import resize

_GREY = frozenset({"1", "L", "LA"})
_KEPT = tuple(
    ExifTags.Base[name]
    for name in (
        "ImageDescription", "Make", "Model", "XResolution", "YResolution", "ResolutionUnit", "Software", "DateTime",
        "Artist", "Copyright",
    )
)  # fmt: skip
"""Tags of EXIF's first directory that say nothing of how the file was laid out, as most of a TIFF's do."""
_OF_SIZE = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.Base.ExifInteroperabilityOffset)


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One picture as it lies on disk, upright."""

    rgb: np.ndarray
    """(H, W, 3) uint8: what `read_image` gives, transparent or not."""
    alpha: np.ndarray | None
    """(H, W) uint8; None where it is opaque."""
    grey: bool
    icc: bytes | None
    exif: bytes | None
    notes: tuple[str, ...] = ()
    """What of it cannot be kept."""


def read_photograph(path: Path | str) -> Photograph:
    """Read a photograph with what belongs to it.

    Raises:
        InputError: as `read_image`, but for transparency.
    """

    with decoded(path) as (picture, file):
        grey, alpha = picture.mode in _GREY, None
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            if picture.getchannel("A").getextrema() != (255, 255):
                alpha = np.array(picture.getchannel("A"))
        exif, notes = None, list[str]()
        try:
            exif = _exif_of(path, file)
        except (InputError, struct.error, SyntaxError, ValueError, TypeError, KeyError, OverflowError):
            notes.append("its EXIF is damaged, and left out")
        rgb, icc = np.array(picture.convert("RGB")), file.info.get("icc_profile")
    return Photograph(rgb=rgb, alpha=alpha, grey=grey, icc=icc, exif=exif, notes=tuple(notes))


def write_picture(path: Path, rgb: np.ndarray, photograph: Photograph, scale: float) -> None:
    """Write what a network made of a photograph as PNG, whole or not at all.

    Args:
        rgb: (H', W', 3) uint8, `scale` times as large.
    """
    picture = Image.fromarray(rgb)
    if photograph.grey:
        picture = picture.convert("L")
    if photograph.alpha is not None:
        alpha = resize(photograph.alpha[:, :, None], scale, out_shape=rgb.shape[:2])
        picture.putalpha(Image.fromarray(alpha[:, :, 0]))
    metadata = {"icc_profile": photograph.icc, "exif": photograph.exif}
    with replacing(path) as part:
        picture.save(part, format="PNG", **{name: value for name, value in metadata.items() if value})


def _exif_of(path: Path | str, file: Image.Image) -> bytes | None:
    """`_exif` of a decoded picture's file: of a TIFF that is decoded the further directories are out of reach."""
    if file.format != "TIFF":
        return _exif(file)
    with header(path) as again:
        return _exif(again)


def _exif(file: Image.Image) -> bytes | None:
    """What EXIF says of the photograph and not of its file; None without any."""
    there, kept = file.getexif(), Image.Exif()
    for tag in _KEPT:
        if tag in there:
            kept[tag] = there[tag]
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        own = {tag: value for tag, value in there.get_ifd(directory).items() if tag not in _OF_SIZE}
        if own:
            kept.get_ifd(directory).update(own)
            kept[directory] = kept.get_ifd(directory)
    return kept.tobytes() if len(kept) else None
