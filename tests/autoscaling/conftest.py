"""A cluster that grows and shrinks on this machine: a head without CPUs, and Ray's autoscaler with its fake provider.

Ray's own `AutoscalingCluster` begins and ends with `ray stop --force`, which ends every Ray process of the machine, and
looks for a file that the wheel lacks (Ray 2.60). Here the head is started by its own command, with a temporary folder,
port and token of its own, and ended by the mark that its processes inherit: other clusters are left alone.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARK = "SR_AUTOSCALING_TEST"
"""Environment variable that every process of the cluster inherits."""
MOST_NODES = 2
IDLE_SECONDS = 6
SAMPLE_SECONDS = 0.5

# Actors and free CPUs are read from the control store, as Ray's public state API asks a dashboard that is not there.
OBSERVER = """
import json, sys, time
import ray
from ray._private import state
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
while True:
    free = state.available_resources_per_node()
    nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    busy = [i for i, held in nodes.items() if held.get("CPU", 0) > free.get(i, held).get("CPU", 0)]
    known = [(actor["ActorClassName"], actor["Address"]["NodeID"], actor["State"]) for actor in state.actors().values()]
    actors, been = ([one[:2] for one in known if (one[2] == "DEAD") == dead] for dead in (False, True))
    head = next((i for i, held in nodes.items() if "node:__internal_head__" in held), None)
    seen = {"time": time.time(), "head": head, "nodes": list(nodes), "busy": busy, "actors": actors, "been": been}
    with open(sys.argv[3], "a") as file:  # a file of its own: Ray prints warnings of its nodes to any driver's output
        file.write(json.dumps(seen) + "\\n")
    time.sleep(float(sys.argv[2]))
"""


@dataclass
class Cluster:
    """A head that is up, its autoscaler, and somebody who looks at both twice a second."""

    address: str
    environment: dict[str, str]
    seen: Path
    most_nodes: int = MOST_NODES
    idle_seconds: float = IDLE_SECONDS

    def samples(self, since: float = 0.0) -> list[dict[str, Any]]:
        """What the observer has seen from a time on."""
        whole = self.seen.read_text().rpartition("\n")[0].splitlines()
        return [sample for sample in map(json.loads, whole) if sample["time"] >= since]

    def wait_for(self, nodes: int, seconds: float) -> None:
        """Wait until the cluster has that many nodes, the head included."""
        deadline = time.monotonic() + seconds
        while not (samples := self.samples()) or len(samples[-1]["nodes"]) != nodes:
            assert time.monotonic() < deadline, f"not {nodes} nodes within {seconds} s: {samples[-1:]}"
            time.sleep(SAMPLE_SECONDS / 2)


def configuration(address: str) -> dict[str, Any]:
    """What `ray up` would hand to the autoscaler, whole: the provider brings no defaults."""
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "sr-sweep-test",
        "max_workers": MOST_NODES,
        "upscaling_speed": 10.0,
        "idle_timeout_minutes": IDLE_SECONDS / 60,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "launch_multiple": True,
            "foreground_node_launch": True,  # else a slow machine sees a node more than max_workers for a second
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "auth": {},
        "docker": {},
        "head_node_type": "ray.head.default",  # the provider knows its head by this name
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
            "one_cpu": {
                "resources": {"CPU": 1, "object_store_memory": 80 * 2**20},
                "node_config": {},
                "min_workers": 0,
                "max_workers": MOST_NODES,
            },
        },
        "file_mounts": {},
        "cluster_synced_files": [],
        **{f"{name}_commands": [] for name in commands},
    }


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    short = tempfile.mkdtemp(prefix="sr-as-", dir="/tmp")  # short: Ray puts sockets below it
    address = f"{_own_ip()}:{_free_port()}"
    mark = secrets.token_hex(8)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "OMP_", "PYTEST_", "SR_"))}
    environment = {
        **kept,
        MARK: mark,
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    (folder / "autoscaler.json").write_text(json.dumps(configuration(address)))
    # The second version of the autoscaler was seen to bring no node for a placement group on this provider (Ray 2.60).
    versions = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "0"}
    try:
        subprocess.run(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--num-cpus=0"),
                *(f"--port={address.rpartition(':')[2]}", f"--node-ip-address={address.rpartition(':')[0]}"),
                *("--resources", json.dumps({"trial_slot": 64}), "--include-dashboard=false"),
                *(f"--autoscaling-config={folder / 'autoscaler.json'}", f"--temp-dir={short}"),
                *(f"--object-store-memory={100 * 2**20}", "--disable-usage-stats"),
            ],
            env=environment | versions, check=True, timeout=120, stdout=(folder / "start.out").open("wb"),
        )  # fmt: skip
        seen = folder / "seen.jsonl"
        seen.touch()
        with (folder / "observer.log").open("wb") as log:
            watch = [sys.executable, "-c", OBSERVER, address, str(SAMPLE_SECONDS), str(seen)]
            subprocess.Popen(watch, env=environment, stdout=log, stderr=log)
        made = Cluster(address, environment, seen)
        made.wait_for(1, 60)
        yield made
    finally:
        deadline = time.monotonic() + 20
        while pids := _processes(mark):  # again, as one that is about to start another may slip through
            assert time.monotonic() < deadline, f"still running: {pids}"
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        shutil.rmtree(short)


def _processes(mark: str) -> set[int]:
    """Processes that inherited the mark, and their descendants: Ray's agents write their title over the environment."""
    parents, marked = {}, set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state in "ZX":
                continue
            parents[int(entry.name)] = int(parent)
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                marked.add(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    while more := {pid for pid, parent in parents.items() if parent in marked} - marked:
        marked |= more
    return marked


def _own_ip() -> str:
    """The address that the fake provider's nodes will have; importing Ray here would settle its token mode."""
    code = "import ray; print(ray.util.get_node_ip_address())"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])
