"""Connect to a Ray cluster or start a local one, quiet and closed to strangers.

Ray 2.60 (https://docs.ray.io/en/latest/ray-security/token-auth.html) decides about tokens when it is imported, so the
authentication mode is set in the environment first, and `ray` is only ever imported inside functions.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.ray_private import (
    PATIENT_DRIVER,
    SESSION_BYTES,
    SESSION_FOLDER,
    TUNE_WORKER,
    hush,
    on_loopback,
    read_auth_mode_again,
)
from cluster.ray_watch import Watch
from sr_models.command import interrupt_on_sigterm
from sr_models.errors import InputError, LostError
from sr_models.plugins import absent

CONNECT_TIMEOUT_S = 15.0
"""How long an address may take to let a driver in before it counts as unreachable."""

OBJECT_STORE_BYTES = 200 * 2**20
"""Shared memory of a local cluster's object store; data travel through memory-mapped files, so little is needed."""

TRIAL_SLOT = "trial_slot"
"""The resource that a driver of several workers holds instead of CPUs; the head offers it (`ray start --resources`)."""

TO_COME = "to come"
"""The address of a node that an autoscaler may start."""

LOCAL_SLOTS = 64
"""Slots of a local cluster: more than it can ever run at a time."""

_SOCKET_BYTES = 107
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")

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
    context = ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    print("gcs:", context.address_info["gcs_address"])
except (OSError, ValueError, RuntimeError) as error:
    sys.exit(f"probe: {error}".replace(chr(10), " "))
