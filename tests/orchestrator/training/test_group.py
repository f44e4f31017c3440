"""A node that goes away under a trial over two workers costs seconds and no result: real nodes, one of them killed."""

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import ray.train

import sr_models
from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.plan.resources import ResourceConfig
from orchestrator.run import journal
from orchestrator.run.access import LocalAccess
from orchestrator.run.journal import JOURNAL
from orchestrator.training import group, worker
from sr_models.checkpoints.folder import save_checkpoint

ROOT = Path(__file__).resolve().parents[3]


def test_the_only_worker_left_of_a_group_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fit` holds the trial for all of its workers, also for one alone: it took itself for a trial's only worker."""
    plan = make_plan(load("quick"))
    config = plan.trial(plan.combinations[0], {}, 1, "1" * 64, None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("name: mine\n")
    access = LocalAccess(tmp_path / "mine")
    worlds: list[int] = []

    def run_trial(*_: Any, **given: Any) -> None:
        worlds.append(given["world"])

    monkeypatch.setattr(worker, "run_trial", run_trial)
    monkeypatch.setattr(LocalAccess, "open_store", lambda *_: None)
    alone = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(ray.train, "get_context", lambda: alone)
    crew = worker.Crew(access, ResourceConfig(workers_per_trial=2, min_workers=1), "cpu", steered=False)
    with access.claimed(config.fingerprint):
        group._loop(crew, config.model_dump(mode="json"), "", math.inf)
    assert worlds == [1]


LOSE_A_NODE = """
import json, sys, time
from pathlib import Path
from cluster import ray_runtime

given = json.loads(sys.argv[1])
ray_runtime.secure(local=True)
import ray
import torch
from ray.cluster_utils import Cluster

from orchestrator.training import in_full as workers
from orchestrator.plan.resources import ResourceConfig
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.run.access import LocalAccess
from orchestrator.run.budget import Budget, Meter
from orchestrator.data.build import build_store
from orchestrator.run.folder import STORES, RunDir
from orchestrator.plan.sources import ImageSource
from orchestrator.training.loop import run_trial
from objectives import resolve

run = RunDir(Path(given["run"]))
run.path.mkdir()
run.config.write_text("name: lost\\n")
images = [ImageSource(hr="skimage:", include=(name,)) for name in ("coffee.png", "chelsea.png")]
store = build_store(run.at(STORES), train=images[:1], validation=images[1:], scale=2)
trial = TrialConfig(
    model="edsr_baseline", scale=2, hyper={"channels": 8, "blocks": 1}, objective=resolve("l1"),
    train=TrainConfig(steps=given["steps"], batch_size=4, patch=16, lr=3e-4, validate_every=50, checkpoint_every=10),
    seed=1, protocol="classical", metrics=("psnr_y",), data_hash=store.data_hash,
)
torch.set_num_threads(1)  # as each worker does: several wait for each other on a busy machine
alone = run_trial(trial, store, lambda *_: "continue", out_dir=run.path / "alone")

cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 0, "resources": {"trial_slot": 2}, "include_dashboard": False},
)
nodes = [cluster.add_node(num_cpus=1) for _ in range(given["nodes"])]
try:
    with ray_runtime.connect(cluster.address, allow_anonymous=False) as found:
        assert found.slots == 2 and found.cpus == given["nodes"], found
        lost = None

        def progress(step):
            global lost
            if lost is None and step >= 100:
                free = ray._private.state.available_resources_per_node()
                busy = [node for node in nodes if free.get(node.node_id, {}).get("CPU", 0) < 1]
                cluster.remove_node(busy[-1], allow_graceful=False)
                lost = step

        resources = ResourceConfig(workers_per_trial=2, min_workers=given["min_workers"], placement="spread")
        about, meter = (LocalAccess(run.path), resources), Meter(Budget(), 0)
        began = time.monotonic()
        [result] = workers.run_in_full([trial], *about, "cpu", progress, meter, at_a_time=lambda: 1)
        took = time.monotonic() - began
finally:
    cluster.shutdown()
print(json.dumps({
    "fingerprint": trial.fingerprint, "status": result.status, "cause": result.cause, "metrics": result.metrics,
    "alone": alone.metrics, "lost_after_step": lost, "seconds_in_all": round(took, 1),
}))
"""


@pytest.mark.cluster
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    ("nodes", "min_workers"), [(3, None), (2, 1)], ids=["a spare node takes over", "one worker is left"]
)
def test_a_node_lost_under_a_trial_over_two_workers(tmp_path, nodes, min_workers):
    given = {"run": str(tmp_path / "run"), "steps": 400, "nodes": nodes, "min_workers": min_workers}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", LOSE_A_NODE, json.dumps(given)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=260,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["status"], said["cause"]) == ("complete", None)
    assert said["lost_after_step"] < given["steps"]
    for name, value in said["alone"].items():
        if name != "train.seconds":
            assert said["metrics"][name] == pytest.approx(value, abs=1e-3 if "psnr" in name else 1e-5), name
    entries = journal.read(tmp_path / "shared" / "trials" / said["fingerprint"][:16] / JOURNAL)
    heard = journal.steps(entries)
    assert [entry["step"] for entry in heard] == list(range(50, given["steps"] + 1, 50))
    pause = max(b["time"] - a["time"] for a, b in itertools.pairwise(heard))
    print({**said, "longest_pause_between_reports_s": round(pause, 1)})
    assert pause > 1, "nothing was lost"


SEARCH_LOSES_A_NODE = """
import json, os, subprocess, sys, time
from pathlib import Path
from cluster import ray_runtime

root, home = Path(sys.argv[1]), Path(sys.argv[1]) / "home"
ray_runtime.secure(local=True)
import ray
from ray.cluster_utils import Cluster

cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 0, "resources": {"trial_slot": 4}, "include_dashboard": False},
)
nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
command = [sys.executable, "-m", "orchestrator.sweep", str(root / "lost.yaml"), "--address", cluster.address,
           "--storage", home.as_uri(), "--output", str(root / "runs")]
try:
    with (root / "out").open("w") as out:
        sweep = subprocess.Popen(command, stdout=out, stderr=out)
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    lost = False
    while sweep.poll() is None:
        time.sleep(0.2)
        lines = sum(path.read_text().count('"step"') for path in home.glob("shared/trials/*/journal.jsonl"))
        if not lost and lines >= 3:
            free = ray._private.state.available_resources_per_node()
            busy = [node for node in nodes if free.get(node.node_id, {}).get("CPU", 0) < 1]
            if busy:
                cluster.remove_node(busy[-1], allow_graceful=False)
                lost = True
finally:
    ray.shutdown()
    cluster.shutdown()
print(json.dumps({"rc": sweep.returncode, "lost": lost}))
"""
LOST_YAML = """
name: lost
models: {edsr_baseline: {channels: 8, blocks: 1, init: START}}
objectives: {expectation: {search: [sigma.beta]}}
data:
  train: [{hr: "skimage:", include: [coffee.png]}]
  validation: [{hr: "skimage:", include: [chelsea.png]}]
  test: {rocket: {hr: "skimage:", include: [rocket.jpg]}}
train: {steps: 240, batch_size: 4, patch: 16, validate_every: 40, checkpoint_every: 20}
search: {trials: 3, first_rung: 0.3}
resources: {workers_per_trial: 2}
"""


@pytest.mark.cluster
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(290)
def test_a_search_over_two_workers_a_trial_loses_a_node_and_tells_every_trial_once(tmp_path):
    """On a storage, from given weights: what each rank needs comes from there, also after it was placed anew."""
    hyper = {"channels": 8, "blocks": 1}
    start = {"model": "edsr_baseline", "scale": 2, "hyper": hyper, "sigma": None, "ema": False, "fingerprint": None}
    save_checkpoint(tmp_path / "start", sr_models.build("edsr_baseline", 2, **hyper), **start)
    (tmp_path / "lost.yaml").write_text(LOST_YAML.replace("START", str(tmp_path / "start")))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SR_"))}
    done = subprocess.run(
        [sys.executable, "-c", SEARCH_LOSES_A_NODE, str(tmp_path)],
        cwd=ROOT, env=environment | {"SR_CACHE": str(tmp_path / "cache")}, capture_output=True, text=True, timeout=270,
    )  # fmt: skip
    said, out = json.loads(done.stdout.splitlines()[-1]), (tmp_path / "out").read_text()
    assert said == {"rc": 0, "lost": True}, out[-3000:]
    [run] = (tmp_path / "runs").glob("lost-*/")
    storage = optuna.storages.RDBStorage(f"sqlite:///{run / 'studies.db'}")
    [study] = storage.get_all_studies()
    trials = storage.get_all_trials(study._study_id)
    storage.engine.dispose()
    assert len(trials) == 3 and {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    for trial in trials:
        path = tmp_path / "home" / "shared" / "trials" / trial.user_attrs["fingerprint"][:16] / JOURNAL
        entries = journal.read(path)
        steps = [entry["step"] for entry in journal.steps(entries)]
        assert steps == list(range(40, steps[-1] + 1, 40)) == sorted(trial.intermediate_values)
        assert journal.end(entries)["status"] == {"COMPLETE": "complete", "PRUNED": "stopped"}[trial.state.name]
    assert not list((tmp_path / "cache" / "outputs").glob("*/*/ranks/*")), "a rank's copy goes when it ends"
    assert "lost-" in out and "×2, classical-y-b2" in out
