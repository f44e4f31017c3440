"""Patch stores on a storage: published once, fetched once a node, checked by hash, and whole after any kill."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.data.build import build_store
from orchestrator.data.shared import fetch_store, publish_store
from orchestrator.data.store import PatchStore
from orchestrator.plan.sources import ImageSource
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> PatchStore:
    """A finished store of four tables."""
    folder = tmp_path_factory.mktemp("built")
    for split, seeds in (("train", (0, 1, 2)), ("val", (3,))):
        (folder / split).mkdir()
        for seed in seeds:
            Image.fromarray(pixels(seed)).save(folder / split / f"{seed}.png")
    train, validation = (ImageSource(hr=str(folder / split)) for split in ("train", "val"))
    return build_store(folder / "store", train=[train], validation=[validation], scale=2)


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(32, 40, 3), dtype=np.uint8)


def tables(names: list[str]) -> list[str]:
    return [name.rpartition("-")[0] for name in names]


def copy_of(store: PatchStore, folder: Path) -> PatchStore:
    shutil.copytree(store.folder, folder / "store")
    return PatchStore.open(folder / "store")


def grow(store: PatchStore, place: Storage, teacher: str) -> None:
    store.add_centroids(teacher, store.centroids_by(lambda lr: lr.repeat_interleave(2, -1).repeat_interleave(2, -2)))
    publish_store(store, place)


def test_a_store_is_published_fetched_and_the_same(place, built, tmp_path, moved, caplog, login):
    key, secret = login
    caplog.set_level(logging.INFO, "orchestrator.storage.mirror")
    publish_store(built, place)
    there = fetch_store(place, built.data_hash, tmp_path / "cache")
    here = PatchStore.open(built.folder)
    assert there.data_hash == here.data_hash and there.folder != here.folder
    batch = {"seed": 1, "step": 2, "batch_size": 4, "patch": 8}
    assert (there.batch(**batch).hr == here.batch(**batch).hr).all()
    assert tables(moved["up"]) == tables(moved["down"]) == ["hr", "lr_x2", "val_hr", "val_lr_x2"]
    publish_store(built, place)
    fetch_store(place, built.data_hash, tmp_path / "cache")
    assert len(moved["up"]) == len(moved["down"]) == 4  # nothing twice
    assert "4 of 4 files, 0.0 of 0.0 MB" in caplog.text and "fetched from" in caplog.text
    assert secret not in caplog.text and "se%2F" not in caplog.text and key not in caplog.text


def test_a_store_that_grew_is_brought_up_to_date(place, built, tmp_path, moved):
    publish_store(built, place)
    first = fetch_store(place, built.data_hash, tmp_path / "cache")
    teacher = "0123456789abcdef"
    grow(copy_of(built, tmp_path), place, teacher)
    grown = fetch_store(place, built.data_hash, tmp_path / "cache")
    assert grown.has_centroids(teacher) and not first.has_centroids(teacher) and grown.folder == first.folder
    centroids = [f"mu_x2_{teacher}", f"mu_lr_x2_{teacher}"]
    assert tables(moved["up"])[4:] == tables(moved["down"])[4:] == centroids


def test_what_two_runs_add_at_once_is_all_there(place, built, tmp_path):
    publish_store(built, place)
    names = ["a" * 16, "b" * 16]
    one, other = (fetch_store(place, built.data_hash, tmp_path / name) for name in names)
    grow(one, place, names[0])
    grow(other, place, names[1])  # it has not heard of the first one
    last = fetch_store(place, built.data_hash, tmp_path / names[0])
    assert all(last.has_centroids(name) for name in names)


def test_what_one_process_of_a_node_adds_survives_that_another_fetches(place, built, tmp_path):
    publish_store(built, place)
    own = fetch_store(place, built.data_hash, tmp_path / "cache")
    own.add_centroids("a" * 16, own.centroids_by(lambda lr: lr.repeat_interleave(2, -1).repeat_interleave(2, -2)))
    assert not fetch_store(place, built.data_hash, tmp_path / "cache").has_centroids("a" * 16)
    publish_store(own, place)
    assert fetch_store(place, built.data_hash, tmp_path / "cache").has_centroids("a" * 16)


def test_hr_of_all_scales_is_carried_and_kept_once(place, built, tmp_path, moved):
    train, validation = (ImageSource(hr=str(built.folder.parents[1] / split)) for split in ("train", "val"))
    x4 = build_store(tmp_path / "store", train=[train], validation=[validation], scale=4)
    for store in (built, x4):
        publish_store(store, place)
    own, own_x4 = (fetch_store(place, store.data_hash, tmp_path / "cache") for store in (built, x4))
    assert tables(moved["up"]) == tables(moved["down"]) == ["hr", "lr_x2", "val_hr", "val_lr_x2", "lr_x4", "val_lr_x4"]
    assert (own.folder / "hr.arrow").stat().st_ino == (own_x4.folder / "hr.arrow").stat().st_ino
    assert own_x4.data_hash == x4.data_hash != own.data_hash


def test_the_same_images_under_other_names_are_published_once(place, built, tmp_path, moved):
    publish_store(built, place)
    shutil.copytree(built.folder.parents[1] / "train", tmp_path / "moved")
    validation = ImageSource(hr=str(built.folder.parents[1] / "val"))
    train = ImageSource(hr=str(tmp_path / "moved"))
    own = build_store(tmp_path / "store", train=[train], validation=[validation], scale=2)
    assert own.data_hash == built.data_hash and own.manifest.products["hr"] != built.manifest.products["hr"]
    publish_store(own, place)
    assert len(moved["up"]) == 4
    grow(own, place, "a" * 16)
    there = fetch_store(place, own.data_hash, tmp_path / "cache")
    assert there.has_centroids("a" * 16) and there.manifest.products["hr"] == built.manifest.products["hr"]


def test_publishing_and_fetching_go_on_after_a_kill(place, built, tmp_path, moved, monkeypatch):
    for direction, act in (
        ("upload", lambda: publish_store(built, place)),
        ("download", lambda: fetch_store(place, built.data_hash, tmp_path / "cache")),
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
                fetch_store(place, built.data_hash, tmp_path / "cache")
        act()
    assert tables(moved["up"]) == sorted(tables(moved["down"])) == ["hr", "lr_x2", "val_hr", "val_lr_x2"]


@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_damaged_copy_is_fetched_again_and_said_so(built, tmp_path, moved, caplog, harm):
    place = Storage.parse(str(tmp_path / "shared"), "x")
    publish_store(built, place)
    hashes = fetch_store(place, built.data_hash, tmp_path / "cache").hashes("train")
    (table,) = (tmp_path / "cache").rglob("lr_x2.arrow")
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.unlink()
    if harm != "delete":
        table.write_bytes(data if harm == "flip" else data[:-9])
    assert fetch_store(place, built.data_hash, tmp_path / "cache").hashes("train") == hashes
    assert tables(moved["down"])[4:] == ["lr_x2"] and table.read_bytes() == (built.folder / "lr_x2.arrow").read_bytes()
    assert (harm == "delete") == ("lr_x2.arrow is not what its manifest says: fetched again" not in caplog.text)


def test_a_damaged_store_is_refused_on_both_sides(built, tmp_path):
    place, cache = Storage.parse(str(tmp_path / "shared"), "x"), tmp_path / "cache"
    copy, data = copy_of(built, tmp_path), (built.folder / "hr.arrow").read_bytes()
    (copy.folder / "hr.arrow").write_bytes(data[:-9] + b"\0" * 9)
    with pytest.raises(InputError, match=r"hr\.arrow has changed since it was sealed"):
        publish_store(copy, place)
    publish_store(built, place)
    (table,) = (tmp_path / "shared").rglob("hr-*.arrow")
    table.write_bytes(data[:-9] + b"\0" * 9)
    with pytest.raises(OSError, match="its sha256 is"):
        fetch_store(place, built.data_hash, cache)
    table.unlink()
    with pytest.raises(InputError, match=r"hr-[0-9a-f]{16}\.arrow is missing; publish it again"):
        fetch_store(place, built.data_hash, cache)
    publish_store(built, place)
    fetch_store(place, built.data_hash, cache)
    name = f"{built.data_hash[:16]}.json"
    manifest = place.read(name)
    place.write(name, manifest[:-9])
    with pytest.raises(InputError, match="it is not JSON"):
        fetch_store(place, built.data_hash, cache)
    values = json.loads(manifest)
    values["products"]["../../evil"] = values["products"]["hr"]
    place.write(name, json.dumps(values).encode())
    with pytest.raises(InputError, match=r"lists '\.\./\.\./evil'"):
        fetch_store(place, built.data_hash, cache)
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.slow
def test_processes_of_a_node_fetch_once(s3, s3_port, built, tmp_path):
    """From a storage of each kind in turn, by the same three processes: each needs seconds to import PyTorch."""
    places = [Storage.parse(str(tmp_path / "shared storage"), "x"), s3(s3_port, f"{tmp_path.name}/a run")]
    code = """
