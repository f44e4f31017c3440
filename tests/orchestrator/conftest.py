"""A node's cache; commands as users give them; an S3 server on the loopback and storages of each kind."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from orchestrator.run import lease
from orchestrator.storage import mirror
from orchestrator.storage import uri as storage
from orchestrator.storage.uri import Storage

ROOT = Path(__file__).resolve().parents[2]
KEY, SECRET = "AKIATESTTESTTEST", "se/cret+of@ours"
COMMAND_SECONDS = 300
"""Longest that a command may take; an idle machine needs a fifth."""


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The node's cache, for tests that do not choose their own: not that of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def command() -> Callable[..., str]:
    """`command("eval", "--model", ...)` runs a module in a process of its own: what it says, once it has ended well."""

    def run(module: str, *arguments: str) -> str:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "PYTEST_"))}
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT, env=inherited, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """The port of an S3 server with one bucket, `bucket`; it takes any credentials."""
    if find_spec("moto") is None:
        pytest.skip("moto, which plays S3, is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                assert _status(port, "PUT", "/bucket") == 200
                break
            except OSError:
                assert time.monotonic() < until and server.poll() is None, "the S3 server did not start"
                time.sleep(0.1)
        yield port
    finally:
        server.kill()
        server.wait(10)


@pytest.fixture
def s3_status(s3_port: int) -> Callable[..., int]:
    """Sends a bare request (method, path, body), past all checks of names; returns its status."""
    return lambda *request: _status(s3_port, *request)


def _status(port: int, method: str, path: str, body: bytes = b"") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"Host": f"127.0.0.1:{port}"})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def login() -> tuple[str, str]:
    """Key and secret of every storage that `s3` makes."""
    return KEY, SECRET


@pytest.fixture
def s3() -> Callable[[int, str], Storage]:
    """Makes the storage at a prefix of the bucket, on the server at a port."""

    def make(port: int, prefix: str) -> Storage:
        user, options = f"{KEY}:se%2Fcret+of%40ours", f"region=us-east-1&endpoint_override=http://127.0.0.1:{port}"
        return Storage.parse(f"s3://{user}@bucket/{prefix}?{options}", "x")

    return make


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path, s3) -> Storage:
    """An empty storage of each kind."""
    if request.param == "file":
        return Storage.parse(str(tmp_path / "shared storage"), "x")
    return s3(request.getfixturevalue("s3_port"), f"{tmp_path.name}/a run")


@pytest.fixture
def no_waiting(monkeypatch):
    """A storage that fails is tried again at once."""
    monkeypatch.setattr(storage, "PAUSES", (0.01, 0.01, None))


@pytest.fixture
def moved(monkeypatch):
    """Names of the files that this process sent to and fetched from storages, in order."""
    names, upload, download = {"up": [], "down": []}, Storage.upload, Storage.download
    monkeypatch.setattr(
        Storage, "upload", lambda self, path, name: names["up"].append(name) or upload(self, path, name)
    )
    monkeypatch.setattr(
        Storage, "download", lambda self, name, *a, **k: names["down"].append(name) or download(self, name, *a, **k)
    )
    monkeypatch.setattr(mirror, "_THREADS", 1)
    return names


@pytest.fixture
def quick_lease(monkeypatch):
    """Signs of life that go and count as gone within a moment; none is remembered from another test."""
    lease._watched.cache_clear()
    for name, seconds in {"LEASE": 0.6, "BEAT": 0.05, "TIE": 0.05, "LOOK": 0.02}.items():
        monkeypatch.setattr(lease, f"{name}_SECONDS", seconds)
