"""What steers the search: a network's mean scores over the validation images, which the workers of a trial share."""

from __future__ import annotations

import math
import statistics

import numpy as np
import torch

from eval.metrics.fidelity import score
from eval.protocol import PROTOCOLS
from orchestrator.data.store import PatchStore
from orchestrator.plan.trial import TrialConfig
from orchestrator.training.failure import TrialFailure
from orchestrator.training.ranks import Ranks
from sr_models.images.operators import to_float
from sr_models.inference.bound import Bound, fitted
from sr_models.inference.super_resolve import Options, super_resolve
from sr_models.networks.base import Network
from sr_models.networks.sigma import WithSigma
from sr_models.rng import noise_seed


def validation_scores(
    net: Network | WithSigma,
    prefix: str,
    config: TrialConfig,
    store: PatchStore,
    ranks: Ranks,
    device: torch.device,
    step: int,
    bound: Bound | None,
) -> dict[str, float]:
    """Mean of each of the config's metrics, named with `prefix`: the same on all workers.

    Of a diffusion network over draws too.

    Raises:
        TrialFailure: SR of some image is not finite; it says at which step.
    """
    scale, names, measured = config.scale, config.metrics, config.measured
    images = [_middle(image, measured.crop, scale) for image in store.validation()[: measured.images]]
    options = Options(tile=config.tile, overlap=config.tile_overlap, sampling=config.sampling)
    table = torch.zeros(len(images), len(names), dtype=torch.float64)
    for i in range(ranks.rank, len(images), ranks.world):
        name, lr, hr = images[i]
        lr_BCHW, seeds = to_float(lr).to(device), [0]
        if config.sampling is not None:  # the same noise at each step of each trial
            seeds = [noise_seed(0, name, draw) for draw in range(measured.draws)]
        how = fitted(bound, lr_BCHW, options)
        sr = super_resolve(net, lr_BCHW.expand(len(seeds), -1, -1, -1), seeds=seeds, options=how).sr.cpu()
        if not torch.isfinite(sr).all():
            table[i] = math.nan  # every worker must hear of it
            continue
        hr_BCHW = to_float(hr).expand(len(sr), -1, -1, -1)
        scores = score(sr, hr_BCHW, scale=scale, protocol=PROTOCOLS[config.protocol], metrics=names)
        table[i] = torch.tensor([statistics.fmean(scores[metric]) for metric in names], dtype=torch.float64)
    table = ranks.sum(table.to(device)).cpu()
    for (name, _, _), row in zip(images, table, strict=True):
        if row.isnan().any():
            raise TrialFailure(f"{prefix}SR of validation image {name} is not finite at step {step}")
    return {f"{prefix}{metric}": sum(table[:, j].tolist()) / len(images) for j, metric in enumerate(names)}


def _middle(
    image: tuple[str, np.ndarray, np.ndarray], crop: int | None, scale: int
) -> tuple[str, np.ndarray, np.ndarray]:
    """The middle of an image's LR and HR, of side `crop` in HR; less where it is smaller."""
    if crop is None:
        return image
    name, lr, hr = image
    side = crop // scale
    top, left = (max(length - side, 0) // 2 for length in lr.shape[:2])
    lr = lr[top : top + side, left : left + side]
    return name, lr, hr[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
