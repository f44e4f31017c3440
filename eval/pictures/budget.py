"""Where a search spent its steps: a bar a combination, in pieces by how far its trials came."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib import colormaps

from eval.pictures import style
from eval.pictures.style import SMALL_PT
from sr_models.errors import InputError


def budget(
    path: Path, spent: Mapping[str, Mapping[int, tuple[int, int]]], *, full: int, title: str, caption: str = ""
) -> None:
    """Draw the steps of each combination's trials, those that came no further than a rung in one piece.

    Args:
        path: the PNG to write.
        spent: combination -> step where trials ended -> (how many they are, their steps together), by rising step.
        full: steps of a trial that is run to its end.

    Raises:
        InputError: nothing was spent.
    """
    ends = sorted({end for pieces in spent.values() for end in pieces})
    if not ends:
        raise InputError("a budget needs at least one trial, got none")
    figure = style.page(title, caption, 1.0 + 0.36 * max(len(spent), 2))
    axes = figure.add_subplot()
    shades = colormaps["viridis"]
    for place, pieces in enumerate(spent.values()):
        left = 0
        for end in sorted(pieces):
            many, steps = pieces[end]
            share = min(end / full, 1.0)
            axes.barh(place, steps, left=left, height=0.66, color=shades(1 - 0.85 * share), edgecolor="white")
            axes.annotate(str(many), (left + steps / 2, place), ha="center", va="center", fontsize=SMALL_PT,
                          color="white" if share > 0.4 else "black")  # fmt: skip
            left += steps
    handles = [
        axes.barh(
            -9, 0, color=shades(1 - 0.85 * min(end / full, 1.0)), label=f"{end} steps" + (" (full)" * (end >= full))
        )
        for end in ends
    ]
    axes.set_yticks(range(len(spent)), list(spent))
    axes.set_ylim(max(len(spent), 2) - 0.4, -0.6)
    figure.legend(handles=handles, title="trials that ended after", title_fontsize=SMALL_PT, fontsize=SMALL_PT,
                  frameon=False, loc="outside right center")  # fmt: skip
    style.dress(axes, "optimiser steps of the search", "")
    style.save(figure, path)
