"""Latents in the store: rows of images as they are and flipped, crops that lie where those of pixels do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from orchestrator.data import latents
from orchestrator.data.build import build_store
from orchestrator.data.cells import Grid
from orchestrator.data.shared import fetch_store, publish_store
from orchestrator.data.store import PatchStore
from orchestrator.plan.sources import ImageSource
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError

NAME = "cd" * 32


def store_of(folder: Path, scale: int) -> PatchStore:
    (folder / "images").mkdir(parents=True)
    for i, (height, width) in enumerate([(74, 92), (61, 120)]):  # no whole numbers of cells
        pixels = np.random.Generator(np.random.Philox(i)).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
    return build_store(folder / "store", train=[ImageSource(hr=str(folder / "images"))], validation=[], scale=scale)


def pooled(reduction: int):
    """Encoders that look at no neighbours, and give four channels."""

    def state(picture: Tensor) -> Tensor:
        small = functional.avg_pool2d(picture, reduction)
        return torch.cat([small, small.mean(1, keepdim=True) - 1], 1)

    def enlarged(lr: Tensor, size: tuple[int, int]) -> Tensor:
        return state(functional.interpolate(lr, size=size, mode="nearest"))

    return state, enlarged


def filled(store: PatchStore, reduction: int) -> PatchStore:
    latents.add(store, NAME, latents.rows_by(store, *pooled(reduction), reduction), reduction, seconds=1.5)
    return store


@pytest.mark.parametrize(("scale", "reduction"), [(4, 8), (4, 4), (2, 8), (3, 4), (8, 4)])
def test_crops_of_latents_lie_where_those_of_pixels_do(tmp_path: Path, scale: int, reduction: int) -> None:
    store = filled(store_of(tmp_path, scale), reduction)
    grid = Grid.of(scale, reduction)
    patch = max(grid.unit, 4) if max(grid.unit, 4) % grid.unit == 0 else grid.unit
    batch = store.batch(seed=0, step=3, batch_size=16, patch=patch, latents=NAME)
    state, enlarged = pooled(reduction)
    assert batch.latent is not None and batch.latent_lr is not None and batch.latent.dtype == torch.float32
    size = (batch.hr.shape[2], batch.hr.shape[3])
    assert size == (patch * scale, patch * scale) and batch.latent.shape[2] == patch * scale // reduction
    torch.testing.assert_close(batch.latent, state(batch.hr), rtol=0, atol=2**-11)
    torch.testing.assert_close(batch.latent_lr, enlarged(batch.lr, size), rtol=0, atol=2**-11)
    rows = [image.mean() for image in batch.hr]
    assert len({float(mean) for mean in rows}) > 8


def test_a_batch_is_a_function_of_its_numbers_and_is_shared_out(tmp_path: Path) -> None:
    store = filled(store_of(tmp_path, 4), 8)
    about = {"seed": 1, "step": 2, "batch_size": 6, "patch": 4, "latents": NAME}
    whole = store.batch(**about)
    halves = [store.batch(**about, rank=rank, world=2) for rank in range(2)]
    for name in ("lr", "hr", "latent", "latent_lr"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(half, name) for half in halves])), name
    assert torch.equal(whole.part(2, 4).latent, whole.latent[2:4])


def test_what_does_not_go_with_them_is_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path, 4)
    with pytest.raises(InputError, match=f"holds no z_x4_{NAME[:16]}"):
        store.batch(seed=0, step=0, batch_size=1, patch=4, latents=NAME)
    filled(store, 8)
    with pytest.raises(ValueError, match="must be a multiple of 2 LR pixels, got 5"):
        store.batch(seed=0, step=0, batch_size=1, patch=5, latents=NAME)
    with pytest.raises(ValueError, match="latents are of the store's own LR"):
        store.batch(seed=0, step=0, batch_size=1, patch=4, latents=NAME, partner=True)
    with pytest.raises(InputError, match="an LR patch of 20 at x4 does not fit"):
        store.batch(seed=0, step=0, batch_size=1, patch=20, latents=NAME)
    with pytest.raises(ValueError, match="not finite in float16"):
        latents.rows_by(store, lambda picture: 1e6 / pooled(8)[0](picture), pooled(8)[1], 8)(0)


def test_a_killed_writer_goes_on_and_nothing_of_the_images_changes(tmp_path: Path) -> None:
    store, made = store_of(tmp_path, 4), list[int]()
    make, data_hash = latents.rows_by(store, *pooled(8), 8), store.data_hash

    def killed(row: int):
        if row == 3:
            raise KeyboardInterrupt
        return make(row)

    with pytest.raises(KeyboardInterrupt):
        latents.add(store, NAME, killed, 8)
    assert not latents.are_in(store, NAME)
    latents.add(store, NAME, lambda row: made.append(row) or make(row), 8)
    assert made == [3] and latents.are_in(store, NAME)
    again = PatchStore.open(store.folder)
    assert latents.are_in(again, NAME) and again.data_hash == data_hash == again.manifest.data_hash
    assert again.manifest.products[f"z_x4_{NAME[:16]}"].reduction == 8
    assert "reduction" not in again.manifest.products["hr"].model_dump()


def test_a_storage_holds_them_beside_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    storage, store = Storage.parse(str(tmp_path / "bucket"), "--storage"), store_of(tmp_path, 4)
    publish_store(store, storage)
    publish_store(filled(store, 8), storage)
    assert f"{store.data_hash[:16]}-{NAME[:16]}.json" in storage.names()
    there = fetch_store(storage, store.data_hash, tmp_path / "cache")
    about = {"seed": 0, "step": 0, "batch_size": 2, "patch": 4, "latents": NAME}
    assert torch.equal(there.batch(**about).latent, store.batch(**about).latent)
