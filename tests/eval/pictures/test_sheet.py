"""The sheet of targets shows the pairs that it is given, at the place where teacher and HR differ most."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from eval.pictures.sheet import GAIN, target_sheet

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(("scale", "mixtures"), [(2, 3), (4, 1), (3, 5)])
def test_the_sheet_is_readable_and_shows_where_they_differ(
    tmp_path: Path, drawn: list[Figure], check_readable: Callable[[Figure], None], scale: int, mixtures: int
) -> None:
    y = RANDOM.integers(80, 170, (30 * scale, 40 * scale, 3)).astype(np.uint8)
    x, mu = y[::scale, ::scale], y.copy()
    mu[40:50, 60:70] += 9
    between = [(i / 10 + 0.05, y, x) for i in range(mixtures)]
    box = target_sheet(
        tmp_path / "x.png", title="What ECO trains on", y=y, x=x, mu=mu, mu_lr=x, mixtures=between, caption="c" * 150
    )
    check_readable(drawn[0])
    top, left, height, width = box
    assert top <= 40 and left <= 60 and top + height >= 50 and left + width >= 70
    shown = [axes.get_images()[0].get_array() for axes in drawn[0].axes]
    assert len(shown) == 1 + 2 * (mixtures + 2) + 2
    assert shown[-2][45 - top, 65 - left].tolist() == [128 - 9 * GAIN] * 3 and (shown[-1] == 128).all()
