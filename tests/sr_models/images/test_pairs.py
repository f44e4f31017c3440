"""Pairs of files by name: the folders that people have, what is left over, and what no rule tells apart."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_models.errors import InputError
from sr_models.images.files import find_images
from sr_models.images.pairs import check_pair_sizes, find_partners, pair_folder, pair_images, surplus_text


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        (["img_001.png", "img_002.png"], ["img_002.bmp", "img_001.bmp"]),
        (["0001.png"], ["0001x2.png"]),
        (["baby.png"], ["baby_x2.png"]),
        (["baby_HR.png"], ["baby_LR.png"]),
        (["Canon_001_HR.png"], ["Canon_001_LR2.png"]),
        (["img_001_SRF_2_HR.png"], ["img_001_SRF_2_LR.png"]),
        (["photo-x2.png"], ["photo-x2.png"]),
        (["x2.png"], ["x2_LR.png"]),
        (["000/0.png", "001/0.png", "1.png"], ["000/0x2.png", "001/0x2.png", "1x2.png"]),
        (["a/1.png", "b/2.png"], ["1.png", "2.png"]),
    ],
)
def test_pairs_are_found_by_name(hr: list[str], lr: list[str]) -> None:
    found, surplus = pair_images([Path("HR", name) for name in hr], [Path("LR", name) for name in lr], 2)
    assert [(a.relative_to("HR").as_posix(), b.relative_to("LR").as_posix()) for a, b in found] == list(
        zip(hr, sorted(lr), strict=True)
    )
    assert surplus == []


STYLES = {  # HR, LR at x4; a name in braces is an image's
    "same": ("{}.png", "{}.png"),
    "div2k": ("{}.png", "{}x4.png"),
    "selfex": ("{}_SRF_4_HR.png", "{}_SRF_4_LR.png"),
    "rcan_lrbi": ("{}_HR_x4.png", "{}_LRBI_x4.png"),
    "realsr": ("{}_HR.png", "{}_LR4.png"),
    "drealsr": ("{}_x1.png", "{}_x4.png"),
    "lrext": ("{}.png", "{}.jpg"),
    "upper": ("{}.PNG", "{}X4.PNG"),
    "prefix_lr": ("HR_{}.png", "LR_{}.png"),
    "sr_swinir": ("{}.png", "{}_SwinIR.png"),
    "sr_out": ("{}.png", "{}_out.png"),
    "sr_edsr": ("{}.png", "{}_x4_SR.png"),
    "sr_before": ("{}.png", "my net-{}.png"),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("stems", [("baby", "bird"), ("0801",), ("img_001", "img_002")])
def test_the_naming_styles_that_people_have(style: str, stems: tuple[str, ...]) -> None:
    hr, lr = ([Path(side, form.format(stem)) for stem in stems] for side, form in zip("HL", STYLES[style], strict=True))
    assert pair_images(hr, lr[::-1], 4) == (list(zip(hr, lr, strict=True)), [])


@pytest.mark.parametrize("style", ["same", "realsr", "prefix_lr", "sr_out"])
def test_pairs_of_one_size_are_named_as_others_are(style: str) -> None:
    """RealSR's LR, already as large as HR, are called after the factor between their focal lengths."""
    hr, lr = ([Path(side, f.format(stem)) for stem in ("a", "b")] for side, f in zip("HL", STYLES[style], strict=True))
    assert pair_images(hr, lr[::-1], 1) == (list(zip(hr, lr, strict=True)), [])


@pytest.mark.parametrize("style", ["same", "div2k", "upper", "lrext", "sr_swinir"])
def test_a_number_that_belongs_to_the_name_is_no_ending(style: str) -> None:
    hr, lr = ([Path(form.format(stem)) for stem in ("fox", "fox_x4")] for form in STYLES[style])
    assert pair_images(hr, lr, 4).pairs == list(zip(hr, lr, strict=True))


def test_lr_files_without_hr_are_left_over_and_told() -> None:
    hr = [Path("HR", name) for name in ("0001.png", "0002.png")]
    lr = [Path("LR", f"X{s}", f"{i:04}x{s}.png") for s in (2, 4) for i in (1, 2, 801)]
    pairs, surplus = pair_images(hr, lr, 4)
    assert pairs == [(hr[0], lr[3]), (hr[1], lr[4])]
    assert surplus_text(surplus) == (
        "4 LR images without an HR image left out: '0001x2.png', '0002x2.png', '0801x2.png' and 1 more"
    )
    assert surplus_text([]) is None


