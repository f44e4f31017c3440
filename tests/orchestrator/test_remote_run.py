"""A sweep whose home is an S3 bucket: nothing is lost with the machine that drove it, and nothing secret is written."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECRET = "wJalrXUtnFEMI-not-a-real-key"
CONFIG = """
name: far
models: {edsr_baseline: {channels: 8, blocks: 1}}
objectives: {l1: {}, kd: {}, expectation: {search: [sigma.beta]}}
teacher: {model: edsr_baseline, hyper: {channels: 8, blocks: 1}, train: {steps: 10}}
data:
  train: [{hr: "TRAIN"}]
  validation: [{hr: "skimage:", include: [chelsea.png]}]
  test: {here: {hr: TESTS}}
train: {steps: 20, batch_size: 4, patch: 16, validate_every: 10, checkpoint_every: 10}
search: {trials: 2}
seeds: 2
"""

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.ray,
    pytest.mark.slow,
]


def board(output: str) -> list[str]:
    return output[output.index("×2, classical") : output.index("rank correlation")].splitlines()


@pytest.mark.timeout(280)
def test_a_run_on_s3_outlives_its_machine(s3_port: int, s3_status: Callable[..., int], tmp_path: Path) -> None:
    photographs = Path(subprocess.run(
        [sys.executable, "-c", "from orchestrator.plan.sources import skimage_folder as f; print(f())"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    ).stdout.strip())  # fmt: skip
    assert s3_status("PUT", "/bucket/photos/coffee.png", (photographs / "coffee.png").read_bytes()) == 200
    (tmp_path / "tests").mkdir()
    shutil.copy(photographs / "rocket.jpg", tmp_path / "tests")
    query = f"endpoint_override=http://127.0.0.1:{s3_port}&region=us-east-1"
    config = CONFIG.replace("TRAIN", f"s3://bucket/photos?{query}").replace("TESTS", str(tmp_path / "tests"))
    (tmp_path / "far.yaml").write_text(config)

    def sweep() -> tuple[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SR_"))}
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator.sweep", str(tmp_path / "far.yaml"), "--output", str(tmp_path / "runs"),
             "--storage", f"s3://bucket/runs?{query}"],
            cwd=ROOT, env=clean | keys | {"SR_CACHE": str(tmp_path / "cache")},
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout, done.stderr

    first, said = sweep()
    [run] = (tmp_path / "runs").glob("far-*")
    trained = {path: path.read_bytes() for path in run.parent.glob("shared/trials/*/journal.jsonl")}
    assert len(trained) == 1 + 2 + 3 * 2, "a teacher, two search trials, and three combinations with two seeds"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert SECRET not in first + said

    for folder in ("runs", "cache"):
        shutil.rmtree(tmp_path / folder)
    again, _ = sweep()
    assert board(again) == board(first)
    assert {path: path.read_bytes() for path in run.parent.glob("shared/trials/*/journal.jsonl")} == trained
