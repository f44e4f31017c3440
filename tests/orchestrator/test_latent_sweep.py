"""ResShift through the commands on a tiny frozen autoencoder: killed, resumed, scored; the part in no trial's files."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image

from orchestrator.run import checkpoint
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.folder import RunDir
from orchestrator.run.records import TRIAL, PlanRecord, TrialRecord
from orchestrator.run.winners import read_winners
from sr_models.checkpoints.folder import CheckpointInfo
from sr_models.checkpoints.parts import packed

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

TINY: dict[str, Any] = {
    "channels": 8, "mults": [1, 1], "blocks": 1, "embed": 8, "heads": 2, "mlp_ratio": 2, "attention_window": 2,
    "side": 8, "groups": 4,
}  # fmt: skip


@pytest.mark.long
def test_resshift_under_ddpm_and_under_its_own_shifting(
    stand_in: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    for i, (split, count) in enumerate({"train": 2, "validation": 1, "test": 1}.items()):
        (tmp_path / split).mkdir()
        for k in range(count):
            blocks = np.random.Generator(np.random.Philox(10 * i + k)).integers(0, 256, (12, 12, 3))
            pixels = np.kron(blocks, np.ones((4, 4, 1), np.int64)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / f"{k}.png")
    torch.save(safetensors.torch.load_file(stand_in), tmp_path / "autoencoder_vq_f4.pth")
    config = {
        "name": "latent",
        "scales": [4],
        "models": {"mine": {"model": "resshift", "autoencoder": str(tmp_path / "autoencoder_vq_f4.pth"), **TINY}},
        "objectives": {"ddpm": {}, "resshift": {"loss.T": 3}},
        "data": {split: [{"hr": str(tmp_path / split)}] for split in ("train", "validation")}
        | {"test": {"toy": {"hr": str(tmp_path / "test")}}},
        "train": {
            "steps": 40, "batch_size": 2, "patch": 8, "lr": 1e-3, "ema": 0.9, "validate_every": 20,
            "checkpoint_every": 2,
        },
        "process": {"T": 30, "beta_end": 0.5, "kept": 6},
        "validation": {"images": 1, "crop": 16, "steps": 2},
        "search": {"trials": 1},
        "evaluation": {"metrics": ["psnr_y"], "draws": 2, "sampling": {"steps": 3}},
    }  # fmt: skip
    path, output = tmp_path / "latent.yaml", tmp_path / "runs"
    path.write_text(yaml.safe_dump(config))
    asked = ["orchestrator.sweep", str(path), "--output", str(output)]
    assert f"mine stands on the autoencoder {tmp_path / 'autoencoder_vq_f4.pth'}" in command(*asked, "--dry-run")
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-m", *asked], **nowhere) as first:
        while not list(output.glob(f"shared/trials/*/{CHECKPOINT}")):
            assert first.poll() is None
            time.sleep(0.05)
        first.kill()
    command(*asked)
    assert "already there: 2 of 2 trials" in command(*asked, "--dry-run")

    [run] = map(RunDir, output.glob("latent-*/"))
    sha256 = packed(stand_in)[0]
    assert PlanRecord.read(run.plan).parts == {"mine x4 autoencoder": sha256} and run.init(sha256).exists()
    rows = [row for file in run.evaluation.glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    drawn = {row["combination"]: row["protocol"].rpartition("+")[2] for row in rows if row["fingerprint"]}
    assert drawn == {"x4/mine/ddpm": "ancestral3", "x4/mine/resshift": "resshift3"}
    assert np.isfinite([row["psnr_y"] for row in rows]).all() and {row["weights"] for row in rows} >= {"raw", "ema"}
    for winner in read_winners(run.winners).values():
        folder = run.trial(winner.fingerprints[0])
        info = CheckpointInfo.read(folder / "model_ema")
        assert info.hyper["autoencoder"] is None and info.hyper["autoencoder_sha256"] == sha256
        assert not any("coder" in key for key in checkpoint.load(folder / CHECKPOINT)["model"])
    assert list(run.pictures.glob("comparison_toy_x4.png"))
    trial = read_winners(run.winners)["x4/mine/resshift"].fingerprints[0]
    scored = command("orchestrator.evaluate", "--run", str(run.path), "--trial", trial[:12], "--metrics", "ssim_y")
    assert "ssim_y" in scored
    model = ["--model", "resshift", "--scale", "4", "--weights", str(run.trial(trial) / "model")]
    model += ["--hr", str(tmp_path / "test"), "--part", f"autoencoder={tmp_path / 'autoencoder_vq_f4.pth'}"]
    own = command("orchestrator.evaluate", *model, "--output", str(output / "own"), "--metrics", "psnr_y")
    assert "resshift3" in own


@pytest.mark.long
def test_an_autoencoder_then_its_latents_then_what_is_trained_on_them_and_its_ceiling(
    tmp_path: Path, command: Callable[..., str]
) -> None:
    """One sweep trains the autoencoder that another of its networks works in; a second one finds all of it there."""
    for i, (split, count) in enumerate({"train": 2, "validation": 1, "test": 1}.items()):
        (tmp_path / split).mkdir()
        for k in range(count):
            blocks = np.random.Generator(np.random.Philox(10 * i + k)).integers(0, 256, (13, 12, 3))
            pixels = np.kron(blocks, np.ones((4, 4, 1), np.int64)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / f"{k}.png")
    small = {"channels": 32, "mults": [1, 1, 1], "blocks": 1, "codes": 16}
    config = {
        "name": "world",
        "scales": [4],
        "models": {
            "vq": {"model": "vq_autoencoder", "objectives": ["reconstruction"], **small},
            "mine": {
                "model": "resshift", "objectives": ["ddpm"], "autoencoder": {"from": "x{scale}/vq/reconstruction"},
                **TINY,
            },
        },
        "objectives": ["reconstruction", "ddpm"],
        "data": {split: [{"hr": str(tmp_path / split)}] for split in ("train", "validation")}
        | {"test": {"toy": {"hr": str(tmp_path / "test")}}},
        "train": {"steps": 6, "batch_size": 2, "patch": 8, "lr": 1e-3, "validate_every": 3, "checkpoint_every": 2},
        "process": {"T": 30, "beta_end": 0.5, "kept": 6},
        "validation": {"images": 1, "crop": 16, "steps": 2},
        "search": {"common": [], "trials": 1},
        "evaluation": {"metrics": ["psnr_y"], "draws": 2, "sampling": {"steps": 3}},
    }  # fmt: skip
    path, output = tmp_path / "world.yaml", tmp_path / "runs"
    path.write_text(yaml.safe_dump(config))
    asked = ["orchestrator.sweep", str(path), "--output", str(output)]
    said = " ".join(command(*asked).split())
    assert "ceiling of vq × reconstruction" in said and "HR through that autoencoder and back" in said

    [run] = map(RunDir, output.glob("world-*/"))
    [store] = output.glob("shared/store/*/manifest.json")
    assert {"z_x4", "z_lr_x4"} <= {path.name.rpartition("_")[0] for path in store.parent.glob("*.arrow")}
    winners = read_winners(run.winners)
    vq, mine = (run.trial(winners[f"x4/{name}"].fingerprints[0]) for name in ("vq/reconstruction", "mine/ddpm"))
    assert CheckpointInfo.read(vq / "model").model == "vq_autoencoder"
    trial = TrialRecord.read(mine / TRIAL).trial_config()
    assert trial.latents is not None and (store.parent / f"z_x4_{trial.latents[:16]}.arrow").exists()
    rows = [row for file in run.evaluation.glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    assert {row["combination"] for row in rows} == {
        "x4/bicubic/-", "x4/mine/ddpm", "x4/ceiling of vq/reconstruction"
    }  # fmt: skip
    assert ",ceiling," in (run.path / "leaderboard.csv").read_text()

    photo, large = tmp_path / "test" / "0.png", tmp_path / "large"
    command("orchestrator.upscale", str(run.path), str(photo), "-o", str(large), "--row", "x4/mine/ddpm")
    assert Image.open(large / "0.png").size == tuple(4 * side for side in Image.open(photo).size)

    path.write_text(yaml.safe_dump(config | {"name": "again"}))
    assert "already there: 2 of 2 trials" in command(*asked, "--dry-run")
    made = (store.parent / f"z_x4_{trial.latents[:16]}.arrow").stat().st_mtime_ns
    command(*asked)
    assert (store.parent / f"z_x4_{trial.latents[:16]}.arrow").stat().st_mtime_ns == made
