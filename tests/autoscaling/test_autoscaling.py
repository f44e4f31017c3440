"""A sweep on a cluster that starts with a head alone: nodes come for its trials, do the work, and leave.

Run by `make test-cluster`, which shows the number of nodes over time.
"""

import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL
from orchestrator.run.roles import read_roles
from orchestrator.run.winners import read_winners

SWEEP_SECONDS = 300
"""Longest one sweep may take; an idle machine of two cores needs a fifth."""
LEAVE_SECONDS = 60
"""Longest that idle nodes may stay after a sweep; they are to go after the cluster's idle time."""
COLUMN_SECONDS = 1.0
TUNE_ACTOR = "ImplicitFunc"
"""What Tune calls the class of an actor that runs a function, here a trial or the driver of one."""
TRAIN = {"steps": 40, "batch_size": 4, "patch": 8, "lr": 1e-3, "validate_every": 10, "checkpoint_every": 10}

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(SWEEP_SECONDS + 2 * LEAVE_SECONDS + 60)]


@pytest.fixture
def sweep(cluster, tmp_path):
    """Write a tiny config with changes, run it on the cluster; (result of the command, its run folders' parent)."""
    rng = np.random.Generator(np.random.Philox(3))
    for split, count in {"train": 3, "validation": 1, "test": 2}.items():
        (tmp_path / split).mkdir()
        for k in range(count):
            blocks = np.kron(rng.integers(0, 256, (12, 14, 3)), np.ones((4, 4, 1), np.int64))
            Image.fromarray(blocks.astype(np.uint8)).save(tmp_path / split / f"{k}.png")
    config = {
        "name": "grown",
        "objectives": ["l1"],
        "scales": [2],
        "models": {"edsr_baseline": {"channels": 8, "blocks": 1}},
        "data": {
            "train": [{"hr": str(tmp_path / "train")}],
            "validation": [{"hr": str(tmp_path / "validation")}],
            "test": {"toy": {"hr": str(tmp_path / "test")}},
        },
        "train": TRAIN,
    }

    def run(changes: dict[str, Any], *options: str) -> tuple[subprocess.CompletedProcess[str], Path]:
        path, output = tmp_path / "grown.yaml", tmp_path / "runs"
        path.write_text(yaml.safe_dump(config | changes))
        command = [sys.executable, "-m", "orchestrator.sweep", str(path), "--address", cluster.address]
        done = subprocess.run(
            [*command, "--output", str(output), "--storage", f"file://{tmp_path / 'home'}", *options],
            cwd=tmp_path, env=cluster.environment, capture_output=True, text=True, timeout=SWEEP_SECONDS,
        )  # fmt: skip
        return done, output

    return run


def show(title: str, samples: list[dict[str, Any]]) -> None:
    """Print when the number of nodes or of busy ones changed and what was at work, and both as a curve."""
    began = samples[0]["time"]
    print(f"\n\n{title}\n{'seconds':>8} {'nodes':>5} {'busy':>4}  actors on nodes that came")
    for (nodes, busy), same in groupby(samples, lambda one: (len(one["nodes"]), len(one["busy"]))):
        group = list(same)
        names = sorted({name for one in group for name, node in one["actors"] if node != one["head"]})
        print(f"{group[0]['time'] - began:8.1f} {nodes:5} {busy:4}  {', '.join(names)}")
    columns = [list(some) for _, some in groupby(samples, lambda one: int((one["time"] - began) / COLUMN_SECONDS))]
    nodes = [max(len(one["nodes"]) for one in some) for some in columns]
    busy = [max(len(one["busy"]) for one in some) for some in columns]
    for level in range(max(nodes), 0, -1):
        drawn = (
            "#" if level <= at_work else "." if level <= up else " " for up, at_work in zip(nodes, busy, strict=True)
        )
        print(f"{level:>8} |{''.join(drawn)}")
    print(f"          {COLUMN_SECONDS:g} s a column, {samples[-1]['time'] - began:.0f} s in all; # busy, . up")


def step_times(run: Path) -> list[float]:
    """When the trials of the search reported."""
    trials = [RunDir(run).trial(role.fingerprint) for role in read_roles(RunDir(run)) if role.role == "search"]
    return [entry["time"] for trial in trials for entry in journal.steps(journal.read(trial / JOURNAL))]


def holders(actor_class: str, sample: dict[str, Any]) -> set[str]:
    """Nodes that hold an actor of a class."""
    return {node for name, node in sample["actors"] if name == actor_class}


