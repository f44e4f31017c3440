"""What headers tell of images: what is left out, what is too small, what is in two splits; nothing is decoded."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.data import look as module
from orchestrator.data.look import look
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.evaluation import ValidationConfig


def save(path: Path, seed: int, height: int = 20, width: int = 24) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("validation", 1), ("test", 1)):
        for i in range(count):
            save(tmp_path / split / f"{i}.png", len(split) * 10 + i)
    return tmp_path


def config(root: Path, **data: Any) -> SweepConfig:
    given = {
        "train": [{"hr": str(root / "train")}], "validation": [{"hr": str(root / "validation")}],
        "test": {"toy": {"hr": str(root / "test")}},
    }  # fmt: skip
    return SweepConfig.parse({"name": "s", "models": ["imdn"], "objectives": ["l1"], "data": given | data}, "test")


def test_what_is_there_is_counted(root: Path) -> None:
    save(root / "train" / "large.png", 9, 60, 80)
    (root / "train" / "a.gif").touch()
    found = look(config(root), {(2, 10)})
    assert found.images[0] == "train: 4 images, 24x20 to 80x60 pixels" and found.faults == ()
    assert found.left_out == (f"{root / 'train'}: 1 left out, as not PNG, JPEG, BMP, TIFF, WebP or PPM: 'a.gif'",)
    trained = 3 * 3 * 20 * 24 + 3 * 3 * 20 * 24 // 4 + 3 * 60 * 80 * 5 // 4
    assert found.store_bytes == {2: (trained + 3 * 20 * 24 * 5 // 4, trained)}


def test_validations_of_more_than_there_is_are_said(root: Path) -> None:
    save(root / "validation" / "large.png", 9, 60, 80)
    asked = config(root).model_copy(update={"validation": ValidationConfig(images=3, crop=24)})
    assert look(asked, {(2, 10)}).left_out == (
        "validation.images: 3 are asked for, and there are 2",
        "validation.crop: 1 of 2 images are smaller than 24 pixels a side, and looked at as far as they go",
    )
    enough = config(root).model_copy(update={"validation": ValidationConfig(images=2, crop=20)})
    assert look(enough, {(2, 10)}).left_out == ()


def no_folder(root: Path) -> None:
    for path in (root / "validation").iterdir():
        path.unlink()


def same_bytes(root: Path) -> None:
    (root / "test" / "copy.png").write_bytes((root / "train" / "1.png").read_bytes())


def no_picture(root: Path) -> None:
    (root / "test" / "x.png").write_text("no picture")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (no_folder, "holds no PNG"),
        (same_bytes, "test images are among the train images: toy/copy (= train/1.png); exclude them from one side"),
        (no_picture, "/x.png': not a PNG, JPEG, BMP, TIFF, WebP or PPM image"),
        (
            lambda root: save(root / "train" / "s.png", 8, 9, 50),
            "does not fit into 1 of 4 images: 's.png'; the largest",
        ),
    ],
)
def test_what_a_run_is_refused_for(root: Path, spoil: Callable[[Path], object], said: str) -> None:
    spoil(root)
    [fault] = look(config(root), {(2, 10)}).faults
    assert said in fault


def test_one_folder_as_train_and_test_is_told_without_reading_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sha256_file", None)
    [fault] = look(config(root, test={"toy": {"hr": str(root / "train")}}), ()).faults
    assert fault.startswith("test images are among the train images: toy/0 (= train/0.png), toy/1 (= train/1.png), ")


def test_pairs_are_looked_at(root: Path) -> None:
    lr = {"lr": {2: str(root / "lr")}}
    for i in range(3):
        save(root / "lr" / f"{i}.png", i, 10, 12)
    given = {"train": [{"hr": str(root / "train")} | lr]}
    assert look(config(root, **given), {(2, 10)}).faults == ()
    save(root / "lr" / "2.png", 2, 10, 11)
    [fault] = look(config(root, **given), ()).faults
    assert fault == "pair 'train/2.png': LR is 11x10 pixels, HR 24x20 at scale 2"
    skipping = look(config(root, on_bad="skip", **given), ())
    assert skipping.faults == () and skipping.left_out == (fault,)
    (root / "lr" / "2.png").unlink()
    [fault] = look(config(root, **given), ()).faults
    assert "has no LR image of the same name" in fault


def test_what_cannot_be_read_is_left_out_where_the_config_says_so(root: Path) -> None:
    (root / "train" / "bad.png").write_text("no picture")
    found = look(config(root, on_bad="skip"), {(2, 10)})
    assert found.faults == () and found.left_out == ("data.train: 1 cannot be read, and are left out: 'bad.png'",)


def test_what_cannot_be_read_is_nobodys_twin(root: Path) -> None:
    for split in ("train", "validation"):
        (root / split / "empty.png").touch()
    (root / "train" / "gone.png").symlink_to(root / "nowhere.png")
    found = look(config(root, on_bad="skip"), ())
    assert found.faults == () and [line.partition(":")[0] for line in found.left_out] == [
        "data.train", "data.validation"
    ]  # fmt: skip


def test_images_at_a_uri_are_left_to_the_run(root: Path) -> None:
    given = {"train": [{"hr": "s3://bucket/train"}]}
    assert (
        look(config(root, **given), ()).left_out[0]
        == "data.train: s3://bucket/train is looked at once a run has fetched it"
    )
    here = {"train": [{"hr": (root / "train").as_uri()}]}
    assert look(config(root, **here), {(2, 11)}, fetch=True).faults[0].startswith("data.train: an LR patch of 11 at x2")


def test_many_are_said_at_once_and_nothing_heavy_is_imported(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(module, "MANY", 4)
    look(config(root), ())
    assert capsys.readouterr().err == "looking at the headers of 5 images\n"
    code = "import sys, orchestrator.ready; print({'torch', 'ray', 'pyarrow', 'optuna', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
