"""What an image must be to be trained or scored on, as far as one look at it tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sr_models.errors import InputError
from sr_models.images.files import image_size

Sizes = Callable[[Path], tuple[int, int] | None]
"""Height and width that a header says; None where it cannot be read."""


def lr_side(hr: Path, lr: Path | None, scale: int, size: Sizes = image_size) -> int | None:
    """The shorter side of an image's LR in pixels, by a header; None if that is damaged, which reading will tell."""
    try:
        sides = size(hr if lr is None else lr)
    except InputError:
        return None
    return None if sides is None else min(sides) // (scale if lr is None else 1)


def check_not_flat(flat: bool, what: str) -> None:
    """Refuse an image to be scored on that is one colour; `what` it is begins the message."""
    if flat:
        raise InputError(
            f"{what} has one colour only: every model makes it without error, so no mean PSNR over it is finite; "
            "exclude it"
        )
