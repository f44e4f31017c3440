"""A teacher's centroids reach the store that all runs of an output share, wherever the run lives."""

from pathlib import Path

import pytest

import sr_models
from orchestrator.data.build import build_store
from orchestrator.plan.config import ResourceConfig, TeacherConfig
from orchestrator.plan.sources import ImageSource
from orchestrator.run.access import Access, LocalAccess, MirroredAccess
from orchestrator.run.folder import STORES
from orchestrator.storage.uri import Storage
from orchestrator.training import teachers
from sr_models.checkpoints.folder import load_checkpoint, save_checkpoint

HYPER = {"channels": 8, "blocks": 1}


@pytest.mark.parametrize("stored", [False, True])
def test_centroids_are_made_by_a_worker_and_found_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    root = Storage.parse(str(tmp_path / "bucket"), "--storage")

    def access(name: str) -> Access:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
        return MirroredAccess(root, name, folder) if stored else LocalAccess(folder)

    first, images = access("first"), [ImageSource(hr="skimage:", include=("coffee.png",))]
    stores = {s: build_store(first.run.at(STORES), train=images, validation=[], scale=s) for s in (2, 4)}
    for store in stores.values():
        first.publish(store)
    net = sr_models.build("edsr_baseline", 2, **HYPER)
    save_checkpoint(
        first.run.path / "teacher", net, model="edsr_baseline", scale=2, hyper=HYPER, sigma=None, ema=False,
        fingerprint=None,
    )  # fmt: skip
    first.push("teacher", ["*"])
    sha, data_hash = load_checkpoint(first.run.path / "teacher")[1].weights_sha256, stores[2].data_hash
    teachers.make_centroids("teacher", first.for_workers(), TeacherConfig(), sha, data_hash, ResourceConfig(), "cpu")
    second = access("second")
    for other in (first, second, second.for_workers()):
        assert other.open_store(data_hash).has_centroids(sha)
        assert not other.open_store(stores[4].data_hash).has_centroids(sha)
        assert other.open_store(data_hash).data_hash == data_hash


def test_tiles_of_a_network_that_they_leave_unchanged_see_as_far_as_it_does(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    access = LocalAccess(folder)
    store = build_store(
        access.run.at(STORES), train=[ImageSource(hr="skimage:", include=("coffee.png",))], validation=[], scale=4
    )
    net = sr_models.build("edsr_baseline", 4, **HYPER)
    save_checkpoint(
        folder / "teacher", net, model="edsr_baseline", scale=4, hyper=HYPER, sigma=None, ema=False, fingerprint=None
    )
    for name, teacher in (("aa" * 32, TeacherConfig()), ("bb" * 32, TeacherConfig(tile=40, tile_overlap=0))):
        teachers.make_centroids("teacher", access, teacher, name, store.data_hash, ResourceConfig(), "cpu")
    made = access.open_store(store.data_hash)
    whole, tiled = (made.batch(seed=0, step=0, batch_size=8, patch=48, teacher=name * 32).mu for name in ("aa", "bb"))
    assert whole is not None and tiled is not None
    off = (255 * (whole - tiled)).abs().round()
    assert off.max() <= 1 and (off > 0).double().mean() < 1e-3, "what rounds another way, and no seam"
