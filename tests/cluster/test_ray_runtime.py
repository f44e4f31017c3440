"""A local cluster is closed, quiet and gone afterwards; an address nobody answers is one line, soon."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import ray_runtime
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
    assert folder == os.getcwd()
    assert "OMP_NUM_THREADS" not in os.environ, "the driver's own environment is left alone"

    address = ray.get_runtime_context().gcs_address
    ray_runtime._probe(address)  # a driver with our token is let in
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


LONG_TMPDIR = """
from cluster import ray_runtime
with ray_runtime.connect(None, cpus=1, object_store_bytes=80 * 2**20):
    import ray
    print(ray._private.worker._global_node.get_temp_dir_path())
"""


@pytest.mark.ray
@pytest.mark.timeout(90)
def test_a_long_temporary_folder_is_no_hindrance_and_leaves_nothing(tmp_path: Path) -> None:
    long = tmp_path / ("a" * 60) / ("b" * 40)
    long.mkdir(parents=True)
    done = run(LONG_TMPDIR, tmp_path, TMPDIR=str(long))
    assert (done.returncode, done.stderr) == (0, "")
    used = Path(done.stdout.strip())
    assert used.parts[:2] == ("/", "tmp") and used.name.startswith("ray-") and not used.exists()


def test_a_short_private_folder_is_taken_only_where_sockets_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp/" + "x" * (107 - 66 - len("/tmp/" + "/ray")))
    with ray_runtime.short_folder() as folder:
        assert folder is None
    monkeypatch.setenv("TMPDIR", os.environ["TMPDIR"] + "y")
    monkeypatch.setattr(ray_runtime, "_SHORT_FOLDERS", ("/not there", str(tmp_path)))
    with ray_runtime.short_folder() as folder:
        assert folder is not None and Path(folder).parent == tmp_path and Path(folder).stat().st_mode & 0o777 == 0o700
    assert not Path(folder).exists()
    monkeypatch.setattr(ray_runtime, "_SHORT_FOLDERS", ("/not there",))
    with pytest.raises(InputError, match="cannot be written; set RAY_TMPDIR"), ray_runtime.short_folder():
        pass


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
