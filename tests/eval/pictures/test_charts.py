"""Charts hold what they are given, side by side, with one legend that covers nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from eval.pictures.charts import Chart, Line, charts
from sr_models.errors import InputError

LONG = "edsr_baseline × eco, batch_size=16 (toy-1a2b3c4d)"


def chart(labels: int, **over: object) -> Chart:
    lines = {
        f"{LONG} {i}": Line(x=[0, 1000, 20000], y=[1.0, 2 + i, float("nan")], low=[0.5, 1, 1], high=[2, 3 + i, 3])
        for i in range(labels)
    }
    return Chart(**{"title": "loss", "xlabel": "optimiser steps", "ylabel": "loss", "lines": lines} | over)


@pytest.mark.parametrize(
    ("shown", "columns"),
    [
        ([chart(1)], 2),
        ([chart(5), chart(5, log_y=True), chart(2, points=True, log_x=True)], 2),
        ([chart(7, diagonal="as it says", verticals={"LR's Nyquist": 10000.0})] * 4, 2),
        ([chart(3, points=True)] * 3, 3),
    ],
)
def test_charts_are_readable_at_page_width(
    tmp_path: Path, drawn: list[Figure], check_readable: Callable[[Figure], None], shown: list[Chart], columns: int
) -> None:
    charts(tmp_path / "new" / "x.png", shown, title="Why", caption="Of these steps. " * 12, columns=columns)
    check_readable(drawn[0])
    assert sum(axes.get_visible() for axes in drawn[0].axes) == len(shown)


def test_lines_and_bands_are_the_numbers_given(tmp_path: Path, drawn: list[Figure]) -> None:
    line = Line(x=[1, 2, 3], y=[1.0, -1.0, 4.0], low=[0.5, 0.5, 3.0], high=[2.0, 2.0, 5.0])
    shown = [Chart(title="t", xlabel="x", ylabel="y", lines={"a": line}, log_y=log) for log in (False, True)]
    charts(tmp_path / "x.png", shown, title="t")
    plain, logarithmic = drawn[0].axes
    assert plain.lines[0].get_ydata().tolist() == [1, -1, 4]
    assert str(logarithmic.lines[0].get_ydata()[1]) == "nan" and logarithmic.get_yscale() == "log"
    [band] = plain.collections
    edge = band.get_paths()[0].vertices
    assert {tuple(point) for point in edge.tolist()} >= {(1, 0.5), (2, 2.0), (3, 5.0), (3, 3.0)}
    assert not drawn[0].legends, "one line needs no legend"


def test_a_level_and_marks_on_it_stand_in_the_colour_of_their_line(tmp_path: Path, drawn: list[Figure]) -> None:
    line = Line(x=[1, 2, 3], y=[1.0, 3.0, 4.0])
    marked = {"horizontals": {"a's end": 2.0}, "marks": {"b": [(1.5, 2.0)]}}
    charts(
        tmp_path / "x.png",
        [Chart(title="t", xlabel="x", ylabel="y", lines={"a": line, "b": line}, **marked)],
        title="t",
    )
    _, b, level, marks = drawn[0].axes[0].lines
    assert list(level.get_ydata()) == [2.0, 2.0] and marks.get_xydata().tolist() == [[1.5, 2.0]]
    assert marks.get_color() == b.get_color() and [text.get_text() for text in drawn[0].axes[0].texts] == ["a's end"]


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one line"):
        charts(tmp_path / "x.png", [], title="t")
