"""The same piece of an image by every method, as a file that a page shows: JSON with a PNG each."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sr_models.errors import InputError
from sr_models.files import write_json

_PNG = b"\x89PNG\r\n"


def write_crops(
    path: Path,
    *,
    benchmark: str,
    scale: float,
    panels: Sequence[tuple[str, np.ndarray, str]],
    box: tuple[int, int, int, int],
) -> None:
    """Write the box out of every panel.

    Args:
        benchmark: name of the test set; with `scale` it says whose image this is.
        panels: (label, uint8 HWC image, its scores in words), all of HR's size.
        box: (top, left, height, width) in HR pixels.
    """
    from PIL import Image

    top, left, height, width = box
    shown = []
    for label, image, scores in panels:
        out = io.BytesIO()
        Image.fromarray(image[top : top + height, left : left + width]).save(out, "PNG")
        shown.append({"label": label, "scores": scores, "png": base64.b64encode(out.getvalue()).decode()})
    write_json(path, {"set": benchmark, "scale": scale, "panels": shown})


def read_crops(path: Path) -> dict[str, Any]:
    """What `write_crops` wrote: `set`, `scale`, and `panels` of `label`, `scores` and `png`, base64 of a PNG.

    Raises:
        InputError: the file is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        panels = [{key: str(panel[key]) for key in ("label", "scores", "png")} for panel in found["panels"]]
        if not all(base64.b64decode(panel["png"], validate=True).startswith(_PNG) for panel in panels):
            raise ValueError("a panel is no PNG")
        return {"set": str(found["set"]), "scale": float(found["scale"]), "panels": panels}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} holds no crops ({error}); delete it, and the sweep draws its pictures again"
        ) from None
