"""What a run costs, estimated from its multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import sr_models
from objectives import ObjectiveSpec
from objectives.losses import DREAM, DRM
from orchestrator.plan.trial import Measured, TrainConfig
from sr_models.hyper.diffusion import ProcessParams, Sampling

CPU_FLOPS = 100e9
"""Floating-point operations per second that one core sustains on small 3x3 convolutions in fp32, forward and backward;
rounded down from what `quick` journals (train.seconds) on two EPYC cores. An estimate is good to a factor of 2."""

GPU_FLOPS = 10e12
"""The same of a GPU: what the inference times that He & Cheng print for a Titan RTX amount to, 10.6e12 for
EDSR-baseline and 10.1e12 for RCAN at x4 (https://arxiv.org/abs/2201.10084, Tables 3 and 6). Training is taken to
sustain as much. With what newer cards and bf16 gain, and small networks lose, an estimate is good to a factor of 3."""

TRIAL_SECONDS = 2.0
"""Start, validation and export of one short trial beside its steps."""


def trial_seconds(network: str, hyper: Mapping[str, Any], scale: int, train: TrainConfig, spec: ObjectiveSpec) -> float:
    """Seconds of one full run's steps on one core: two operations a multiply-add."""
    macs = sr_models.multiply_adds(network, scale, hyper, sigma_width=spec.sigma.width if spec.sigma else None)
    return train.steps * train.batch_size * train.patch**2 * macs * 2 * forwards(spec) / CPU_FLOPS


def forwards(spec: ObjectiveSpec) -> int:
    """What a step costs in forward passes: one with its backward pass is three.

    DRM and DREAM begin with one more; a terminal loss is two more passes with their backward ones.
    """
    first = isinstance(spec.loss, DRM) or (isinstance(spec.loss, DREAM) and spec.loss.p is not None)
    terminal = spec.timesteps is not None and spec.timesteps.terminal is not None
    return 3 + first + 6 * terminal


def calls(sampling: Sampling, process: ProcessParams) -> int:
    """Passes that a picture is drawn in."""
    steps = sampling.steps or process.T
    if sampling.t_max is None or sampling.t_min is None:
        return steps
    return 1 + max(round(steps * sampling.t_max) - round(steps * sampling.t_min), 0)


def validation_seconds(
    network: str,
    hyper: Mapping[str, Any],
    scale: int,
    train: TrainConfig,
    measured: Measured,
    passes: int,
) -> float | None:
    """Seconds that a run's validations draw pictures for, on one core; None: it is not declared how many of what size.

    Args:
        passes: of each picture (`calls`).
    """
    if measured.images is None or measured.crop is None:
        return None
    times = math.ceil(train.steps / train.validate_every) * (2 if train.ema else 1)
    pictures = times * measured.images * measured.draws
    macs = sr_models.multiply_adds(network, scale, hyper)
    return pictures * passes * (measured.crop // scale) ** 2 * macs * 2 / CPU_FLOPS
