"""What a run costs, estimated from its multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sr_models
from orchestrator.plan.trial import TrainConfig

CPU_FLOPS = 100e9
"""Floating-point operations per second that one core sustains on small 3x3 convolutions in fp32, forward and backward;
rounded down from what `quick` journals (train.seconds) on two EPYC cores. An estimate is good to a factor of 2."""

GPU_FLOPS = 10e12
"""The same of a GPU: what the inference times that He & Cheng print for a Titan RTX amount to, 10.6e12 for
EDSR-baseline and 10.1e12 for RCAN at x4 (https://arxiv.org/abs/2201.10084, Tables 3 and 6). Training is taken to
sustain as much. With what newer cards and bf16 gain, and small networks lose, an estimate is good to a factor of 3."""

TRIAL_SECONDS = 2.0
"""Start, validation and export of one short trial beside its steps."""


def trial_seconds(
    network: str, hyper: Mapping[str, Any], scale: int, train: TrainConfig, sigma_width: int | None
) -> float:
    """Seconds of one full run on one core: forward and backward are three forwards, two operations a multiply-add."""
    macs = sr_models.multiply_adds(network, scale, hyper, sigma_width=sigma_width)
    return train.steps * train.batch_size * train.patch**2 * macs * 6 / CPU_FLOPS
