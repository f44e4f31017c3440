"""Centroids are made part by part, whoever makes them, and reach the store that all runs of an output share."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sr_models
from orchestrator.data.build import build_store
from orchestrator.data.store import PatchStore
from orchestrator.plan.sources import ImageSource
from orchestrator.run.access import Access, LocalAccess
from orchestrator.run.folder import STORES
from orchestrator.run.mirrored import MirroredAccess
from orchestrator.storage.uri import Storage
from orchestrator.training import centroids, products
from orchestrator.training.centroids import Job
from sr_models.checkpoints.folder import load_checkpoint, save_checkpoint
from sr_models.errors import InputError
from sr_models.inference.super_resolve import super_resolve
from sr_models.networks.base import SRNetwork

HYPER = {"channels": 8, "blocks": 1}
NAME = "ab" * 32


def teacher_of(access: Access, scale: int = 2, model: str = "edsr_baseline") -> SRNetwork:
    hyper = HYPER | ({"channels": 16} if model == "imdn" else {})
    with torch.random.fork_rng(devices=[]):
        net = sr_models.build(model, scale, **hyper)
    folder = access.run.path / "teacher"
    save_checkpoint(folder, net, model=model, scale=scale, hyper=hyper, sigma=None, ema=False, fingerprint=None)
    access.push("teacher", ["*"])
    return net


def job_of(access: Access, store: PatchStore, name: str = NAME, tile: int | None = None, overlap: int = 32) -> Job:
    products.tools.cache_clear()
    return Job(
        access=access.for_workers(), checkpoint="teacher", name=name, data_hash=store.data_hash, tile=tile,
        tile_overlap=overlap, device="cpu",
    )  # fmt: skip


def make(job: Job, access: Access, store: PatchStore) -> PatchStore:
    parts = products.parts_of(store)
    for part in reversed(parts):  # in any order
        products.make_part(job, part)
    own = access.open_store(store.data_hash)
    products.join(job, access, own, parts)
    access.publish(own)
    return own


@pytest.fixture
def images(tmp_path: Path) -> ImageSource:
    """Three of 40x48 pixels."""
    (tmp_path / "images").mkdir()
    for i in range(3):
        pixels = np.random.Generator(np.random.Philox(i)).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    return ImageSource(hr=str(tmp_path / "images"))


@pytest.fixture
def access_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Access]:
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    root = Storage.parse(str(tmp_path / "bucket"), "--storage")

    def make(name: str = "run", *, stored: bool = False) -> Access:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
        return MirroredAccess(root, name, folder) if stored else LocalAccess(folder)

    return make


@pytest.mark.parametrize("stored", [False, True])
def test_parts_are_joined_and_found_by_the_next_run(
    access_of: Callable[..., Access], images: ImageSource, stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "PART_PIXELS", 1000)  # two images of 20x24
    first = access_of("first", stored=stored)
    stores = {s: build_store(first.run.at(STORES), train=[images], validation=[], scale=s) for s in (2, 4)}
    for store in stores.values():
        first.publish(store)
    net, store = teacher_of(first), stores[2]
    job = job_of(first, store)
    products.make_part(job, range(2, 3))
    assert first.entries(job.folder) == {f"000002-000003.{end}" for end in ("mu.arrow", "mu_lr.arrow", "json")}
    made = make(job, first, store)
    assert [*map(len, products.parts_of(store))] == [2, 1]

    second = access_of("second", stored=stored)
    for other in (first, second, second.for_workers()):
        assert other.open_store(store.data_hash).has_centroids(NAME)
        assert not other.open_store(stores[4].data_hash).has_centroids(NAME)
        assert other.open_store(store.data_hash).data_hash == store.data_hash
    there = second.open_store(store.data_hash)
    whole = store.centroids_by(lambda lr: super_resolve(net, lr).sr)
    mu, mu_lr = (there._table(name).images for name in there._centroids(NAME))
    for i in range(3):
        for image, row in zip((mu[i], mu_lr[i]), whole(i), strict=True):
            assert np.array_equal(image, row.pixels)
    seconds = [json.loads(first.fetch(f"{job.folder}/{name}").read_text()) for name in first.entries(job.folder)
               if name.endswith(".json")]  # fmt: skip
    assert len(seconds) == 2 and made.centroid_seconds(NAME) == pytest.approx(sum(seconds))


def test_bits_do_not_depend_on_threads_or_on_how_images_are_shared_out(
    access_of: Callable[..., Access], images: ImageSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = access_of()
    store = build_store(access.run.at(STORES), train=[images], validation=[], scale=2)
    teacher_of(access)
    threads, tables = torch.get_num_threads(), []
    try:
        for name, pixels, count in (("a" * 64, 1, 1), ("b" * 64, 10**9, 2)):
            torch.set_num_threads(count)
            monkeypatch.setattr(products, "PART_PIXELS", pixels)
            made = make(job_of(access, store, name), access, store)
            assert torch.get_num_threads() == 1
            tables.append([made._table(table).hashes for table in made._centroids(name)])
    finally:
        torch.set_num_threads(threads)
    assert tables[0] == tables[1]


def test_tiles_of_a_network_that_they_leave_unchanged_see_as_far_as_it_does(access_of: Callable[..., Access]) -> None:
    access = access_of()
    store = build_store(
        access.run.at(STORES), train=[ImageSource(hr="skimage:", include=("coffee.png",))], validation=[], scale=4
    )
    teacher_of(access, scale=4)
    for name, tile, overlap in (("aa", None, 32), ("bb", 40, 0)):
        make(job_of(access, store, name * 32, tile, overlap), access, store)
    made = access.open_store(store.data_hash)
    whole, tiled = (made.batch(seed=0, step=0, batch_size=8, patch=48, teacher=name * 32).mu for name in ("aa", "bb"))
    assert whole is not None and tiled is not None
    off = (255 * (whole - tiled)).abs().round()
    assert off.max() <= 1 and (off > 0).double().mean() < 1e-3, "what rounds another way, and no seam"


@pytest.mark.parametrize(("model", "cut"), [("edsr_baseline", True), ("imdn", False)])
def test_only_what_tiles_do_not_change_is_cut_by_size(
    access_of: Callable[..., Access], images: ImageSource, model: str, cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(centroids, "WHOLE_BYTES", 3_000_000)
    access = access_of()
    store = build_store(access.run.at(STORES), train=[images], validation=[], scale=2)
    teacher_of(access, model=model)
    net, info = load_checkpoint(access.run.path / "teacher")
    tiles = centroids.Tiles.of(net, info, job_of(access, store))
    assert (tiles.options(500, 500).tile is not None) is cut and tiles.options(8, 8).tile is None
    assert (tiles.takes(500, 500) <= 3_000_000) is cut
    assert centroids.Tiles.of(net, info, job_of(access, store, tile=16)).options(500, 500).tile == 16


@pytest.mark.parametrize("kind", Job.kinds)
def test_a_damaged_part_is_named(access_of: Callable[..., Access], images: ImageSource, kind: str) -> None:
    access = access_of()
    store = build_store(access.run.at(STORES), train=[images], validation=[], scale=2)
    teacher_of(access)
    job = job_of(access, store)
    products.make_part(job, range(3))
    path = access.run.at(f"{job.folder}/000000-000003.{kind}.arrow")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255  # a pixel
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"^{path} is damaged; delete {path.parent}, and run the same sweep"):
        products.join(job, access, store, products.parts_of(store))
    assert not access.open_store(store.data_hash).has_centroids(NAME)
    shutil.rmtree(path.parent)
    assert make(job, access, store).has_centroids(NAME)
