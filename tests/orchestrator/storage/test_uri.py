"""Storage by URI: whole files or none, bounded failure, no way out of its folder, no secret shown."""

import http.client
import http.server
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from cluster.secrets import shown
from orchestrator.storage import uri as storage
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
KEY, SECRET = "AKIATESTTESTTEST", "se/cret+of@ours"

pytestmark = pytest.mark.usefixtures("no_waiting")


# ---- names and URIs


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s4://bucket/x", "storage: unknown scheme 's4'; (valid: file, gs, s3)"),
        ("s3://", "a URI starts with s3:// and names a folder"),
        ("s3:/bucket", "a URI starts with s3://"),
        ("file:here", "a URI starts with file://"),
        ("file://host/x", "file:// takes an absolute path alone"),
        ("file:///x?region=a", "file:// takes an absolute path alone"),
        ("s3:///x", "followed by the name of a bucket"),
        ("s3://bucket:9000/x", "followed by the name of a bucket"),
        ("s3://bucket/a/../../b", "a path must not hold '//', '.' or '..'"),
        ("s3://bucket/a/%2E%2E/b", "a path must not hold '//', '.' or '..'"),
        ("s3://bucket//a", "a path must not hold '//', '.' or '..'"),
        ("s3://bucket/a#b", "'#' and brackets must be percent-encoded"),
        ("s3://bucket/a\nb", "control characters"),
        ("s3://bucket/x?regoin=a", "unknown key 'regoin'; did you mean 'region'?"),
        ("s3://bucket/x?region=", "region has no such value"),
        ("s3://bucket/x?scheme=ftp", "scheme has no such value"),
        ("s3://bucket/x?endpoint_override=ftp://host", "endpoint_override is HOST:PORT"),
        ("gs://token@bucket/x", "gs:// takes anonymous@ or nothing"),
        ("gs://bucket/x?region=a", "unknown key 'region'"),
        ("", "a folder or a URI (file://, s3://, gs://) is needed, got ''"),
    ],
)
def test_a_uri_that_cannot_be_used_is_refused_with_the_rule(uri, said):
    with pytest.raises(InputError) as caught:
        Storage.parse(uri, "storage")
    assert said in str(caught.value) and str(caught.value).startswith("storage: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://{KEY}:{SECRET}@bucket/x",  # its slash and its @ are not encoded
        f"s3:/{KEY}:hidden@bucket/x",
        f"s4://{KEY}:hidden@bucket/x",
        f"s3://{KEY}@bucket/hidden@x",
        f"s3://bucket/x?secret_key={SECRET}",
        f"s3://{KEY}:hidden?rest@bucket/x",
        "s3://:hidden@bucket/x",
    ],
)
def test_a_refused_uri_does_not_show_its_secret(uri):
    with pytest.raises(InputError) as caught:
        Storage.parse(uri, "storage")
    assert not any(part in str(caught.value) for part in (SECRET, "hidden", "cret+of", "@ours"))


def test_a_uri_is_shown_without_its_credentials_everywhere(s3, login):
    key, secret = login
    store = s3(9, "run")
    assert store.shown == "s3://***@bucket/run?region=us-east-1&endpoint_override=http://127.0.0.1:9"
    assert repr(store.child("a b")) == f"Storage({store.shown.replace('run?', 'run/a%20b?')!r})"
    assert pickle.loads(pickle.dumps(store)) == store and store.child("x").name == "x"
    assert Storage.parse("gs://b/p", "x").shown == "gs://b/p"
    assert store._hide(f"bad key {key}: {secret}!") == "bad key ***: ***!"


def test_a_text_that_names_a_storage_shows_every_key_that_it_may_have():
    for scheme, keys in storage._QUERY.items():
        text = f"{scheme}://bucket/x?" + "&".join(f"{key}=http" for key in keys)
        assert shown(text) == text


def test_a_path_is_a_storage_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Storage.parse("a b%", "x").folder == tmp_path / "a b%" == Storage.parse("a b%", "x").child("c").folder.parent
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Storage.parse("~/é", "x") == Storage.parse((tmp_path / "é").as_uri(), "x")


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x", "a//b", "./a", "a/.", "a\0b", ".."])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    store = Storage.parse(str(tmp_path / "inside"), "x")
    for act in (
        lambda: store.write(name, b"1"),
        lambda: store.read(name),
        lambda: store.delete(name),
        lambda: store.exists(name),
        lambda: store.child(name),
        lambda: store.download(name, tmp_path / "target"),
        lambda: store.names(name) if name else store.stat(name),
    ):
        with pytest.raises(InputError, match="a relative path without"):
            act()
    assert list(tmp_path.iterdir()) == []


