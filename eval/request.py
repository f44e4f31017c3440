"""What a command was asked to score, typed; made from checked options, and free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eval.protocol import Protocol
from sr_models.hyper.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be scored against what, how, and where it goes; checked as far as that goes without torch."""

    protocol: Protocol
    """With the number of draws that was asked for."""
    metrics: tuple[str, ...]
    scale: float
    """A whole one is an int."""
    hr: Path | None
    """None: a network's pictures of `lr` are measured without HR images."""
    lr: Path | None
    include: tuple[str, ...]
    """Globs on HR's file names, as of `sr_models.images.files.find_images`; partners follow."""
    exclude: tuple[str, ...]
    weights_dir: Path | None
    """Of the metrics' weights, before SR_WEIGHTS_DIR."""
    strict: bool
    """Whether a refused picture or missing metric weights are an error."""
    json: Path | None
    parquet: Path | None
    per_image: bool
    """Whether the table has a line for each image."""


@dataclass(frozen=True, kw_only=True)
class ModelRequest(Request):
    """A network and how it computes (`sr_models.inference.super_resolve.Options`, which is behind torch)."""

    model: str
    kernel: str | None
    """What makes LR where it comes in no files: a key of `sr_models.images.matlab.KERNELS`; None: the usual one."""
    weights: Path | None
    """A released file, or a checkpoint folder of ours; None for a network that has none."""
    weights_key: str | None
    """Where in the file the network's state dict is; None: where training codes keep it."""
    hyper: Mapping[str, Any]
    parts: Mapping[str, Path] = field(default_factory=dict)
    """Files of the frozen parts that it stands on, by their names."""
    seed: int
    """Of a stochastic network's noise."""
    precision: Literal["fp32", "bf16"]
    channels_last: bool
    compile: bool
    tile: int | None
    """LR pixels a side; None computes pictures whole."""
    overlap: int | None
    """LR pixels; None for the default of `Options`."""
    self_ensemble: bool
    sampling: Sampling | None
    """Of a diffusion network; None for any other."""
    crops: str | None
    """Its tiles, by the name of a paper's."""
    save_images: Path | None
    pictures: Path | None


@dataclass(frozen=True, kw_only=True)
class PicturesRequest(Request):
    """SR pictures that exist already."""

    images: Path