"""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine of a cluster and what it may hold."""

    address: str
    cpus: int
    gpus: int
    head: bool = False
    memory: int = 0
    """Bytes that Ray has for processes; 0: not known."""

    def holds(self, cpus: int, gpus: float) -> int:
        """How many processes of so many CPUs and GPUs fit; Ray never makes one GPU of shares of two."""
        if not gpus:
            return self.cpus // cpus
        return min(self.cpus // cpus, self.gpus // int(gpus) if gpus >= 1 else self.gpus * int(1 / gpus + 1e-9))


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the cluster offers Ray to place work on, in all and on each node that is alive.

    Attributes:
        slots: how many `TRIAL_SLOT` it has.
        may_add: nodes that an autoscaler may still start, as far as the user has told (`parse_growth`).
    """

    cpus: int
    gpus: int
    nodes: tuple[Node, ...]
    slots: int = 0
    may_add: tuple[Node, ...] = ()

    @property
    def may_have(self) -> tuple[Node, ...]:
        """The nodes that are there, and those that may still come."""
        return (*self.nodes, *self.may_add)


@contextmanager
def connect(
    address: str | None,
    *,
    cpus: int | None = None,
    object_store_bytes: int = OBJECT_STORE_BYTES,
    threads: int = 1,
    allow_anonymous: bool = False,
    may_add: str | None = None,
) -> Iterator[Resources]:
    """A Ray session for the length of the `with` block; it is always shut down at the end.

    Args:
        address: `host:port` of a cluster that runs, or `auto` for the one on this machine; None starts a local one.
        cpus: CPU cores a local cluster offers (>= 1); None: all of them. Not allowed with an address.
        object_store_bytes: size of a local cluster's object store (Ray's least is 75 MiB).
        threads: threads that the numerical libraries of each worker process start with (>= 1).
        allow_anonymous: join a cluster that other machines reach and that asks nobody for a token.
        may_add: nodes that its autoscaler may start (`parse_growth`), those that are up already included.

    Raises:
        InputError: an address of the wrong form, one that does not let us in within `CONNECT_TIMEOUT_S` or lets in
            anyone who reaches it, bad `cpus`.
        LostError: Ray did not start, or its head or this machine's raylet is gone while the block runs.
    """
    if address is not None:
        _check_form(address)
        if cpus is not None:
            raise InputError(f"cpus={cpus}: a cluster at {address!r} has its own; cpus is for a local one (no address)")
    if cpus is not None and cpus < 1:
        raise InputError(f"cpus={cpus}: a local cluster needs at least 1")

    growth = parse_growth(may_add) if may_add else ()
    secure(local=address is None)
    if address is not None:
        gcs = _probe(address)
        if os.environ["RAY_AUTH_MODE"] == "disabled" and not allow_anonymous and not is_loopback(gcs):
            raise InputError(
                f"Ray address {address!r}: the cluster at {gcs} runs code for anyone who reaches it; start its nodes "
                "with RAY_AUTH_MODE=token (docs/cluster.md), or say --allow-anonymous if its network is closed"
            )
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", **PATIENT_DRIVER}
    import ray

    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    environment = worker_environment(threads)
    with ExitStack() as stack:
        if address is None:
            quiet[SESSION_FOLDER] = stack.enter_context(private_folder())
        watch = Watch()
        stack.callback(watch.leave)
        try:
            if address is None:  # "local": a plain init() would join whatever cluster this machine already runs
                with on_loopback(), _environment(environment | {"GLOO_SOCKET_IFNAME": loopback_interface()}):
                    ray.init(
                        address="local",
                        num_cpus=cpus,
                        object_store_memory=object_store_bytes,
                        include_dashboard=False,
                        resources={TRIAL_SLOT: LOCAL_SLOTS},
                        **quiet,
                    )
            else:
                ray.init(address=address, runtime_env={"env_vars": environment}, **quiet)
        except Exception as error:  # a node that is slow to start, for one, is a plain Exception to Ray
            said = " ".join(str(error).split()) or type(error).__name__
            raise LostError(f"Ray {f'at {address} ' if address else ''}did not start: {said}") from None
        hush()
        interrupt_on_sigterm()  # Ray has put a handler of its own there, which aborts
        stack.enter_context(watch)
        found = resources()
        yield replace(found, may_add=still_to_come(growth, found.nodes))


@contextmanager
def private_folder() -> Iterator[str]:
    """A folder for a local cluster's sockets and logs, which nobody else may look into; gone after the `with` block.

    Ray's own is open to everyone. The path of a socket has at most 107 bytes
    (https://man7.org/linux/man-pages/man7/unix.7.html), so a long `TMPDIR` is passed over.

    Raises:
        InputError: there is none to be had.
    """
    given = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    longest = _SOCKET_BYTES - SESSION_BYTES - len("/ray-01234567/r")
    fit = [parent for parent in (given, *_SHORT_FOLDERS) if len(os.fsencode(parent)) <= longest]
    parent = next((parent for parent in fit if os.access(parent, os.W_OK)), None)
    if parent is None:
        raise InputError(
            f"TMPDIR: Ray's sockets take a folder of at most {longest} bytes, not {given!r}, and "
            f"{' and '.join(_SHORT_FOLDERS)} cannot be written; set RAY_TMPDIR to a shorter one"
        )
    folder = tempfile.mkdtemp(prefix="ray-", dir=parent)  # mode 0700
    try:
        yield f"{folder}/r"  # Ray opens the folder it is given to everyone, and cannot open the one above
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a process of Ray's may still be writing its last line


def loopback_interface() -> str:
    """The name of the network interface of 127.0.0.1: `lo`, or `lo0` on macOS."""
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def resources() -> Resources:
    """What the connected cluster offers now; an autoscaled one may change."""
    import ray

    nodes = tuple(
        Node(
            address=node["NodeManagerAddress"],
            cpus=int(node["Resources"].get("CPU", 0)),
            gpus=int(node["Resources"].get("GPU", 0)),
            head="node:__internal_head__" in node["Resources"],
            memory=int(node["Resources"].get("memory", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    )
    return Resources(
        cpus=sum(node.cpus for node in nodes),
        gpus=sum(node.gpus for node in nodes),
        nodes=nodes,
        slots=int(ray.cluster_resources().get(TRIAL_SLOT, 0)),
    )


def on_each_node(function: Callable[..., Any], *arguments: Any) -> list[tuple[str, Any]]:
    """(address, result) of a function that every node calls."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0)(function)
    alive = [node for node in ray.nodes() if node["Alive"]]
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(*arguments)
        for node in alive
    ]
    return [(node["NodeManagerAddress"], found) for node, found in zip(alive, ray.get(asked), strict=True)]


