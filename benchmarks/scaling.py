"""`python -m benchmarks.scaling`: what a sweep of many trials costs besides their training.

One sweep of small networks on generated pictures, by the command that a user types: seconds a trial, memory of the
driver and of the tracker along the way, what MLflow holds, and how long the same command takes once all is there.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import numpy as np
import yaml
from PIL import Image

from benchmarks.timing import machine, markdown
from orchestrator.plan.read import load
from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL
from orchestrator.run.roles import read_roles

STEPS = 2
"""Of a trial: nothing that would be called training."""

MODELS = 5
"""Of the combinations; the rest of the factor are objectives."""


@dataclass
class Watched:
    """One run of the command."""

    seconds: float = 0.0
    resident: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """driver, tracker -> (seconds since the start, resident bytes), once a second."""


def write_config(folder: Path, combinations: int, trials: int, workers: int | None) -> Path:
    """A config of so many combinations, with so many proposals and one winner in full each, and its pictures."""
    pixels = np.random.default_rng(0)
    for name in ("train", "validation", "test"):
        (folder / name).mkdir()
        for number in range(2):
            small = pixels.integers(0, 256, (12, 12, 3), np.uint8)
            Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).save(folder / name / f"{number}.png")
    objectives = range(combinations // MODELS)
    config = {
        "name": "scaling",
        "models": {f"m{i}": {"model": "edsr_baseline", "channels": 2 + i, "blocks": 1} for i in range(MODELS)},
        "objectives": {
            f"o{i}": {"target": "hr", "loss": {"kind": "charbonnier", "eps": 1e-3 * (i + 1)}, "search": []}
            for i in objectives
        },
        "data": {
            "train": [{"hr": str(folder / "train")}],
            "validation": [{"hr": str(folder / "validation")}],
            "test": {"pictures": {"hr": str(folder / "test")}},
        },
        "train": {"steps": STEPS, "batch_size": 2, "patch": 8, "validate_every": STEPS, "checkpoint_every": STEPS},
        "search": {"trials": trials, "common": ["train.lr"], "first_rung": 1.0},
        "resources": {"max_concurrent": workers},
        "evaluation": {"metrics": ["psnr_y"]},
    }
    path = folder / "scaling.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def watch(command: Sequence[str], log: Path) -> Watched:
    """Run a command to its end. Raises CalledProcessError if it fails."""
    made, began = Watched(), time.monotonic()
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as driver:
        while driver.poll() is None:
            for name, pid in (("driver", driver.pid), *(("tracker", pid) for pid in _trackers(driver.pid))):
                if size := _resident(pid):
                    made.resident.setdefault(name, []).append((time.monotonic() - began, size))
            time.sleep(1)
    made.seconds = time.monotonic() - began
    if driver.returncode:
        raise subprocess.CalledProcessError(driver.returncode, command, output=log.read_text()[-2000:])
    return made


def _trackers(driver: int) -> Iterator[int]:
    for pid in _children(driver):
        if "orchestrator.tracking" in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
            yield pid


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _resident(pid: int) -> int | None:
    """Bytes in memory of a process, None once it is gone."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def growth(watched: Watched) -> list[list[str]]:
    """A row a process: its memory at quarters of the run, in MB, each the median of the tenth before."""
    rows = []
    for name, samples in watched.resident.items():
        sizes = [size for _, size in samples]
        ends = [max(len(sizes) * part // 4, 1) for part in (1, 2, 3, 4)]
        tenth = max(len(sizes) // 10, 1)
        rows.append([name, *(f"{statistics.median(sizes[max(end - tenth, 0) : end]) / 1e6:.0f}" for end in ends)])
    return rows


def delivered(output: Path) -> dict[str, int]:
    """MLflow's runs: their number by role, and how many are still said to run."""
    client = mlflow.MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    counts: Counter[str] = Counter()
    token: str | None = None
    while token != "":
        page = client.search_runs(ids, max_results=1000, page_token=token)
        counts.update(found.data.tags.get("role", "no role") for found in page)
        counts.update("still running" for found in page if found.info.status == "RUNNING")
        token = page.token or ""
    return dict(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--combinations", type=int, default=50, help="rows of the table (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=19, help="proposals a row, beside its winner (default: 19)")
    parser.add_argument("--workers", type=int, help="trials at a time (default: what the machine holds)")
    parser.add_argument("--output", type=Path, help="an empty folder that is kept (default: a temporary one)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(given.output or Path(temporary), given.combinations, given.trials, given.workers)


def measure(folder: Path, combinations: int, trials: int, workers: int | None) -> None:
    """Run, and print the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    config = write_config(folder, combinations, trials, workers)
    command = [sys.executable, "-m", "orchestrator.sweep", str(config), "--output", str(folder / "runs")]
    first, again = watch(command, folder / "first.log"), watch(command, folder / "again.log")

    run = RunDir(folder / "runs" / load(config).run_name)
    trained = {role.fingerprint for role in read_roles(run)}
    ends = [journal.outcome(journal.read(run.trial(fingerprint) / JOURNAL)) for fingerprint in trained]
    complete = sum(result is not None and result.status == "complete" for result in ends)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(delivered(run.output).items()))
    print(f"{machine()}\n\n{len(trained)} trials of {combinations} combinations, {STEPS} steps each\n")
    print(markdown(["what", "figure"], [
        ["the sweep, s", f"{first.seconds:.0f}"],
        ["s a trial, all in all", f"{first.seconds / len(trained):.2f}"],
        ["trials that came to their end", f"{complete} of {len(trained)}"],
        ["runs in MLflow", counts],
        ["the same command again, s", f"{again.seconds:.1f}"],
    ]))  # fmt: skip
    print()
    print(markdown(["memory, MB, after", "1/4", "2/4", "3/4", "the end"], growth(first)))


if __name__ == "__main__":
    main()
