"""Pictures of one size in rows and columns, each under its label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval.pictures import style
from eval.pictures.style import Cell


def grid(path: Path, *, title: str, rows: Sequence[Sequence[Cell]], caption: str) -> None:
    """Write a PNG.

    Args:
        rows: cells from top to bottom, left to right; uint8 (H, W, 3), as large as the first one.
    """
    columns, (height, width) = max(len(row) for row in rows), rows[0][0][1].shape[:2]
    cell_in = (style.WIDTH_IN - style.GAP_IN * (columns + 1)) / columns
    labels = [[style.wrap(label, cell_in) for label, _ in row] for row in rows]
    tall_in, above_in = cell_in * height / width, [style.text_in(*row) for row in labels]
    figure, top_in = style.sheet(title, caption, sum(above_in) + len(rows) * (tall_in + style.GAP_IN))
    for row, texts, label_in in zip(rows, labels, above_in, strict=True):
        top_in += label_in
        for column, ((_, image), text) in enumerate(zip(row, texts, strict=True)):
            left_in = style.GAP_IN + column * (cell_in + style.GAP_IN)
            style.draw_image(style.spot(figure, left_in, top_in, cell_in, tall_in), image, text)
        top_in += tall_in + style.GAP_IN
    style.save(figure, path)
