"""Stores of an output: found where some run built them, resumed after a kill, refused where the files do not do."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from orchestrator.data import rows
from orchestrator.data.build import build_store
from orchestrator.data.manifest import FILES
from orchestrator.data.store import PatchStore, check_leaks
from orchestrator.plan.sources import ImageSource
from sr_models.errors import InputError
from sr_models.images.files import find_images, pixels_sha256, read_image
from sr_models.images.matlab import KERNEL, downscale

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture
def folder(tmp_path, write_images) -> Path:
    write_images(tmp_path / "train", range(4))
    write_images(tmp_path / "val", range(4, 6))
    return tmp_path


def build(folder: Path, **changes) -> PatchStore:
    values = {
        "train": [ImageSource(hr=str(folder / "train"))],
        "validation": [ImageSource(hr=str(folder / "val"))],
        "scale": 2,
    }
    return build_store(folder / "stores", **(values | changes))


def tables(store: PatchStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.folder.glob("*.arrow")}


@pytest.fixture
def reads(monkeypatch) -> list[Path]:
    """The images that are decoded, in order."""
    found: list[Path] = []
    monkeypatch.setattr(rows, "read_image", lambda path: found.append(path) or read_image(path))
    return found


def test_the_same_files_are_decoded_once_whoever_asks(folder, reads):
    first = build(folder)
    assert len(reads) == 6 and first.folder == folder / "stores" / first.data_hash[:16]
    assert build(folder).folder == first.folder and len(reads) == 6
    assert build(folder, scale=4).folder != first.folder and len(reads) == 12


def test_another_scale_leaves_a_store_as_it_is_and_shares_its_hr(folder):
    x2 = build(folder)
    before = tables(x2)
    x4 = build(folder, scale=4)
    assert build(folder).data_hash == x2.data_hash != x4.data_hash and tables(x2) == before
    for name in ("hr", "val_hr"):
        assert (x2.folder / f"{name}.arrow").stat().st_ino == (x4.folder / f"{name}.arrow").stat().st_ino
    assert {path.name for path in x4.folder.iterdir()} == {
        "hr.arrow", "lr_x4.arrow", "manifest.json", "val_hr.arrow", "val_lr_x4.arrow"
    }  # fmt: skip


def test_where_files_cannot_be_linked_or_the_other_one_is_damaged_a_store_keeps_its_own(folder, monkeypatch):
    x2 = build(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", Mock(side_effect=PermissionError("no links here")))
        x3 = build(folder, scale=3)
    assert {path.stat().st_nlink for path in x3.folder.glob("*.arrow")} == {1}
    path = x2.folder / "hr.arrow"
    (x3.folder / "hr.arrow").unlink()
    path.write_bytes(bytes(path.stat().st_size))
    x4 = build(folder, scale=4)
    assert (x4.folder / "hr.arrow").stat().st_ino != path.stat().st_ino
    assert (x4.folder / "val_hr.arrow").stat().st_nlink == 2


def test_what_a_killed_clean_left_is_no_store(folder, reads):
    """It renames a store before it deletes that, the manifest not first."""
    store = build(folder)
    left = store.folder.rename(store.folder.with_name(f".{store.folder.name}.0a1b2c3d.part"))
    (left / "hr.arrow").unlink()
    assert build(folder).folder == store.folder and len(reads) == 6 + 6
    x4 = build(folder, scale=4)
    assert (x4.folder / "hr.arrow").stat().st_ino == (store.folder / "hr.arrow").stat().st_ino
    assert (left / "lr_x2.arrow").stat().st_nlink == 1 and (left / "val_hr.arrow").stat().st_nlink == 1


@pytest.mark.parametrize("text", ["{", '{"format": "sr-patch-store", "version": 1, "scales": [2]}', None])
def test_a_store_that_cannot_be_read_stops_no_build_of_another(folder, capsys, text):
    x2 = build(folder)
    manifest = x2.folder / "manifest.json"
    manifest.unlink()
    manifest.write_text(text) if text else manifest.mkdir()
    x4 = build(folder, scale=4)
    said = capsys.readouterr().err
    assert str(x2.folder) in said and said.count("\n") == 1 and said.endswith("; passed over\n")
    assert {path.stat().st_nlink for path in x4.folder.glob("*.arrow")} == {1}
    assert build(folder, scale=4).folder == x4.folder


def test_a_store_that_cannot_be_read_is_named_once_its_own_images_are_built(folder, reads, capsys):
    store = build(folder)
    text = (store.folder / "manifest.json").read_text()
    (store.folder / "manifest.json").write_text(text[:100])
    for _ in range(2):
        with pytest.raises(InputError, match=rf"store {store.folder} is damaged: .*; delete it and build again"):
            build(folder)
        assert len(reads) == 6 + 6, "what was built waits"
    store.folder.rename(folder / "deleted")
    assert build(folder).data_hash == store.data_hash and len(reads) == 6 + 6


def test_the_same_images_under_other_names_are_the_same_store(folder, reads):
    store = build(folder)
    store.add_centroids("a" * 16, store.centroids_by(lambda lr: lr.repeat_interleave(2, -1).repeat_interleave(2, -2)))
    (folder / "train").rename(folder / "moved")
    truncate(write_noise(folder / "moved" / "99.png"))
    moved = {"train": [ImageSource(hr=str(folder / "moved"))], "on_bad": "skip"}
    for _ in range(2):
        again = build(folder, **moved)
        assert again.folder == store.folder and again.has_centroids("a" * 16) and not store.skipped
        assert list(again.skipped) == ["moved/99.png"], "what was left out of the files that were asked for"
        assert len(reads) == 6 + 4 + 1 + 2, "known the second time"
    with pytest.raises(InputError, match=r"moved/99\.png"):
        build(folder, **moved | {"on_bad": "fail"})
    assert not list(folder.glob("stores/.building/*/store"))


def test_data_hash_follows_pixels_not_paths_files_or_teachers(folder, pixels):
    store, copy = build(folder), folder / "elsewhere"
    copy.mkdir()
    for seed in range(4):
        Image.fromarray(pixels(seed)).save(copy / f"{seed}.bmp")
    own = build_store(
        folder / "other", train=[ImageSource(hr=str(copy))], validation=[ImageSource(hr=str(folder / "val"))], scale=2
    )
    assert own.data_hash == store.data_hash
    own.add_centroids("a" * 16, own.centroids_by(lambda lr: lr.repeat_interleave(2, -1).repeat_interleave(2, -2)))
    assert PatchStore.open(own.folder).data_hash == store.data_hash
    other = build(folder, train=[ImageSource(hr=str(copy), kernel="matlab-bicubic-symmetric-u8")])
    swapped = build(folder, train=[ImageSource(hr=str(folder / "val"))], validation=[ImageSource(hr=str(copy))])
    assert len({store.data_hash, other.data_hash, swapped.data_hash}) == 3


@pytest.mark.parametrize("table", ["hr", "lr_x2", "val_hr", "val_lr_x2"])
def test_a_corrupted_byte_is_refused(folder, table):
    path = build(folder).folder / f"{table}.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for attempt in (build, lambda _: PatchStore.open(path.parent)):
        with pytest.raises(InputError, match=rf"damaged: {table}\.arrow has changed since it was sealed; delete it"):
            attempt(folder)


@pytest.mark.parametrize("verify", [True, False])
def test_missing_cut_and_foreign_stores_are_refused(folder, verify):
    store = build(folder).folder
    (store / "lr_x2.arrow").write_bytes((store / "lr_x2.arrow").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"lr_x2\.arrow has changed"):
        PatchStore.open(store, verify=verify)
    (store / "lr_x2.arrow").unlink()
    with pytest.raises(InputError, match=r"lr_x2\.arrow is missing"):
        PatchStore.open(store, verify=verify)
    manifest = store / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"version": 2', '"version": 1'))
    with pytest.raises(InputError, match=r"manifest\.json\.version: Input should be 2 \(got 1\)"):
        PatchStore.open(store, verify=verify)
    manifest.write_text(text[:100])
    with pytest.raises(InputError, match=r"manifest\.json is not JSON"):
        PatchStore.open(store, verify=verify)
    with pytest.raises(InputError, match=r"train is not a patch store: it holds no manifest\.json"):
        PatchStore.open(folder / "train", verify=verify)


def test_a_folder_that_cannot_be_written_is_one_line(folder):
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        build_store(folder / "val/04.png", train=[ImageSource(hr=str(folder / "train"))], validation=[], scale=2)


KILLED = """
import os, signal, sys
from orchestrator.data.build import build_store
from orchestrator.plan.sources import ImageSource
def tick(what, done, total):
    if (what, done) == (sys.argv[2], int(sys.argv[3])):
        os.kill(os.getpid(), signal.SIGKILL)
