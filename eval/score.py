"""One model on one test image: the smallest unit of evaluation, and the row that it leaves.

A row says everything its numbers depend on besides the weights (https://arxiv.org/abs/1909.11856 and its successors
differ in exactly these): test set, image, scale, protocol, where LR came from, and the hashes of its pixels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from eval.benchmarks import Benchmark
from eval.fidelity import score
from eval.protocol import Protocol
from sr_models.errors import InputError
from sr_models.images import pixels_sha256
from sr_models.imaging import to_float, to_uint8
from sr_models.inference import Options, super_resolve
from sr_models.network import SRNetwork
from sr_models.sigma import WithSigma

_DEFAULTS = Options()


def score_image(
    model: SRNetwork | WithSigma,
    benchmark: Benchmark,
    index: int,
    *,
    protocol: Protocol,
    metrics: Sequence[str],
    options: Options = _DEFAULTS,
    save_in: Path | None = None,
) -> dict[str, Any]:
    """Super-resolve one image of a benchmark and score it, on the device that holds the model (`bicubic` is a model).

    Args:
        save_in: folder to write the SR image to, as a PNG of the image's name.

    Returns:
        The row: benchmark, image, index, scale, protocol (its id), kernel, width, height (of the cropped HR, in px),
        lr_sha256, hr_sha256 (of the pixels used), seconds (wall clock of super-resolution alone, not warmed up),
        the fields of `options`, and one float a metric.

    Raises:
        InputError: as `Benchmark.read` and `eval.fidelity.score`, naming the image.
    """
    lr, hr = benchmark.read(index)
    device = _device(model)
    lr_BCHW = to_float(lr).to(device)
    _finish(device)
    start = time.perf_counter()
    sr_BCHW = super_resolve(model, lr_BCHW, options=options).sr
    _finish(device)
    seconds = time.perf_counter() - start
    if save_in is not None:
        target = save_in / f"{benchmark.pairs[index].name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(to_uint8(sr_BCHW)[0]).save(target)
    hr_BCHW = to_float(hr).to(sr_BCHW.device)
    try:
        scores = score(sr_BCHW, hr_BCHW, scale=benchmark.scale, protocol=protocol, metrics=metrics)
    except InputError as error:
        raise InputError(f"image {str(benchmark.pairs[index].hr)!r}: {error}") from error
    return {
        "benchmark": benchmark.name,
        "image": benchmark.pairs[index].name,
        "index": index,
        "scale": benchmark.scale,
        "protocol": protocol.id(benchmark.scale),
        "kernel": benchmark.kernel,
        "width": hr.shape[1],
        "height": hr.shape[0],
        "lr_sha256": pixels_sha256(lr),
        "hr_sha256": pixels_sha256(hr),
        "seconds": seconds,
        **asdict(options),
        **{name: values[0] for name, values in scores.items()},
    }


def _device(model: SRNetwork | WithSigma) -> torch.device:
    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def _finish(device: torch.device) -> None:
    """Wait for work that a GPU still has in its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
