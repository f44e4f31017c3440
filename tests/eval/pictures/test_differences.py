"""Differences: points and intervals where they belong, thick where zero lies outside."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from eval.pictures.differences import Gap, differences, per_image
from eval.pictures.style import method_styles
from sr_models.errors import InputError

GAPS = [
    Gap(label="edsr × eco", value=0.5, low=0.2, high=0.8),
    Gap(label="edsr × kd", value=-0.1, low=-0.3, high=0.1),
    Gap(label="imdn × kd", value=-0.4, low=-0.7, high=-0.1),
]


def test_what_leaves_zero_out_is_thick(tmp_path: Path, drawn: list[Figure], check_readable) -> None:
    styled = method_styles(["edsr × kd"])
    differences(tmp_path / "x.png", [GAPS[:2], GAPS[2:]], xlabel="psnr_y (dB)", title="t", caption="c", styled=styled)
    [axes] = drawn[0].axes
    lines = [line for line in axes.lines if len(set(line.get_xdata())) > 1 and line.get_color() != "#DDDDDD"]
    assert [sorted(line.get_xdata()) for line in lines] == [[0.2, 0.8], [-0.3, 0.1], [-0.7, -0.1]]
    assert [line.get_linewidth() > 2 for line in lines] == [True, False, True]
    assert lines[1].get_color() == styled["edsr × kd"][1]
    assert [text.get_text() for text in axes.get_yticklabels()] == [gap.label for gap in GAPS]
    assert axes.texts[0].get_text() == "+0.50 [+0.20, +0.80]"
    check_readable(drawn[0])


def test_nothing_and_what_is_not_finite_are_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one method"):
        differences(tmp_path / "x.png", [[]], xlabel="x", title="t")
    with pytest.raises(InputError, match="finite"):
        differences(tmp_path / "x.png", [[Gap(label="a", value=1, low=math.nan, high=2)]], xlabel="x", title="t")


def test_images_are_marks_and_twenty_of_them_a_shape(tmp_path: Path, drawn: list[Figure], check_readable) -> None:
    many = np.random.default_rng(0).normal(0.3, 0.2, 20).tolist()
    groups = [{"edsr × eco": many, "edsr × kd": [0.1, -0.2, 0.4]}, {"imdn × kd": [0.0]}]
    styled = method_styles(["edsr × kd"])
    per_image(tmp_path / "x.png", groups, higher_is_better=True, xlabel="psnr_y (dB)", title="t", styled=styled)
    [axes] = drawn[0].axes
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in marks] == [20, 3, 1] and marks[1].get_color() == styled["edsr × kd"][1]
    assert sum("PolyCollection" in type(part).__name__ for part in axes.collections) == 1, "of 20, and of no fewer"
    better = sum(value > 0 for value in many)
    assert [text.get_text() for text in axes.texts] == [
        f"{np.mean(many):+.2f}, better on {better} of 20", "+0.10, better on 2 of 3", "+0.00, better on 0 of 1",
    ]  # fmt: skip
    check_readable(drawn[0])
    with pytest.raises(InputError, match="finite"):
        per_image(tmp_path / "x.png", [{"a": [math.inf]}], higher_is_better=True, xlabel="x", title="t")
