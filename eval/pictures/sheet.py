"""What a teacher makes of a training pair, and the pairs between: ECO (https://arxiv.org/abs/2312.17526), Fig. 7."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.pictures import style
from eval.pictures.style import Box, Cell

GAIN = 4
"""By how much differences are enlarged, about a middle grey."""


def target_sheet(
    path: Path,
    *,
    title: str,
    y: np.ndarray,
    x: np.ndarray,
    mu: np.ndarray,
    mu_lr: np.ndarray,
    mixtures: Sequence[tuple[float, np.ndarray, np.ndarray]],
    caption: str,
) -> Box:
    """y whole; at its right what is trained on as α goes from 0 to 1, targets above inputs, then what μ and D(μ) lack.

    Args:
        path: the PNG to write.
        y, mu: HR and the teacher's SR of x, uint8 (s H, s W, 3).
        x, mu_lr: LR and mu downscaled again, uint8 (H, W, 3); shown magnified.
        mixtures: (α, target, input) by rising α, sizes as those of y and x.

    Returns:
        The box that was shown: where y and mu differ most.
    """
    scale = y.shape[0] // x.shape[0]

    def large(image: np.ndarray) -> np.ndarray:
        return image.repeat(scale, axis=0).repeat(scale, axis=1)

    targets: list[Cell] = [("target, α = 0:\nμ", mu), *((f"α = {a:g}", target) for a, target, _ in mixtures)]
    inputs: list[Cell] = [("input, α = 0:\nD(μ)", large(mu_lr))]
    inputs += [(f"α = {a:g}", large(given)) for a, _, given in mixtures]
    of_x = large(_difference(x, mu_lr))
    differences: list[Cell] = [(f"y − μ, ×{GAIN}", _difference(y, mu)), (f"x − D(μ), ×{GAIN}", of_x)]
    rows = [[*targets, ("α = 1:\ny", y)], [*inputs, ("α = 1:\nx", large(x))], differences]
    box = style.busiest(style.disagreement([y, mu]))
    style.zoomed(path, title=title, whole=("y, whole image", y), rows=rows, box=box, caption=caption)
    return box


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.clip(128 + GAIN * (a.astype(np.int16) - b.astype(np.int16)), 0, 255).astype(np.uint8)