folder = sys.argv[1]
build_store(folder + "/stores", train=[ImageSource(hr=folder + "/train")],
            validation=[ImageSource(hr=folder + "/val")], scale=2, progress=tick)
"""


@pytest.mark.parametrize(
    ("what", "done", "read_again"), [("x2 train images", 3, 1 + 2), ("x2 validation images", 1, 1)]
)
def test_a_build_that_was_killed_resumes(folder, reads, what, done, read_again):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), what, str(done)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = folder.glob("stores/.building/*/store")
    with pytest.raises(InputError, match=r"is not finished \(.*val_hr.*\); build it again, it resumes"):
        PatchStore.open(left)
    resumed = build(folder)
    assert len(reads) == read_again and not left.exists()
    (folder / "stores").rename(folder / "before")
    assert tables(build(folder)) == {path.name: path.read_bytes() for path in folder.glob("before/*/*.arrow")}
    assert not list(folder.glob("before/*/*.part")) and len(reads) == read_again + 6
    assert resumed.data_hash == build(folder).data_hash


def test_one_builder_at_a_time(folder, monkeypatch):
    inside, most, reads = [0], [0], []

    def slow_read(path):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1
        reads.append(path)
        return read_image(path)

    monkeypatch.setattr(rows, "read_image", slow_read)
    hashes = []
    builders = [threading.Thread(target=lambda: hashes.append(build(folder).data_hash)) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert most == [1] and len(reads) == 6 and len(set(hashes)) == 1 and len(hashes) == 3


def write_noise(path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    return path


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_a_truncated_file_fails_by_name_and_mending_it_is_enough(folder):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(folder / "train/02.png")
    truncate(folder / "train/02.png")
    with pytest.raises(InputError, match=r"train/02\.png"):
        build(folder)
    assert not list(folder.glob("stores/.building/*/store")), "a mended file has another key"
    Image.fromarray(noise).save(folder / "train/02.png")
    assert np.array_equal(build(folder)._table("hr").images[2], noise)


def test_a_truncated_file_is_skipped_when_asked_and_stays_known(folder):
    truncate(folder / "train/01.png")
    truncate(folder / "val/05.png")
    store = build(folder, on_bad="skip")
    assert list(store.manifest.skipped) == ["train/01.png", "val/05.png"]
    assert "01.png" in store.manifest.skipped["train/01.png"]
    assert store._table("lr_x2").names == ["train/00.png", "train/02.png", "train/03.png"]
    assert [name for name, _, _ in store.validation()] == ["val/04.png"]
    with pytest.raises(InputError, match=r"train/01\.png.*val/05\.png"):
        build(folder)


def test_files_that_cannot_even_be_hashed_are_named_or_skipped(folder):
    os.mkfifo(folder / "train/pipe.png")
    (folder / "train/00.png").rename(os.fsdecode(os.fsencode(folder) + b"/train/caf\xe9.png"))
    (folder / "val/link.png").symlink_to(folder / "nowhere")
    with pytest.raises(InputError, match=r"caf\\udce9\.png': its name is not UTF-8"):
        build(folder)
    faults = {
        "train/caf\\udce9.png": "not UTF-8",
        "train/pipe.png": "not a regular file",
        "val/link.png": "no such file",
    }
    for _ in range(2):
        store = build(folder, on_bad="skip")
        assert all(text in store.manifest.skipped[name] for name, text in faults.items())
        assert len(store.manifest.skipped) == 3
    assert store._table("hr").names == ["train/01.png", "train/02.png", "train/03.png"]
    with pytest.raises(InputError, match="not UTF-8"):
        build(folder)


def test_a_validation_image_of_one_colour_is_refused(folder):
    Image.new("RGB", (40, 40), (9, 8, 7)).save(folder / "val/06.png")
    Image.new("RGB", (40, 40), (9, 8, 6)).save(folder / "train/06.png")  # harmless where nothing is scored
    with pytest.raises(InputError, match=r"val/06\.png' has one colour only"):
        build(folder)
    assert [name for name, _, _ in build(folder, on_bad="skip").validation()] == ["val/04.png", "val/05.png"]


def test_a_validation_set_without_a_usable_image_is_refused_and_mending_it_is_enough(folder):
    whole = {path: path.read_bytes() for path in (folder / "val").iterdir()}
    for path in whole:
        truncate(path)
    with pytest.raises(InputError, match=r"no usable image is left for validation: .*04\.png.*05\.png"):
        build(folder, on_bad="skip")
    for path, content in whole.items():
        path.write_bytes(content)
    assert len(build(folder).validation()) == 2


def test_a_store_without_a_usable_training_image_is_refused(folder):
    for path in (folder / "train").iterdir():
        truncate(path)
    for _ in range(2):
        with pytest.raises(InputError, match=r"no usable image is left for train: .*00\.png.* and 1 more"):
            build(folder, on_bad="skip")


def test_lr_files_are_used_and_must_fit_their_hr(folder, pixels):
    (folder / "lr").mkdir()
    for seed in range(4):
        lr = 255 - downscale(pixels(seed), 2)
        Image.fromarray(lr).save(folder / "lr" / f"{seed:02}x2.png")
    paired = [ImageSource(hr=str(folder / "train"), lr={2: str(folder / "lr")})]
    store = build(folder, train=paired)
    assert store.manifest.kernels == [FILES, KERNEL]
    assert np.array_equal(255 - store._table("lr_x2").images[3], downscale(pixels(3), 2))
    Image.fromarray(lr[1:]).save(folder / "lr/03x2.png")
    with pytest.raises(InputError, match=r"train/03\.png.*23x32"):
        build(folder, train=paired)
    build(folder, train=paired, scale=3)  # where LR is made, what its file is does not matter


def test_a_training_image_among_the_validation_images_is_a_leak(folder, pixels):
    Image.fromarray(pixels(1)).save(folder / "val/06.bmp")  # other name and format, same pixels
    with pytest.raises(InputError, match=r"val/06\.bmp is a training image too \(train/01\.png\)"):
        build(folder, on_bad="skip")
    assert not list(folder.glob("stores/*"))[1:], "only who builds holds a folder there"
    (folder / "val/06.bmp").unlink()
    build(folder)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared benchmark files are not there")
def test_real_files_lr_made_equals_lr_given_and_a_real_leak_is_caught(tmp_path):
    for scale in (2, 4):
        hr, lr = SHARED / f"Set5/X{scale}/HR", SHARED / f"Set5/X{scale}/LR"
        made = build_store(tmp_path / f"made{scale}", train=[ImageSource(hr=str(hr))], validation=[], scale=scale)
        given = [ImageSource(hr=str(hr), lr={scale: str(lr)})]
        store = build_store(tmp_path / f"given{scale}", train=given, validation=[], scale=scale)
        assert store._table(f"lr_x{scale}").hashes == made._table(f"lr_x{scale}").hashes
        tests = {path.name: pixels_sha256(read_image(path)) for path in find_images(hr, include=("img_003*",))}
        with pytest.raises(InputError, match=r"img_003\.png \(= HR/img_003\.png\)"):
            check_leaks(store, tests)
