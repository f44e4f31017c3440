"""What every picture shares: page width, type sizes, colours, the zoom grid (matplotlib's Agg canvas, no display).

Colours are Okabe and Ito's eight (https://jfly.uni-koeln.de/color/), told apart with any colour vision; lines differ in
style as well, and maps are matplotlib's perceptually uniform ones. Text stays readable at the width of a page.
"""

from __future__ import annotations

import functools
import itertools
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from eval.protocol import get_metric
from sr_models.command import say
from sr_models.errors import InputError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
LINES, MARKERS = ("-", "--", "-.", ":"), ("o", "^", "s", "D")
HEAT = "magma"  # black where nothing varies
TEXT_PT, SMALL_PT, DPI = 10, 9, 150
WIDTH_IN, GAP_IN = 10.0, 0.08
LEAST_FOR_A_SHAPE = 20  # values of which a density says more than their marks do
LETTER_IN = 0.078  # width of a letter (a digit's, near the mean) at SMALL_PT

_FONT, _BOX = "DejaVu Sans", "\u25a1"  # matplotlib's own; what stands for a letter that no font has
_OTHER_SCRIPTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Source Han Sans", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "Droid Sans Fallback", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic",
    "Microsoft YaHei", "Malgun Gothic", "Noto Sans", "Noto Sans Thai", "Noto Sans Devanagari", "Noto Emoji",
    "Arial Unicode MS",
)  # fmt: skip
_BACKDROP = "#999999"
_LINE_IN = 0.155  # height of a line at SMALL_PT
_TITLE_IN = 0.24  # height of a line of the title
_WHOLE_MOST, _CELL_LEAST_IN = 0.56, 1.33  # share of the page for the whole image; a cell wide enough for two scores
_CROP_PX = (24, 128)  # smallest and largest side of a crop: a larger one would be shrunk, not magnified

Box = tuple[int, int, int, int]  # top, left, height, width in HR pixels
Cell = tuple[str, np.ndarray]  # label, uint8 HWC image
Styles = Mapping[str, tuple[str, str]]  # label -> (line, colour)


def page(title: str, caption: str, body_in: float) -> Figure:
    """A figure as wide as the page, for charts: axes that are added share what title and caption leave."""
    figure, top_in = sheet(title, caption, body_in)
    height_in = figure.get_figheight()
    bottom_in = height_in - top_in - body_in
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, bottom_in / height_in, 1, body_in / height_in)))
    return figure


def sheet(title: str, caption: str, body_in: float) -> tuple[Figure, float]:
    """A figure as wide as the page, for images, which `spot` puts where they fit exactly; and where its body begins."""
    title, caption = wrap(title, 0.75 * WIDTH_IN), wrap(caption, WIDTH_IN)
    top_in = _TITLE_IN * (title.count("\n") + 1) + GAP_IN
    height_in = top_in + body_in + text_in(caption) + GAP_IN
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI)
    figure.suptitle(title, y=1 - GAP_IN / height_in, va="top", fontsize=TEXT_PT + 2)
    figure.supxlabel(caption, y=GAP_IN / height_in, va="bottom", fontsize=SMALL_PT)
    return figure, top_in


