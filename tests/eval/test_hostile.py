"""200 hostile files through `python -m eval --images`: a line for each refusal, the rest scored, memory bounded."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH, COUNT = 40, 48, 200
SLOPE = np.arange(HEIGHT)[:, None] * 3 + np.arange(WIDTH) * 2
GREY = SLOPE + np.random.default_rng(0).integers(0, 9, SLOPE.shape)
PIXELS = np.repeat(GREY.astype(np.uint8)[:, :, None], 3, axis=2)
PICTURE = Image.fromarray(PIXELS)

Made = tuple[str, bytes]  # suffix and content


def saved(picture: Image.Image, kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **how)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, packed: bytes, before: bytes = b"") -> bytes:
    """A PNG written by hand, so that it may lie. colour: 0 grey, 2 RGB."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """That many zero bytes, deflated, without ever holding them."""
    packer, block = zlib.compressobj(1), bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(count >> 20)] + [packer.compress(bytes(count % (1 << 20)))]
    return b"".join([*parts, packer.flush()])


PNG, JPEG = saved(PICTURE, "PNG"), saved(PICTURE, "JPEG", quality=95)
BOMB = png(9900, 9900, 8, 2, zeros(9900 * (9900 * 3 + 1)))  # 294 MB of honest pixels in under 2 MB
OVERFULL = png(WIDTH, HEIGHT, 8, 2, zeros(300_000_000))  # far more pixels than its header says
GREY16 = Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257)
ROWS16 = [b"\0" + (row.astype(">u2") * 257).tobytes() for row in PIXELS]
RGB16 = png(WIDTH, HEIGHT, 16, 2, zlib.compress(b"".join(ROWS16)))
SCORED = ""  # in the place of a reason

KINDS: dict[str, tuple[Made | Callable[[Path], None], str]] = {  # what to make, why it is refused
    "good": ((".png", PNG), SCORED),
    "good_bmp": ((".bmp", saved(PICTURE, "BMP")), SCORED),
    "grey_16_bit": ((".png", saved(GREY16, "PNG")), SCORED),
    "colour_16_bit": ((".png", RGB16), SCORED),
    "a_jpeg_called_png": ((".png", JPEG), SCORED),
    "a_page_called_png": ((".png", b"<html>not found</html>"), "not a PNG, JPEG, BMP, TIFF, WebP or PPM image"),
    "a_gif_called_png": ((".png", saved(PICTURE, "GIF")), "not a PNG, JPEG, BMP, TIFF, WebP or PPM image"),
    "a_png_called_txt": ((".txt", PNG), "has no SR image of the same name"),
    "truncated_png": ((".png", PNG[: len(PNG) // 2]), "truncated or corrupt"),
    "truncated_jpeg": ((".jpg", JPEG[: len(JPEG) // 2]), "truncated or corrupt"),
    "only_a_header": ((".png", PNG[:40]), "its header is damaged"),
    "empty": ((".png", b""), "not a PNG, JPEG, BMP, TIFF, WebP or PPM image"),
    "noise": ((".jpg", np.random.default_rng(1).bytes(5000)), "not a PNG, JPEG, BMP, TIFF, WebP or PPM image"),
    "one_pixel": ((".png", saved(PICTURE.crop((0, 0, 1, 1)), "PNG")), "smaller than the scale|have 1x1 and 48x40"),
    "cmyk": ((".jpg", saved(PICTURE.convert("CMYK"), "JPEG")), "colour mode CMYK"),
    "float_tiff": ((".tif", saved(Image.fromarray(PIXELS[:, :, 0].astype(np.float32)), "TIFF")), "colour mode F"),
    "animated": ((".png", saved(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(180)])), "animated"),
    "two_pages": ((".tiff", saved(PICTURE, "TIFF", save_all=True, append_images=[PICTURE])), "animated or multi-page"),
    "transparent": ((".png", saved(Image.new("RGBA", (WIDTH, HEIGHT), (9, 9, 9, 9)), "PNG")), "transparent pixels"),
    "wide": ((".png", saved(Image.new("RGB", (20_000, 40)), "PNG")), "have 20000x40 and 48x40 pixels"),
    "huge_header": ((".png", png(60_000, 60_000, 8, 2, b"")), "more than the allowed"),
    "bomb": ((".png", BOMB), "9900x9900 pixels, more than the allowed 4000000"),
    "overfull": ((".png", OVERFULL), SCORED),
    "text_bomb": (
        (".png", png(WIDTH, HEIGHT, 8, 2, b"", chunk(b"zTXt", b"a\0\0" + zeros(300_000_000)))),
        "truncated or corrupt",
    ),
    "link_to_nothing": (lambda path: path.with_suffix(".png").symlink_to("nowhere"), "a link to none"),
    "pipe": (lambda path: os.mkfifo(path.with_suffix(".png")), "not a regular file"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(hr, sr): HR is good everywhere; SR goes through the kinds, eight of each. One pair is 20,000 pixels wide."""
    root = tmp_path_factory.mktemp("hostile")
    hr, sr = root / "hr", root / "sr"
    hr.mkdir()
    sr.mkdir()
    near = Image.fromarray(np.clip(PIXELS.astype(int) + 5, 0, 255).astype(np.uint8))
    for i in range(COUNT):
        kind = list(KINDS)[i % len(KINDS)]
        made, _ = KINDS[kind]
        near.save(hr / f"{kind}_{i}.png")
        if callable(made):
            made(sr / f"{kind}_{i}")
        else:
            (sr / f"{kind}_{i}{made[0]}").write_bytes(made[1])
    wide = np.random.default_rng(2).integers(0, 256, (40, 20_000, 3)).astype(np.uint8)
    for folder in (hr, sr):
        Image.fromarray(wide ^ (folder == sr)).save(folder / "good_and_wide.png")
    return hr, sr


