"""Test sets on disk: pairing, cropping, hashes, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval import benchmarks
from sr_models.errors import InputError
from sr_models.images.matlab import KERNEL, downscale, resize

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def picture(seed: int, height: int = 21, width: int = 26) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a.png", "b.bmp")):
        write(tmp_path / "hr" / name, picture(seed))
    return tmp_path / "hr"


def test_lr_is_made_from_the_cropped_hr(hr: Path) -> None:
    made = benchmarks.load("mine", 2, hr)
    assert (made.kernel, [pair.name for pair in made.pairs]) == (KERNEL, ["a", "b"])
    lr, cropped = made.read(1)
    np.testing.assert_array_equal(cropped, picture(1)[:20, :26])
    np.testing.assert_array_equal(lr, downscale(picture(1)[:20], 2))


def test_pairs_of_one_size_are_files(hr: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="benchmark 'mine': at scale 1 no kernel makes LR from HR; name a folder of LR"
    ):
        benchmarks.load("mine", 1, hr)
    for seed, name in enumerate(("a_LR4.png", "b_LR4.png")):
        write(tmp_path / "lr" / name, picture(seed + 2))
    made = benchmarks.load("mine", 1, hr, tmp_path / "lr")
    lr, whole = made.read(1)
    np.testing.assert_array_equal(whole, picture(1))
    np.testing.assert_array_equal(lr, picture(3))
    write(tmp_path / "lr" / "b_LR4.png", picture(3, 20, 26))
    with pytest.raises(InputError, match=r"LR is 20x26 pixels .* but HR 21x26 at scale 1 needs 21x26"):
        made.read(1)


def test_lr_files_are_used_where_they_exist(hr: Path, tmp_path: Path) -> None:
    for seed, name in ((10, "a.png"), (11, "b.png")):
        write(tmp_path / "lr" / name, picture(seed, 7, 8))
    files = benchmarks.load("mine", 3, hr, tmp_path / "lr")
    lr, cropped = files.read(0)
    assert (files.kernel, cropped.shape) == ("files", (21, 24, 3))
    np.testing.assert_array_equal(lr, picture(10, 7, 8))


def test_the_hash_follows_pixels_and_not_file_formats(hr: Path, tmp_path: Path) -> None:
    write(tmp_path / "same" / "a.bmp", picture(0))
    write(tmp_path / "same" / "b.png", picture(1))
    first, same = benchmarks.load("one", 2, hr), benchmarks.load("two", 2, tmp_path / "same")
    assert (first.hash, first.lr_hash) == (same.hash, same.lr_hash)
    assert benchmarks.load("one", 3, hr).hash != first.hash
    assert benchmarks.load("one", 2, hr, kernel="matlab-bicubic-replicate-float").lr_hash != first.lr_hash

    changed = picture(1)
    changed[20, 25] ^= 128  # a row that cropping removes: models see nothing of it
    write(hr / "b.bmp", changed)
    after = benchmarks.load("one", 2, hr)
    assert after.lr_hash == first.lr_hash
    assert after.hash != first.hash


def test_an_index_and_a_filter_select_images(hr: Path) -> None:
    assert [pair.name for pair in benchmarks.load("mine", 2, hr, exclude=["a*"]).pairs] == ["b"]
    assert len(benchmarks.load("mine", 2, hr)) == 2


def test_lr_files_follow_their_hr_through_the_globs(hr: Path, tmp_path: Path) -> None:
    for name in ("ax2.png", "bx2.png"):
        write(tmp_path / "lr" / name, picture(0, 10, 13))
    (pair,) = benchmarks.load("mine", 2, hr, tmp_path / "lr", include=["*.bmp"], exclude=["bx2*"]).pairs
    assert (pair.name, pair.lr) == ("b", tmp_path / "lr" / "bx2.png")


def test_what_cannot_be_used_is_refused(hr: Path, tmp_path: Path) -> None:
    write(tmp_path / "lr" / "a.png", picture(0, 10, 13))
    with pytest.raises(InputError, match=r"b\.bmp"):
        benchmarks.load("mine", 2, hr, tmp_path / "lr")
    write(tmp_path / "lr" / "b.png", picture(0, 9, 13))
    with pytest.raises(InputError, match=r"b\.png"):
        benchmarks.load("mine", 2, hr, tmp_path / "lr").read(1)
    with pytest.raises(InputError, match=r"a\.png.*smaller than the scale 32"):
        benchmarks.load("mine", 32, hr).read(0)
    with pytest.raises(InputError, match="unknown kernel 'bicubic'"):
        benchmarks.load("mine", 2, hr, kernel="bicubic")
    write(hr / "a.bmp", picture(3))
    with pytest.raises(InputError, match=r"a\.bmp.*a\.png.*share a name"):
        benchmarks.load("mine", 2, hr)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_set14_holds_a_grey_image_and_its_lr_is_our_kernel(scale: int) -> None:
    folder = SHARED / "data" / "Set14" / f"X{scale}"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/Set14")
    files = benchmarks.load("Set14", scale, folder / "HR", folder / "LR", include=["img_003.png"])
    made = benchmarks.load("Set14", scale, folder / "HR", include=["img_003.png"])
    assert files.lr_hash == made.lr_hash
    hr = files.read(0)[1]
    np.testing.assert_array_equal(hr[..., 0], hr[..., 2])


def test_at_a_fraction_hr_is_the_scale_times_lr_exactly(hr: Path, tmp_path: Path) -> None:
    made = benchmarks.load("mine", 2.5, hr)
    lr, cropped = made.read(0)
    np.testing.assert_array_equal(cropped, picture(0)[:20, :25])
    np.testing.assert_array_equal(lr, resize(picture(0)[:20, :25], 1 / 2.5))
    assert lr.shape == (8, 10, 3) and made.lr_sizes == {"a": (8, 10), "b": (8, 10)}
    for seed, name in ((10, "ax2.5.png"), (11, "bx2.5.png")):
        write(tmp_path / "lr" / name, picture(seed, 8, 10))
    np.testing.assert_array_equal(benchmarks.load("mine", 2.5, hr, tmp_path / "lr").read(1)[0], picture(11, 8, 10))
    with pytest.raises(InputError, match=r"smaller than the scale 2\.31, of which whole pixels begin with 231 of HR"):
        benchmarks.load("mine", 2.31, hr).read(0)
