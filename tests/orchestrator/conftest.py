"""An S3 server on the loopback, for tests of what talks to a bucket."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest


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