def spot(figure: Figure, left_in: float, top_in: float, width_in: float, height_in: float) -> Axes:
    """Axes at a place in inches, from the figure's upper left corner."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left_in / width, 1 - (top_in + height_in) / height, width_in / width, height_in / height))


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, in a folder that is made if need be; every text is drawn as it is, formulas are none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _draw_literally(figure)
    figure.savefig(path, format="png")


def _draw_literally(figure: Figure) -> None:
    """Take dollars for dollars in what users name, and letters that no font has for boxes, without a warning."""
    numbers = set()  # matplotlib's own, which may be formulas: 10 to the -2
    for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
        if isinstance(axis.get_major_formatter(), FuncFormatter):  # what ticks with labels of ours have
            axis.set_ticks(
                axis.get_majorticklocs(), labels=[_literal(tick.get_text()) for tick in axis.get_ticklabels()]
            )
        else:
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            numbers |= {label for tick in ticks for label in (tick.label1, tick.label2)}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text not in numbers:
            text.set(parse_math=False, fontfamily=_fonts()[0], text=_literal(text.get_text()))


def _literal(text: str) -> str:
    letters = _fonts()[1]
    return "".join(letter if letter in letters or letter == "\n" else _BOX for letter in text)


@functools.cache
def _fonts() -> tuple[list[str], frozenset[str]]:
    """The font families to write with, for other scripts those that are installed, and the letters they have."""
    installed = set(font_manager.get_font_names())
    families = [_FONT, *(name for name in _OTHER_SCRIPTS if name in installed)]
    maps = [font_manager.get_font(font_manager.findfont(name)).get_charmap() for name in families]
    return families, frozenset(chr(code) for charmap in maps for code in charmap)


def attempt(what: str, draw: Callable[[], object]) -> bool:
    """Draw; a picture that fails costs a line on stderr and nothing else. Returns whether it was drawn."""
    try:
        draw()
    except Exception as error:  # whatever a drawing library raises, scores are worth more than their picture
        cause = " ".join(str(error).split())
        say(f"{what} was not drawn: {type(error).__name__}" + (f": {cause}" if cause else ""))
        return False
    return True


def wrap(text: str, width_in: float) -> str:
    """`text` in lines of at most `width_in` inches at SMALL_PT; line breaks that it has are kept."""
    columns = max(int(width_in / LETTER_IN), 8)
    return "\n".join(textwrap.fill(line, columns, break_on_hyphens=False) for line in text.splitlines())


def text_in(*texts: str) -> float:
    """Height in inches of the tallest of some texts at SMALL_PT, with a gap."""
    return _LINE_IN * max(text.count("\n") + 1 for text in texts) + GAP_IN


def dress(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Labels and ticks at readable size, no frame above and at the right."""
    axes.set_xlabel(xlabel, fontsize=TEXT_PT)
    axes.set_ylabel(ylabel, fontsize=TEXT_PT)
    axes.tick_params(labelsize=SMALL_PT)
    axes.spines[["top", "right"]].set_visible(False)


def draw_lines(axes: Axes, series: Mapping[str, tuple[Sequence[float], Sequence[float]]], styled: Styles) -> None:
    """One line for each label of `series`; a single value becomes a dot."""
    for label, (x, y) in series.items():
        line, colour = styled[label]
        axes.plot(x, y, line, color=colour, label=label, lw=1.8, marker="o" if len(x) < 2 else None)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.grid(color="#DDDDDD", lw=0.6)


def line_styles(labels: Iterable[str]) -> Styles:
    """(line, colour) of each label, in the order given; a label that comes again keeps its own."""
    styles = zip(itertools.cycle(LINES), itertools.cycle(COLOURS[:7]), strict=False)  # yellow is too pale for a line
    return dict(zip(dict.fromkeys(labels), styles, strict=False))


