"""One model on one test image: the smallest unit of evaluation, and the row that it leaves; then the row of a set.

A row says everything its numbers depend on besides the weights (https://arxiv.org/abs/1909.11856 and its successors
differ in exactly these): test set, image, scale, protocol, where LR came from, the hashes of its pixels, and for a
stochastic network how many draws of which noise its means are over.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from eval.benchmarks import Benchmark
from eval.metrics import distribution
from eval.metrics.fidelity import inside
from eval.metrics.scorer import CONSTANT, Scorer, failure
from eval.metrics.stability import Spread, g_std
from eval.protocol import STABILITY, get_metric
from sr_models.command import say
from sr_models.diffusion.base import Denoiser
from sr_models.errors import InputError
from sr_models.hyper.sampling import Sampling
from sr_models.images.files import pixels_sha256
from sr_models.images.operators import quantize, to_float, to_uint8
from sr_models.inference.bound import Bound, fitted
from sr_models.inference.super_resolve import Options, Output, super_resolve
from sr_models.networks.base import Network
from sr_models.networks.sigma import WithSigma, without_head
from sr_models.rng import keyed, noise_seed
from sr_models.scales import sr_side

Row = dict[str, Any]

_DEFAULTS = Options()
_LARGE_PX, _BYTES_A_PIXEL = 16_000_000, 75  # measured: PSNR and SSIM of 9999x9999 pixels by bicubic x2, 7.5 GB
_CONTAINER = Path("/sys/fs/cgroup/memory.max")
_LEVEL = 0.95  # of the interval beside FID


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One super-resolution of an image: the output, the seconds it took, whether its network has no noise."""

    out: Output
    seconds: float
    deterministic: bool


SampleImage = Callable[[np.ndarray], Iterable[Sampled]]
"""LR pixels (H, W, 3) uint8 to draw after draw."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One draw worth showing: its number, its score, and SR as (H, W, 3) uint8."""

    number: int
    score: float
    picture: np.ndarray


@dataclass(kw_only=True)
class Scored:
    """What one image leaves; it grows draw by draw, but not in memory.

    Attributes:
        lr, hr: (H, W, 3) uint8; HR is empty, (0, 0, 3), where there is none.
        by: the metric that says which draw is best, PSNR if there is one; "" without any.
        row: see `score_image`.
        per_draw: metric -> one number a draw.
        spread: of SR over draws, in [0, 1], inside the protocol's border.
        features: for each draw, what the metrics of a whole set see of SR; empty if none was asked for.
        failed: plug-in's metric -> what went wrong in a draw.
        first: the first draw as the network gave it.
        best, worst: by `by`.
    """

    lr: np.ndarray
    hr: np.ndarray
    by: str
    row: Row = field(default_factory=dict)
    per_draw: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    spread: Spread = field(default_factory=Spread)
    features: list[Tensor] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    first: Output | None = None
    best: Draw | None = None
    worst: Draw | None = None

    def add(self, out: Output, hr_BCHW: Tensor | None, lr_BCHW: Tensor, scorer: Scorer) -> np.ndarray:
        """Score one draw; returns its picture, (H, W, 3) uint8."""
        number, picture, device = self.spread.count, to_uint8(out.sr)[0], out.sr.device  # tiles come on the CPU
        images = out.sr, None if hr_BCHW is None else hr_BCHW.to(device), lr_BCHW.to(device)
        values = scorer.image(*images, out.sigma, out.sigma_constant, failed=self.failed)
        for name, value in values.items():
            self.per_draw[name].append(float(value[0]))
        shave = scorer.protocol.shave(scorer.scale)
        seen = quantize(out.sr) if scorer.protocol.uint8 else out.sr
        self.spread.add(inside(seen, shave))
        if needs_features(scorer):
            self.features.append(scorer.features(out.sr))
        if self.by in values:
            draw = Draw(number=number, score=self.per_draw[self.by][-1], picture=picture)
            better = get_metric(self.by).better
            self.best = draw if self.best is None or better(draw.score, self.best.score) else self.best
            self.worst = draw if self.worst is None or better(self.worst.score, draw.score) else self.worst
        self.first = self.first or out
        return picture