def run(*arguments: object) -> tuple[int, str, str, float]:
    """Exit code, stdout, stderr, and the peak memory of a process of its own, in MB."""
    code = (
        "import resource, sys; from eval.__main__ import main; code = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    *lines, peak_kb = done.stderr.splitlines()
    return done.returncode, done.stdout, "\n".join(lines), float(peak_kb) / 1024


def test_each_refusal_has_its_line_and_the_rest_is_scored(folders: tuple[Path, Path], tmp_path: Path) -> None:
    hr, sr = folders
    code, out, err, peak_mb = run("--images", sr, "--hr", hr, "--scale", 2, "--json", tmp_path / "report.json")
    assert code == 0, err
    assert err == ""
    report = json.loads((tmp_path / "report.json").read_text())
    names = {f"{kind}_{i}": KINDS[kind][1] for i in range(COUNT) for kind in [list(KINDS)[i % len(KINDS)]]}
    good = {name for name, reason in names.items() if not reason} | {"good_and_wide"}
    assert {row["name"] for row in report["images"]} == good
    assert all(row["psnr_y"] > 25 for row in report["images"] if "overfull" not in row["name"])  # that one is black

    assert len(report["refused"]) == COUNT + 1 - len(good)
    for name, reason in names.items():
        lines = [line for line in report["refused"] if f"/{name}." in line]
        assert len(lines) == bool(reason), name
        assert not reason or any(part in lines[0] for part in reason.split("|")), lines[0]
        assert not reason or f"refused: {lines[0]}" in out.splitlines()
    assert out.splitlines()[-1] == f"{len(report['refused'])} refused, {len(good)} scored"
    assert f"mean of {len(good)}" in out

    calm = tmp_path / "calm"
    calm.mkdir()
    (calm / "good_and_wide.png").symlink_to(sr / "good_and_wide.png")
    code, _, err, calm_mb = run("--images", calm, "--hr", hr, "--scale", 2)
    assert code == 0, err
    assert peak_mb < calm_mb + 100  # one bomb decoded would be 294 MB


def test_strict_makes_the_first_refusal_an_error(folders: tuple[Path, Path]) -> None:
    hr, sr = folders
    code, out, err, _ = run("--images", sr, "--hr", hr, "--scale", 2, "--strict")
    assert (code, out) == (2, "")
    assert err.startswith("python -m eval: image ") and err.count("\n") == 0


def test_nothing_to_score_is_an_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    hr, _ = folders
    bad = tmp_path / "bad"
    bad.mkdir()
    only = tmp_path / "only"
    only.mkdir()
    for i in range(2):
        (bad / f"{i}.png").write_bytes(BOMB)
        (only / f"{i}.png").symlink_to(hr / "good_0.png")
    code, out, err, _ = run("--images", bad, "--hr", only, "--scale", 2)
    assert (code, out) == (2, "")
    assert "bad/0.png': 9900x9900 pixels" in err and "(and 1 more refused; nothing was scored)" in err