def method_styles(methods: Iterable[str]) -> Styles:
    """(line, colour) of each method, the same on all pictures of a run; bicubic is black and dotted."""
    styles = ((LINES[(i + i // 12) % 4], COLOURS[i % 6]) for i in itertools.count())  # 24 that differ
    return {"bicubic": (":", COLOURS[6])} | dict(zip(dict.fromkeys(methods), styles, strict=False))


def draw_image(axes: Axes, image: np.ndarray, label: str, interpolation: str = "nearest") -> None:
    """A uint8 HWC image under its label, without ticks. Crops keep their pixels; "auto" smooths one that is shrunk."""
    axes.imshow(image, interpolation=interpolation)
    frame(axes, label)


def frame(axes: Axes, label: str) -> None:
    """A label above an image, a thin grey frame around it."""
    axes.set_title(label, fontsize=SMALL_PT)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(_BACKDROP)


def zoomed(path: Path, *, title: str, whole: Cell, rows: Sequence[Sequence[Cell]], box: Box, caption: str) -> None:
    """The whole image with a box at the left; at its right that box of every cell, enlarged.

    Args:
        whole: the image that the box is drawn on; cells are as large as it is.
        rows: cells from top to bottom, left to right.

    Raises:
        InputError: the box leaves the image.
    """
    top, left, height, width = box
    image_height, image_width = whole[1].shape[:2]
    if min(top, left) < 0 or min(height, width) < 1 or top + height > image_height or left + width > image_width:
        size = f"{image_height}x{image_width} px (height x width)"
        raise InputError(f"crop (top, left, height, width) = {box} leaves the image of {size}")
    columns, tall = max(len(row) for row in rows), height / width
    room_in, aspect = WIDTH_IN - GAP_IN * (columns + 2), image_width / image_height
    between_in = 0.0
    for _ in range(2):  # labels need the width of a cell, which needs the height of the labels between rows
        wanted_in = (room_in * len(rows) * tall + columns * between_in) * aspect / (columns + len(rows) * tall * aspect)
        most_in = min(_WHOLE_MOST * room_in, max(room_in - columns * _CELL_LEAST_IN, room_in / (columns + 1)))
        whole_in = min(wanted_in, most_in)  # as tall as all rows, if that leaves enough to them
        cell_in = (room_in - whole_in) / columns
        whole_label = wrap(whole[0], whole_in)
        labels = [[wrap(label, cell_in) for label, _ in row] for row in rows]
        above_in = [text_in(*row, *([whole_label] if i == 0 else [])) for i, row in enumerate(labels)]
        between_in = sum(above_in[1:]) + GAP_IN * (len(rows) - 1)
    figure, top_in = sheet(title, caption, sum(above_in) + len(rows) * (cell_in * tall + GAP_IN))

    whole_height_in = whole_in * image_height / image_width
    overview = spot(figure, GAP_IN, top_in + above_in[0], whole_in, whole_height_in)
    draw_image(overview, whole[1], whole_label, "auto")
    for colour, line_pt in (("white", 3.5), (COLOURS[1], 1.8)):
        overview.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=colour, lw=line_pt))
    for i, row in enumerate(rows):
        top_in += above_in[i]
        for j, (_, image) in enumerate(row):
            left_in = whole_in + 2 * GAP_IN + j * (cell_in + GAP_IN)
            crop = image[top : top + height, left : left + width]
            draw_image(spot(figure, left_in, top_in, cell_in, cell_in * tall), crop, labels[i][j])
        top_in += cell_in * tall + GAP_IN
    save(figure, path)


def disagreement(images: Sequence[np.ndarray]) -> np.ndarray:
    """How much uint8 HWC images of one size differ, a pixel: the variance times len(images)², exact, (H, W) int64."""
    total, squares = np.zeros((2, *images[0].shape), np.int64)
    for image in images:
        total += image
        squares += image.astype(np.int64) ** 2
    return (len(images) * squares - total**2).sum(axis=-1)


def busiest(amount: np.ndarray) -> Box:
    """The square that holds most of `amount` (H, W): a quarter of the shorter side, within 24 to 128 px."""
    height, width = amount.shape
    side = min(int(np.clip(min(height, width) // 4, *_CROP_PX)), height, width)
    sums = np.pad(amount, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(top), int(left), side, side


def axis_label(metric: str) -> str:
    """A metric's name with its unit, such as "psnr_y (dB)"; without a unit the name alone."""
    unit = get_metric(metric).unit
    return f"{metric} ({unit})" if unit else metric


def score_text(metric: str, value: float) -> str:
    """A score with its digits and unit; the space between them (U+00A0) never breaks a line."""
    return f"{value:.{get_metric(metric).decimals}f}\u00a0{get_metric(metric).unit}".removesuffix("\u00a0")


def scores_text(scores: Mapping[str, float] | None) -> str:
    """Scores with their units, in the order given: "33.13 dB / 0.9123"; a line breaks after a slash."""
    return "\u00a0/ ".join(score_text(metric, value) for metric, value in (scores or {}).items())


def scores_caption(metrics: Iterable[str], protocol: str) -> str:
    """What the numbers of `scores_text` are, in the same order, and the protocol behind them."""
    parts = [get_metric(name).description for name in metrics]
    return " / ".join(parts) + (f", protocol {protocol}" if protocol and parts else "")