def sample(
    model: Network | WithSigma,
    lr: np.ndarray,
    *,
    draws: int,
    seed: int = 0,
    options: Options = _DEFAULTS,
    bound: Bound | None = None,
    lr_noise: float | None = None,
) -> Iterator[Sampled]:
    """Super-resolve one image draw by draw, on the device that holds the model; a deterministic one has one draw.

    The noise of each depends on `seed`, the image's LR pixels and the draw's number alone. With `lr_noise`, as in
    `Protocol`, no network is deterministic: each draw is of another noisy LR, the same for all networks.

    Args:
        lr: (H, W, 3) uint8.
        bound: what it may take; where it takes more, it is computed in tiles that change nothing.
    """
    deterministic = not without_head(model).stochastic and lr_noise is None
    device, lr_sha256 = _device(model), pixels_sha256(lr)
    lr_BCHW = to_float(lr).to(device)
    options = fitted(bound, lr_BCHW, options)
    for number in range(1 if deterministic else draws):
        own = noise_seed(seed, lr_sha256, number)
        if lr_noise is not None:
            lr_BCHW = to_float(noisy(lr, lr_noise, own)).to(device)
        _finish(device)
        start = time.perf_counter()
        out = super_resolve(model, lr_BCHW, seeds=(own,), options=options)
        _finish(device)
        yield Sampled(out=out, seconds=time.perf_counter() - start, deterministic=deterministic)


@torch.no_grad()
def reconstruct(net: Denoiser, hr: np.ndarray, device: str) -> Sampled:
    """HR through the latent space that a network works in, and back; its last rows and columns fill its last cells.

    Args:
        net: its frozen parts alone are used: it may be on the meta device.
        hr: (H, W, 3) uint8.
    """
    height, width, _ = hr.shape
    more = (0, -width % net.reduction, 0, -height % net.reduction)
    start = time.perf_counter()
    made = net.reconstruct(functional.pad(to_float(hr).to(device), more, mode="replicate"))
    _finish(made.device)
    out = Output(sr=made[:, :, :height, :width].float().clamp(0, 1))
    return Sampled(out=out, seconds=time.perf_counter() - start, deterministic=True)


