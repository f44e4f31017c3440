"""The patch store: reproducible aligned batches, resumable builds, refusal of what is damaged, foreign or leaking."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator.data import rows
from orchestrator.data.store import PatchStore, _centroids, build_store, check_leaks, dihedral
from orchestrator.plan.sources import ImageSource
from sr_models.errors import InputError
from sr_models.images.files import find_images, pixels_sha256, read_image
from sr_models.images.operators import KERNEL, downscale, modcrop, to_float, to_uint8

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "data"
TEACHER = "0123456789abcdef" * 4
SIZES = [(41, 50), (60, 37), (33, 33), (48, 64)]  # not multiples of the scales


def pixels(seed: int, height: int, width: int) -> np.ndarray:
    """A picture whose every pixel tells its place: red = row, green = column, blue = which picture."""
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = np.arange(height)[:, None], np.arange(width), seed
    return image


def write_images(folder: Path, seeds: range) -> ImageSource:
    folder.mkdir(parents=True)
    for seed in seeds:
        Image.fromarray(pixels(seed, *SIZES[seed % 4])).save(folder / f"{seed:02}.png")
    return ImageSource(hr=str(folder))


def nearest(lr: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(lr, scale_factor=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PatchStore:
    """Four training and two validation images at x2 and x4; mu is a teacher's that repeats pixels."""
    folder = tmp_path_factory.mktemp("patches")
    train, validation = write_images(folder / "train", range(4)), write_images(folder / "val", range(4, 6))
    store = build_store(folder / "store", train=[train], validation=[validation], scales=(2, 4))
    store.add_centroids(TEACHER, 2, nearest)
    return store


def draw(store: PatchStore, **changes):
    values = {"seed": 3, "step": 7, "batch_size": 12, "patch": 8, "scale": 2, "teacher": TEACHER}
    return store.batch(**(values | changes))


