"""A local cluster is closed, quiet and gone afterwards; an address nobody answers is one line, soon."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import ray_runtime
from sr_models.command import EXIT_INPUT, EXIT_LOST
from sr_models.errors import InputError

ROOT = Path(__file__).resolve().parents[2]

LOCAL = """
import os
from cluster import ray_runtime
with ray_runtime.connect(None, cpus=2, object_store_bytes=80 * 2**20) as found:
    import ray
    assert (found.cpus, len(found.nodes), found.nodes[0].cpus) == (2, 1, 2), found

    @ray.remote
    def look():
        return open("/proc/self/environ").read().split(chr(0)), os.getcwd()

    started_with, folder = ray.get(look.remote())
    environment = dict(entry.split("=", 1) for entry in started_with if "=" in entry)
    assert environment["MALLOC_TRIM_THRESHOLD_"] == str(2**30) and environment["OMP_NUM_THREADS"] == "1"
    assert environment["RAY_CHDIR_TO_TRIAL_DIR"] == "0" and environment["RAY_AUTH_MODE"] == "token"
    assert environment["GLOO_SOCKET_IFNAME"] == ray_runtime.loopback_interface()
    assert folder == os.getcwd()
    assert found.nodes[0].address == "127.0.0.1"
    assert "OMP_NUM_THREADS" not in os.environ, "the driver's own environment is left alone"

    address = ray.get_runtime_context().gcs_address
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # a driver that takes 127.0.0.1 for its node, as ours does
    ray_runtime._probe(address)  # one with our token is let in
    os.environ.update(RAY_AUTH_TOKEN="0" * 64)
    ray_runtime.CONNECT_TIMEOUT_S = 4.0
    try:
        ray_runtime._probe(address)
    except ray_runtime.InputError as error:
        print(error)
assert not ray.is_initialized()
"""

RAY_IMPORTED_FIRST = """
import ray
from cluster.ray_runtime import connect
try:
    with connect(None, cpus=1, object_store_bytes=80 * 2**20):
        raise KeyError("inside")
except KeyError:
    assert not ray.is_initialized()
"""


def run(code: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with its own home and none of the caller's Ray settings."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") and k != "OMP_NUM_THREADS"}
    environment = {**inherited, "HOME": str(home), "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(90)
def test_local_cluster_is_closed_and_quiet_and_gone_afterwards(tmp_path: Path) -> None:
    done = run(LOCAL, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the cluster wants another token" in done.stdout and done.stdout.count("\n") == 1
    assert not (tmp_path / ".ray").exists(), "no token file left behind"


@pytest.mark.ray
@pytest.mark.timeout(90)
def test_shut_down_on_an_error_and_with_ray_imported_too_early(tmp_path: Path) -> None:
    done = run(RAY_IMPORTED_FIRST, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


FOLDER = """
import os
from pathlib import Path
from cluster import ray_runtime
with ray_runtime.connect(None, cpus=1, object_store_bytes=80 * 2**20):
    import ray
    folder = Path(ray._private.worker._global_node.get_temp_dir_path())
    print(folder, oct(folder.parent.stat().st_mode & 0o777))
"""


@pytest.mark.ray
@pytest.mark.timeout(90)
def test_a_long_temporary_folder_is_no_hindrance_and_nothing_is_left(tmp_path: Path) -> None:
    long = tmp_path / ("a" * 60) / ("b" * 40)
    long.mkdir(parents=True)
    done = run(FOLDER, tmp_path, TMPDIR=str(long))
    assert (done.returncode, done.stderr) == (0, "")
    name, mode = done.stdout.split()
    private = Path(name).parent
    assert private.parent == Path("/tmp") and private.name.startswith("ray-") and not private.exists()
    assert mode == "0o700", "another user would read logs there"


def test_a_private_folder_is_short_enough_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_runtime, "_SHORT_FOLDERS", ("/not there", str(tmp_path)))
    monkeypatch.setattr(ray_runtime, "_SOCKET_BYTES", 66 + 15 + len(str(tmp_path)))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with ray_runtime.private_folder() as folder:
        private = Path(folder).parent
        assert private.parent == tmp_path and private.stat().st_mode & 0o777 == 0o700
        assert len(folder) + ray_runtime.SESSION_BYTES <= ray_runtime._SOCKET_BYTES
    assert not private.exists()
    (tmp_path / "x").mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "x"))
    with ray_runtime.private_folder() as folder:
        assert Path(folder).parent.parent == tmp_path, "the one that was given is too long"
    monkeypatch.setattr(ray_runtime, "_SHORT_FOLDERS", ("/not there",))
    with pytest.raises(InputError, match="cannot be written; set RAY_TMPDIR"), ray_runtime.private_folder():
        pass


LOSE = """
import os, signal, sys
from cluster import ray_runtime
from sr_models.command import run_command