import sys
from pathlib import Path
from orchestrator.data.build import build_store
from orchestrator.data.shared import fetch_store
from orchestrator.storage.uri import Storage
download, count = Storage.download, []
Storage.download = lambda *values, **named: count.append(1) or download(*values, **named)
print("ready", flush=True)
for line in sys.stdin:
    uri, data_hash, cache = line.rstrip("\\n").split("|")
    count.clear()
    store = fetch_store(Storage(uri), data_hash, Path(cache))
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
                process.stdin.write(f"{place.uri}|{built.data_hash}|{tmp_path / f'cache {number}'}\n")
                process.stdin.flush()
            said = [process.stdout.readline().split() for process in crowd]
            assert sorted(int(count) for count, _ in said) == [0, 0, 4], place
            assert {data_hash for _, data_hash in said} == {built.data_hash}
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
        fetch_store(place, built.data_hash, tmp_path / "cache")
    finally:
        os.umask(mask)
    assert (tmp_path / "cache" / "stores").stat().st_mode & 0o777 == 0o700
    for mode in (0o707, 0o770, 0o720):
        (tmp_path / "cache" / "stores").chmod(mode)
        with pytest.raises(InputError, match=r"cache/stores must be yours and closed to others"):
            fetch_store(place, built.data_hash, tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/stores cannot be made: .*; set SR_CACHE to another"):
        fetch_store(place, built.data_hash, tmp_path / "file")