def test_a_batch_is_a_function_of_seed_and_step_alone(store):
    first = draw(store)
    for step in (0, 6, 8):
        assert not torch.equal(draw(store, step=step).hr, first.hr)
    again = draw(PatchStore.open(store.folder))
    for name in ("lr", "hr", "mu", "mu_lr"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert not torch.equal(draw(store, seed=4).hr, first.hr)
    assert first.sample_ids.tolist() == list(range(84, 96)) and (first.step, first.seed) == (7, 3)
    assert first.lr.shape == (12, 3, 8, 8) and first.hr.shape == (12, 3, 16, 16) and first.hr.dtype == torch.float32
    assert draw(store, teacher=None).mu is None


@pytest.mark.parametrize("world", [2, 3, 4, 5, 12])
def test_rank_slices_make_up_the_whole_batch(store, world):
    whole, parts = draw(store), [draw(store, rank=rank, world=world) for rank in range(world)]
    for name in ("lr", "hr", "mu", "mu_lr"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
    assert np.array_equal(np.concatenate([part.sample_ids for part in parts]), whole.sample_ids)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_more_ranks_than_samples_are_refused(store):
    with pytest.raises(InputError, match="batch_size must be at least the number of workers, got 12 for 13"):
        draw(store, world=13)


def test_the_four_images_of_a_sample_are_cut_and_turned_alike(store):
    """The HR crop names its picture, place and code; the other three must be the same cut of their own tables."""
    mu = [to_uint8(nearest(to_float(store._table("lr_x2").images[i])))[0] for i in range(4)]
    codes_seen, pictures_seen = set(), set()
    for step in range(8):
        batch = draw(store, step=step)
        hr = (batch.hr * 255).round().to(torch.uint8)
        for i in range(12):
            rows, columns, picture = hr[i, 0].int(), hr[i, 1].int(), int(hr[i, 2, 0, 0])
            top, left = int(rows.min()), int(columns.min())
            upright = torch.from_numpy(pixels(picture, *SIZES[picture])[top : top + 16, left : left + 16]).permute(
                2, 0, 1
            )
            (code,) = [code for code in range(8) if torch.equal(dihedral(upright, code), hr[i])]
            assert top % 2 == left % 2 == 0
            lr = downscale(pixels(picture, *SIZES[picture]), 2)
            for name, image, s in (
                ("lr", lr, 1),
                ("mu", mu[picture], 2),
                ("mu_lr", downscale(mu[picture], 2), 1),
            ):
                cut = image[top // 2 * s : (top // 2 + 8) * s, left // 2 * s : (left // 2 + 8) * s]
                expected = dihedral(to_float(cut), code)[0]
                assert torch.equal(getattr(batch, name)[i], expected), name
            codes_seen.add(code)
            pictures_seen.add(picture)
    assert codes_seen == set(range(8)) and pictures_seen == set(range(4))


def test_dihedral_codes_are_the_eight_symmetries_of_a_square():
    x = torch.arange(9).view(1, 3, 3)
    turned = [dihedral(x, code)[0] for code in range(8)]
    assert len({tuple(t.flatten().tolist()) for t in turned}) == 8
    assert torch.equal(turned[0], x[0]) and torch.equal(turned[4], x[0].T) and torch.equal(turned[1], x[0].fliplr())
    assert torch.equal(turned[5], torch.rot90(x[0], 1))  # flipped left-right, then transposed


def test_validation_pairs_align_and_carry_their_names(store):
    pairs = store.validation(4)
    assert [name for name, _, _ in pairs] == ["val/04.png", "val/05.png"]
    for seed, (_, lr, hr) in zip((4, 5), pairs, strict=True):
        whole = pixels(seed, *SIZES[seed % 4])
        assert np.array_equal(hr, modcrop(whole, 4)) and np.array_equal(lr, downscale(whole, 4))


def test_centroids_are_made_once_and_resume(store, tmp_path):
    train = ImageSource(hr=str(store.folder.parent / "train"))
    mine = build_store(tmp_path / "store", train=[train], validation=[], scales=(2,))
    assert not mine.has_centroids(TEACHER, 2)
    calls = []

    def teacher(lr):
        calls.append(lr.shape)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return nearest(lr)

    with pytest.raises(KeyboardInterrupt):
        mine.add_centroids(TEACHER, 2, teacher)
    mine.add_centroids(TEACHER, 2, teacher)
    mine.add_centroids(TEACHER, 2, teacher)
    assert len(calls) == 3 + 2  # the interrupted image and the one after it
    for kind in ("mu_x2", "mu_lr_x2"):
        name = f"{kind}_{TEACHER[:16]}.arrow"
        assert (mine.folder / name).read_bytes() == (store.folder / name).read_bytes()
    assert PatchStore.open(mine.folder).has_centroids(TEACHER, 2)


def test_centroids_are_clamped_and_rounded_half_up(store, tmp_path):
    train = ImageSource(hr=str(store.folder.parent / "train"))
    mine = build_store(tmp_path / "store", train=[train], validation=[], scales=(2,))
    mine.add_centroids("a" * 16, 2, lambda lr: nearest(torch.full_like(lr, 1.7)))
    assert (draw(mine, teacher="a" * 16).mu == 1).all()
    mine.add_centroids("b" * 16, 2, lambda lr: nearest(torch.full_like(lr, 10.6 / 255)))
    assert (draw(mine, teacher="b" * 16).mu_lr * 255).round().unique().tolist() == [11]


def test_d_of_mu_is_the_kernel_that_made_the_lr_of_each_image(store, tmp_path):
    train, other = str(store.folder.parent / "train"), "matlab-bicubic-symmetric-float"
    noise = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), np.uint8)  # tells kernels apart
    for folder in ("own", "filed", "lr"):
        (tmp_path / folder).mkdir()
        for i, image in enumerate(noise[:, :20, :20] if folder == "lr" else noise):
            Image.fromarray(image).save(tmp_path / folder / f"{i}.png")
    truncate(tmp_path / "own/1.png")
    sources = [
        ImageSource(hr=train),
        ImageSource(hr=str(tmp_path / "own"), kernel=other),
        ImageSource(hr=str(tmp_path / "filed"), kernel=other, lr={2: str(tmp_path / "lr")}),
    ]
    mine = build_store(tmp_path / "store", train=sources, validation=[], scales=(2,), on_bad="skip")
    mine.add_centroids(TEACHER, 2, nearest)
    hr, lr, mu, mu_lr = (mine._table(n).images for n in ("hr", "lr_x2", *_centroids(2, TEACHER)))
    assert len(hr) == 4 + 3 + 4
    for i, kernel in enumerate([KERNEL] * 4 + [other] * 3 + [KERNEL] * 4):
        assert np.array_equal(mu_lr[i], downscale(mu[i], 2, kernel)), i
        assert i >= 7 or np.array_equal(lr[i], downscale(hr[i], 2, kernel)), i
    assert not np.array_equal(mu_lr[4], downscale(mu[4], 2))


@pytest.mark.parametrize(
    ("teacher", "message"),
    [(lambda lr: lr, "teacher aaaaaaaaaaaaaaaa made"), (lambda lr: nearest(lr) / 0 * 0, "NaN")],
)
def test_a_teacher_of_another_scale_or_without_numbers_is_refused(store, tmp_path, teacher, message):
    train = ImageSource(hr=str(store.folder.parent / "train"))
    mine = build_store(tmp_path / "store", train=[train], validation=[], scales=(2,))
    with pytest.raises(ValueError, match=message):
        mine.add_centroids("a" * 16, 2, teacher)
    assert not PatchStore.open(mine.folder).has_centroids("a" * 16, 2)


def test_what_the_store_lacks_is_named(store):
    with pytest.raises(InputError, match="holds no lr_x3"):
        draw(store, scale=3, teacher=None)
    with pytest.raises(InputError, match="holds no mu_x2_ffffffffffffffff"):
        draw(store, teacher="f" * 64)


def test_an_image_smaller_than_the_patch_is_named(store):
    draw(store, patch=8, scale=4, teacher=None)
    with pytest.raises(
        InputError, match=r"LR patch of 10 at x4 .* train/01.png \(9x15\), train/02.png \(8x8\); exclude"
    ):
        store.check_patch(4, 10)  # 37 // 4 = 9 and 33 // 4 = 8
    with pytest.raises(InputError, match=r"LR patch of 9 at x4 does not fit into train/02.png \(8x8\); exclude"):
        draw(store, patch=9, scale=4, teacher=None)


def test_data_hash_follows_pixels_not_paths_files_or_teachers(store, tmp_path):
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for seed in range(4):
        Image.fromarray(pixels(seed, *SIZES[seed])).save(copy / f"{seed}.bmp")
    sources = {"train": [ImageSource(hr=str(copy))], "validation": [ImageSource(hr=str(store.folder.parent / "val"))]}
    same = build_store(tmp_path / "same", **sources, scales=(4, 2))
    assert same.data_hash == store.data_hash
    other = sources | {"train": [ImageSource(hr=str(copy), kernel="matlab-bicubic-symmetric-u8")]}
    assert build_store(tmp_path / "kernel", **other, scales=(2, 4)).data_hash != store.data_hash
    swapped = {"train": sources["validation"], "validation": sources["train"]}
    assert build_store(tmp_path / "swapped", **swapped, scales=(2, 4)).data_hash != store.data_hash


@pytest.fixture
def folder(tmp_path) -> Path:
    write_images(tmp_path / "train", range(4))
    write_images(tmp_path / "val", range(4, 6))
    return tmp_path


def build(folder: Path, **changes) -> PatchStore:
    values = {
        "train": [ImageSource(hr=str(folder / "train"))],
        "validation": [ImageSource(hr=str(folder / "val"))],
        "scales": (2,),
    }
    return build_store(folder / "store", **(values | changes))


@pytest.mark.parametrize("table", ["hr", "lr_x2", "val_hr", "val_lr_x2"])
def test_a_corrupted_byte_is_refused(folder, table):
    path = build(folder).folder / f"{table}.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for attempt in (build, lambda folder: PatchStore.open(folder / "store")):
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
    manifest.write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(InputError, match=r"manifest\.json\.version: Input should be 1 \(got 2\)"):
        PatchStore.open(store, verify=verify)
    manifest.write_text(text[:100])
    with pytest.raises(InputError, match=r"manifest\.json is not JSON"):
        PatchStore.open(store, verify=verify)
    with pytest.raises(InputError, match=r"train is not a patch store: it holds no manifest\.json"):
        PatchStore.open(folder / "train", verify=verify)


def test_a_folder_of_other_things_and_a_store_of_other_images_are_left_alone(folder):
    with pytest.raises(InputError, match="is not a patch store but holds other files"):
        build_store(folder / "val", train=[ImageSource(hr=str(folder / "train"))], validation=[], scales=(2,))
    before = build(folder).data_hash
    for other in ({"scales": (2, 4)}, {"train": [ImageSource(hr=str(folder / "train"), exclude=("00*",))]}):
        with pytest.raises(InputError, match="was built from other images or scales; delete it or use another folder"):
            build(folder, **other)
    assert PatchStore.open(folder / "store").data_hash == before
    with pytest.raises(InputError, match="cannot be written: File exists"):
        build_store(folder / "val/04.png", train=[ImageSource(hr=str(folder / "train"))], validation=[], scales=(2,))


KILLED = """
import os, signal, sys
from orchestrator.data.store import build_store
from orchestrator.plan.sources import ImageSource
def tick(what, done, total):
    if (what, done) == (sys.argv[2], int(sys.argv[3])):
        os.kill(os.getpid(), signal.SIGKILL)
folder = sys.argv[1]
build_store(folder + "/store", train=[ImageSource(hr=folder + "/train")],
            validation=[ImageSource(hr=folder + "/val")], scales=(2,), progress=tick)
"""


@pytest.mark.parametrize(("what", "done", "read_again"), [("train images", 3, 1 + 2), ("validation images", 1, 1)])
def test_a_build_that_was_killed_resumes(folder, store, monkeypatch, what, done, read_again):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), what, str(done)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(InputError, match=r"is not finished \(.*val_hr.*\); build it again, it resumes"):
        PatchStore.open(folder / "store")
    reads = []
    monkeypatch.setattr(rows, "read_image", lambda path: reads.append(path) or read_image(path))
    resumed = build(folder)
    assert len(reads) == read_again
    for table in ("hr", "lr_x2", "val_hr", "val_lr_x2"):
        assert (resumed.folder / f"{table}.arrow").read_bytes() == (store.folder / f"{table}.arrow").read_bytes()
    assert sorted(path.name for path in resumed.folder.iterdir() if path.suffix == ".part") == []
    build(folder)
    assert len(reads) == read_again  # a finished store is opened, not built


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


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_a_truncated_file_fails_by_name_and_mending_it_is_enough(folder):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(folder / "train/02.png")
    truncate(folder / "train/02.png")
    with pytest.raises(InputError, match=r"train/02\.png"):
        build(folder)
    Image.fromarray(noise).save(folder / "train/02.png")
    assert np.array_equal(build(folder)._table("hr").images[2], noise)


