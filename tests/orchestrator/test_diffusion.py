"""Diffusion networks through the commands: planned, searched, trained, drawn from and scored beside bicubic."""

import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from orchestrator.run.folder import RunDir
from orchestrator.run.records import TRIAL, TrialRecord
from orchestrator.run.winners import read_winners
from sr_models.checkpoints.folder import CheckpointInfo

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


NETWORK = {"channels": 8, "mults": [1], "attention": [], "blocks": 1, "dropout": 0.1, "groups": 4}


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """A sweep of a network of a few thousand parameters on five small pictures."""
    for i, (split, count) in enumerate({"train": 2, "validation": 2, "test": 1}.items()):
        (tmp_path / split).mkdir()
        for k in range(count):
            blocks = np.random.Generator(np.random.Philox(10 * i + k)).integers(0, 256, (8, 9, 3))
            pixels = np.kron(blocks, np.ones((4, 4, 1), np.int64)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / f"{k}.png")
    folders = {split: str(tmp_path / split) for split in ("train", "validation", "test")}
    return {
        "name": "noise",
        "scales": [2],
        "models": {"sr3": NETWORK},
        "objectives": {"ddpm": {}, "dream": {}},
        "data": {split: [{"hr": folders[split]}] for split in ("train", "validation")}
        | {"test": {"toy": {"hr": folders["test"]}, "far": {"hr": folders["test"], "scale": 3}}},
        "train": {"steps": 8, "batch_size": 2, "patch": 8, "lr": 1e-3, "validate_every": 4, "checkpoint_every": 4},
        "process": {"T": 40, "beta_end": 0.3},
        "validation": {"images": 1, "crop": 16, "steps": 2},
        "search": {"trials": 2},
        "evaluation": {"metrics": ["psnr_y", "ssim_y"], "draws": 2, "sampling": {"sampler": "ddim", "steps": 3}},
    }