def body(_):
    with ray_runtime.connect(None, cpus=1, object_store_bytes=80 * 2**20):
        import ray
        [lost] = ray._private.worker._global_node.all_processes[sys.argv[1]]

        @ray.remote
        def work():
            import time
            time.sleep(600)

        ref = work.remote()
        ray.wait([ref], timeout=3)
        os.kill(lost.process.pid, signal.SIGKILL)
        print("killed", flush=True)
        if sys.argv[2] == "get":
            ray.get(ref)
        while True:
            ray.wait([ref], timeout=0.5)
            ray.nodes()
    return 0

sys.exit(run_command("prog", body, []))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["get", "poll"])
@pytest.mark.parametrize(("part", "name"), [("raylet", "its raylet"), ("gcs_server", "its head")])
def test_a_ray_that_is_gone_is_noticed_soon_in_one_line(tmp_path: Path, part: str, name: str, how: str) -> None:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-c", LOSE, part, how], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**inherited, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stdout.readline() == "killed\n"
        began = time.monotonic()
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - began < 30
    finally:
        process.kill()
    assert process.returncode == EXIT_LOST
    lost = f"the connection to Ray was lost: {name} is gone"
    own = [line for line in said.splitlines() if not line.startswith("[")]  # Ray's core may log that it lost it too
    assert own in ([f"prog: {lost}"], [f"{lost}; go on with the same command"]), "the latter where a call is stuck"
    assert not left_behind(tmp_path), "workers and the other part end too"


def left_behind(home: Path) -> list[str]:
    """Processes that were started with this home, once they have had time to end."""
    until = time.monotonic() + 40  # Ray's agents look for their raylet every so often
    while True:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().decode().replace("\0", " "))
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.5)


def test_a_ray_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    code = """
import sys
from cluster import ray_runtime
from sr_models.command import run_command
import ray

def init(**_):
    raise Exception("The current node timed out during startup.\\nThis could happen because ...")

def body(_):
    ray.init = init
    with ray_runtime.connect(None, cpus=1):
        pass

sys.exit(run_command("prog", body, []))
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout) == (EXIT_LOST, "")
    assert (
        done.stderr
        == "prog: Ray did not start: The current node timed out during startup. This could happen because ...\n"
    )


def test_no_folder_for_its_sockets_is_wrong_input_and_no_ray_that_does_not_start(tmp_path: Path) -> None:
    code = """
import sys
from cluster import ray_runtime
from sr_models.command import run_command

def body(_):
    ray_runtime._SHORT_FOLDERS = ()
    with ray_runtime.connect(None, cpus=1):
        pass

sys.exit(run_command("prog", body, []))
"""
    done = run(code, tmp_path, RAY_TMPDIR=f"/{'a' * 100}")
    assert (done.returncode, done.stdout) == (EXIT_INPUT, "")
    assert done.stderr.startswith("prog: TMPDIR: Ray's sockets take a folder of at most ")
    assert done.stderr.count("\n") == 1


LISTENING = """
import os, re, subprocess
from pathlib import Path
from cluster import ray_runtime
with ray_runtime.connect(None, cpus=2, object_store_bytes=80 * 2**20):
    import ray
    ray.get([ray.remote(lambda: None).remote() for _ in range(4)])
    home = f"HOME={os.environ['HOME']}".encode()
    for line in subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True).stdout.splitlines():
        for pid in re.findall(r"pid=(\\d+)", line):  # others on this machine have their own
            if home in Path(f"/proc/{pid}/environ").read_bytes().split(b"\\0"):
                print(line.split()[3].replace("::ffff:", ""))
"""


@pytest.mark.ray
@pytest.mark.timeout(90)
@pytest.mark.skipif(shutil.which("ss") is None, reason="ss is not installed")
def test_a_local_cluster_listens_on_loopback(tmp_path: Path) -> None:
    done = run(LISTENING, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = done.stdout.splitlines()
    assert len(found) > 5 and all(one.startswith(("127.0.0.1:", "[127.0.0.1]:", "[::1]:")) for one in found), found


TALK = """
import datetime, os, subprocess, sys
import torch
import torch.distributed as dist
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{sys.argv[2]}", rank=int(sys.argv[1]), world_size=2,
                        timeout=datetime.timedelta(seconds=20))
