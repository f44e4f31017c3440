"""What a node keeps of a storage: folders that follow their source, files that go back and forth once and whole."""

from pathlib import Path

import pytest

from orchestrator.plan.sources import ImageSource
from orchestrator.storage import mirror as nodecache
from orchestrator.storage.mirror import localise, pull_tree, push_tree
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize("key", ["../../../escaped", "a/%2E%2E/%2E%2E/b", "/abs", "a//b"])
def test_a_strangers_key_is_never_copied_to_a_place_outside(s3_port, s3_status, tmp_path, key, s3):
    prefix = f"{tmp_path.name}/home"
    assert s3_status("PUT", f"/bucket/{prefix}/good.txt", b"1") == 200
    assert s3_status("PUT", f"/bucket/{prefix}/{key}", b"2") == 200
    with pytest.raises(InputError, match="which is no path below a folder; delete it there"):
        pull_tree(s3(s3_port, prefix), tmp_path / "a" / "b", ["*"])
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {".mirror.lock"}


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("SR_CACHE", str(tmp_path))
    assert nodecache.cache_folder() == tmp_path
    monkeypatch.delenv("SR_CACHE")
    monkeypatch.setenv("HOME", "/home/someone")
    assert nodecache.cache_folder() == Path("/home/someone/.cache/sr-sweep")


def test_an_image_folder_is_mirrored_and_follows_its_source(s3_port, tmp_path, moved, caplog, s3, login):
    key, secret = login
    source, cache = s3(s3_port, f"{tmp_path.name}/DIV2K"), tmp_path / "cache"
    with pytest.raises(InputError, match="holds no PNG, JPEG, BMP, TIFF, WebP or PPM file"):
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
    assert secret not in caplog.text and key not in caplog.text and key.encode() not in written


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


def test_what_is_damaged_in_a_copy_that_is_only_read_is_fetched_again(place, tmp_path):
    here, copy = tmp_path / "here", tmp_path / "copy"
    here.mkdir()
    (here / "journal.jsonl").write_bytes(b"a step\n")
    push_tree(here, place, ["*"])
    assert pull_tree(place, copy, ["*"], only_read=True) == ["journal.jsonl"]
    assert pull_tree(place, copy, ["*"], only_read=True) == []
    (copy / "journal.jsonl").write_bytes(b"")
    assert pull_tree(place, copy, ["*"]) == []
    assert pull_tree(place, copy, ["*"], only_read=True) == ["journal.jsonl"]
    assert (copy / "journal.jsonl").read_bytes() == b"a step\n"


def test_what_takes_the_place_of_files_while_they_are_fetched_is_fetched_too(tmp_path, monkeypatch):
    storage, there = Storage.parse(str(tmp_path / "far"), "--storage"), tmp_path / "far"
    for name in "ab":
        (there / name).parent.mkdir(exist_ok=True)
        (there / name).write_text(name)
    download = Storage.download

    def overtaken(self, name, path, **given):
        if not (there / "ab").exists():
            (there / "ab").write_text("ab")
            (there / "a").unlink()
            (there / "b").unlink()
        return download(self, name, path, **given)

    monkeypatch.setattr(Storage, "download", overtaken)
    monkeypatch.setattr(nodecache, "_THREADS", 1)
    assert pull_tree(storage, tmp_path / "here", ["*"]) == ["ab"]
    assert (tmp_path / "here" / "ab").read_text() == "ab"
