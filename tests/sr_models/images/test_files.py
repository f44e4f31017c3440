"""Every kind of file a folder may hold: what is read becomes exact RGB, what is refused is named with its reason."""

import errno
import hashlib
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sr_models.errors import InputError
from sr_models.images.files import (
    FORMATS,
    decoded,
    files_below,
    find_images,
    header,
    image_size,
    pixels_sha256,
    read_image,
    sha256_file,
    unread_text,
)

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
RGB = np.random.default_rng(1).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def write(path: Path, array: np.ndarray = RGB, mode: str | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def test_find_is_recursive_sorted_and_filtered(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/10.jpg", "a.bmp", "c.tiff", "b/.hidden.png", ".trash/x.png"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)

    def names(**globs: tuple[str, ...]) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path, **globs)]

    assert names() == ["a.bmp", "b/10.jpg", "b/2.PNG", "c.tiff"]
    assert names(include=("*.jpg", "a*")) == ["a.bmp", "b/10.jpg"]
    assert names(exclude=("*.jpg",)) == ["a.bmp", "b/2.PNG", "c.tiff"]
    with pytest.raises(InputError, match=r"holds no PNG.* after include=\['z'\]"):
        find_images(tmp_path, include=("z",))


def test_find_refuses_folders_that_give_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_images(tmp_path / "none")
    with pytest.raises(InputError, match="is not a folder"):
        find_images(write(tmp_path / "one.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=rf"holds no {FORMATS} file$"):
        find_images(tmp_path / "empty")
    with pytest.raises(InputError, match=r"image folder '.*x' cannot be read: File name too long"):
        find_images(tmp_path / ("x" * 300))
    locked = tmp_path / "tree" / "locked"
    write(tmp_path / "tree" / "1.png")
    locked.mkdir(mode=0)
    if os.access(locked, os.R_OK):
        pytest.skip("permissions do not bind this user (root)")
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        find_images(tmp_path / "tree")


def test_pictures_of_other_formats_are_counted_and_named(tmp_path: Path) -> None:
    for name in ("a.gif", "deep/b.HEIC", "c.dng", "d.avif", "e.txt", ".f.gif", "g.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    said = f"4 left out, as not {FORMATS}: 'a.gif', 'c.dng', 'd.avif' and 1 more"
    assert unread_text(files_below(tmp_path)) == said
    assert unread_text(files_below(tmp_path), ["*.[ahg]*"], ["b*", "d*"]) == f"1 left out, as not {FORMATS}: 'a.gif'"
    assert unread_text(find_images(tmp_path)) is None


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "png-inside.jpg", "x.ppm", "x.webp", "x.pnm"])
def test_lossless_files_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name == "x.webp" else {}
    path = write(tmp_path / name, format="PNG" if name == "png-inside.jpg" else None, **options)  # the content decides
    np.testing.assert_array_equal(read_image(path), RGB)
    assert find_images(tmp_path) == [path]


def test_modes_become_rgb_by_the_stated_rule(tmp_path: Path) -> None:
    grey = RGB[:, :, 0]
    np.testing.assert_array_equal(read_image(write(tmp_path / "l.png", grey)), np.repeat(grey[:, :, None], 3, 2))
    bits = read_image(write(tmp_path / "1.png", (grey > 127).astype(np.uint8) * 255, mode="1"))
    np.testing.assert_array_equal(bits[:, :, 2], np.where(grey > 127, 255, 0))
    few = np.repeat(np.repeat(RGB[:4, :4], 3, 0), 4, 1)  # 16 colours fit a palette exactly
    np.testing.assert_array_equal(read_image(write(tmp_path / "p.png", few, mode="P", bits=8)).shape, few.shape)
    deep = grey.astype(np.uint16) * 257
    for name in ("16.png", "16.tif"):
        np.testing.assert_array_equal(read_image(write(tmp_path / name, deep))[:, :, 1], grey)
    odd = read_image(write(tmp_path / "odd.png", np.array([[128, 129, 385, 386, 65535]], np.uint16)))
    assert odd[0, :, 0].tolist() == [0, 1, 1, 2, 255]  # half of 257 is 128.5
    opaque = np.dstack([RGB, np.full(grey.shape, 255, np.uint8)])
    np.testing.assert_array_equal(read_image(write(tmp_path / "rgba.png", opaque)), RGB)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_16_bit_tiff_whose_zero_is_white_is_no_negative(tmp_path: Path, compression: str | None) -> None:
    stored = np.array([[0, 257, 65535]], np.uint16)
    path = write(tmp_path / "x.tif", stored, tiffinfo={262: 0}, compression=compression)
    assert read_image(path)[0, :, 0].tolist() == [255, 254, 0]
    path = write(tmp_path / "x.tif", stored, tiffinfo={262: 1}, compression=compression)
    assert read_image(path)[0, :, 0].tolist() == [0, 1, 255]


def png(width: int, height: int, depth: int, rows: bytes) -> bytes:
    """A PNG of RGB pixels put together by hand: Pillow writes no 16-bit colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_of_16_bit_colour_the_high_byte_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(png(1, 1, 16, b"\0" + struct.pack(">3H", 0x12FF, 0x8000, 0xFFFF)))
    assert read_image(path).tolist() == [[[0x12, 0x80, 0xFF]]]


def test_a_header_that_promises_too_much_is_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(60_000, 60_000, 8, b""))
    with pytest.raises(InputError, match="more than the allowed 100000000 pixels"):
        read_image(path)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 90 degrees clockwise
    for name in ("o.png", "o.tif"):
        np.testing.assert_array_equal(read_image(write(tmp_path / name, exif=exif)), np.rot90(RGB, -1))


def test_the_size_is_known_from_the_header_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("o.png", "o.jpg", "o.tif", "o.webp", "o.ppm"):
        assert sorted(image_size(write(tmp_path / name, exif=exif))) == [12, 16], name
    whole = write(tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[:60])
    assert image_size(tmp_path / "x.png") == (12, 16)
    for kind in ("text", "pipe", "dangling link", "missing"):
        with pytest.raises(InputError, match=kind):
            image_size(damaged(tmp_path, kind))


def test_phone_jpegs_give_their_main_picture(tmp_path: Path) -> None:
    plain, phone = write(tmp_path / "plain.jpg", quality=95), tmp_path / "phone.jpg"
    Image.fromarray(RGB).save(
        phone, format="MPO", quality=95, save_all=True, append_images=[Image.fromarray(RGB[::-1].copy())]
    )
    np.testing.assert_array_equal(read_image(phone), read_image(plain))


def damaged(tmp_path: Path, kind: str) -> Path:
    """One bad file of each kind."""
    path = tmp_path / f"{kind}.png"
    whole = write(tmp_path / "whole.png").read_bytes()
    jpeg = write(tmp_path / "whole.jpg").read_bytes()
    alpha = np.dstack([RGB, np.full(RGB.shape[:2], 254, np.uint8)])
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    contents: dict[str, bytes] = {
        "cut": whole[: len(whole) // 2],
        "cut in the last bytes": whole[:-16],
        "one bit flipped": whole[:200] + bytes([whole[200] ^ 1]) + whole[201:],
        "cut jpeg": jpeg[:-80],
        "cut webp": write(tmp_path / "whole.webp").read_bytes()[:-80],
        "cut ppm": write(tmp_path / "whole.ppm").read_bytes()[:-80],
        "empty": b"",
        "text": b"this is no image",
    }
    if kind in contents:
        path.write_bytes(contents[kind])
    elif kind == "transparent":
        write(path, alpha)
    elif kind == "transparent palette":
        Image.fromarray(RGB).quantize(8).save(path, transparency=0)
    elif kind == "cmyk":
        write(path, mode="CMYK", format="JPEG")
    elif kind == "float":
        write(path, RGB[:, :, 0].astype(np.float32), format="TIFF")
    elif kind == "animated":
        frames[0].save(path, save_all=True, append_images=frames[1:])
    elif kind == "animated webp":
        frames[0].save(path, format="WEBP", save_all=True, append_images=frames[1:])
    elif kind == "pages":
        frames[0].save(path, format="TIFF", save_all=True, append_images=frames[1:])
    elif kind == "gif":
        write(path, format="GIF")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)  # to open it would wait for ever
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("cut", "truncated or corrupt"),
        ("cut in the last bytes", "truncated or corrupt"),
        ("one bit flipped", "truncated or corrupt"),
        ("cut jpeg", "truncated or corrupt"),
        ("cut webp", "not a PNG, JPEG, BMP, TIFF, WebP or PPM|truncated or corrupt"),
        ("cut ppm", "truncated or corrupt"),
        ("animated webp", "animated or multi-page"),
        ("empty", "not a PNG, JPEG, BMP, TIFF, WebP or PPM"),
        ("text", "not a PNG, JPEG, BMP, TIFF, WebP or PPM"),
        ("gif", "not a PNG, JPEG, BMP, TIFF, WebP or PPM"),
        ("transparent", "transparent pixels"),
        ("transparent palette", "transparent pixels"),
        ("cmyk", "colour mode CMYK"),
        ("float", "colour mode F"),
        ("animated", "animated or multi-page"),
        ("pages", "animated or multi-page"),
        ("missing", "no such file"),
        ("folder", "cannot be read: not a regular file"),
        ("pipe", "cannot be read: not a regular file"),
        ("dangling link", "no such file, or a link to none"),
    ],
)
def test_bad_files_are_named_with_their_reason_in_one_line(tmp_path: Path, kind: str, reason: str) -> None:
    path = damaged(tmp_path, kind)
    with pytest.raises(InputError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "reason"), [("pipe", "not a regular"), ("dangling link", "a link to none")])
def test_files_that_must_not_be_opened_are_found_but_not_hashed(tmp_path: Path, kind: str, reason: str) -> None:
    path = damaged(tmp_path, kind)
    assert path in find_images(tmp_path)
    with pytest.raises(InputError, match=reason) as caught:
        sha256_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_a_file_that_the_system_fails_to_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(hashlib, "file_digest", fail)
    path = write(tmp_path / "x.png")
    with pytest.raises(InputError) as caught:
        sha256_file(path)
    assert str(caught.value) == f"file {str(path)!r}: cannot be read: {os.strerror(code)}"


def test_a_name_that_is_not_utf8_is_refused_in_printable_words(tmp_path: Path) -> None:
    path = write(tmp_path / "x.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    assert find_images(tmp_path) == [path]
    for reader in (read_image, sha256_file):
        with pytest.raises(InputError, match="not UTF-8; rename it") as caught:
            reader(path)
        assert b"caf" in str(caught.value).encode()


def test_pixel_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "x.png")
    assert read_image(path, max_pixels=192).shape == (12, 16, 3)
    with pytest.raises(InputError, match="16x12 pixels, more than the allowed 191"):
        read_image(path, max_pixels=191)


def test_the_grey_image_of_set14_is_read() -> None:
    path = DATA / "Set14" / "X2" / "HR" / "img_003.png"
    if not path.is_file():
        pytest.skip("needs the research data in ../shared/data/Set14")
    image = read_image(path)
    assert image.shape == (512, 512, 3)
    assert (image == image[:, :, :1]).all()


def test_pixel_hash_sees_pixels_and_shape_only(tmp_path: Path) -> None:
    png, bmp = write(tmp_path / "x.png"), write(tmp_path / "x.bmp")
    assert sha256_file(png) != sha256_file(bmp)
    assert pixels_sha256(read_image(png)) == pixels_sha256(read_image(bmp))
    assert pixels_sha256(RGB) != pixels_sha256(RGB.reshape(16, 12, 3))
    assert pixels_sha256(RGB[:, ::-1]) == pixels_sha256(RGB[:, ::-1].copy())
    black = np.zeros((1, 1, 3), np.uint8)
    assert pixels_sha256(black) == hashlib.sha256(b"(1, 1, 3)" + bytes(3)).hexdigest()


def test_what_goes_wrong_with_a_sound_picture_is_not_called_damage(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    for opened in (decoded(tmp_path / "a.png"), header(tmp_path / "a.png")):
        with pytest.raises(ZeroDivisionError), opened:
            _ = 1 / 0
