"""Storage by URI and a node's copies of it: whole files or none, bounded failure, no secret shown, fetched once."""

import http.client
import http.server
import json
import logging
import os
import pickle
import shutil
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
from PIL import Image

from orchestrator.data.shared import fetch_store, publish_store
from orchestrator.data.store import PatchStore, build_store
from orchestrator.plan.sources import ImageSource
from orchestrator.storage import mirror as nodecache
from orchestrator.storage import uri as storage
from orchestrator.storage.mirror import localise, pull_tree, push_tree
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
KEY, SECRET = "AKIATESTTESTTEST", "se/cret+of@ours"


def s3(port: int, prefix: str) -> Storage:
    user = f"{KEY}:se%2Fcret+of%40ours"
    return Storage.parse(f"s3://{user}@bucket/{prefix}?region=us-east-1&endpoint_override=http://127.0.0.1:{port}", "x")


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path) -> Storage:
    """An empty storage of each kind."""
    if request.param == "file":
        return Storage.parse(str(tmp_path / "shared storage"), "x")
    return s3(request.getfixturevalue("s3_port"), f"{tmp_path.name}/a run")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(storage, "PAUSES", (0.01, 0.01, None))


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


def test_a_uri_is_shown_without_its_credentials_everywhere():
    store = s3(9, "run")
    assert store.shown == "s3://***@bucket/run?region=us-east-1&endpoint_override=http://127.0.0.1:9"
    assert repr(store.child("a b")) == f"Storage({store.shown.replace('run?', 'run/a%20b?')!r})"
    assert pickle.loads(pickle.dumps(store)) == store and store.child("x").name == "x"
    assert Storage.parse("gs://b/p", "x").shown == "gs://b/p"
    assert store._hide(f"bad key {KEY}: {SECRET}!") == "bad key ***: ***!"


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


@pytest.mark.parametrize("key", ["../../../escaped", "a/%2E%2E/%2E%2E/b", "/abs", "a//b"])
def test_a_strangers_key_is_never_copied_to_a_place_outside(s3_port, s3_status, tmp_path, key):
    prefix = f"{tmp_path.name}/home"
    assert s3_status("PUT", f"/bucket/{prefix}/good.txt", b"1") == 200
    assert s3_status("PUT", f"/bucket/{prefix}/{key}", b"2") == 200
    with pytest.raises(InputError, match="which is no path below a folder; delete it there"):
        pull_tree(s3(s3_port, prefix), tmp_path / "a" / "b", ["*"])
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {".mirror.lock"}


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


def test_an_upload_that_loses_a_part_leaves_what_was_there(s3_port, tmp_path, monkeypatch):
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


def test_an_object_replaced_while_it_is_read_is_read_again(s3_port, tmp_path, monkeypatch):
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


def test_a_passing_fault_is_tried_again_and_a_lasting_one_named(tmp_path, monkeypatch):
    store, faults = s3(9, "run"), [OSError(f"reset by {KEY}\nmore"), OSError("slow down")]
    monkeypatch.setattr(Storage, "_stat", lambda self, name: None if not faults else throw(faults.pop()))
    assert store.read("a") is None and not faults
    faults += [OSError(f"reset by {KEY}\nmore")] * 4
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


def test_check_names_a_bucket_that_is_not_there(s3_port):
    with pytest.raises(
        InputError,
        match=r"^storage s3://\*\*\*@basket/x\?[^ ]* cannot be used: writing \'probe-[^ ]* failed: .*NO_SUCH_BUCKET",
    ):
        Storage.parse(s3(s3_port, "x").uri.replace("@bucket", "@basket"), "x").check()


@pytest.mark.slow
def test_check_gives_a_dead_endpoint_up(monkeypatch):
    """A port where nobody listens, and one whose listener never answers, on which clients wait for minutes."""
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
    assert SECRET not in str(caught.value) and "se%2F" not in str(caught.value) and KEY not in str(caught.value)


