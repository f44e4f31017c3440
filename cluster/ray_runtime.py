"""Connect to a Ray cluster or start a local one, quiet and closed to strangers.

Ray 2.60 (https://docs.ray.io/en/latest/ray-security/token-auth.html) decides about tokens when it is imported, so the
authentication mode is set in the environment first, and `ray` is only ever imported inside functions.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sr_models.errors import InputError

CONNECT_TIMEOUT_S = 15.0
"""How long an address may take to let a driver in before it counts as unreachable."""

OBJECT_STORE_BYTES = 200 * 2**20
"""Shared memory of a local cluster's object store; data travel through memory-mapped files, so little is needed."""

# A throw-away driver that leaves again. `ray.init` on a dead address ends its process with SIGTERM after two minutes
# (measured, Ray 2.60), so a child that can be given up tries first. The socket answers the common case at once.
_PROBE = """
import socket, sys
address = sys.argv[1]
try:
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), 5).close()
    import ray
    ray.init(address=address, logging_level="ERROR", log_to_driver=False)
except (OSError, ValueError, RuntimeError) as error:
    sys.exit(f"probe: {error}".replace(chr(10), " "))
"""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine of a cluster and what it may hold."""

    address: str
    cpus: int
    gpus: int


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the cluster offers: CPU cores and GPUs that Ray may place work on, in all and on each node that is alive."""

    cpus: int
    gpus: int
    nodes: tuple[Node, ...]


@contextmanager
def connect(
    address: str | None,
    *,
    cpus: int | None = None,
    object_store_bytes: int = OBJECT_STORE_BYTES,
    threads: int = 1,
) -> Iterator[Resources]:
    """A Ray session for the length of the `with` block; it is always shut down at the end.

    Args:
        address: `host:port` of a cluster that runs, or `auto` for the one on this machine; None starts a local one.
        cpus: CPU cores a local cluster offers (>= 1); None: all of them. Not allowed with an address.
        object_store_bytes: size of a local cluster's object store (Ray's least is 75 MiB).
        threads: threads that the numerical libraries of each worker process start with (>= 1).

    Raises:
        InputError: an address of the wrong form, one that does not let us in within `CONNECT_TIMEOUT_S`, bad `cpus`.
    """
    if address is not None:
        _check_form(address)
        if cpus is not None:
            raise InputError(f"cpus={cpus}: a cluster at {address!r} has its own; cpus is for a local one (no address)")
    if cpus is not None and cpus < 1:
        raise InputError(f"cpus={cpus}: a local cluster needs at least 1")

    secure(local=address is None)
    if address is not None:
        _probe(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    environment = worker_environment(threads)
    try:
        if address is None:  # "local": a plain init() would join whatever cluster this machine already runs
            with _environment(environment):
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    object_store_memory=object_store_bytes,
                    include_dashboard=False,
                    **quiet,
                )
        else:
            ray.init(address=address, runtime_env={"env_vars": environment}, **quiet)
        yield resources()
    finally:
        ray.shutdown()


def resources() -> Resources:
    """What the connected cluster offers now; an autoscaled one may change."""
    import ray

    nodes = tuple(
        Node(
            address=node["NodeManagerAddress"],
            cpus=int(node["Resources"].get("CPU", 0)),
            gpus=int(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    )
    return Resources(cpus=sum(node.cpus for node in nodes), gpus=sum(node.gpus for node in nodes), nodes=nodes)


def worker_environment(threads: int = 1) -> dict[str, str]:
    """Environment variables of every worker process: thread counts that do not fight, and a malloc that keeps memory.

    glibc hands large buffers back to the kernel, which costs every training step page faults; these three
    settings must stand before a process starts. Tune stays in the working directory, so relative paths keep meaning,
    and waits for a stopped trial's last line: one that outlasts Tune's patience of 2 s would cost the next trial.
    """
    count = str(threads)
    return {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**30),
        "MALLOC_TOP_PAD_": str(2**26),
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def secure(*, local: bool) -> None:
    """Settle `RAY_AUTH_MODE` for this process and its children, unless the user has; called before `import ray`.

    A local cluster listens on every interface and whoever reaches it can run code, so it gets a token. The token is
    random, lives in the environment of this process tree alone and is never written to `~/.ray/auth_token`, where it
    would change how the user's other clusters behave. A cluster at an address gets the token the user has for it, if
    there is one. The setting stays for the life of the process, because Ray reads it once.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    has_token = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if local and not has_token:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    in_file = (Path.home() / ".ray" / "auth_token").is_file()
    os.environ["RAY_AUTH_MODE"] = "token" if local or has_token or in_file else "disabled"
    if "ray" in sys.modules:  # imported too early: have it read the mode again, as ray.init does after its own default
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")


def _check_form(address: str) -> None:
    host, _, port = address.rpartition(":")
    valid = bool(host) and "/" not in host and port.isdecimal() and 0 < int(port) < 65536
    if address != "auto" and not valid:
        raise InputError(f"Ray address {address!r}: expected host:port (such as 10.0.0.5:6379) or auto")


def _probe(address: str) -> None:
    """Raise InputError unless a driver on this machine gets into the cluster within `CONNECT_TIMEOUT_S`."""
    command = [sys.executable, "-c", _PROBE, address]
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said = child.communicate(timeout=CONNECT_TIMEOUT_S)[1]
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        said = child.communicate()[1]
        reason = f"no Ray answered within {CONNECT_TIMEOUT_S:.0f} s"
    else:
        if child.returncode == 0:
            return
        lines = said.strip().splitlines()
        own = [line.removeprefix("probe: ") for line in lines if line.startswith("probe: ")]
        reason = (own or lines or [f"exit code {child.returncode}"])[-1]
    if "InvalidAuthToken" in said:
        reason = "the cluster wants another token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
    raise InputError(f"Ray address {address!r}: {reason}")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes started inside, then put back what was there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