def noisy(lr: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    """LR (H, W, 3) uint8 with Gaussian noise of `sigma`, where 1 is white, on each channel: as a file would hold it."""
    z = keyed(seed, 0, 0, "input_noise").standard_normal(lr.shape, dtype=np.float32)
    return np.clip(np.rint(lr + np.float32(255 * sigma) * z), 0, 255).astype(np.uint8)


def score_image(
    model: Network | WithSigma,
    benchmark: Benchmark,
    index: int,
    *,
    scorer: Scorer,
    draws: int,
    seed: int = 0,
    options: Options = _DEFAULTS,
    bound: Bound | None = None,
    save_in: Path | None = None,
) -> Scored:
    """Super-resolve one image of a benchmark and score it, on the device that holds the model (`bicubic` is a model).

    Draws are computed one by one, and memory does not grow with them.

    Args:
        draws: samples of a stochastic network; the protocol's id says so. A deterministic one is run once.
        seed, bound: as for `sample`.
        save_in: folder to write SR to: `<image>.png`, of a stochastic network `draw_<n>/<image>.png`.

    Returns:
        See `score_draws`.

    Raises:
        InputError: as `Benchmark.read` and `Scorer.image`, or SR that is not finite, naming the image.
    """
    return score_draws(
        lambda lr: sample(
            model, lr, draws=draws, seed=seed, options=options, bound=bound, lr_noise=scorer.protocol.lr_noise
        ),
        benchmark,
        index,
        scorer=scorer,
        draws=draws,
        seed=seed,
        options=options,
        save_in=save_in,
    )


def score_draws(
    sample_image: SampleImage,
    benchmark: Benchmark,
    index: int,
    *,
    scorer: Scorer,
    draws: int,
    seed: int,
    options: Options,
    save_in: Path | None = None,
) -> Scored:
    """Score one image's draws as they come from `sample_image`, wherever it runs; other arguments as in `score_image`.

    Returns:
        Its row holds: benchmark, image, index, images (of the whole set), scale, protocol (its id with
        `Options.marks`), kernel, width, height (of the cropped HR, in px; of SR without HR), lr_sha256, hr_sha256 (of
        the pixels used; LR's before the protocol's noise), seconds (wall clock of one super-resolution, not warmed up,
        mean over draws), the fields of `options`; draws (how many there were), deterministic, noise_seed (None if
        deterministic); the mean over draws of each metric, its spread `g_std.*`, and l_std, both exactly 0 if
        deterministic; per_draw: metric -> one number a draw; not_computed: metric -> reason.

    Raises:
        InputError: as `score_image`.
    """
    lr, hr = benchmark.read(index)
    pair = benchmark.pairs[index]
    about = {"benchmark": benchmark.name, "image": pair.name, "index": index, "images": len(benchmark)}
    return score_pixels(
        sample_image, lr, hr, about=about | {"scale": benchmark.scale, "kernel": benchmark.kernel}, where=str(pair.hr),
        scorer=scorer, draws=draws, seed=seed, options=options, save_in=save_in,
    )  # fmt: skip


def score_pixels(
    sample_image: SampleImage,
    lr: np.ndarray,
    hr: np.ndarray | None,
    *,
    about: Mapping[str, Any],
    where: str,
    scorer: Scorer,
    draws: int,
    seed: int,
    options: Options,
    save_in: Path | None = None,
) -> Scored:
    """`score_draws` of pixels that are at hand; without HR only the metrics that need none.

    Args:
        lr, hr: (H, W, 3) 8-bit pixels.
        about: what the row says of the image, with its `scale` and its name, `image`.
        where: what errors call it.

    Raises:
        InputError: as `score_image`.
    """
    scale = about["scale"]
    protocol = scorer.protocol.model_copy(update={"draws": draws})
    scored = Scored(lr=lr, hr=np.empty((0, 0, 3), np.uint8) if hr is None else hr, by=_chooser(scorer.metrics))
    lr_BCHW, hr_BCHW = to_float(lr), None if hr is None else to_float(hr)
    height, width = hr.shape[:2] if hr is not None else (sr_side(side, scale) for side in lr.shape[:2])
    seconds = 0.0
    try:
        check_room(height, width, where)
        if hr_BCHW is not None:
            inside(hr_BCHW, protocol.shave(scale))  # refuses an image too small before it is super-resolved
        for drawn in sample_image(lr):
            if not torch.isfinite(drawn.out.sr).all():
                raise InputError(f"SR is not finite (draw {scored.spread.count})")
            seconds += drawn.seconds
            number, picture = scored.spread.count, scored.add(drawn.out, hr_BCHW, lr_BCHW, scorer)
            if save_in is not None:
                _save(picture, save_in if drawn.deterministic else save_in / f"draw_{number}", about["image"])
    except InputError as error:
        raise InputError(f"image {where!r}: {error}") from error
    deterministic, out = drawn.deterministic, drawn.out
    constant = [name for name, values in scored.per_draw.items() if any(map(math.isnan, values))]
    for name in (*constant, *scored.failed):
        scored.per_draw.pop(name, None)  # which may have failed in some draws alone
    scored.by = scored.by if scored.by in scored.per_draw else ""
    failed = {name: failure(name, where, why) for name, why in scored.failed.items()}
    there = {"hr": hr is not None, "sigma": out.sigma is not None, "constant": out.sigma_constant is not None}
    lacking = scorer.lacking(lr=True, **there)
    scored.row = {
        **about,
        "protocol": protocol.id(scale) + options.marks,
        "width": width,
        "height": height,
        "lr_sha256": pixels_sha256(lr),
        "hr_sha256": None if hr is None else pixels_sha256(hr),
        "seconds": seconds / scored.spread.count,
        **options.columns,
        "draws": scored.spread.count,
        "deterministic": deterministic,
        "noise_seed": None if deterministic else seed,
        **over_draws(scored.per_draw),
        "l_std": scored.spread.l_std(),
        "per_draw": dict(scored.per_draw),
        "not_computed": scorer.not_computed | lacking | dict.fromkeys(constant, CONSTANT) | failed,
    }
    return scored


def check_room(height: int, width: int, name: str) -> None:
    """Say of a large HR image what scoring it takes, and refuse one that this machine cannot hold.

    Raises:
        InputError: more memory than there is.
    """
    if height * width < _LARGE_PX:
        return
    gigabytes = height * width * _BYTES_A_PIXEL / 1e9
    if gigabytes * 1e9 > (there := machine_bytes()):
        raise InputError(
            f"{width}x{height} pixels take about {gigabytes:.1f} GB to be scored, and this machine has "
            f"{there / 1e9:.1f} GB; cut it into parts, or exclude it"
        )
    say(f"image {name!r}: {width}x{height} pixels; scoring it takes about {gigabytes:.1f} GB, and minutes")


def machine_bytes() -> int:
    """Memory that this process may have: the machine's, or its container's."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CONTAINER.read_text().strip() if _CONTAINER.exists() else ""
    return min(physical, int(limit)) if limit.isdecimal() else physical


def over_draws(per_draw: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean of each metric over draws, then the G-STD of each as `g_std.<metric>`."""
    means = {name: statistics.fmean(values) for name, values in per_draw.items()}
    return means | {f"{STABILITY}{name}": g_std(values) for name, values in per_draw.items()}


def set_row(
    rows: Sequence[Row], features: Sequence[Sequence[Tensor]], reference: np.ndarray, metrics: Sequence[str]
) -> Row:
    """The row of a whole set: FID and KID, each the mean over draws; with FID always KID and an interval.

    Args:
        rows: of the set's images.
        features: for each image, for each draw: (patches, features) of SR.
        reference: (images * patches, features) of HR, in the same order.
        metrics: with "fid", "kid" or both among them.

    Returns:
        A row whose image is "". Its `details` say: samples (a draw); for FID the interval's ends and level, of draw 0,
        and what to be warned of; for KID its deviation over subsets, mean over draws; `text` says it in words. Where
        there are too few samples, `not_computed` says so instead.
    """
    shared = ("benchmark", "images", "scale", "protocol", "kernel", "draws", "deterministic", "noise_seed",
              *_DEFAULTS.columns)  # fmt: skip
    drawn = [name for name in ("crops", *Sampling.model_fields) if name in rows[0]]
    row: Row = {"image": "", **{name: rows[0].get(name) for name in (*shared, *drawn)}}
    draws = [torch.cat(list(draw)).numpy() for draw in zip(*features, strict=True)]
    owner = [i for i, image in enumerate(features) for _ in range(len(image[0]))]
    samples = len(owner)
    try:
        kids = [distribution.kid(draw, reference) for draw in draws]
        row["per_draw"] = {"kid": [mean for mean, _ in kids]}
        deviation = statistics.fmean(std for _, std in kids)
        text = f"{samples} samples, ± {deviation:.5f} over subsets"
        row["details"] = {"kid": {"samples": samples, "std_over_subsets": deviation, "text": text}}
        if "fid" in metrics:
            row["per_draw"]["fid"] = [distribution.fid(draw, reference) for draw in draws]
            first = row["per_draw"]["fid"][0]
            low, high = distribution.jackknife_interval(draws[0], reference, first, images=owner, level=_LEVEL)
            warning = distribution.small_sample_warning(samples)
            text = f"{_LEVEL:.0%} of redrawn sets in {low:.2f} to {high:.2f}{' (draw 0)' if len(draws) > 1 else ''}"
            text += f"; {warning}" if warning else f"; {samples} samples"
            row["details"]["fid"] = {
                "samples": samples, "interval": [low, high], "level": _LEVEL, "warning": warning, "text": text,
            }  # fmt: skip
    except InputError as error:
        return row | {"not_computed": dict.fromkeys(("fid", "kid"), str(error))}
    return row | {name: statistics.fmean(values) for name, values in row["per_draw"].items()}


def needs_features(scorer: Scorer) -> bool:
    """Whether a scorer computes something of a whole set."""
    return any(get_metric(name).level == "set" for name in scorer.metrics)


def _chooser(metrics: Sequence[str]) -> str:
    """The metric that says which draw is best: PSNR if there is one, as CCSR shows them."""
    choices = [name for name in metrics if get_metric(name).level == "image"]
    return next((name for name in ("psnr_y", "psnr_rgb", *choices) if name in choices), "")


def _save(picture: np.ndarray, folder: Path, name: str) -> None:
    target = folder / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(target)


def _device(model: Network | WithSigma) -> torch.device:
    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def _finish(device: torch.device) -> None:
    """Wait for work that a GPU still has in its queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