# ---- patch stores


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A finished store of four tables."""
    folder = tmp_path_factory.mktemp("built")
    for split, seeds in (("train", (0, 1, 2)), ("val", (3,))):
        (folder / split).mkdir()
        for seed in seeds:
            Image.fromarray(pixels(seed)).save(folder / split / f"{seed}.png")
    train, validation = (ImageSource(hr=str(folder / split)) for split in ("train", "val"))
    return build_store(folder / "store", train=[train], validation=[validation], scales=(2,)).folder


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(32, 40, 3), dtype=np.uint8)


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
    monkeypatch.setattr(nodecache, "_THREADS", 1)
    return names


def tables(names: list[str]) -> list[str]:
    return [name.rpartition("-")[0] for name in names]


def test_a_store_is_published_fetched_and_the_same(place, built, tmp_path, moved, caplog):
    caplog.set_level(logging.INFO, "orchestrator.storage.mirror")
    publish_store(built, place)
    there = fetch_store(place, tmp_path / "cache")
    here = PatchStore.open(built)
    assert there.data_hash == here.data_hash and there.folder != here.folder
    batch = {"seed": 1, "step": 2, "batch_size": 4, "patch": 8, "scale": 2}
    assert (there.batch(**batch).hr == here.batch(**batch).hr).all()
    assert tables(moved["up"]) == tables(moved["down"]) == ["hr", "lr_x2", "val_hr", "val_lr_x2"]
    publish_store(built, place)
    fetch_store(place, tmp_path / "cache")
    assert len(moved["up"]) == len(moved["down"]) == 4  # nothing twice
    assert "4 of 4 files, 0.0 of 0.0 MB" in caplog.text and "fetched from" in caplog.text
    assert SECRET not in caplog.text and "se%2F" not in caplog.text and KEY not in caplog.text


def test_a_store_that_grew_is_brought_up_to_date(place, built, tmp_path, moved):
    shutil.copytree(built, tmp_path / "store")
    publish_store(tmp_path / "store", place)
    first = fetch_store(place, tmp_path / "cache")
    teacher = "0123456789abcdef"
    PatchStore.open(tmp_path / "store").add_centroids(
        teacher, 2, lambda lr: lr.repeat_interleave(2, -1).repeat_interleave(2, -2)
    )
    publish_store(tmp_path / "store", place)
    grown = fetch_store(place, tmp_path / "cache")
    assert grown.has_centroids(teacher, 2) and not first.has_centroids(teacher, 2) and grown.folder == first.folder
    centroids = [f"mu_x2_{teacher}", f"mu_lr_x2_{teacher}"]
    assert tables(moved["up"])[4:] == tables(moved["down"])[4:] == centroids


def test_publishing_and_fetching_go_on_after_a_kill(place, built, tmp_path, moved, monkeypatch):
    for direction, act in (
        ("upload", lambda: publish_store(built, place)),
        ("download", lambda: fetch_store(place, tmp_path / "cache")),
    ):
        real, calls = getattr(Storage, direction), []

        def killed_at_the_third(*values, real=real, calls=calls, **named):
            calls.append(values)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(*values, **named)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Storage, direction, killed_at_the_third)
            act()
        if direction == "upload":
            with pytest.raises(InputError, match="holds no patch store"):
                fetch_store(place, tmp_path / "cache")
        act()
    assert tables(moved["up"]) == sorted(tables(moved["down"])) == ["hr", "lr_x2", "val_hr", "val_lr_x2"]


@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_damaged_copy_is_fetched_again_and_said_so(built, tmp_path, moved, caplog, harm):
    place = Storage.parse(str(tmp_path / "shared"), "x")
    publish_store(built, place)
    hashes = fetch_store(place, tmp_path / "cache").hashes("train")
    (table,) = (tmp_path / "cache").rglob("lr_x2.arrow")
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.unlink()
    if harm != "delete":
        table.write_bytes(data if harm == "flip" else data[:-9])
    assert fetch_store(place, tmp_path / "cache").hashes("train") == hashes
    assert tables(moved["down"])[4:] == ["lr_x2"] and table.read_bytes() == (built / "lr_x2.arrow").read_bytes()
    assert (harm == "delete") == ("lr_x2.arrow is not what its manifest says: fetched again" not in caplog.text)


def test_a_damaged_store_is_refused_on_both_sides(built, tmp_path):
    place, cache = Storage.parse(str(tmp_path / "shared"), "x"), tmp_path / "cache"
    shutil.copytree(built, tmp_path / "store")
    data = (built / "hr.arrow").read_bytes()
    (tmp_path / "store" / "hr.arrow").write_bytes(data[:-9] + b"\0" * 9)
    with pytest.raises(InputError, match=r"hr\.arrow has changed since it was sealed"):
        publish_store(tmp_path / "store", place)
    publish_store(built, place)
    (table,) = (tmp_path / "shared").rglob("hr-*.arrow")
    table.write_bytes(data[:-9] + b"\0" * 9)
    with pytest.raises(OSError, match="its sha256 is"):
        fetch_store(place, cache)
    table.unlink()
    with pytest.raises(InputError, match=r"hr-[0-9a-f]{16}\.arrow is missing; publish it again"):
        fetch_store(place, cache)
    publish_store(built, place)
    fetch_store(place, cache)
    manifest = place.child("store").read("manifest.json")
    place.write("store/manifest.json", manifest[:-9])
    with pytest.raises(InputError, match="it is not JSON"):
        fetch_store(place, cache)
    values = json.loads(manifest)
    values["products"]["../../evil"] = values["products"]["hr"]
    place.write("store/manifest.json", json.dumps(values).encode())
    with pytest.raises(InputError, match=r"lists '\.\./\.\./evil'"):
        fetch_store(place, cache)
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.slow
def test_processes_of_a_node_fetch_once(s3_port, built, tmp_path):
    """From a storage of each kind in turn, by the same three processes: each needs seconds to import PyTorch."""
    places = [Storage.parse(str(tmp_path / "shared storage"), "x"), s3(s3_port, f"{tmp_path.name}/a run")]
    code = """
