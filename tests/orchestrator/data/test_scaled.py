"""Pairs at a scale of the step: LR is the whole image's at whole scales, and depends on seed, step and sample alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator.data.build import build_store
from orchestrator.data.places import Place, dihedral
from orchestrator.data.scaled import scaled_pair
from orchestrator.data.store import PatchStore
from orchestrator.plan.sources import ImageSource
from sr_models.errors import InputError
from sr_models.hyper.degradation import parse_degradation
from sr_models.images.matlab import KERNELS, downscale, modcrop, resize
from sr_models.images.operators import to_float
from sr_models.rng import keyed
from sr_models.scales import ScaleRange

RANGE = ScaleRange(low=1, high=4)
SIDE, PATCH = 61, 6


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE + 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PatchStore:
    """Three training images at x2, one of them by another kernel."""
    folder, sources = tmp_path_factory.mktemp("scaled"), []
    for split, seeds in {"train": (0, 1), "other": (2,), "val": (3,)}.items():
        (folder / split).mkdir()
        for seed in seeds:
            Image.fromarray(picture(seed)).save(folder / split / f"{seed}.png")
        kernel = "matlab-bicubic-symmetric-float" if split == "other" else "matlab-bicubic-replicate-u8"
        sources.append(ImageSource(hr=str(folder / split), kernel=kernel))
    return build_store(folder / "store", train=sources[:2], validation=sources[2:], scale=2)


def draw(store: PatchStore, **changes):
    return store.batch(**({"seed": 3, "step": 7, "batch_size": 6, "patch": PATCH, "scales": RANGE} | changes))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_lr_of_a_cut_is_that_of_the_whole_image(kernel, scale):
    image = modcrop(picture(0), scale)
    whole = image if scale == 1 else downscale(image, scale, kernel)
    for row, column in ((0, 0), (3, 5), (whole.shape[0] - PATCH, whole.shape[1] - PATCH)):
        pair = scaled_pair(image, Place(0, row * scale, column * scale, 0), PATCH * scale, PATCH, kernel)
        assert (pair.lr == whole[row : row + PATCH, column : column + PATCH]).all()
        assert (pair.hr == image[row * scale :][: PATCH * scale, column * scale :][:, : PATCH * scale]).all()


def test_beyond_a_cut_at_a_fraction_is_the_image_and_not_its_edge():
    """The same LR as of a larger cut that begins a whole number of LR pixels before, here 5 HR pixels for 2."""
    image = picture(1)
    inner = scaled_pair(image, Place(0, 20, 15, 0), 15, 6, "matlab-bicubic-replicate-u8").lr
    outer = scaled_pair(image, Place(0, 10, 5, 0), 35, 14, "matlab-bicubic-replicate-u8").lr
    assert (inner == outer[4:10, 4:10]).all()
    assert (inner != resize(image[20:35, 15:30], 6 / 15, out_shape=(6, 6))).any()


def test_a_step_has_one_scale_between_the_two_and_rows_that_depend_on_nothing_else(store):
    sides = []
    for step in range(40):
        whole, parts = draw(store, step=step), [draw(store, step=step, rank=rank, world=4) for rank in range(4)]
        for name in ("lr", "hr"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
        assert whole.lr.shape == (6, 3, PATCH, PATCH) and whole.hr.shape[2] == whole.hr.shape[3]
        sides.append(whole.hr.shape[2])
        assert sides[-1] == RANGE.hr_side(PATCH, keyed(3, step, 0, "scale").random())
    assert min(sides) < 9 and max(sides) > 21 and {*sides} <= {*range(PATCH, 4 * PATCH + 1)}
    assert 12 < np.mean(sides) < 18, "uniform: 15 in the mean"
    assert all(not torch.equal(draw(store, **other).lr, draw(store).lr) for other in ({"seed": 4}, {"step": 8}))


def test_hr_and_lr_are_cut_at_one_place_and_turned_alike(store):
    batch = draw(store, partner=True, batch_size=20)
    images, kernels = (
        store._table("hr").images,
        ["matlab-bicubic-replicate-u8"] * 2 + ["matlab-bicubic-symmetric-float"],
    )
    side = batch.hr.shape[2]
    for hr, lr, purpose in ((batch.hr, batch.lr, "crop"), (batch.partner_hr, batch.partner_lr, "partner")):
        for i, sample in enumerate(batch.sample_ids):
            rng = keyed(3, 7, int(sample), purpose)
            number = int(rng.integers(3))
            height, width, _ = images[number].shape
            top, left, code = (int(rng.integers(most)) for most in (height - side + 1, width - side + 1, 8))
            pair = scaled_pair(images[number], Place(number, top, left, code), side, PATCH, kernels[number])
            assert torch.equal(hr[i], dihedral(to_float(pair.hr), code)[0])
            assert torch.equal(lr[i], dihedral(to_float(pair.lr), code)[0])


def test_what_is_too_small_or_made_in_two_ways_is_refused(store, tmp_path: Path):
    assert draw(store, scales=ScaleRange(low=1, high=10)).lr.shape[2] == PATCH, "60 of 61 pixels"
    with pytest.raises(InputError, match="an LR patch of 31 at x2 does not fit into"):
        draw(store, scales=ScaleRange(low=1, high=10.2))
    with pytest.raises(ValueError, match="a teacher's centroids are of the store's own LR"):
        draw(store, teacher="0" * 64)
    with pytest.raises(ValueError, match="give it or scales, got both"):
        draw(store, degradation=parse_degradation({"set": "ccsr"}, "d"))