def test_ddpm_and_a_searched_dream_come_to_scores_of_drawn_pictures(tmp_path: Path, config, command) -> None:
    path, output = tmp_path / "noise.yaml", tmp_path / "runs"
    path.write_text(yaml.safe_dump(config))
    planned = command("orchestrator.sweep", str(path), "--output", str(output), "--dry-run")
    assert "x2/sr3/dream  2 trials of loss.p" in planned
    assert "sr3/ddpm draws a picture in 3 passes, in 2 for a validation" in planned
    command("orchestrator.sweep", str(path), "--output", str(output))

    [run] = map(RunDir, output.glob("noise-*/"))
    rows = [row for file in run.evaluation.glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    scored = {row["combination"]: row for row in rows if row["benchmark"] == "toy"}
    assert scored.keys() == {"x2/bicubic/-", "x2/sr3/ddpm", "x2/sr3/dream"}
    far = {row["combination"]: row for row in rows if row["benchmark"] == "far"}
    assert far.keys() == {"x3/bicubic/-", "x2/sr3/ddpm", "x2/sr3/dream"}, "a network that takes any scale"
    assert {name: row["trained_scale"] for name, row in far.items()} == {
        "x3/bicubic/-": None, "x2/sr3/ddpm": 2, "x2/sr3/dream": 2,
    }  # fmt: skip
    assert {row["scale"] for row in far.values()} == {3} and np.isfinite([row["psnr_y"] for row in far.values()]).all()
    assert far["x2/sr3/ddpm"]["protocol"] == "classical-y-b3-n2+ddim3"
    board = (run.path / "leaderboard.md").read_text()
    assert "×3 (trained ×2), classical-y-b3-n2" in board and "×2, classical-y-b2-n2" in board
    far_pictures = {path.name for path in run.pictures.glob("*far*")}
    assert far_pictures >= {"board_far_x3_trained_x2.png", "comparison_far_x3.png"}
    for name, row in scored.items():
        drawn = name != "x2/bicubic/-"
        assert row["protocol"].endswith("+ddim3") == drawn and row["deterministic"] != drawn
        assert row["draws"] == (2 if drawn else 1) and np.isfinite(row["psnr_y"])
    for name, winner in read_winners(run.winners).items():
        trial = TrialRecord.read(run.trial(winner.fingerprints[0]) / TRIAL).trial_config()
        assert (trial.process.T, trial.sampling.steps, trial.measured.crop) == (40, 2, 16), name
        assert CheckpointInfo.read(run.trial(winner.fingerprints[0]) / "model").process == trial.process
    assert list(run.pictures.glob("*x2*.png"))


@pytest.mark.long
def test_one_idm_of_all_scales_is_scored_at_a_fraction_as_eval_scores_it(tmp_path: Path, config, command) -> None:
    config["models"] = {"idm": NETWORK | {"features": 8, "encoder_blocks": 1, "highest_scale": 4}}
    config["objectives"] = ["ddpm"]
    config["data"]["test"]["half"] = {"hr": str(tmp_path / "test"), "scale": 2.5}
    config["train"] |= {"scales": {"low": 1, "high": 4}}
    path, output = tmp_path / "noise.yaml", tmp_path / "runs"
    path.write_text(yaml.safe_dump(config))
    said = command("orchestrator.sweep", str(path), "--output", str(output))
    assert "×2.5 (trained ×2), classical-y-b3-n2: psnr_y" in said and "x2/idm/ddpm is trained at ×1 to ×4" in said

    [run] = map(RunDir, output.glob("noise-*/"))
    files = [pq.read_table(file).to_pylist() for file in run.evaluation.glob("*.parquet")]
    [ours] = [row for rows in files for row in rows if (row["scale"], row["combination"]) == (2.5, "x2/idm/ddpm")]
    assert ours["trained_scale"] == 2 and ours["protocol"] == "classical-y-b3-n2+ddim3" and ours["height"] == 30
    assert {f"{name}_half_x2.5" for name in ("comparison", "draws", "l_std")} <= {
        p.stem for p in run.pictures.iterdir()
    }
    weights = run.trial(ours["fingerprint"]) / "model"
    command(
        "eval", "--model", "idm", "--scale", "2.5", "--weights", str(weights), "--hr", str(tmp_path / "test"),
        "--draws", "2", "--sampler", "ddim", "--steps", "3", "--parquet", str(tmp_path / "rows.parquet"),
    )  # fmt: skip
    [row] = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    for name in ("lr_sha256", "hr_sha256", "protocol", "weights_sha256", "scale", "trained_scale"):
        assert row[name] == ours[name], name
    assert row["psnr_y"] == pytest.approx(ours["psnr_y"], abs=1e-3)


@pytest.mark.long
def test_a_search_for_a_front_is_killed_and_goes_on_to_its_board(tmp_path: Path, config, command) -> None:
    """Two metrics steer; twins that differ in sampling steps alone are trained in one folder, one after the other."""
    search = {"sampling.steps": [4, 2], "process.beta_end": [0.3, 0.4]}
    config |= {
        "objectives": {"dream": {"search": search}},
        "search": {"trials": 4, "metric": ["psnr_y", "l_std"], "startup_trials": 2},
        "validation": {"images": 1, "crop": 16, "draws": 2},
        "evaluation": config["evaluation"] | {"sampling": {"sampler": "ddim"}},
        "resources": {"max_concurrent": 1},
    }
    path, output = tmp_path / "noise.yaml", tmp_path / "runs"
    path.write_text(yaml.safe_dump(config))
    asked = ["orchestrator.sweep", str(path), "--output", str(output)]
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-m", *asked], **nowhere) as first:
        while not list(output.glob("shared/searches/*.json")):  # its first trial has been told
            assert first.poll() is None
            time.sleep(0.1)
        first.kill()
    said = command(*asked)
    [run] = map(RunDir, output.glob("noise-*/"))
    [won] = read_winners(run.winners).values()
    assert "run again" not in command(*asked) and read_winners(run.winners) == {"x2/sr3/dream": won}
    points = {tuple(point.params[name] for name in search) for point in won.front.points}
    assert points == set(itertools.product(*search.values())), "a finite space is walked"
    assert f"front of x2/sr3/dream: {len(won.front.front)} of 4 trials that ran in full, hypervolume" in said
    rows = [row for file in run.evaluation.glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    drawn = {row["protocol"].rpartition("+")[2] for row in rows if row["fingerprint"]}
    assert drawn == {f"ddim{won.params['sampling.steps']}"}
    assert (run.pictures / "front_x2.png").exists()