x = torch.ones(1)
dist.all_reduce(x)
assert x.item() == 2
found = subprocess.run(["ss", "-tnpH"], capture_output=True, text=True).stdout.splitlines()
own = {line.split()[3].rpartition(":")[0] for line in found if f"pid={os.getpid()}," in line}
print("".join(f"{address}\\n" for address in own), end="", flush=True)
dist.barrier()
"""


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_workers_of_a_trial_talk_on_loopback_whatever_the_hosts_name_leads_to(tmp_path: Path) -> None:
    other = next((ip for ip in addresses() if not ip.startswith("127.")), None)
    allowed = subprocess.run(["unshare", "--uts", "true"], capture_output=True, check=False).returncode == 0
    if other is None or not allowed or shutil.which("ss") is None:
        pytest.skip("no second interface, or no right to another host name")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    talk = f'{sys.executable} -c "$0" {{}} {port}'
    done = subprocess.run(
        ["unshare", "--uts", "sh", "-c", f"hostname {other}; {talk.format(0)} & {talk.format(1)}; wait", TALK],
        env=os.environ | {"GLOO_SOCKET_IFNAME": ray_runtime.loopback_interface()},
        capture_output=True, text=True, timeout=50, check=True,
    )  # fmt: skip
    assert {*done.stdout.split()} == {"127.0.0.1", "[::ffff:127.0.0.1]"}, done.stderr


def addresses() -> list[str]:
    return subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()


@pytest.mark.timeout(40)
def test_an_address_nobody_answers_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(InputError, match=f"127.0.0.1:{port}.*refused"), ray_runtime.connect(f"127.0.0.1:{port}"):
        pass
    assert time.monotonic() - start < 5

    monkeypatch.setattr(ray_runtime, "CONNECT_TIMEOUT_S", 2.0)
    with socket.socket() as silent:  # accepts, never speaks
        silent.bind(("127.0.0.1", 0))
        silent.listen(4)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(InputError, match="no Ray answered within 2 s"), ray_runtime.connect(address):
            pass
        assert time.monotonic() - start < 4


@pytest.mark.parametrize("address", ["host", "host:", "host:0", "host:70000", "ray://host:10001", "http://h:1", ":1"])
def test_addresses_of_the_wrong_form(address: str) -> None:
    with pytest.raises(InputError, match="expected host:port"), ray_runtime.connect(address):
        pass


def test_cpus_belong_to_a_local_cluster() -> None:
    with pytest.raises(InputError, match="at least 1"), ray_runtime.connect(None, cpus=0):
        pass
    with pytest.raises(InputError, match="its own"), ray_runtime.connect("auto", cpus=2):
        pass


@pytest.mark.parametrize(
    ("local", "given", "mode"),
    [
        (True, {}, "token"),
        (False, {}, "disabled"),
        (False, {"RAY_AUTH_TOKEN": "a" * 64}, "token"),
        (True, {"RAY_AUTH_MODE": "disabled"}, "disabled"),
    ],
)
def test_authentication_mode(
    local: bool, given: dict[str, str], mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # registers the name, so that what `secure` sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", None)  # the decision, not Ray's reading of it
    del sys.modules["ray"]
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    ray_runtime.secure(local=local)
    assert os.environ["RAY_AUTH_MODE"] == mode
    assert ("RAY_AUTH_TOKEN" in os.environ) == (mode == "token")
    assert not (tmp_path / ".ray").exists()


def test_import_needs_no_ray() -> None:
    done = run("import sys; sys.modules['ray'] = None; import cluster.ray_runtime", Path.home())
    assert done.returncode == 0, done.stderr


def test_growth_is_read() -> None:
    nodes = ray_runtime.parse_growth("2x16+1, 1x64")
    assert [(node.cpus, node.gpus) for node in nodes] == [(16, 1), (16, 1), (64, 0)]
    for text in ("16", "x16", "0x16", "2x16+", "2x16+1gpu", ""):
        with pytest.raises(InputError, match="--may-add: expected COUNTxCPUS"):
            ray_runtime.parse_growth(text)


@pytest.mark.parametrize(
    ("address", "closed"),
    [("127.0.0.1:6379", True), ("localhost:1", True), ("[::1]:1", True), ("10.0.0.5:6379", False), ("head:1", False)],
)
def test_loopback(address: str, closed: bool) -> None:
    assert ray_runtime.is_loopback(address) == closed


@pytest.mark.parametrize(
    ("cpus", "gpus", "held"), [(1, 0, 16), (3, 0, 5), (4, 1, 2), (1, 2, 1), (1, 0.5, 4), (1, 0.6, 2), (8, 0.25, 2)]
)
def test_what_a_node_holds(cpus: int, gpus: float, held: int) -> None:
    assert ray_runtime.Node(address="a", cpus=16, gpus=2).holds(cpus, gpus) == held
