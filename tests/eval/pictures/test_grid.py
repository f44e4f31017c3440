"""A grid shows every cell, at its place."""

import numpy as np
from PIL import Image

from eval.pictures.grid import grid

RED, GREEN, BLUE = (np.full((20, 30, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))


def test_cells_stand_where_their_row_and_column_are(tmp_path):
    rows = [[("a", RED), ("b", GREEN)], [("c", BLUE), ("$d", RED)]]
    grid(tmp_path / "new" / "g.png", title="t", rows=rows, caption="c")
    drawn = np.asarray(Image.open(tmp_path / "new" / "g.png").convert("RGB")).astype(int)
    for colour, (below, right) in {(0, 255, 0): (False, True), (0, 0, 255): (True, False)}.items():
        y, x = np.nonzero((drawn == colour).all(axis=2))
        assert (y.mean() > drawn.shape[0] / 2) == below and (x.mean() > drawn.shape[1] / 2) == right
        assert len(y) / (np.ptp(y) + 1) / (np.ptp(x) + 1) > 0.95, "one rectangle"
    y, x = np.nonzero((drawn == (255, 0, 0)).all(axis=2))
    assert np.ptp(y) > drawn.shape[0] / 2 and np.ptp(x) > drawn.shape[1] / 2, "the first and the last"
