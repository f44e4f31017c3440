"""Pairs of one size (scale 1), as RealSR's, through the commands: patches, teacher, sigma branch, scores, pictures."""

import json
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from orchestrator.run.folder import RunDir
from orchestrator.run.records import TRIAL, TrialRecord

MODELS = {"imdn_as": {"channels": 16, "blocks": 1}, "vdsr": {"channels": 8, "blocks": 2, "color": "rgb"}}

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(600)]


def write_pairs(folder: Path, seeds: range) -> None:
    """HR and LR of 38x46 pixels, no multiples of 4, side by side in one folder, named as RealSR's are."""
    folder.mkdir(parents=True)
    for seed in seeds:
        blocks = np.random.Generator(np.random.Philox(seed)).integers(0, 256, (11, 13, 3))
        fine = np.kron(blocks, np.ones((4, 4, 1), np.int64))
        hr, lr = (
            sum(fine[i : i + 38, j : j + 46] for i in range(start, stop) for j in range(start, stop))
            // (stop - start) ** 2
            for start, stop in ((2, 4), (0, 5))
        )
        for kind, pixels in (("HR", hr), ("LR4", lr)):
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"Canon_{seed:03}_{kind}.png")


def test_a_sweep_over_pairs_of_one_size_comes_to_a_board(tmp_path: Path, command) -> None:
    for i, (split, count) in enumerate({"train": 3, "validation": 1, "test": 2}.items()):
        write_pairs(tmp_path / split, range(10 * i, 10 * i + count))
    only = {"include": ["*_HR.png"]}
    folders = {split: str(tmp_path / split) for split in ("train", "validation", "test")}
    data = {split: [{"hr": folders[split], "lr": {1: folders[split]}, **only}] for split in ("train", "validation")}
    config = {
        "name": "same",
        "scales": [1],
        "models": MODELS,
        "objectives": ["l1", "kd", "expectation"],
        "teacher": {"model": "vdsr", "hyper": {"channels": 8, "blocks": 2}},
        "data": data | {"test": {"toy": {"hr": folders["test"], "lr": folders["test"], **only}}},
        "train": {
            "steps": 20,
            "batch_size": 4,
            "hr_patch": 16,
            "lr": 1e-3,
            "validate_every": 10,
            "checkpoint_every": 10,
        },
        "search": {"trials": 1},
        "evaluation": {"protocol": "imdn-realsr", "metrics": ["psnr_rgb", "ssim_rgb", "psnr_sigma"]},
    }
    path, output = tmp_path / "same.yaml", tmp_path / "runs"
    path.write_text(yaml.safe_dump(config))
    planned = command("orchestrator.sweep", str(path), "--output", str(output), "--dry-run")
    assert "6 combinations" in planned and "4 patches of 16 HR px (16 at x1)" in planned
    assert "teacher at x1: vdsr, trained here for 20 steps" in planned
    command("orchestrator.sweep", str(path), "--output", str(output))

    [run] = map(RunDir, output.glob("same-*/"))
    rows = [row for file in run.evaluation.glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    psnr = {(row["combination"], Path(row["image"]).stem): row["psnr_rgb"] for row in rows}
    cells = {"x1/bicubic/-", *(f"x1/{model}/{name}" for model in MODELS for name in ("l1", "kd", "expectation"))}
    assert set(psnr) == {(cell, f"Canon_{seed:03}_HR") for cell in cells for seed in (20, 21)}
    assert {row["protocol"] for row in rows} == {"imdn-realsr-y-b0"} and {row["kernel"] for row in rows} == {"files"}
    given = {seed: ours(tmp_path / "test", seed) for seed in (20, 21)}
    assert {seed: psnr["x1/bicubic/-", f"Canon_{seed:03}_HR"] for seed in given} == pytest.approx(given)
    assert all((row["psnr_sigma"] is not None) == row["combination"].endswith("/expectation") for row in rows)
    assert list(run.pictures.glob("*x1*.png"))

    trained = [RunDir(run.path).trial(row["fingerprint"]) for row in rows if row["combination"] == "x1/imdn_as/l1"]
    assert TrialRecord.read(trained[0] / TRIAL).trial_config().train.patch == 16
    test = ("--scale", "1", "--hr", folders["test"], "--lr", folders["test"], "--include", "*_HR.png")
    for model, weights in (("bicubic", ()), ("imdn_as", ("--weights", str(trained[0] / "model")))):
        out = tmp_path / f"{model}.json"
        hyper = [word for key, value in MODELS.get(model, {}).items() for word in ("--hyper", f"{key}={value}")]
        command(
            "eval", "--model", model, *weights, *hyper, *test, "--protocol", "imdn-realsr", "--json", str(out),
            "--pictures", str(tmp_path / "pictures" / model),
        )  # fmt: skip
        cell = "x1/bicubic/-" if model == "bicubic" else "x1/imdn_as/l1"
        means = json.loads(out.read_text())["means"]
        assert means["psnr_rgb"] == pytest.approx(fmean(value for (of, _), value in psnr.items() if of == cell))
        assert len(list((tmp_path / "pictures" / model).glob("*_comparison.png"))) == 2


def ours(folder: Path, seed: int) -> float:
    """PSNR of LR against HR over R, G and B, by hand."""
    hr, lr = (np.asarray(Image.open(folder / f"Canon_{seed:03}_{kind}.png"), float) for kind in ("HR", "LR4"))
    return float(10 * np.log10(255**2 / np.square(hr - lr).mean()))
