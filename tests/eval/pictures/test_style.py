"""What every picture shares: which crop is shown, how scores are written, text that nothing covers."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from eval.pictures import panels, style

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 96, 120, 3)).astype(np.uint8)
SCORES = {"psnr_y": 33.1251, "ssim_y": 0.91234}


def test_unreadable_pictures_are_noticed(tmp_path, drawn, check_readable):
    figure = style.page("title", "caption", 3)
    style.dress(figure.add_subplot(), "x", "y")
    style.save(figure, tmp_path / "x.png")
    check_readable(drawn[0])
    drawn[0].text(0.5, 0.5, "one")
    drawn[0].text(0.5, 0.5, "two")
    with pytest.raises(AssertionError, match="two"):
        check_readable(drawn[0])


def test_the_crop_is_where_methods_differ_most() -> None:
    damaged = IMAGES[0].copy()
    damaged[50:74, 77:101] = 0
    assert style.busiest(style.disagreement([IMAGES[0], damaged, IMAGES[0]])) == (50, 77, 24, 24)


def test_disagreement_is_the_variance_over_images() -> None:
    expected = 9 * IMAGES.astype(float).var(axis=0).sum(axis=-1)
    np.testing.assert_allclose(style.disagreement(list(IMAGES)), expected, atol=1e-6)


@pytest.mark.parametrize(("shape", "side"), [((10, 14), 10), ((96, 120), 24), ((400, 300), 75), ((2000, 1400), 128)])
def test_the_crop_fits_the_image_and_is_magnified(shape: tuple[int, int], side: int) -> None:
    assert style.busiest(np.ones(shape, np.int64)) == (0, 0, side, side)


def test_scores_are_written_with_unit_and_protocol() -> None:
    assert style.scores_text(SCORES).replace("\u00a0", " ") == "33.13 dB / 0.9123"
    assert style.scores_text(None) == ""
    caption = style.scores_caption(SCORES, "classical-y-b2")
    assert caption == "PSNR of the luma Y / SSIM of the luma Y, protocol classical-y-b2"
    assert style.axis_label("psnr_y") == "psnr_y (dB)"
    assert style.axis_label("ssim_y") == "ssim_y"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["$_$ sale", "a$b", r"$\frac$", "^_{$x$}", "日本 語", "a\x1b[31mred", "%s {0}"])
def test_what_users_name_is_drawn_as_it_is(tmp_path: Path, drawn: list[Figure], name: str) -> None:
    """In titles, labels, ticks, legends and captions; letters that no font has become boxes, quietly."""
    scores = {name: {f"m {name}": [1.0, 2.0], "n": [1.0, 3.0]}}
    panels.violins(tmp_path / "v.png", scores, metric="psnr_y", title=name, protocol=name)
    panels.bars(tmp_path / "b.png", [(name, 2.0, None)], xlabel="x", title=name, baseline=(name, 1.0), caption=name)
    panels.training_curves(
        tmp_path / "c.png", {"psnr_y": {name: ([1], [1.0]), "b": ([1], [2.0])}}, xlabel="x", title=name
    )
    panels.comparison(tmp_path / "i.png", title=name, panels=[(name, IMAGES[0], None), (f"{name} b", IMAGES[1], None)])
    assert len(list(tmp_path.glob("*.png"))) == 4
    _, letters = style._fonts()
    shown = "".join(letter if letter in letters else "\u25a1" for letter in name)
    for figure in drawn:
        texts = [text for text in figure.findobj(Text) if shown in text.get_text()]
        assert len(texts) >= 2 and not any(text.get_parse_math() for text in texts)


def test_the_numbers_of_a_logarithmic_axis_stay_powers(tmp_path: Path, drawn: list[Figure]) -> None:
    figure = style.page("title", "caption", 3)
    axes = figure.add_subplot()
    axes.semilogy([1, 2], [1e-4, 1.0])
    style.save(figure, tmp_path / "x.png")
    labels = [tick.label1 for tick in axes.yaxis.get_major_ticks()]
    assert any("10^{-2}" in label.get_text() and label.get_parse_math() for label in labels)


def test_a_picture_that_fails_costs_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ZeroDivisionError("no\nroom")

    assert style.attempt("this", lambda: 3) and not style.attempt("that", fail)
    assert capsys.readouterr().err == "that was not drawn: ZeroDivisionError: no room\n"
    with pytest.raises(KeyboardInterrupt):
        style.attempt("all", lambda: (_ for _ in ()).throw(KeyboardInterrupt))


def test_lines_differ_in_style_and_colour_and_a_label_keeps_its_own() -> None:
    styles = style.line_styles(["a", "b", "a", "c"])
    assert list(styles) == ["a", "b", "c"] and styles == style.line_styles(["a", "b", "c"])
    many = style.line_styles(str(i) for i in range(28))
    assert len(set(many.values())) == 28, "every pair of line and colour before one comes again"
    assert all(colour != style.COLOURS[7] for _, colour in many.values()), "yellow is too pale for a line"


def test_text_is_wrapped_to_its_width_and_keeps_its_own_breaks() -> None:
    text = style.wrap("edsr_baseline × expectation_only\nbest of 3", 1.5)
    assert text.splitlines()[-1] == "best of 3" and all(len(line) <= 19 for line in text.splitlines())
    assert text.replace("\n", " ") == "edsr_baseline × expectation_only best of 3"
    assert style.text_in("a", "a\nb\nc") > style.text_in("a\nb") > style.text_in("a")


def test_two_dozen_methods_look_different_and_bicubic_like_none_of_them() -> None:
    styles = style.method_styles([*(f"m{i}" for i in range(24)), "m0"])
    assert len(styles) == len(set(styles.values())) == 25
    assert styles["bicubic"] == (":", "#000000") and styles["m0"] == ("-", style.COLOURS[0])