def check_growth(cluster, samples: list[dict[str, Any]], run: Path, worker: str) -> None:
    """From the head alone to all nodes and back; the search's steps were made by actors on the nodes that came."""
    counts = [len(sample["nodes"]) for sample in samples]
    assert (counts[0], max(counts), counts[-1]) == (1, 1 + cluster.most_nodes, 1)
    at_work = [sample for sample in samples if holders(worker, sample)]
    assert all(sample["head"] not in holders(worker, sample) for sample in at_work)
    both = [sample for sample in at_work if len(holders(worker, sample) & set(sample["busy"])) == cluster.most_nodes]
    assert both, "no two nodes were at work at once"
    steps = step_times(run)
    assert steps and at_work[0]["time"] - 1 < min(steps) and max(steps) < at_work[-1]["time"] + 1
    evaluated = {node for name, node in samples[-1]["been"] if name == "ScoringWorker"}
    assert evaluated and samples[0]["head"] not in evaluated

    worked = max(sample["time"] for sample in samples if sample["busy"])
    stayed = min(sample["time"] for sample in samples if sample["time"] > worked and len(sample["nodes"]) == 1) - worked
    print(f"the last node left {stayed:.1f} s after the last work (idle time of the cluster {cluster.idle_seconds} s)")
    assert stayed > cluster.idle_seconds - 1, "left, but not for being idle"


def grow(cluster, sweep, changes: dict[str, Any], title: str, worker: str) -> tuple[list[dict[str, Any]], Path]:
    """A sweep on nodes that come for it: what the observer saw, and the run folder."""
    began = time.time()
    done, output = sweep(changes, "--may-add", f"{cluster.most_nodes}x1")
    assert done.returncode == 0, done.stderr[-3000:]
    cluster.wait_for(1, LEAVE_SECONDS)
    samples = cluster.samples(began)
    show(title, samples)
    [run] = output.glob("grown-*/")
    check_growth(cluster, samples, run, worker)
    return samples, run


def test_without_leave_to_add_nodes_a_trial_that_cannot_be_placed_is_refused(sweep):
    done, output = sweep({"search": {"trials": 2}})
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    refused = done.stderr.splitlines()[-1]
    assert "a trial needs 1 CPU and 0 GPUs on one node" in refused and "--may-add" in refused
    assert not list(output.glob("grown-*"))
    print(f"\n{refused}")

    done, _ = sweep({"search": {"trials": 2}, "resources": {"cpus_per_worker": 2}}, "--may-add", "2x1")
    assert done.returncode == 2 and "a trial needs 2 CPUs" in done.stderr, "nor on the nodes that may come"
    print(done.stderr, end="")


def test_nodes_come_for_a_sweep_work_and_leave(cluster, sweep):
    """Teacher, centroids, search, winners and evaluation each start whether or not a CPU is there."""
    changes = {
        "objectives": {"eco": {"search": ["target.length"]}, "expectation": {"search": ["sigma.beta"]}},
        "teacher": {"hyper": {"channels": 8, "blocks": 2}, "train": {"steps": 20}},
        "train": TRAIN | {"steps": 500, "validate_every": 50},  # the first is not to be done before a second node is up
        "search": {"trials": 3, "startup_trials": 2, "first_rung": 1},
        "seeds": 2,
    }
    _, run = grow(cluster, sweep, changes, "one worker of one CPU a trial", worker=TUNE_ACTOR)
    assert len(read_winners(run / "winners.json")) == 2
    assert len(list(run.glob("evaluation/*.parquet"))) == 1 + 2 * 2, "bicubic, and two combinations of two seeds"


def test_a_trial_of_two_workers_brings_two_nodes_at_once(cluster, sweep):
    changes = {
        "objectives": ["kd"],  # its teacher brings the nodes, which are still there when the search begins
        "teacher": {"hyper": {"channels": 8, "blocks": 2}, "train": {"steps": 20}},
        "search": {"trials": 2, "common": ["train.lr"]},
        "seeds": 1,
        "resources": {"workers_per_trial": 2},
    }
    samples, run = grow(cluster, sweep, changes, "two workers of one CPU a trial", worker="RayTrainWorker")
    drivers = set.union(*(holders(TUNE_ACTOR, sample) | holders("Verdicts", sample) for sample in samples))
    assert drivers == {samples[0]["head"]}, "who waits for workers stays where no node can leave under it"
    asked = next(sample["time"] for sample in samples if holders("TrainController", sample))
    there = next(sample["time"] for sample in samples if len(sample["nodes"]) == 1 + cluster.most_nodes)
    print(f"both nodes were up {there - asked:.1f} s after the first trial asked for them")
    assert len(list(run.glob("evaluation/*.parquet"))) == 2
