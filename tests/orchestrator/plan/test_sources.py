"""Where images come from: scikit-image's photographs, folders, LR folders paired by name."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from orchestrator.plan.sources import PHOTOGRAPHS, ImageSource, Kernel
from sr_models.errors import InputError
from sr_models.images.matlab import KERNELS


def touch_png(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    return path


def test_skimage_photographs_are_colour_files_of_the_wheel():
    files = ImageSource(hr="skimage:").hr_files()
    assert sorted(file.name for file in files) == sorted(PHOTOGRAPHS)
    for file in files:
        with Image.open(file) as picture:
            assert picture.mode == "RGB" and min(picture.size) >= 300


def test_skimage_is_chosen_from_by_globs():
    source = ImageSource(hr="skimage:", include=("motorcycle_*", "coffee.png"), exclude=("*_right*",))
    assert [file.name for file in source.hr_files()] == ["coffee.png", "motorcycle_left.png"]


def test_skimage_never_offers_the_other_files_of_its_folder():
    with pytest.raises(InputError, match=r"nothing like \['camera.png'\] \(it has: astronaut.png"):
        ImageSource(hr="skimage:", include=("camera.png",)).hr_files()


def test_lr_files_follow_their_hr_through_the_globs(tmp_path):
    for name in "abc":
        touch_png(tmp_path / "hr" / f"{name}.png")
        touch_png(tmp_path / "lr" / f"{name}x2.png")
    source = ImageSource(hr=str(tmp_path / "hr"), lr={2: str(tmp_path / "lr")}, include=("[ab].png",), exclude=("a*",))
    assert source.pairs((2, 4)) == [(tmp_path / "hr/b.png", {2: tmp_path / "lr/bx2.png"})]
    assert source.pairs((4,)) == [(tmp_path / "hr/b.png", {})]


def test_what_the_folders_hold_and_is_not_used_is_told(tmp_path):
    for file in ("hr/a.png", "lr/a.png", "lr/b.png"):
        touch_png(tmp_path / file)
    (tmp_path / "hr/c.gif").touch()
    source = ImageSource(hr=str(tmp_path / "hr"), lr={2: str(tmp_path / "lr")})
    other, surplus = source.left_out((2, 4))
    assert other == f"{tmp_path / 'hr'}: 1 left out, as not PNG, JPEG, BMP, TIFF, WebP or PPM: 'c.gif'"
    assert surplus == f"{tmp_path / 'lr'}: 1 LR image without an HR image left out: 'b.png'"
    assert source.left_out((4,)) == [other]
    assert ImageSource(hr="skimage:").left_out((2,)) == []


def test_an_hr_file_without_lr_is_named(tmp_path):
    for file in ("hr/a.png", "hr/b.png", "lr/a.png"):
        touch_png(tmp_path / file)
    with pytest.raises(InputError, match=r"b\.png"):
        ImageSource(hr=str(tmp_path / "hr"), lr={2: str(tmp_path / "lr")}).pairs((2,))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hr": "x", "exlude": ["a"]}, "data: unknown key 'exlude'; did you mean 'exclude'"),
        ({"hr": ""}, "data.hr: String should have at least 1 character"),
        ({"hr": "x", "lr": {0: "y"}}, "data.lr.0.*greater than or equal to 1"),
        ({"hr": "x", "kernel": "lanczos"}, "data.kernel: .*matlab-bicubic-replicate-u8.*lanczos"),
        ({}, "data.hr: required"),
    ],
)
def test_bad_sources_are_refused_in_one_line(values, message):
    with pytest.raises(InputError, match=message):
        ImageSource.parse(values, "data")


def test_a_missing_folder_is_refused_when_listed(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        ImageSource(hr=str(tmp_path / "nowhere")).hr_files()


def test_kernels_are_those_of_imaging():
    assert set(get_args(Kernel)) == set(KERNELS)


def test_a_plan_lists_files_without_torch_or_skimage():
    code = (
        "import sys; sys.modules['torch'] = None; from orchestrator.plan.sources import ImageSource; "
        "print(len(ImageSource(hr='skimage:').pairs((2,))), 'skimage' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["9", "False"]