def test_a_truncated_file_is_skipped_when_asked_and_stays_known(folder):
    truncate(folder / "train/01.png")
    truncate(folder / "val/05.png")
    store = build(folder, on_bad="skip")
    assert list(store.manifest.skipped) == ["train/01.png", "val/05.png"]
    assert "01.png" in store.manifest.skipped["train/01.png"]
    assert store._table("lr_x2").names == ["train/00.png", "train/02.png", "train/03.png"]
    assert [name for name, _, _ in store.validation(2)] == ["val/04.png"]
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
    assert [name for name, _, _ in build(folder, on_bad="skip").validation(2)] == ["val/04.png", "val/05.png"]


def test_a_validation_set_without_a_usable_image_is_refused_and_mending_it_is_enough(folder):
    whole = {path: path.read_bytes() for path in (folder / "val").iterdir()}
    for path in whole:
        truncate(path)
    with pytest.raises(InputError, match=r"no usable image is left for validation: .*04\.png.*05\.png"):
        build(folder, on_bad="skip")
    for path, content in whole.items():
        path.write_bytes(content)
    assert len(build(folder).validation(2)) == 2


def test_a_store_without_a_usable_training_image_is_refused(folder):
    for path in (folder / "train").iterdir():
        truncate(path)
    for _ in range(2):
        with pytest.raises(InputError, match=r"no usable image is left for train: .*00\.png.* and 1 more"):
            build(folder, on_bad="skip")


