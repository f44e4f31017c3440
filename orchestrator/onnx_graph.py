"""A network as an ONNX file (https://onnx.ai), checked on a photograph against what it was made of.

The graph takes `lr`, (1, 3 or more, H, W) float32 RGB in [0, 1], of any H and W that are multiples of the network's
window, to `sr`, (1, 3, H * scale, W * scale), neither clamped nor rounded. How other sizes are made to fit stays
outside: mirrored padding, or IMDN_AS's adaptive cropping (`SRNetwork.fit`). Needs the extra [onnx].
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from orchestrator.plan.sources import skimage_folder
from sr_models.errors import InputError, chain
from sr_models.images.files import read_image
from sr_models.images.operators import to_float
from sr_models.networks.base import Network, SRNetwork
from sr_models.networks.sigma import WithSigma

MOST_DELTA = 1e-4
"""That a pixel may differ by, in [0, 1], before it is rounded: a fortieth of an 8-bit level."""

_TRACED, _SIDES = (48, 80), (96, 144)
"""Of the traced input, and of the photograph's part, whose sides are others; both become multiples of the window."""
_MOST_SIDE = 2**14
_NEEDED = ("onnx", "onnxruntime", "onnxscript")


def check_extra() -> None:
    """Raises InputError: the extra is not installed."""
    if lacking := [name for name in _NEEDED if find_spec(name) is None]:
        raise InputError(f"--format onnx needs {', '.join(lacking)}: pip install 'sr-sweep[onnx]'")


def check_exportable(model: Network | WithSigma, name: str) -> SRNetwork:
    """The network, if a graph of one pass says all of it.

    Raises:
        InputError: a diffusion network, or one with a σ head.
    """
    if isinstance(model, WithSigma):
        raise InputError(
            f"--format onnx: this {name} has a σ head, which a graph from LR to SR has no place for; --format pth "
            "leaves the head behind, and safetensors keeps it"
        )
    if not isinstance(model, SRNetwork):
        raise InputError(
            f"--format onnx: {name} draws a picture in many passes from noise, which is no graph from LR to SR; "
            "safetensors keeps it"
        )
    return model


def write_graph(net: SRNetwork, path: Path, about: Mapping[str, str]) -> float:
    """Write a network to a file, and return the largest |Δ| between the two on a photograph, before rounding.

    Args:
        net: on the CPU; its training mode is restored.
        path: written whole; the caller throws it away where this raises.
        about: what else the file's metadata says, beside scale, window, fit and range.

    Raises:
        InputError: torch makes no graph of it, or the file computes other pixels, by more than `MOST_DELTA`.
    """
    import onnxruntime

    training = net.training
    net.eval()
    try:
        with torch.no_grad(), _silent():
            traced = torch.zeros(1, 3 + net.noise_channels, *_whole(_TRACED, net.window))
            program = torch.onnx.export(
                net, (traced,), dynamo=True, dynamic_shapes=(_open_sides(net.window),), input_names=["lr"],
                output_names=["sr"], verbose=False,
            )  # fmt: skip
            assert program is not None
            program.model.metadata_props.update({**_described(net), **about})
            program.save(str(path), external_data=False)
            picture = _photograph(net.noise_channels, _whole(_SIDES, net.window))
            expected = net(picture)
    except torch.onnx.OnnxExporterError as error:
        first = [*chain(error)][-1]
        said = f"{type(first).__name__}: {' '.join(str(first).split())[:200]}"
        raise InputError(f"--format onnx: torch makes no graph of this {type(net).__name__} ({said})") from None
    finally:
        net.train(training)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(["sr"], {"lr": picture.numpy()})[0])
    delta = float((found - expected).abs().max())
    if not delta <= MOST_DELTA:
        raise InputError(
            f"--format onnx: the graph's pixels differ from the network's by up to {delta:.2g} in [0, 1] (allowed: "
            f"{MOST_DELTA:g}); nothing was written"
        )
    return delta


def _open_sides(window: int) -> dict[int, object]:
    """Which axes of the input are open: H and W, as multiples of the window."""
    dim = torch.export.Dim
    if window == 1:
        return {2: dim.DYNAMIC, 3: dim.DYNAMIC}
    most = _MOST_SIDE // window
    return {2: window * dim("rows", min=2, max=most), 3: window * dim("columns", min=2, max=most)}


def _described(net: SRNetwork) -> dict[str, str]:
    noise = f"; {net.noise_channels} channels of standard normal noise behind RGB" if net.noise_channels else ""
    return {
        "scale": str(net.scale),
        "window": str(net.window),
        "sides": f"H and W are multiples of {net.window}" if net.window > 1 else "any H and W",
        "fit": {"pad": "mirrored at the bottom and the right to the next multiples", "pad_more": "mirrored at the "
                "bottom and the right, by one window more where a side fits", "crop": "adaptive cropping into "
                "overlapping parts, outside of this graph"}[net.fit],
        "input": f"lr: float32 RGB in [0, 1]{noise}",
        "output": "sr: float32 RGB, about [0, 1], not clamped",
    }  # fmt: skip


def _whole(sides: tuple[int, int], window: int) -> tuple[int, int]:
    """The least multiples of a window that are no smaller, and differ."""
    height, width = (math.ceil(side / window) for side in sides)
    return height * window, max(width, height + 1) * window


def _photograph(noise_channels: int, sides: tuple[int, int]) -> Tensor:
    """(1, 3 + noise_channels, *sides): part of a photograph, with noise where a network reads it."""
    height, width = sides
    photo_1CHW = to_float(read_image(skimage_folder() / "astronaut.png")[:height, 160 : 160 + width])
    if noise_channels == 0:
        return photo_1CHW
    generator = torch.Generator().manual_seed(0)
    return torch.cat([photo_1CHW, torch.randn(1, noise_channels, height, width, generator=generator)], dim=1)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """torch's exporter tells of its own steps and versions, on stdout too; what fails is raised."""
    level = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
