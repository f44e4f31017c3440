"""What steers the search: a network's mean scores over the validation images, which the workers of a trial share."""

from __future__ import annotations

import math

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
from sr_models.networks.base import SRNetwork
from sr_models.networks.sigma import WithSigma


def validation_scores(
    net: SRNetwork | WithSigma,
    prefix: str,
    config: TrialConfig,
    store: PatchStore,
    ranks: Ranks,
    device: torch.device,
    step: int,
    bound: Bound | None,
) -> dict[str, float]:
    """Mean of each of the config's metrics, named with `prefix`: the same on all workers.

    Raises:
        TrialFailure: SR of some image is not finite; it says at which step.
    """
    scale, names = config.scale, config.metrics
    images, options = store.validation(), Options(tile=config.tile, overlap=config.tile_overlap)
    table = torch.zeros(len(images), len(names), dtype=torch.float64)
    for i in range(ranks.rank, len(images), ranks.world):
        _, lr, hr = images[i]
        lr_BCHW = to_float(lr).to(device)
        sr = super_resolve(net, lr_BCHW, options=fitted(bound, lr_BCHW, options)).sr.cpu()
        if not torch.isfinite(sr).all():
            table[i] = math.nan  # every worker must hear of it
            continue
        scores = score(sr, to_float(hr), scale=scale, protocol=PROTOCOLS[config.protocol], metrics=names)
        table[i] = torch.tensor([scores[metric][0] for metric in names], dtype=torch.float64)
    table = ranks.sum(table.to(device)).cpu()
    for (name, _, _), row in zip(images, table, strict=True):
        if row.isnan().any():
            raise TrialFailure(f"{prefix}SR of validation image {name} is not finite at step {step}")
    return {f"{prefix}{metric}": sum(table[:, j].tolist()) / len(images) for j, metric in enumerate(names)}