import sys
from pathlib import Path
from orchestrator.data.shared import fetch_store
from orchestrator.storage.uri import Storage
download, count = Storage.download, []
Storage.download = lambda *values, **named: count.append(1) or download(*values, **named)
print("ready", flush=True)
for line in sys.stdin:
    uri, cache = line.rstrip("\\n").split("|")
    count.clear()
    store = fetch_store(Storage(uri), Path(cache))
    print(len(count), store.data_hash, flush=True)
"""
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(3)
    ]
    try:
        for process in crowd:
            assert process.stdout.readline() == "ready\n"
        for number, place in enumerate(places):
            publish_store(built, place)
            for process in crowd:  # all have imported everything: now at once
                process.stdin.write(f"{place.uri}|{tmp_path / f'cache {number}'}\n")
                process.stdin.flush()
            said = [process.stdout.readline().split() for process in crowd]
            assert sorted(int(count) for count, _ in said) == [0, 0, 4], place
            assert {data_hash for _, data_hash in said} == {PatchStore.open(built).data_hash}
        for process in crowd:
            process.stdin.close()
        assert [process.wait(60) for process in crowd] == [0, 0, 0]
    finally:
        for process in crowd:
            process.kill()
            process.wait(10)
            process.stdout.close()


def test_a_cache_is_closed_to_others(built, tmp_path):
    place = Storage.parse(str(tmp_path / "shared"), "x")
    publish_store(built, place)
    mask = os.umask(0)
    try:
        fetch_store(place, tmp_path / "cache")
    finally:
        os.umask(mask)
    assert (tmp_path / "cache" / "stores").stat().st_mode & 0o777 == 0o700
    (tmp_path / "cache" / "stores").chmod(0o707)
    with pytest.raises(InputError, match=r"cache/stores must be yours and closed to others"):
        fetch_store(place, tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/stores cannot be made: .*; set SR_CACHE to another"):
        fetch_store(place, tmp_path / "file")


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("SR_CACHE", str(tmp_path))
    assert nodecache.cache_folder() == tmp_path
    monkeypatch.delenv("SR_CACHE")
    monkeypatch.setenv("HOME", "/home/someone")
    assert nodecache.cache_folder() == Path("/home/someone/.cache/sr-sweep")


# ---- folders


def test_an_image_folder_is_mirrored_and_follows_its_source(s3_port, tmp_path, moved, caplog):
    source, cache = s3(s3_port, f"{tmp_path.name}/DIV2K"), tmp_path / "cache"
    with pytest.raises(InputError, match="holds no PNG, JPEG, BMP or TIFF file"):
        localise(source.uri, cache)
    for name in ("a.png", "deep/b.PNG", "c.jpg", "notes.txt"):
        source.write(name, name.encode())
    folder = localise(source.uri, cache)
    assert ImageSource(hr=str(folder)).label == "DIV2K" and sorted(moved["down"]) == ["a.png", "c.jpg", "deep/b.PNG"]
    assert localise(source.uri, cache) == folder and len(moved["down"]) == 3
    source.write("a.png", b"another size")
    source.delete("c.jpg")
    (folder / "deep" / "b.PNG").write_bytes(b"deep/b.PnG")  # the right size
    (folder / "stranger.png").write_bytes(b"")
    assert localise(source.uri, cache) == folder
    assert sorted(moved["down"][3:]) == ["a.png", "deep/b.PNG"] and "stranger.png is not, or no longer" in caplog.text
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"a.png": b"another size", "deep/b.PNG": b"deep/b.PNG"}
    written = b"".join(path.read_bytes() for path in cache.rglob("*") if path.is_file())
    assert SECRET not in caplog.text and KEY not in caplog.text and KEY.encode() not in written


def test_a_folder_of_this_machine_is_its_own_mirror(tmp_path):
    assert localise(tmp_path.as_uri(), tmp_path / "cache") == tmp_path
    with pytest.raises(InputError, match="data source: unknown scheme 'ftp'"):
        localise("ftp://host/x", tmp_path / "cache")


def test_a_run_folder_goes_there_and_comes_back(place, tmp_path, moved):
    here, other = tmp_path / "here", tmp_path / "other"
    for name in ("trials/1/checkpoint.pt", "trials/1/journal.jsonl", "plan.json", "trials/1/.x.12.part", "studies.db"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(name.encode())
    patterns = ["*.pt", "*.jsonl", "*"]
    kept = ["trials/1/checkpoint.pt", "trials/1/journal.jsonl", "plan.json"]
    assert push_tree(here, place, ["*.pt", "*.jsonl", "plan.*"]) == kept == moved["up"]  # in the order of the patterns
    assert push_tree(here, place, ["*.pt", "*.jsonl", "plan.*"]) == []
    assert pull_tree(place, other, patterns) == kept and pull_tree(place, other, patterns) == []
    assert {name: (other / name).read_bytes() for name in kept} == {name: name.encode() for name in kept}
    assert push_tree(other, place, patterns) == []  # what came from there is there

    for version in (b"1234", b"5678"):  # the same size, within the same second
        (here / "plan.json").write_bytes(version)
        assert push_tree(here, place, ["*.pt", "plan.json"]) == ["plan.json"]
        assert pull_tree(place, other, patterns) == ["plan.json"] and (other / "plan.json").read_bytes() == version


def test_what_changed_here_alone_survives_a_pull_and_a_wiped_storage_is_filled_again(place, tmp_path):
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir()
    for name in ("a", "b"):
        (here / name).write_bytes(b"first")
    push_tree(here, place, ["*"])
    pull_tree(place, other, ["*"])
    (here / "a").write_bytes(b"newer, not pushed yet")
    assert pull_tree(place, here, ["*"]) == [] and (here / "a").read_bytes() == b"newer, not pushed yet"
    (other / "a").write_bytes(b"from the other node")
    assert push_tree(other, place, ["*"]) == ["a"]
    assert pull_tree(place, here, ["*"]) == ["a"] and (here / "a").read_bytes() == b"from the other node"
    place.delete("b")
    assert push_tree(here, place, ["*"]) == ["b"]
    elsewhere = Storage.parse(str(tmp_path / "elsewhere"), "x")
    assert push_tree(here, elsewhere, ["*"]) == ["a", "b"]
