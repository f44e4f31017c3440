"""What ECO trains on, to be looked at: a training pair, the teacher's pair, and the mixtures between (Fig. 7).

https://arxiv.org/abs/2312.17526; the images are those of the patch store, and mixtures are made as training makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eval.metrics.fidelity import psnr
from eval.pictures.sheet import target_sheet
from orchestrator.data.store import PatchStore
from orchestrator.probe.figures import PlaceOf, groups
from orchestrator.probe.kept import Row, Unit
from orchestrator.probe.trials import Looked
from sr_models.errors import InputError
from sr_models.images.operators import to_float, to_uint8

ALPHAS = (0.25, 0.5, 0.75)


def units(looked: Looked) -> list[Unit]:
    """A unit a store and teacher.

    Raises:
        InputError: no trial that is asked for has a teacher.
    """
    found, asked = {}, looked.asked
    for subject in looked.subjects:
        config = subject.config
        if config.teacher is None:
            continue
        store = subject.probed.home.access.open_store(config.data_hash)
        name = asked.image or next(iter(store.sizes("train")))
        key = {
            "run": subject.probed.run.name, "scale": config.scale, "data": config.data_hash, "teacher": config.teacher,
            "image": name, "alphas": asked.alphas or ALPHAS,
        }  # fmt: skip
        found[config.data_hash, config.teacher] = Unit(key=key, rows=partial(_rows, store, key))
    if not found:
        raise InputError("--kind targets: no trial that is asked for has a teacher (objectives such as kd and eco do)")
    return list(found.values())


def _rows(store: PatchStore, key: dict[str, object]) -> list[Row]:
    """A row for each α, 0 and 1 among them: how far the target is from y, and the input from x."""
    images = _floats(store, str(key["image"]), str(key["teacher"]))
    rows = []
    alphas = key["alphas"]
    assert isinstance(alphas, tuple)
    for alpha in (0.0, *alphas, 1.0):
        target, given = mixture(images, alpha)
        rows.append({
            **{name: key[name] for name in ("run", "scale", "data", "teacher", "image")}, "alpha": alpha,
            "target_psnr": _psnr(target, images["hr"]), "input_psnr": _psnr(given, images["lr"]),
            "target_difference": float((target - images["hr"]).abs().double().mean()),
            "input_difference": float((given - images["lr"]).abs().double().mean()),
        })  # fmt: skip
    return rows


def mixture(images: dict[str, Tensor], alpha: float) -> tuple[Tensor, Tensor]:
    """Target and input of ECO Eq. 14."""
    target = (1 - alpha) * images["mu"] + alpha * images["hr"]
    return target, (1 - alpha) * images["mu_lr"] + alpha * images["lr"]


def _psnr(a: Tensor, b: Tensor) -> float | None:
    """Over R, G and B, not rounded; None of two that are equal."""
    found = float(psnr(a, b, data_range=1.0, shave=0, luma=None))
    return found if np.isfinite(found) else None


def _floats(store: PatchStore, image: str, teacher: str) -> dict[str, Tensor]:
    return {name: to_float(pixels) for name, pixels in store.training_image(image, teacher).items()}


# ---- what it looks like ----------------------------------------------------------------------------------------------


def draw(looked: Looked, rows: Sequence[Row], place: PlaceOf) -> list[Path]:
    """A sheet a scale, of each teacher's pair."""
    paths = []
    several = len(groups(rows, "scale", "data", "teacher")) > len(groups(rows, "scale"))
    for (scale, data, teacher, image), own in groups(rows, "scale", "data", "teacher", "image").items():
        subject = next(s for s in looked.subjects if (s.config.data_hash, s.config.teacher) == (data, teacher))
        store = subject.probed.home.access.open_store(data)
        pixels, images = store.training_image(image, teacher), _floats(store, image, teacher)
        between = [row["alpha"] for row in own if 0 < row["alpha"] < 1]
        mixed = [(a, *(to_uint8(found)[0] for found in mixture(images, a))) for a in between]
        start = own[0]
        path = place(f"targets_x{scale}" + (f"_{teacher[:8]}" if several else ""))
        target_sheet(
            path,
            title=f"What ECO trains on, ×{scale}: {image}",
            y=pixels["hr"],
            x=pixels["lr"],
            mu=pixels["mu"],
            mu_lr=pixels["mu_lr"],
            mixtures=mixed,
            caption=f"μ: the teacher's SR of x; D: downscaling as LR was made. PSNR of μ to y "
            f"{start['target_psnr'] or torch.inf:.2f} dB, of D(μ) to x {start['input_psnr'] or torch.inf:.2f} dB",
        )
        paths.append(path)
    return paths


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line an α."""
    lines: list[tuple[str, ...]] = [("image", "α", "target to y (dB)", "input to x (dB)")]
    for row in rows:
        numbers = ["equal" if value is None else f"{value:.2f}" for value in (row["target_psnr"], row["input_psnr"])]
        lines.append((f"{row['image']} ×{row['scale']}", f"{row['alpha']:g}", *numbers))
    return lines
