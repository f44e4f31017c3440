"""What steers the search: a network's mean scores over the validation images, which the workers of a trial share."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eval.metrics.fidelity import inside
from eval.metrics.scorer import Scorer
from eval.metrics.stability import Spread
from eval.protocol import FIDELITY, PROTOCOLS
from orchestrator.data.store import PatchStore
from orchestrator.plan.trial import TrialConfig
from orchestrator.training.failure import TrialFailure
from orchestrator.training.ranks import Ranks
from sr_models import build
from sr_models.images.operators import quantize, to_float
from sr_models.inference.bound import Bound, fitted
from sr_models.inference.super_resolve import Options, super_resolve
from sr_models.networks.base import Network
from sr_models.networks.sigma import WithSigma
from sr_models.rng import noise_seed


def scorer_of(config: TrialConfig, device: torch.device, weights_dir: Path | None) -> Scorer:
    """What computes a config's metrics, with the networks that some of them are.

    Args:
        weights_dir: where their weights lie; None: where `eval.metrics.backbones` looks by itself.

    Raises:
        InputError: weights that are not to be had.
    """
    protocol = PROTOCOLS[config.protocol]
    return Scorer(protocol, config.metrics, scale=config.scale, device=device, weights_dir=weights_dir, strict=True)


def validation_scores(
    net: Network | WithSigma,
    prefix: str,
    scorer: Scorer,
    config: TrialConfig,
    store: PatchStore,
    ranks: Ranks,
    device: torch.device,
    step: int,
    bound: Bound | None,
) -> dict[str, float]:
    """Mean of each of the config's metrics, named with `prefix`: the same on all workers.

    Of a diffusion network over draws too; l_std is that of each image's draws, 0 where there is one.

    Args:
        scorer: `scorer_of` the config.

    Raises:
        TrialFailure: SR of some image is not finite; it says at which step.
    """
    scale, names, measured = config.scale, config.metrics, config.measured
    images = [_middle(image, measured.crop, scale) for image in store.validation()[: measured.images]]
    options = Options(tile=config.tile, overlap=config.tile_overlap, sampling=config.sampling, crops=config.crops)
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
        scores = {metric: values.tolist() for metric, values in scorer.image(sr, hr_BCHW).items()}
        if "l_std" in names:
            scores["l_std"] = [_l_std(sr, scorer)]
        table[i] = torch.tensor([statistics.fmean(scores[metric]) for metric in names], dtype=torch.float64)
    table = ranks.sum(table.to(device)).cpu()
    for (name, _, _), row in zip(images, table, strict=True):
        if row.isnan().any():
            raise TrialFailure(f"{prefix}SR of validation image {name} is not finite at step {step}")
    return {f"{prefix}{metric}": sum(table[:, j].tolist()) / len(images) for j, metric in enumerate(names)}


def bicubic_scores(config: TrialConfig, store: PatchStore) -> dict[str, float]:
    """What bicubic scores on a trial's validation images by those of its metrics that need no weights, on the CPU."""
    metrics = tuple(name for name in config.metrics if name in FIDELITY)
    given = config.model_copy(update={"metrics": metrics, "sampling": None, "crops": None})
    asked, cpu = given, torch.device("cpu")
    net = build("bicubic", config.scale)
    return validation_scores(net, "", scorer_of(asked, cpu, None), asked, store, Ranks(), cpu, 0, None)


def _l_std(sr_BCHW: Tensor, scorer: Scorer) -> float:
    """L-STD of the draws of one image, as evaluation takes it: of what the protocol sees of them."""
    spread, shave = Spread(), scorer.protocol.shave(scorer.scale)
    for sr_1CHW in (quantize(sr_BCHW) if scorer.protocol.uint8 else sr_BCHW).split(1):
        spread.add(inside(sr_1CHW, shave))
    return spread.l_std()


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
