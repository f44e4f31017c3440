"""What a run costs, estimated from its multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sr_models
from orchestrator.plan.trial import TrainConfig

CPU_FLOPS = 100e9
"""Floating-point operations per second that one core sustains on small 3x3 convolutions in fp32, forward and backward;
rounded down from what `quick` journals (train.seconds) on two EPYC cores. An estimate is good to a factor of 2."""

TRIAL_SECONDS = 2.0
"""Start, validation and export of one short trial beside its steps."""


def trial_seconds(
    network: str, hyper: Mapping[str, Any], scale: int, train: TrainConfig, sigma_width: int | None
) -> float:
    """Seconds of one full run on one core: forward and backward are three forwards, two operations a multiply-add."""
    macs = sr_models.multiply_adds(network, scale, hyper, sigma_width=sigma_width)
    return train.steps * train.batch_size * train.patch**2 * macs * 6 / CPU_FLOPS
