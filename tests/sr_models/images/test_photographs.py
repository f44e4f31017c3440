"""What a user's photograph keeps: its kind, alpha, profile and EXIF; networks see of it what evaluation reads."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from sr_models.errors import InputError
from sr_models.images.files import read_image
from sr_models.images.matlab import resize
from sr_models.images.photographs import read_photograph, write_picture

COLOUR = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
RAMP = np.tile(np.arange(16, dtype=np.uint8) * 17, (12, 1))
PROFILE = b"an ICC profile" * 9


def with_alpha(picture: Image.Image, alpha: np.ndarray) -> Image.Image:
    picture.putalpha(Image.fromarray(alpha))
    return picture


def palette(transparent: bool) -> Image.Image:
    made = Image.fromarray(COLOUR).quantize(8)
    if transparent:
        made.info["transparency"] = 0
    return made


KINDS = {  # name -> picture, grey, transparent, mode of the enlarged one
    "RGB": (Image.fromarray(COLOUR), False, False, "RGB"),
    "RGBA": (with_alpha(Image.fromarray(COLOUR), RAMP), False, True, "RGBA"),
    "opaque RGBA": (with_alpha(Image.fromarray(COLOUR), RAMP * 0 + 255), False, False, "RGB"),
    "L": (Image.fromarray(RAMP), True, False, "L"),
    "LA": (with_alpha(Image.fromarray(RAMP), RAMP), True, True, "LA"),
    "1": (Image.fromarray(RAMP > 99), True, False, "L"),
    "16 bit": (Image.fromarray(RAMP.astype(np.uint16) * 257), True, False, "L"),
    "P": (palette(False), False, False, "RGB"),
    "transparent P": (palette(True), False, True, "RGBA"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_comes_out_as_the_rule_says(name, tmp_path):
    picture, grey, transparent, mode = KINDS[name]
    picture.save(tmp_path / "in.png", icc_profile=PROFILE)
    found = read_photograph(tmp_path / "in.png")
    assert (found.grey, found.alpha is not None, found.icc) == (grey, transparent, PROFILE)
    if not transparent:
        assert (found.rgb == read_image(tmp_path / "in.png")).all()
    large = np.repeat(np.repeat(found.rgb, 2, 0), 2, 1)
    write_picture(tmp_path / "out.png", large, found, 2)
    with Image.open(tmp_path / "out.png") as out:
        assert (out.mode, out.size, out.info["icc_profile"]) == (mode, (32, 24), PROFILE)
        assert (np.asarray(out.convert("RGB")) == large).all(), "of grey the luma of three equal channels is itself"
        if found.alpha is not None:
            assert (np.asarray(out.getchannel("A")) == resize(found.alpha[:, :, None], 2)[:, :, 0]).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_exif_goes_along_but_for_what_says_how_the_file_lay(suffix, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make], exif[ExifTags.Base.ImageWidth] = 6, "Maker", 16
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.DateTimeOriginal: "then", ExifTags.Base.ExifImageWidth: 16})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (1.0, 2.0, 3.5)})
    Image.fromarray(COLOUR).save(tmp_path / f"in.{suffix}", exif=exif)
    found = read_photograph(tmp_path / f"in.{suffix}")
    assert found.rgb.shape == (16, 12, 3), "upright"
    write_picture(tmp_path / "out.png", found.rgb, found, 1)
    with Image.open(tmp_path / "out.png") as out:
        out.load()
        there = out.getexif()
        assert {k for k in there if k not in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)} == {ExifTags.Base.Make}
        assert there.get_ifd(ExifTags.IFD.Exif) == {ExifTags.Base.DateTimeOriginal: "then"}
        assert there.get_ifd(ExifTags.IFD.GPSInfo) == {1: "N", 2: (1.0, 2.0, 3.5)} and out.size == (12, 16)


@pytest.mark.filterwarnings("ignore:Tag data larger")
def test_damaged_exif_is_left_out(tmp_path):
    broken = (
        b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x0f\x01\x02\x00\xff\xff\xff\xff\x00\x00\x00\x7f\x00\x00\x00\x00"
    )
    Image.fromarray(COLOUR).save(tmp_path / "in.jpg", exif=broken)
    found = read_photograph(tmp_path / "in.jpg")
    assert found.exif is None


def test_what_evaluation_refuses_is_refused_here_too(tmp_path):
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "in.jpg")
    with pytest.raises(InputError, match="colour mode CMYK"):
        read_photograph(tmp_path / "in.jpg")