def nodes_without(file: Path) -> list[str]:
    """Addresses of the nodes on which a file is not to be seen."""
    return [address for address, seen in on_each_node(Path.exists, file) if not seen]


def check_plugins(stamps: Mapping[str, str]) -> None:
    """Refuse nodes that lack a plug-in, or have another version of it.

    Args:
        stamps: as of `sr_models.plugins.Table.stamp`; nothing is asked where there are none.

    Raises:
        InputError: there are such nodes.
    """
    answers = on_each_node(absent, stamps) if stamps else []
    lacking = [f"{address}: {lines[0]}" for address, lines in answers if lines]
    if lacking:
        raise InputError(
            f"{len(lacking)} of the cluster's {len(answers)} nodes lack a plug-in: {lacking[0]}; install it there "
            "(docs/extending.md)"
        )


def gpu_bytes(gpus: float) -> int:
    """Memory of the GPU that a worker with so many gets first, or its part of one; waits until a node has it."""
    import ray

    @ray.remote(num_cpus=0, num_gpus=gpus)
    def total() -> int:
        import torch

        return torch.cuda.get_device_properties(0).total_memory

    return int(ray.get(total.remote()) * min(gpus, 1))


def parse_growth(text: str) -> tuple[Node, ...]:
    """Nodes that an autoscaler may start, from "8x16+1,2x64": up to 8 of 16 CPUs and 1 GPU, 2 of 64 CPUs.

    Raises:
        InputError: text of another form.
    """
    nodes: list[Node] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)x(\d+)(?:\+(\d+))?", part.strip())
        if not found or not int(found[1]):
            raise InputError(f"--may-add: expected COUNTxCPUS or COUNTxCPUS+GPUS, such as 8x16+1, got {part.strip()!r}")
        nodes += [Node(address=TO_COME, cpus=int(found[2]), gpus=int(found[3] or 0))] * int(found[1])
    return tuple(nodes)


def still_to_come(growth: Sequence[Node], nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Nodes of `growth` that are not up: an autoscaler that has started them for an earlier run does not start more."""
    left = list(growth)
    for node in nodes:
        came = replace(node, address=TO_COME)  # a head of that shape differs by `head`: no autoscaler started it
        if came in left:
            left.remove(came)
    return tuple(left)


def is_loopback(address: str) -> bool:
    """Whether host:port can only be reached from this machine."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def worker_environment(threads: int = 1) -> dict[str, str]:
    """Environment variables of every worker process: thread counts that do not fight, and a malloc that keeps memory.

    glibc hands large buffers back to the kernel, which costs every training step page faults; these three
    settings must stand before a process starts.
    """
    count = str(threads)
    return {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**30),
        "MALLOC_TOP_PAD_": str(2**26),
        "RAY_USAGE_STATS_ENABLED": "0",
        **TUNE_WORKER,
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
    read_auth_mode_again()


def _check_form(address: str) -> None:
    host, _, port = address.rpartition(":")
    valid = bool(host) and "/" not in host and port.isdecimal() and 0 < int(port) < 65536
    if address != "auto" and not valid:
        raise InputError(f"Ray address {address!r}: expected host:port (such as 10.0.0.5:6379) or auto")


def _probe(address: str) -> str:
    """The address of the cluster's control store, once a driver on this machine got in within `CONNECT_TIMEOUT_S`.

    Raises:
        InputError: it did not.
    """
    command = [sys.executable, "-c", _PROBE, address]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, said = child.communicate(timeout=CONNECT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        said = child.communicate()[1]
        reason = f"no Ray answered within {CONNECT_TIMEOUT_S:.0f} s"
    else:
        if child.returncode == 0:
            return next(line.removeprefix("gcs: ") for line in out.splitlines() if line.startswith("gcs: "))
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