def test_lr_files_are_used_and_must_fit_their_hr(folder):
    (folder / "lr").mkdir()
    for seed in range(4):
        lr = 255 - downscale(pixels(seed, *SIZES[seed]), 2)
        Image.fromarray(lr).save(folder / "lr" / f"{seed:02}x2.png")
    paired = [ImageSource(hr=str(folder / "train"), lr={2: str(folder / "lr")})]
    store = build(folder, train=paired)
    assert store.manifest.kernels(2) == ["files", KERNEL]
    assert np.array_equal(255 - store._table("lr_x2").images[3], downscale(pixels(3, *SIZES[3]), 2))
    Image.fromarray(lr[1:]).save(folder / "lr/03x2.png")
    with pytest.raises(InputError, match=r"train/03\.png.*23x32"):
        build_store(folder / "other", train=paired, validation=[], scales=(2,))


def test_a_training_image_among_the_validation_images_is_a_leak(folder):
    Image.fromarray(pixels(1, *SIZES[1])).save(folder / "val/06.bmp")  # other name and format, same pixels
    with pytest.raises(InputError, match=r"val/06\.bmp is a training image too \(train/01\.png\)"):
        build(folder, on_bad="skip")
    with pytest.raises(InputError, match="is not finished"):
        PatchStore.open(folder / "store")
    (folder / "val/06.bmp").unlink()
    build(folder)


