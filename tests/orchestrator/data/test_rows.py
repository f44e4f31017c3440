"""From files to rows: each image with its LR images, or a reason why it is left out."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.data import remembered, rows
from orchestrator.data.rows import Item, large_enough, list_items, make_rows
from orchestrator.plan.sources import ImageSource
from sr_models.errors import InputError
from sr_models.images.files import pixels_sha256, sha256_file
from sr_models.images.matlab import downscale, modcrop

RANDOM = np.random.default_rng(0)
KERNEL = "matlab-bicubic-symmetric-u8"


def save(path: Path, pixels: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def hr(tmp_path) -> np.ndarray:
    """The pixels of hr/deep/a.png."""
    return save(tmp_path / "hr" / "deep" / "a.png", RANDOM.integers(0, 256, (21, 34, 3), np.uint8))


def items_of(tmp_path: Path, scale: int = 2, **over) -> list[Item]:
    return list_items([ImageSource(hr=str(tmp_path / "hr"), **over)], scale)


def rows_of(
    items: list[Item],
    split: str = "train",
    taken: dict | None = None,
    skipped: dict | None = None,
    i: int = 0,
    scale: int = 2,
):
    return make_rows(items, scale, split, taken or {}, skipped, i)


def test_an_image_is_listed_by_its_place_and_content(tmp_path, hr):
    [item] = items_of(tmp_path, kernel=KERNEL)
    path = tmp_path / "hr" / "deep" / "a.png"
    assert item.hr == path and item.lr is None and item.fault is None
    assert (item.file.name, item.file.sha256) == ("hr/deep/a.png", sha256_file(path))
    assert (item.file.lr, item.file.kernel) == (None, KERNEL)


def test_lr_is_made_with_the_sources_kernel(tmp_path, hr):
    for scale in (2, 4):
        first, row = rows_of(items_of(tmp_path, scale, kernel=KERNEL), scale=scale)
        assert np.array_equal(first.pixels, hr) and first.origin == sha256_file(tmp_path / "hr" / "deep" / "a.png")
        assert np.array_equal(row.pixels, downscale(hr, scale, KERNEL))
        assert row.origin == pixels_sha256(modcrop(hr, scale)), "by which a leak of the cropped image is found"
        assert first.name == row.name == "hr/deep/a.png"


def test_lr_files_are_taken_where_they_are_given(tmp_path, hr):
    lr = save(tmp_path / "lr" / "a.png", 255 - downscale(hr, 2))
    [item] = items_of(tmp_path, lr={2: str(tmp_path / "lr")})
    assert item.lr == tmp_path / "lr" / "a.png"
    assert (item.file.lr, item.file.kernel) == (sha256_file(tmp_path / "lr" / "a.png"), "files")
    assert np.array_equal(rows_of([item])[1].pixels, lr)
    [item] = items_of(tmp_path, 4, lr={2: str(tmp_path / "lr")})
    assert item.lr is item.file.lr is None and np.array_equal(rows_of([item], scale=4)[1].pixels, downscale(hr, 4))


def test_an_image_smaller_than_a_scale_is_named(tmp_path):
    save(tmp_path / "hr" / "a.png", RANDOM.integers(0, 256, (3, 30, 3), np.uint8))
    with pytest.raises(InputError, match=r"a\.png': 30x3 is too small for x4"):
        rows_of(items_of(tmp_path, 4), scale=4)


def test_images_smaller_than_a_patch_are_told_from_the_others(tmp_path, hr):
    """LR is 17x10 at x2 and 8x5 at x4, unless there is a file."""
    for scale, patch, fits in ((2, 10, True), (2, 11, False), (4, 5, True), (4, 6, False)):
        items = items_of(tmp_path, scale)
        kept, small = large_enough(items, scale, patch)
        assert (kept == items, list(small)) == (fits, [] if fits else [items[0].file.name])
    assert small[items[0].file.name].endswith("smaller than an LR patch of 6 at x4: its shorter side is 5")
    save(tmp_path / "lr" / "a.png", downscale(hr, 4)[:3])
    items = items_of(tmp_path, 4, lr={4: str(tmp_path / "lr")})
    assert large_enough(items, 4, 3)[1] == {} and len(large_enough(items, 4, 4)[1]) == 1
    items = items_of(tmp_path, 4)
    (tmp_path / "hr/deep/a.png").write_bytes(b"")
    assert large_enough(items, 4, 6) == (items, {}), "reading it will tell"


def test_a_file_is_read_for_its_hash_once_as_long_as_it_stays(
    tmp_path: Path, hr: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "SETTLED_NS", 0)
    save(tmp_path / "hr" / "b.png", hr)
    save(tmp_path / "lr" / "b.png", downscale(hr, 2))
    read = list[str]()
    monkeypatch.setattr(rows, "sha256_file", lambda path: read.append(path.parent.name) or sha256_file(path))
    for scale, lr in ((2, {}), (2, {2: str(tmp_path / "lr")}), (4, {})):
        [b] = items_of(tmp_path, scale, lr=lr, include=("b*",))
        assert b.file.sha256 == sha256_file(b.hr)
    assert read == ["hr", "lr"]
    time.sleep(0.02)  # a tick of the disk's clock
    save(tmp_path / "hr" / "b.png", hr[::-1])
    [b] = items_of(tmp_path, include=("b*",))
    assert read == ["hr", "lr", "hr"] and b.file.sha256 == sha256_file(b.hr)


def test_a_small_image_takes_no_larger_namesake_with_it(tmp_path):
    sources = []
    for place, side in (("first", 20), ("second", 40)):
        save(tmp_path / place / "hr" / "a.png", RANDOM.integers(0, 256, (side, side, 3), np.uint8))
        sources.append(ImageSource(hr=str(tmp_path / place / "hr")))
    small, large = list_items(sources, 2)
    assert small.file.name == large.file.name == "hr/a.png"
    kept, why = large_enough([small, large], 2, 12)
    assert kept == [large] and list(why) == ["hr/a.png"]


def test_one_colour_is_refused_where_it_is_scored(tmp_path):
    save(tmp_path / "hr" / "a.png", np.full((20, 20, 3), 7, np.uint8))
    items = items_of(tmp_path)
    assert len(rows_of(items)) == 2
    with pytest.raises(InputError, match="has one colour only"):
        rows_of(items, "validation")


def test_a_fault_is_raised_or_kept_with_the_images_name(tmp_path, hr):
    (tmp_path / "hr" / "link.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"link\.png"):
        items_of(tmp_path)
    items = list_items([ImageSource(hr=str(tmp_path / "hr"))], 2, on_bad="skip")
    [bad] = [i for i, item in enumerate(items) if item.fault]
    assert items[bad].file.sha256 == "" and items[bad].file.name == "hr/link.png"
    skipped: dict[str, str] = {}
    assert rows_of(items, skipped=skipped, i=bad) is None and skipped == {"hr/link.png": items[bad].fault}
    with pytest.raises(InputError, match=r"link\.png"):
        rows_of(items, i=bad)


@pytest.mark.parametrize("scale", [1, 2])
def test_an_image_that_is_taken_is_a_leak_whole_or_cropped_and_never_skipped(tmp_path, hr, scale):
    taken = {pixels_sha256(modcrop(hr, scale)): "train/x.png"}
    with pytest.raises(InputError, match=r"hr/deep/a\.png is a training image too \(train/x\.png\)"):
        rows_of(items_of(tmp_path), "validation", taken, {})
