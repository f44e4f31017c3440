"""Colour fixes against released code; what they keep and what they take."""

from typing import get_args

import pytest
import torch

import sr_models
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import ColourFix, Sampling
from sr_models.images.operators import resize_float
from sr_models.inference import super_resolve as module
from sr_models.inference.colour import COLOUR_FIXES, fix_colour
from sr_models.inference.super_resolve import Options, super_resolve

FIXES = get_args(ColourFix)
TINY = {"channels": 8, "mults": (1, 2), "attention": (), "blocks": 1, "dropout": 0.1, "groups": 4}


def picture(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fix", FIXES)
def test_a_fix_is_ccsrs(fix, oracle):
    told = {name: torch.from_numpy(values) for name, values in oracle("colour_fix").items()}
    torch.testing.assert_close(COLOUR_FIXES[fix](told["content"], told["style"]), told[fix], rtol=0, atol=1e-5)


@pytest.mark.parametrize("fix", FIXES)
def test_a_picture_keeps_its_own_colours_and_takes_those_of_another(fix):
    drawn = picture(2, 3, 24, 30)
    torch.testing.assert_close(COLOUR_FIXES[fix](drawn, drawn), drawn, rtol=0, atol=1e-5)
    style = 0.5 * drawn + torch.tensor([0.1, -0.2, 0.3]).view(3, 1, 1)
    fixed = COLOUR_FIXES[fix](drawn, style)
    torch.testing.assert_close(fixed.mean((2, 3)), style.mean((2, 3)), rtol=0, atol=0.01)
    if fix == "adain":
        torch.testing.assert_close(fixed, style, rtol=0, atol=1e-3)


@pytest.mark.parametrize("fix", FIXES)
def test_the_colours_are_those_of_the_enlarged_lr(fix):
    lr, drawn = picture(1, 3, 6, 8), 3 * picture(1, 3, 24, 32, seed=1) - 1
    enlarged = resize_float(lr, 4).clamp(0, 1)
    torch.testing.assert_close(fix_colour(fix, drawn, lr), COLOUR_FIXES[fix](drawn, enlarged), rtol=0, atol=1e-6)


@pytest.mark.parametrize("tile", [None, 3])
@pytest.mark.parametrize("fix", FIXES)
def test_drawn_pictures_are_fixed_whole_before_they_are_clamped_and_say_so(fix, tile, monkeypatch):
    torch.manual_seed(0)
    net = sr_models.build("sr3", 4, **TINY)
    net.process = ProcessParams(T=40, beta_end=0.3, clamp=False)
    lr, seen = 0.3 + 0.2 * picture(1, 3, 6, 8), []
    monkeypatch.setattr(module, "fix_colour", lambda *given: seen.append(given) or fix_colour(*given))
    plain, asked = (
        Options(sampling=Sampling(sampler="ddim", steps=2, colour_fix=name), tile=tile, overlap=1)
        for name in (None, fix)
    )
    off, found = (super_resolve(net, lr, options=options).sr for options in (plain, asked))
    [(_, sr, condition)] = seen
    assert torch.equal(sr.clamp(0, 1), off) and not torch.equal(sr, off) and torch.equal(condition, lr)
    assert torch.equal(found, fix_colour(fix, sr, lr).clamp(0, 1)) and (found - off).abs().mean() > 0.01
    assert asked.marks == plain.marks.replace("ddim2", f"ddim2{fix}") != plain.marks
    assert asked.columns == plain.columns | {"colour_fix": fix} and "colour_fix" not in plain.columns
