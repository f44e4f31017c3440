"""A sweep as a Ray job on a head with a token: stopped in the middle, the same line again finishes it."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from orchestrator.run import journal
from orchestrator.run.journal import JOURNAL

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
name: job
models: {edsr_baseline: {channels: 8, blocks: 1}}
objectives: {l1: {}, expectation: {search: [sigma.beta]}}
data:
  train: [{hr: "skimage:", include: [coffee.png]}]
  validation: [{hr: "skimage:", include: [chelsea.png]}]
  test: {rocket: {hr: "skimage:", include: [rocket.jpg]}}
train: {steps: 800, batch_size: 4, patch: 16, validate_every: 100, checkpoint_every: 50}
search: {trials: 2}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What travels with the job: our packages and a config."""
    folder = tmp_path / "project"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    for name in listed.stdout.split("\0"):
        if name.partition("/")[0] in ("orchestrator", "sr_models", "objectives", "eval", "cluster"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "job.yaml").write_text(CONFIG)
    return folder


@pytest.mark.cluster
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_stopped_job_is_resumed_by_the_same_line(head: dict[str, str], project: Path, tmp_path: Path) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(head["ADDRESS"] + "/api/jobs/", timeout=10)

    ray = [str(Path(sys.executable).with_name("ray")), "job"]
    where = ["--address", head["ADDRESS"]]
    sweep = ["--working-dir", ".", "--", "python", "-m", "orchestrator.sweep", "job.yaml"]
    environment = {name: value for name, value in head.items() if name != "ADDRESS"}
    runs = Path(head["HOME"]) / "sr-runs"

    def submit(number: int) -> tuple[subprocess.Popen, Path]:
        out = tmp_path / f"out{number}"  # not in the working directory: a file that grows there spoils the upload
        with out.open("w") as file:
            line = [*ray, "submit", *where, *sweep]
            return subprocess.Popen(line, cwd=project, env=environment, stdout=file, stderr=file), out

    def lines() -> dict[str, list[str]]:
        return {path.parent.name: path.read_text().splitlines() for path in runs.glob(f"shared/trials/*/{JOURNAL}")}

    first, out = submit(1)
    try:
        until = time.monotonic() + 120
        while sum(map(len, lines().values())) < 4:
            assert first.poll() is None and time.monotonic() < until, out.read_text()[-3000:]
            time.sleep(0.2)
        job = next(word.strip("'") for word in out.read_text().split() if word.startswith("'raysubmit_"))
        stopped = subprocess.run(
            [*ray, "stop", *where, job], env=environment, capture_output=True, text=True, timeout=60
        )
        assert f"Job '{job}' was stopped" in stopped.stdout + stopped.stderr
        first.wait(60)  # with 0 in Ray 2.60, although the job did not finish; `cluster.submit` says 130
    finally:
        first.kill()
    before = lines()
    assert "interrupted; go on with: python -m orchestrator.sweep" in out.read_text() and before

    again, out = submit(2)
    try:
        assert again.wait(150) == 0, out.read_text()[-3000:]
    finally:
        again.kill()
    assert "×2, classical-y-b2: psnr_y (dB)" in out.read_text() and "the board in it: http" in out.read_text()
    after = lines()
    for trial, entries in before.items():
        assert after[trial][: len(entries)] == entries, "a step that was journalled was run again"
    for path in runs.glob(f"shared/trials/*/{JOURNAL}"):
        steps = [entry["step"] for entry in journal.steps(journal.read(path))]
        assert steps == sorted(set(steps))
    written = [path for path in [*runs.rglob("*"), *tmp_path.glob("out*")] if path.is_file()]
    secret = Path(head["RAY_AUTH_TOKEN_PATH"]).read_text().strip().encode()
    assert written and not [path for path in written if secret in path.read_bytes()]