@pytest.mark.parametrize(("seed", "split"), [(1, "training|train"), (4, "validation")])
def test_test_images_are_found_whole_and_as_cropped_for_a_scale(store, seed, split):
    whole = pixels(seed, *SIZES[seed % 4])
    check_leaks(store, {"clean": pixels_sha256(pixels(9, 41, 50))})
    for test in (whole, modcrop(whole, 2), modcrop(whole, 4)):
        with pytest.raises(InputError, match=rf"among the ({split}) images: Set0/x \(= (train|val)/0{seed}\.png\)"):
            check_leaks(store, {"Set0/x": pixels_sha256(test)})


def test_a_batch_of_sixteen_takes_about_a_millisecond(store):
    def seconds(step: int) -> float:
        began = time.perf_counter()
        draw(store, step=step, batch_size=16, teacher=None)
        return time.perf_counter() - began

    assert min(seconds(step) for step in range(50)) < 0.002  # 0.5 ms on an idle core; the best of 50 on a busy one


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared benchmark files are not there")
def test_real_files_lr_made_equals_lr_given_and_a_real_leak_is_caught(tmp_path):
    for scale in (2, 4):
        hr, lr = SHARED / f"Set5/X{scale}/HR", SHARED / f"Set5/X{scale}/LR"
        made = build_store(tmp_path / f"made{scale}", train=[ImageSource(hr=str(hr))], validation=[], scales=(scale,))
        given = [ImageSource(hr=str(hr), lr={scale: str(lr)})]
        store = build_store(tmp_path / f"given{scale}", train=given, validation=[], scales=(scale,))
        assert store._table(f"lr_x{scale}").hashes == made._table(f"lr_x{scale}").hashes
        tests = {path.name: pixels_sha256(read_image(path)) for path in find_images(hr, include=("img_003*",))}
        with pytest.raises(InputError, match=r"img_003\.png \(= HR/img_003\.png\)"):
            check_leaks(store, tests)
