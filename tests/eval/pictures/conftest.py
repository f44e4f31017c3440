"""What tests of pictures look into: the figures that are saved, and whether their text can be read."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from eval.pictures import style


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved, to be looked into."""
    figures, save = [], style.save

    def keep(figure: Figure, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(style, "save", keep)
    return figures


@pytest.fixture
def check_readable() -> Callable[[Figure], None]:
    """Holds that all text of a figure can be read where it will stand on a page."""
    return _check_readable


def _shown_texts(figure: Figure) -> list[Text]:
    """What is written on a figure; ticks outside an axis' limits are not."""
    hidden = set()
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high or not tick.get_visible():
                    hidden |= {tick.label1, tick.label2}
    return [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in hidden]


def _check_readable(figure: Figure) -> None:
    """All text is at least 9 pt at 10 in, inside the figure, and covers no other text; titles cover no axes."""
    assert figure.get_figwidth() == 10
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = {}
    for text in _shown_texts(figure):
        assert text.get_fontsize() >= 9 or "mathdefault" in text.get_text(), text
        box = text.get_window_extent(canvas.get_renderer())
        assert box.x0 >= 0 and box.y0 >= 0, text
        assert box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, text
        boxes[text] = box.padded(-2)
    assert len(boxes) >= 3
    for (a, box_a), (b, box_b) in combinations(boxes.items(), 2):
        assert not box_a.overlaps(box_b), (a, b)
    outside = [figure._suptitle, figure._supxlabel, *(axes.title for axes in figure.axes)]
    for text in boxes.keys() & set(outside):
        assert not any(axes.get_window_extent().overlaps(boxes[text]) for axes in figure.axes), text