# ---- files


def test_files_go_there_and_come_back(place, tmp_path):
    assert place.names() == {} and place.read("a") is None and not place.exists("a")
    place.delete("a")  # which is not there
    place.write("a/b.txt", b"one")
    place.write("a/b.txt", b"two!")
    place.write("c.json.gz", b"not packed")
    place.write("empty", b"")
    place.write("a/é %41 #?.txt", b"name")
    assert place.read("a/b.txt") == b"two!" and place.read("c.json.gz") == b"not packed" and place.read("empty") == b""
    assert {name: found.size for name, found in place.names().items()} == {
        "a/b.txt": 4, "c.json.gz": 10, "empty": 0, "a/é %41 #?.txt": 4,
    }  # fmt: skip
    assert set(place.names("a")) == {"a/b.txt", "a/é %41 #?.txt"} and set(place.names(recursive=False)) == {
        "c.json.gz", "empty",
    }  # fmt: skip
    assert place.child("a").read("é %41 #?.txt") == b"name" and place.names()["empty"] == place.stat("empty")
    assert abs(place.stat("empty").mtime_ns / 1e9 - time.time()) < 60
    place.delete("empty")
    assert not place.exists("empty") and place.read("a") is None  # a folder is no file
    assert (
        place.download("c.json.gz", tmp_path / "new" / "c") and (tmp_path / "new" / "c").read_bytes() == b"not packed"
    )
    assert not place.download("absent", tmp_path / "absent") and not (tmp_path / "absent").exists()
    with pytest.raises(FileNotFoundError):
        place.upload(tmp_path / "absent", "x")


def test_a_large_file_is_streamed_both_ways(place, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_IN_MEMORY", 7 * 2**20)  # not a multiple of S3's parts
    monkeypatch.setattr(storage, "_CHUNK", 2**20)
    data = np.random.default_rng(0).bytes(23 * 2**20 + 17)  # more than two parts of an S3 upload
    (tmp_path / "big").write_bytes(data)
    place.upload(tmp_path / "big", "big")
    assert place.stat("big").size == len(data)
    assert place.download("big", tmp_path / "back") and (tmp_path / "back").read_bytes() == data


def test_other_bytes_than_expected_are_not_kept(place, tmp_path):
    place.write("a", b"1")
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OSError, match=r"reading 'a' at .* failed: its sha256 is 6b86b273"):
        place.download("a", tmp_path / "a", sha256="0" * 64)
    assert (tmp_path / "a").read_bytes() == b"old" and not list(tmp_path.glob(".*.part"))


def half_written(place: Storage) -> bool:
    """Whether a new version of a file is on its way."""
    if place.folder is not None:
        return any(path.stat().st_size for path in place.folder.glob(".*.part"))
    with urllib.request.urlopen(f"http://{place.uri.rpartition('http://')[2]}/bucket?uploads", timeout=10) as answer:
        return f"<Key>{place._key('file').removeprefix('bucket/')}</Key>".encode() in answer.read()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=lambda sent: sent.name)
def test_a_writer_that_is_stopped_leaves_a_whole_file(place, sent):
    place.write("file", b"old")
    code = (
        "import sys; from orchestrator.storage.uri import Storage; "
        "Storage(sys.stdin.read()).write('file', bytes(2**28))"
    )
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        try:
            writer.stdin.write(place.uri.encode())
            writer.stdin.close()
            while writer.poll() is None and not half_written(place):
                time.sleep(0.002)
            writer.send_signal(sent)
            writer.wait(60)
        finally:
            writer.kill()
            writer.wait(10)
        assert set(place.names()) == {"file"} and place.stat("file").size in (3, 2**28)
        if writer.returncode == -sent:
            assert sent == signal.SIGINT or place.read("file") == b"old"
            return
    pytest.fail("the writer was always faster than the signal")


