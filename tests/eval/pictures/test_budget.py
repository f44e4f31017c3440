"""A budget's picture: every piece as long as its steps, in order, with the number of its trials."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from eval.pictures.budget import budget
from sr_models.errors import InputError


def test_pieces_are_as_long_as_their_steps(tmp_path: Path, drawn: list[Figure], check_readable) -> None:
    spent = {"edsr × eco": {25: (4, 100), 100: (1, 100)}, "edsr_baseline × expectation_only": {50: (2, 100)}}
    budget(tmp_path / "x.png", spent, full=100, title="t", caption="c")
    [axes] = drawn[0].axes
    pieces = [patch for patch in axes.patches if patch.get_y() > -1]
    assert [(p.get_x(), p.get_width()) for p in pieces] == [(0, 100), (100, 100), (0, 100)]
    assert [text.get_text() for text in axes.texts] == ["4", "1", "2"]
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert legend == ["25 steps", "50 steps", "100 steps (full)"]
    assert pieces[0].get_facecolor() != pieces[1].get_facecolor()
    check_readable(drawn[0])


def test_nothing_spent_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one trial"):
        budget(tmp_path / "x.png", {"a": {}}, full=1, title="t")
