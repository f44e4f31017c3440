"""Several charts on one page, of lines with bands or of points; a label looks the same in all of them.

Made for what probes find (`eval.probes`): losses with their range, spectra, calibration, curves over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator, StrMethodFormatter

from eval.pictures import style
from eval.pictures.style import COLOURS, MARKERS, SMALL_PT, TEXT_PT
from sr_models.errors import InputError

_ROW_IN = 3.3  # height of a row of charts
_LEGEND_IN, _LEGEND_LINE_IN = 0.12, 0.21  # around the legend, and one line of it
_LEGEND_COLUMN_IN = 4.6  # what two labels side by side need
_FEW_DECADES = 2.5
_FEW_PLACES = 8  # so many have a tick each


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line, or points; where there is a band, its lower and upper edge."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart: its axes carry their units."""

    title: str
    xlabel: str
    ylabel: str
    lines: Mapping[str, Line]
    log_x: bool = False
    log_y: bool = False
    points: bool = False
    """Marks without lines between them."""
    diagonal: str = ""
    """What a thin line of y = x stands for, if there is to be one."""
    y_range: tuple[float, float] | None = None
    """Where the vertical axis ends; None: where the lines do."""
    verticals: Mapping[str, float] = field(default_factory=dict)
    """What a thin vertical line stands for -> where."""
    horizontals: Mapping[str, float] = field(default_factory=dict)
    """The same of horizontal ones."""
    marks: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """Label of a line -> places (x, y) on it that are marked."""


def charts(path: Path, shown: Sequence[Chart], *, title: str, caption: str = "", columns: int = 2) -> None:
    """Draw some charts and one legend below them.

    Args:
        path: the PNG to write.
        columns: charts side by side.

    A value that is not finite, or not positive on a logarithmic axis, leaves a gap.

    Raises:
        InputError: nothing to draw.
    """
    labels = list(dict.fromkeys(label for chart in shown for label in chart.lines))
    if not labels:
        raise InputError("charts need at least one line, got none")
    styled, columns = style.line_styles(labels), min(columns, len(shown))
    across = 2 if len(labels) > 1 and max(map(len, labels)) * style.LETTER_IN < _LEGEND_COLUMN_IN else 1
    legend_in = (_LEGEND_IN + _LEGEND_LINE_IN * math.ceil(len(labels) / across)) if len(labels) > 1 else 0.0
    rows = math.ceil(len(shown) / columns)
    figure = style.page(title, caption, rows * _ROW_IN + legend_in)
    engine = cast("ConstrainedLayoutEngine", figure.get_layout_engine())
    left, bottom, width, height = engine.get()["rect"]
    legend = legend_in / figure.get_figheight()  # below the charts, above the caption
    engine.set(rect=(left, bottom + legend, width, height - legend))
    grid = figure.subplots(rows, columns, squeeze=False)
    markers = dict(zip(labels, [MARKERS[i % len(MARKERS)] for i in range(len(labels))], strict=True))
    for axes, chart in zip(grid.flat, shown, strict=False):
        _draw(axes, chart, styled, markers)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    if len(labels) > 1:
        only_points = all(chart.points for chart in shown)
        handles = [
            Line2D([], [], ls="" if only_points else styled[label][0], color=styled[label][1], lw=1.8,
                   marker=markers[label], ms=6 if only_points else 4)
            for label in labels
        ]  # fmt: skip
        figure.legend(
            handles, labels, loc="lower center", bbox_to_anchor=(0.5, bottom), borderaxespad=0.2, ncols=across,
            fontsize=SMALL_PT, frameon=False,
        )  # fmt: skip
    style.save(figure, path)


def _draw(axes: Axes, chart: Chart, styled: style.Styles, markers: Mapping[str, str]) -> None:
    for label, line in chart.lines.items():
        kind, colour = styled[label]
        y = [value if math.isfinite(value) and (value > 0 or not chart.log_y) else math.nan for value in line.y]
        axes.plot(
            line.x, y, "" if chart.points else kind, color=colour, lw=1.8, ms=6 if chart.points else 4,
            marker=markers[label] if chart.points or len(line.x) <= 8 else None,
        )  # fmt: skip
        if line.low is not None and line.high is not None:
            if chart.points:
                for x, low, high in zip(line.x, line.low, line.high, strict=True):
                    axes.plot([x, x], [low, high], color=colour, lw=1.4)
            else:
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, lw=0)
    if chart.diagonal:
        axes.axline((0, 0), slope=1, ls=":", color=COLOURS[6], lw=1.2)
        axes.annotate(chart.diagonal, (0.03, 0.92), xycoords="axes fraction", fontsize=SMALL_PT)
    for place, (what, x) in enumerate(chart.verticals.items()):
        axes.axvline(x, ls=":", color=COLOURS[6], lw=1.2)
        where, gap_pt = (x, 0.98 - 0.08 * place), (4, 0)
        axes.annotate(
            what, where, gap_pt, xycoords=axes.get_xaxis_transform(), textcoords="offset points", va="top",
            fontsize=SMALL_PT,
        )  # fmt: skip
    for what, height in chart.horizontals.items():
        axes.axhline(height, ls=":", color=COLOURS[6], lw=1.2)
        axes.annotate(
            what, (0.02, height), (0, 2), xycoords=axes.get_yaxis_transform(), textcoords="offset points", va="bottom",
            fontsize=SMALL_PT,
        )  # fmt: skip
    for label, marked in chart.marks.items():
        axes.plot(
            [at[0] for at in marked], [at[1] for at in marked], ls="", color=styled[label][1], marker=markers[label],
            ms=6, markeredgecolor=COLOURS[6], zorder=3,
        )  # fmt: skip
    if chart.log_x:
        _log(axes.xaxis, axes.set_xscale)
        places = sorted({x for line in chart.lines.values() for x in line.x})
        if len(places) <= _FEW_PLACES and not chart.points:
            axes.xaxis.set_major_locator(FixedLocator(places))
            axes.xaxis.set_minor_locator(NullLocator())
    if chart.log_y:
        _log(axes.yaxis, axes.set_yscale)
    else:
        axes.ticklabel_format(axis="y", useOffset=False)
    if not chart.log_x:
        axes.ticklabel_format(axis="x", useOffset=False)
        if all(float(x).is_integer() and x >= 1000 for line in chart.lines.values() for x in line.x):
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if chart.y_range is not None:
        axes.set_ylim(*chart.y_range)
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.set_axisbelow(True)
    axes.set_title(chart.title, fontsize=TEXT_PT)
    style.dress(axes, chart.xlabel, chart.ylabel)


def _log(axis: Axis, scale: Callable[[str], object]) -> None:
    """A logarithmic axis with plain numbers: 1, 2 and 5 of each decade where it spans few of them."""
    scale("log")
    low, high = axis.get_view_interval()
    few = math.log10(high / low) < _FEW_DECADES
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