class Unreliable(http.server.BaseHTTPRequestHandler):
    """A way to an S3 server on which the second part of every upload is lost."""

    protocol_version, port = "HTTP/1.1", 0

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        while self.headers["Transfer-Encoding"] and (size := int(self.rfile.readline(), 16)):
            body += self.rfile.read(size + 2)[:-2]
        if self.headers["Transfer-Encoding"]:
            self.rfile.readline()
            del self.headers["Transfer-Encoding"]  # it goes on in one piece
        if "partNumber=2" in self.path:
            status, headers, answer = 400, {}, b"<Error><Code>InvalidArgument</Code><Message>lost</Message></Error>"
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            status, headers, answer = response.status, dict(response.getheaders()), response.read()
            connection.close()
        self.send_response(status)
        for name in {"Content-Type", "ETag", "Last-Modified"} & set(headers):
            self.send_header(name, headers[name])
        self.send_header("Content-Length", headers["Content-Length"] if self.command == "HEAD" else str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

    def log_message(self, *_):
        """Nothing: a test's output is for its faults."""


def test_an_upload_that_loses_a_part_leaves_what_was_there(s3_port, tmp_path, monkeypatch, s3):
    straight = s3(s3_port, tmp_path.name)
    straight.write("file", b"old")
    handler = type("Handler", (Unreliable,), {"port": s3_port})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as between:
        threading.Thread(target=between.serve_forever, daemon=True).start()
        try:
            crooked = s3(between.server_port, tmp_path.name)
            assert crooked.read("file") == b"old"
            with pytest.raises(OSError, match=r"writing 'file' at .* failed: When uploading part .* Message: lost"):
                crooked.write("file", bytes(2**25))
        finally:
            between.shutdown()
    assert straight.read("file") == b"old"


def test_an_object_replaced_while_it_is_read_is_read_again(s3_port, tmp_path, monkeypatch, s3):
    store = s3(s3_port, tmp_path.name)
    store.write("a", b"first version")
    opened, real = [], Storage._open

    def replaced_behind_our_back(self, name):
        stream = real(self, name)
        if not opened:
            store.write("a", b"second")
        opened.append(name)
        return stream

    monkeypatch.setattr(Storage, "_open", replaced_behind_our_back)
    assert store.download("a", tmp_path / "a") and (tmp_path / "a").read_bytes() == b"second" and len(opened) == 2


# ---- what fails


def test_a_passing_fault_is_tried_again_and_a_lasting_one_named(tmp_path, monkeypatch, s3, login):
    key, _ = login
    store, faults = s3(9, "run"), [OSError(f"reset by {key}\nmore"), OSError("slow down")]
    monkeypatch.setattr(Storage, "_stat", lambda self, name: None if not faults else throw(faults.pop()))
    assert store.read("a") is None and not faults
    faults += [OSError(f"reset by {key}\nmore")] * 4
    with pytest.raises(OSError) as caught:
        store.read("a")
    assert len(faults) == 1 and str(caught.value) == f"reading 'a' at {store.shown} failed: reset by ***"
    faults[:] = [PermissionError("no")] * 2
    with pytest.raises(OSError, match="failed: no"):
        store.read("a")
    assert len(faults) == 1


def throw(error: Exception):
    raise error


def test_check_leaves_nothing_behind(place):
    place.check()
    assert place.names() == {}


def test_check_refuses_what_cannot_be_written_in_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"^storage file://.*/file/run cannot be used: writing .*Not a directory"):
        Storage.parse(str(tmp_path / "file" / "run"), "x").check()


def test_check_names_a_bucket_that_is_not_there(s3_port, s3):
    with pytest.raises(
        InputError,
        match=r"^storage s3://\*\*\*@basket/x\?[^ ]* cannot be used: writing \'probe-[^ ]* failed: .*NO_SUCH_BUCKET",
    ):
        Storage.parse(s3(s3_port, "x").uri.replace("@bucket", "@basket"), "x").check()


@pytest.mark.slow
def test_check_gives_a_dead_endpoint_up(monkeypatch, s3, login):
    """A port where nobody listens, and one whose listener never answers, on which clients wait for minutes."""
    key, secret = login
    monkeypatch.setattr(storage, "CHECK_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dead = s3(silent.getsockname()[1], "run")
        began = time.monotonic()
        with pytest.raises(InputError) as caught:
            dead.check()
        assert str(caught.value) == f"storage {dead.shown} did not answer within 2 s"
        assert time.monotonic() - began < 6
    monkeypatch.setattr(storage, "CHECK_SECONDS", 20)
    with pytest.raises(InputError) as caught:
        dead.check()
    assert "\n" not in str(caught.value) and time.monotonic() - began < 30
    assert secret not in str(caught.value) and "se%2F" not in str(caught.value) and key not in str(caught.value)
