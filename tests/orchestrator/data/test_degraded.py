"""LR made anew from HR: the same places and turns as without, a function of seed, step and sample, out of 96 pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator.data.build import build_store
from orchestrator.data.degraded import degraded_pair
from orchestrator.data.places import Place, dihedral
from orchestrator.data.store import PatchStore
from orchestrator.plan.sources import ImageSource
from sr_models.errors import InputError
from sr_models.hyper.degradation import NAMES, Degradation, parse_degradation
from sr_models.images.degrade import degrade
from sr_models.images.matlab import downscale, resize
from sr_models.rng import keyed

ROUND = {"blur_share": 0, "resize_shares": [0, 0, 1], "gaussian_share": 1, "noise": [0, 0], "jpeg_share": 0}
NOTHING = {"set": "ccsr", "first": ROUND, "second": ROUND, "final_sinc_share": 0, "final_resize": "matlab"}


def of(given: str | dict) -> Degradation:
    return parse_degradation({"set": given} if isinstance(given, str) else given, "d")


def picture(seed: int, height: int = 118, width: int = 130) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return resize(draw.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8), 4)[:height, :width]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PatchStore:
    folder = tmp_path_factory.mktemp("degraded")
    sources = {}
    for split, seeds in {"train": range(3), "val": range(3, 4)}.items():
        (folder / split).mkdir()
        for seed in seeds:
            Image.fromarray(picture(seed)).save(folder / split / f"{seed}.png")
        sources[split] = [ImageSource(hr=str(folder / split))]
    return build_store(folder / "store", train=sources["train"], validation=sources["val"], scale=2)


def draw(store: PatchStore, given: str | dict | None = "ccsr", **changes):
    how = None if given is None else of(given)
    return store.batch(**({"seed": 3, "step": 7, "batch_size": 6, "patch": 12, "degradation": how} | changes))


@pytest.mark.parametrize("partner", [False, True])
def test_hr_is_what_it_is_without_and_lr_what_the_degradation_makes(store, partner):
    plain, made = draw(store, None, partner=partner), draw(store, partner=partner)
    assert torch.equal(plain.hr, made.hr) and plain.lr.shape == made.lr.shape and not torch.equal(plain.lr, made.lr)
    if partner:
        assert torch.equal(plain.partner_hr, made.partner_hr) and not torch.equal(plain.partner_lr, made.partner_lr)
        assert not torch.equal(made.partner_lr, made.lr)


@pytest.mark.parametrize("given", NAMES)
def test_a_row_depends_on_seed_step_and_sample_alone(store, given):
    whole = draw(store, given)
    parts = [draw(store, given, rank=rank, world=4) for rank in range(4)]
    for name in ("lr", "hr"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
        assert torch.equal(getattr(draw(store, given), name), getattr(whole, name))
    assert all(not torch.equal(draw(store, given, **other).lr, whole.lr) for other in ({"seed": 4}, {"step": 8}))


def test_without_any_strength_lr_is_the_stores_own(store):
    plain, made = draw(store, None, batch_size=40), draw(store, NOTHING, batch_size=40)
    assert torch.equal(plain.hr, made.hr)
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))  # the square's border is not the picture's
    assert (plain.lr - made.lr)[inner].abs().max() <= 1.5 / 255, "turned first: MATLAB rounds rows before columns"
    assert ((plain.lr - made.lr)[inner] == 0).float().mean() > 0.9


@pytest.mark.parametrize("code", range(8))
def test_a_patch_is_cut_out_of_what_was_turned_and_degraded(code):
    hr, how = picture(0), of("realesrgan")
    place = Place(0, 40, 3, code)
    pair = degraded_pair(hr, place, 12, 2, how, keyed(0, 0, 0, "degrade"))
    square = hr[2 * 11 : 2 * (11 + 48), : 2 * 48]  # 96 pixels about the patch, as far as the picture goes
    turned = dihedral(torch.from_numpy(square.copy()).permute(2, 0, 1), code).permute(1, 2, 0).contiguous().numpy()
    whole = degrade(turned, 2, how, keyed(0, 0, 0, "degrade"))
    found = [
        (row, column)
        for row in range(37)
        for column in range(37)
        if (whole.lr[row : row + 12, column : column + 12] == pair.lr).all()
    ]
    [(row, column)] = found
    assert (whole.hr[2 * row : 2 * row + 24, 2 * column : 2 * column + 24] == pair.hr).all()


def test_a_target_is_sharpened_where_the_set_says_so(store):
    plain, sharp, kept = draw(store, None), draw(store, "realesrgan"), draw(store, {"set": "realesrgan", "usm": False})
    assert torch.equal(plain.hr, kept.hr) and not torch.equal(plain.hr, sharp.hr)


def test_large_patches_are_degraded_as_they_are():
    hr, how = picture(1), of("ccsr")
    pair = degraded_pair(hr, Place(0, 2, 5, 0), 54, 2, how, keyed(0, 0, 0, "degrade"))
    whole = degrade(hr[4 : 4 + 108, 10 : 10 + 108].copy(), 2, how, keyed(0, 0, 0, "degrade"))
    assert (pair.lr == whole.lr).all() and (downscale(pair.hr, 2).shape == pair.lr.shape)


def test_what_is_too_small_or_has_a_teacher_is_refused(store, tmp_path: Path):
    with pytest.raises(ValueError, match="a teacher's centroids are of the store's own LR"):
        draw(store, teacher="0" * 64)
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        Image.fromarray(picture(len(split), 90, 90)).save(tmp_path / split / "a.png")
    train, validation = (ImageSource(hr=str(tmp_path / split)) for split in ("train", "val"))
    small = build_store(tmp_path / "store", train=[train], validation=[validation], scale=2)
    assert draw(small, None).lr.shape == (6, 3, 12, 12)
    with pytest.raises(InputError, match="an LR patch of 48 at x2 does not fit into"):
        draw(small)
