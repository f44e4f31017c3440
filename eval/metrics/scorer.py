"""Every metric of a list on images that lie in memory, under one protocol; backbones are loaded once and stay warm.

What the numbers are is said in `fidelity`, `perceptual`, `distribution` and `uncertainty` beside this file, where their
sources (https://doi.org/10.1109/TIP.2003.819861 and the others) are named too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eval.metrics.backbones import BACKBONES, Unavailable, WeightFiles
from eval.metrics.distribution import Inception, cached_features, patches
from eval.metrics.fidelity import consistency, inside, score
from eval.metrics.perceptual import Dists, Lpips, NoReference
from eval.metrics.uncertainty import CONSTANT_BELOW, is_constant, pll, psnr_sigma, sigma_r
from eval.protocol import FIDELITY, METRICS, STABILITY, Metric, Protocol, get_metric
from sr_models.errors import InputError
from sr_models.images.matlab import KERNEL, KERNELS
from sr_models.images.operators import check_images, levels, quantize, to_float
from sr_models.inference.super_resolve import exact_arithmetic
from sr_models.params import nearest

_NO_INPUT = {
    "hr": "there are no HR images",
    "lr": "LR images are not known",
    "sigma": "the network predicts no sigma",
    "constant": "the network's file does not say how far SR misses its training images",
}
CONSTANT = f"sigma is constant (its standard deviation is below {CONSTANT_BELOW:.0%} of its mean)"
"""Why an image has no value of the metrics that read sigma, though there is one: they are NaN there."""

_SAID = 300
"""Characters of an error of a plug-in's that are kept; torch's may be pages."""

_OF_SIGMA = {"pll": pll, "psnr_sigma": psnr_sigma, "sigma_r": sigma_r}


class Scorer:
    """Scores under one protocol at one scale.

    Attributes:
        metrics: what it computes, in the order asked for: metrics of level "image" and "set".
        not_computed: metric -> why it cannot be computed whatever the images are.
        kernel: what shrinks SR for `consistency`: an id of `sr_models.images.matlab.KERNELS`, or "pil".
    """

    def __init__(
        self,
        protocol: Protocol,
        metrics: Sequence[str],
        *,
        scale: float,
        device: torch.device | str = "cpu",
        weights_dir: Path | None = None,
        strict: bool = False,
        kernel: str | None = None,
    ) -> None:
        """Load what the metrics need.

        Args:
            metrics: any of `eval.protocol.all_metrics`; a `g_std.<metric>` asks for that metric. Those of level "draws"
                are for the caller to compute.
            weights_dir: folder of weights, before SR_WEIGHTS_DIR and torch's cache.
            strict: a metric whose weights or package lack is an error.
            kernel: the benchmark's: what made LR, "files" where LR came as files, None where there is no LR.

        Raises:
            InputError: unknown metric or kernel, no such folder; with `strict`, what cannot be computed and why.
        """
        if kernel not in (None, "files", *KERNELS):
            raise InputError(f"unknown kernel {kernel!r}{nearest(str(kernel), ['files', *KERNELS])}")
        self.protocol, self.scale, self.device = protocol, scale, torch.device(device)
        self.kernel = "pil" if protocol.consistency == "pil" else KERNEL if kernel == "files" else kernel
        self.not_computed: dict[str, str] = {}
        self._files = WeightFiles(weights_dir)
        self._pairwise: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
        self._single: dict[str, Callable[[Tensor], Tensor]] = {}
        self._added: dict[str, Metric] = {}
        self._inception: Inception | None = None
        asked = dict.fromkeys(name.removeprefix(STABILITY) for name in metrics if get_metric(name) and name != "l_std")
        for name in asked:
            try:
                self._load(name, lr_is_known=kernel is not None)
            except Unavailable as error:
                if strict:
                    raise InputError(f"{name}: {error}") from None
                self.not_computed[name] = str(error)
        self.metrics = [name for name in asked if name not in self.not_computed]

    def _load(self, name: str, *, lr_is_known: bool) -> None:
        files, device = self._files, self.device
        if name in ("lpips_alex", "lpips_vgg"):
            signed = self.protocol.lpips_range == "signed"
            self._pairwise[name] = Lpips(name.removeprefix("lpips_"), files=files, device=device, signed=signed)
        elif name == "dists":
            self._pairwise[name] = Dists(files=files, device=device)
        elif METRICS[name].compute is not None:
            self._added[name] = METRICS[name]
        elif METRICS[name].cost == "extra":
            self._single[name] = NoReference(name, files=files, device=device)
        elif METRICS[name].level == "set":
            self._inception = self._inception or Inception(files=files, device=device)
        elif name == "consistency" and not lr_is_known:
            raise Unavailable(_NO_INPUT["lr"])

    def lacking(self, *, hr: bool = True, lr: bool, sigma: bool, constant: bool) -> dict[str, str]:
        """Metric -> reason for those of `metrics` that `image` leaves out when it is not given one of these."""
        inputs = {
            "constant": constant,
            "sigma": sigma,
            "lr": lr,
            "hr": hr,
        }  # where several lack, the last is the reason
        absent = [name for name, given in inputs.items() if not given]
        return {metric: _NO_INPUT[name] for metric in self.metrics for name in absent if name in METRICS[metric].reads}

    @torch.no_grad()
    def image(
        self,
        sr_BCHW: Tensor,
        hr_BCHW: Tensor | None,
        lr_BCHW: Tensor | None = None,
        sigma_BCHW: Tensor | None = None,
        constant: float | None = None,
        *,
        failed: dict[str, str] | None = None,
    ) -> dict[str, Tensor]:
        """Every metric of level "image" that the given images allow.

        Args:
            sr_BCHW, hr_BCHW: float RGB in [0, 1]; SR is clamped, and rounded as the protocol says. HR may be None.
            lr_BCHW: the images that SR was made from, for consistency.
            sigma_BCHW: predicted spread, of SR's shape or with one channel, for pll, psnr_sigma and sigma_r.
            constant: what psnr_constant measures in sigma's place, in [0, 1].
            failed: gets plug-in's metric -> what went wrong, of those that fail; they are left out.

        Returns:
            metric -> (B,) float64 on the CPU, in the order of `metrics`; NaN for what reads sigma where that is
            constant (`CONSTANT`). A value does not depend on the other images of the batch: bitwise for equally large
            batches, to 1e-6 otherwise.

        Raises:
            InputError: shapes that do not fit, images too small for the protocol or a metric; without `failed`, a
                plug-in's metric that fails.
            ValueError: not RGB images, or values that are not finite.
        """
        with exact_arithmetic():
            return self._image(sr_BCHW, hr_BCHW, lr_BCHW, sigma_BCHW, constant, failed)

    def _image(
        self,
        sr: Tensor,
        hr: Tensor | None,
        lr: Tensor | None,
        sigma: Tensor | None,
        constant: float | None,
        failed: dict[str, str] | None,
    ) -> dict[str, Tensor]:
        skipped = self.lacking(
            hr=hr is not None, lr=lr is not None, sigma=sigma is not None, constant=constant is not None
        )
        hr = sr if hr is None else hr  # what is left reads none: SR takes the place in checks
        wanted = [name for name in self.metrics if METRICS[name].level == "image" and name not in skipped]
        shave = self.protocol.shave(self.scale)
        # Checks both images, so it runs even where no metric is its own.
        fidelity = score(sr, hr, scale=self.scale, protocol=self.protocol, metrics=[x for x in wanted if x in FIDELITY])
        inner_hr = inner_sr = inside(hr, shave)
        tensors = {*self._pairwise, *self._single, *self._added}
        if tensors.intersection(wanted):  # or it would be a copy for nothing
            seen = quantize(sr) if self.protocol.uint8 else sr.clamp(0, 1)
            inner_sr, inner_hr = (inside(x, shave).to(self.device) for x in (seen, hr))
        values: dict[str, Tensor] = {}
        for name in wanted:
            if name in fidelity:
                values[name] = torch.tensor(fidelity[name], dtype=torch.float64)
            elif name in self._added:
                try:
                    values[name] = _measured(self._added[name], inner_sr, inner_hr)
                except (MemoryError, torch.OutOfMemoryError):  # of a moment, and no more of the picture than of ours
                    raise
                except Exception as error:  # a stranger's code may raise anything; what others measure goes on
                    why = f"{type(error).__name__}: {' '.join(str(error).split())[:_SAID]}"
                    if failed is None:
                        raise InputError(failure(name, None, why)) from error
                    failed[name] = why
            elif name in self._pairwise:
                values[name] = self._pairwise[name](inner_sr, inner_hr)
            elif name in self._single:
                values[name] = self._single[name](inner_sr)
            elif lr is not None and name == "consistency":
                values[name] = consistency(sr, lr, kernel=str(self.kernel), uint8=self.protocol.uint8).cpu()
            elif constant is not None and name == "psnr_constant":
                values[name] = psnr_sigma(sr, hr, torch.full_like(sr, constant), shave=shave).cpu()
            elif sigma is not None:
                value = _OF_SIGMA[name](sr, hr, sigma.expand_as(sr), shave=shave)
                values[name] = value.masked_fill(is_constant(sigma, shave=shave), math.nan).cpu()
        return values

    def features(self, images: np.ndarray | Tensor) -> Tensor:
        """What FID and KID compare: Inception features of whole images, or of the protocol's patches.

        Args:
            images: (B, H, W, 3) uint8 or (B, 3, H, W) float RGB in [0, 1], which is clamped and rounded to 8 bits.

        Returns:
            (B * patches an image, 2048) float32 on the CPU, image by image.

        Raises:
            InputError: no set metric was asked for, or its weights lack; images smaller than a patch.
            ValueError: not RGB images.
        """
        if self._inception is None:
            reasons = [self.not_computed[name] for name in ("fid", "kid") if name in self.not_computed]
            raise InputError(f"no features: {reasons[0] if reasons else 'neither fid nor kid was asked for'}")
        pixels_BCHW = to_float(images) if isinstance(images, np.ndarray) else images
        check_images(pixels_BCHW, "images")
        pixels_BCHW = levels(pixels_BCHW).to(torch.uint8)
        if self.protocol.fid_patch is not None and self.protocol.fid_stride is not None:
            pixels_BCHW = patches(pixels_BCHW, self.protocol.fid_patch, self.protocol.fid_stride)
        with exact_arithmetic():
            return self._inception(pixels_BCHW)

    def reference_features(
        self, hashes: Sequence[str], read: Callable[[int], np.ndarray], *, cache: Path | None = None
    ) -> np.ndarray:
        """`features` of a whole set of HR images, computed once for all runs that share a cache.

        Args:
            hashes: `sr_models.images.files.pixels_sha256` of the images, as `read` gives them, in order.
            read: index -> (H, W, 3) uint8 image.
            cache: folder of cached features; default: a folder beside torch's cache of weights.

        Returns:
            (N, 2048) float32, image by image.

        Raises:
            InputError: as `features`, or a file of the cache that cannot be read.
        """
        weights = next(backbone.sha256 for backbone in BACKBONES.values() if "fid" in backbone.serves)
        identity = [weights, self.protocol.fid_patch, self.protocol.fid_stride, list(hashes)]

        def compute() -> np.ndarray:
            return np.concatenate([self.features(read(i)[None]).numpy() for i in range(len(hashes))])

        return cached_features(cache or Path(torch.hub.get_dir()) / "sr_sweep_features", identity, compute)


def failure(name: str, image: str | None, why: str) -> str:
    """A line on a plug-in's metric that failed; `image`: its file, None of several that have none."""
    return f"plug-in {METRICS.added[name]}: metric {name!r}{'' if image is None else f' on {image!r}'}: {why}"


def _measured(metric: Metric, sr_BCHW: Tensor, hr_BCHW: Tensor) -> Tensor:
    """A plug-in's metric: (B,) float64 on the CPU.

    Raises:
        Exception: whatever it raises; TypeError, ValueError: it gives something else.
    """
    assert metric.compute is not None, "the table sees to it"
    # Copies: what it changes in place, other metrics and draws would be measured on.
    values = metric.compute(*(images.clone() for images in (sr_BCHW, hr_BCHW)[: len(metric.reads)]))
    if not isinstance(values, Tensor):
        raise TypeError(f"expected a tensor, got {type(values).__name__}")
    if values.shape != sr_BCHW.shape[:1]:
        raise ValueError(f"expected shape {(len(sr_BCHW),)}, got {tuple(values.shape)}")
    if values.isnan().any():
        raise ValueError("expected numbers, got NaN")
    return values.double().cpu()
