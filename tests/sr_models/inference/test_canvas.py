"""CCSR's canvas: its sides, the way there by Pillow and back, and pictures that are drawn on it."""

import numpy as np
import pytest
import torch
from PIL import Image

import sr_models
from sr_models.errors import InputError
from sr_models.hyper.crops import rule_of
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.images.operators import to_uint8
from sr_models.inference import canvas as module
from sr_models.inference.canvas import canvas_sides, off_canvas, on_canvas
from sr_models.inference.super_resolve import Options, super_resolve

TINY = {"channels": 8, "mults": (1, 2), "attention": (), "blocks": 1, "dropout": 0.1, "groups": 4}


@pytest.mark.parametrize(
    ("sides", "wanted"),
    [
        ((512, 512), (512, 512)),
        ((512, 700), (512, 640)),
        ((200, 400), (512, 1024)),
        ((300, 401), (512, 640)),  # 685 columns of the enlarged picture
        ((1000, 1100), (960, 1088)),
    ],
)
def test_sides(sides, wanted):
    assert canvas_sides(*sides) == wanted


def test_lr_of_128_pixels_is_enlarged_once_and_comes_back_untouched():
    lr = torch.rand(2, 3, 128, 128)
    found = on_canvas(lr, 4)
    assert found.shape == (2, 3, 512, 512)
    for picture, one in zip(to_uint8(found), to_uint8(lr), strict=True):
        assert np.array_equal(picture, np.asarray(Image.fromarray(one).resize((512, 512), Image.Resampling.BICUBIC)))
    assert off_canvas(found, 512, 512) is found


def test_a_small_picture_is_enlarged_twice_fitted_and_brought_back():
    lr = torch.rand(1, 3, 75, 100)
    [one] = to_uint8(lr)
    wanted = Image.fromarray(one).resize((400, 300), Image.Resampling.BICUBIC)
    wanted = wanted.resize((683, 512), Image.Resampling.BICUBIC).resize((640, 512), Image.Resampling.LANCZOS)
    found = on_canvas(lr, 4)
    assert np.array_equal(to_uint8(found)[0], np.asarray(wanted))
    back = off_canvas(found, 300, 400)
    assert np.array_equal(to_uint8(back)[0], np.asarray(wanted.resize((400, 300), Image.Resampling.LANCZOS)))


@pytest.mark.parametrize("fix", [None, "adain"])
def test_pictures_are_drawn_on_it_and_say_so(fix, monkeypatch):
    """A canvas of 24 pixels and multiples of 4, for a network that halves once."""
    monkeypatch.setattr(module, "LEAST", 24)
    monkeypatch.setattr(module, "MULTIPLE", 4)
    torch.manual_seed(0)
    net = sr_models.build("sr3", 4, **TINY)
    net.process = ProcessParams(T=40, beta_end=0.3)
    lr = torch.rand(1, 3, 4, 5)
    on, off = (
        Options(sampling=Sampling(sampler="ddim", steps=2, canvas=canvas, colour_fix=fix)) for canvas in ("ccsr", None)
    )
    drawn = super_resolve(net, lr, seeds=(3,), options=on).sr
    assert drawn.shape == (1, 3, 16, 20)
    same = sr_models.build("sr3", 1, **TINY)  # the same weights on pictures that are as large as what is drawn
    same.load_state_dict(net.state_dict())
    same.process = net.process
    large = on_canvas(lr, 4)
    assert large.shape == (1, 3, 24, 28)
    wanted = off_canvas(super_resolve(same, large, seeds=(3,), options=off).sr, 16, 20)
    torch.testing.assert_close(drawn, wanted, rtol=0, atol=1 / 255 + 1e-6)
    assert on.marks == "+ddim2ccsr" + (fix or "") and off.marks == "+ddim2" + (fix or "")
    assert on.columns == off.columns | {"canvas": "ccsr"} and "canvas" not in off.columns


@pytest.mark.parametrize(("tile", "overlap", "fits"), [(34, 2, True), (4, 1, True), (5, 0, False)])
def test_tiles_are_counted_in_lr_pixels_as_a_plan_checks_them(tile, overlap, fits, monkeypatch):
    """A network of four levels at x4: its tiles are multiples of 2 LR pixels, which are 8 of the canvas."""
    monkeypatch.setattr(module, "LEAST", 24)
    monkeypatch.setattr(module, "MULTIPLE", 8)
    hyper = TINY | {"mults": (1, 1, 1, 1)}
    window, rule = sr_models.check("sr3", 4, hyper).window(4), rule_of(None, tile, overlap)
    assert window == 2 and rule is not None and rule.fits(window) is fits
    net = sr_models.build("sr3", 4, **hyper)
    net.process = ProcessParams(T=40, beta_end=0.3)
    sampling = Sampling(sampler="ddim", steps=1, canvas="ccsr")
    options = Options(sampling=sampling, tile=tile, overlap=overlap)
    if fits:
        assert super_resolve(net, torch.rand(1, 3, 6, 8), options=options).sr.shape == (1, 3, 24, 32)
    else:
        with pytest.raises(InputError, match="tiles of 5 LR pixels: this network needs multiples of 2"):
            super_resolve(net, torch.rand(1, 3, 6, 8), options=options)