def test_endings_that_fit_in_several_ways_are_refused_with_the_choice() -> None:
    hr, lr = [Path("HR/a.png"), Path("HR/b.png")], [Path("LR", f"{x}_{net}.png") for net in ("E", "R") for x in "ab"]
    with pytest.raises(InputError) as caught:
        pair_images(hr, lr, 4, partner="SR")
    assert str(caught.value) == (
        "SR images fit the HR names in 2 ways: 'HR/a.png' has 'LR/a_E.png' or 'LR/a_R.png'; exclude all but one"
    )


def test_names_of_both_sides_and_the_way_out_are_told() -> None:
    with pytest.raises(InputError) as caught:
        pair_images([Path("HR/baby.png"), Path("HR/bird.png")], [Path(f"LR/{i}.png") for i in range(5)], 3)
    assert str(caught.value) == (
        "HR image 'HR/baby.png' has no LR image of the same name at scale 3 (and 1 more); HR: 'baby.png', 'bird.png', "
        "LR: '0.png', '1.png', '2.png' and 2 more. Known endings, at this scale: x3 _x3 _x1 _HR _GT _SR _LR _LR3 "
        "_LRBI _SRF_3, or one of your own that all LR files share, such as _mine; include and exclude choose files on "
        "both sides"
    )


def folder_of(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)
    return find_images(root)


def test_globs_reach_both_sides_and_never_give_another_partner(tmp_path: Path) -> None:
    hr = folder_of(tmp_path / "HR", "fox.png", "fox_x4.png")
    lr = folder_of(tmp_path / "LR", "fox_x4.png", "fox_x4_x4.png")
    only = (["fox_x4.png"], [])
    assert pair_folder(hr[1:], hr, tmp_path / "LR", 4, globs=only) == ([(hr[1], lr[1])], [])
    of_two = folder_of(tmp_path / "two", "fox_E.png", "fox_R.png", "fox_x4_E.png", "fox_x4_R.png")
    assert pair_folder(hr, hr, tmp_path / "two", 4, globs=([], ["*_R.png"])).pairs == [
        (hr[0], of_two[0]),
        (hr[1], of_two[2]),
    ]
    with pytest.raises(InputError, match="in 2 ways"):
        pair_folder(hr, hr, tmp_path / "two", 4, globs=([], []))
    assert find_partners(tmp_path / "two", ["fox_E*"], []) == of_two[:1]
    assert find_partners(tmp_path / "two", ["fox.png"], ["*x4*"]) == of_two[:2]  # HR's names alone


def test_hr_and_lr_may_lie_in_one_folder(tmp_path: Path) -> None:
    both = folder_of(tmp_path, "a_SRF_4_HR.png", "a_SRF_4_LR.png", "b_SRF_4_HR.png", "b_SRF_4_LR.png")
    hr = find_images(tmp_path, ["*_HR.png"])
    assert pair_folder(hr, both, tmp_path, 4, globs=(["*_HR.png"], [])).pairs == [(hr[0], both[1]), (hr[1], both[3])]


@pytest.mark.parametrize(
    ("hr", "lr", "reason"),
    [
        (["a.png", "b.png"], ["a.png"], r"HR image 'HR/b.png' has no LR image of the same name at scale 2;"),
        (["a.png"], ["ax3.png"], "no LR image of the same name at scale 2"),
        (["a.png"], ["a_x3.png"], "no LR image of the same name at scale 2"),
        (["img_1.png"], ["other_1.png"], "no LR image of the same name"),
        (["1.png", "2.png"], ["11.png", "12.png"], r"'HR/1.png' has no LR image of the same name.*\(and 1 more\)"),
        (["a_HR.png"], ["ax2.png", "a_LR.png"], "'HR/a_HR.png' has 'LR/ax2.png' or 'LR/a_LR.png'; exclude all but one"),
        (["a.png", "a.jpg"], ["a.png"], "two HR images share the name 'a'"),
        (["0/a.png", "1/a.png"], ["a.png"], "two HR images share the name 'a': 'HR/0/a.png' and 'HR/1/a.png'"),
        (["0/a.png", "1/a.png"], ["0/a.png", "1/a.png", "1/a.bmp"], "two LR images share the name '1/a'"),
        (["0/a.png", "1/a.png"], ["0/a.png", "2/a.png"], "HR image 'HR/1/a.png' has no LR image"),
    ],
)
def test_unmatched_names_are_refused(hr: list[str], lr: list[str], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        pair_images([Path("HR", name) for name in hr], [Path("LR", name) for name in lr], 2)


def test_pair_sizes() -> None:
    hr = np.zeros((13, 9, 3), np.uint8)
    check_pair_sizes(hr, np.zeros((6, 4, 3), np.uint8), 2, "x")
    with pytest.raises(InputError, match=r"pair 'x': LR is 6x5 .* HR 13x9 at scale 2 needs 6x4"):
        check_pair_sizes(hr, np.zeros((6, 5, 3), np.uint8), 2, "x")
