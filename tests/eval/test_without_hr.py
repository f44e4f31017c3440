"""A checkpoint folder says what it is, and LR images without HR are measured by what needs none."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sr_models
from eval.__main__ import main
from eval.rows import read_file
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.images.files import read_image
from sr_models.images.matlab import downscale

HYPER = {"channels": 8, "blocks": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint, and a test set of two images with LR files beside it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name in ("edsr_baseline", "noisy_edsr"):
            net = sr_models.build(name, 2, **HYPER)
            to = tmp_path / name
            save_checkpoint(to, net, model=name, scale=2, hyper=HYPER, sigma=None, ema=False, fingerprint=None)
    random = np.random.default_rng(0)
    for name in ("a", "sub/b"):
        hr = random.integers(0, 256, (32, 40, 3)).astype(np.uint8)
        for kind, pixels in (("HR", hr), ("LR", downscale(hr, 2))):
            path = tmp_path / "mine" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path


def report(folder: Path, *words: object) -> dict:
    assert main([*map(str, words), "--json", str(folder / "report.json")]) == 0
    return json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)


def test_a_checkpoint_folder_needs_neither_model_nor_scale(folder: Path) -> None:
    ask = ("--weights", folder / "edsr_baseline", "--hr", folder / "mine" / "HR")
    bare, said = report(folder, *ask), report(folder, *ask, "--model", "edsr_baseline", "--scale", 2)
    assert (bare["model"], bare["scale"], bare["means"]) == ("edsr_baseline", 2, said["means"])


@pytest.mark.parametrize("name", ["edsr_baseline", "noisy_edsr"])
def test_without_hr_what_is_measured_is_what_it_is_with_hr(name: str, folder: Path, capsys) -> None:
    ask = ("--weights", folder / name, "--lr", folder / "mine" / "LR", "--metrics", "consistency", "--draws", 2)
    kept = ("--parquet", folder / "rows.parquet", "--save-images", folder / "sr")
    found = report(folder, *ask, *kept)
    said = capsys.readouterr()
    assert "no --hr: measured by what needs no HR images alone (consistency)" in said.err and "mean of 2" in said.out
    rows = read_file(folder / "rows.parquet")
    assert [(row["image"], row["hr_sha256"], row["height"], row["width"]) for row in rows] == [
        ("a", None, 32, 40), ("sub/b", None, 32, 40),
    ]  # fmt: skip
    assert read_image(next((folder / "sr").rglob("b.png"))).shape == (32, 40, 3)
    whole = report(folder, *ask, "--hr", folder / "mine" / "HR")
    for key in ("means", "images", "lr_sha256", "protocol", "kernel", "draws", "not_computed"):
        assert found[key] == whole[key], key


def test_a_broken_picture_costs_the_others_nothing(folder: Path, capsys) -> None:
    (folder / "mine" / "LR" / "c.png").write_bytes(b"no")
    ask = ("--weights", folder / "edsr_baseline", "--lr", folder / "mine" / "LR")
    found = report(folder, *ask)
    assert len(found["images"]) == 2 and len(found["refused"]) == 1 and found["lr_sha256"] is None
    assert main([*map(str, ask), "--strict"]) == 2 and "c.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hr", "x"], "give --model, --images, or --weights with a folder or file"),
        (["--hr", "x", "--model", "bicubic"], "--scale is needed; only a checkpoint folder"),
        (["--weights", "FOLDER"], "--hr is needed; only a network's pictures of --lr"),
        (["--images", "x", "--scale", "2", "--lr", "x"], "--hr is needed"),
        (["--weights", "FOLDER", "--lr", "x", "--metrics", "psnr_y"], "--metrics: psnr_y needs HR images (--hr)"),
        (["--weights", "FOLDER", "--lr", "x", "--pictures", "x"], "--pictures compares with HR images"),
    ],
)
def test_what_lacks_is_one_line(words: list[str], said: str, folder: Path, capsys) -> None:
    assert main([str(folder / "edsr_baseline") if word == "FOLDER" else word for word in words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
