"""What a run and a sweep cost, estimated from their multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import sr_models
from objectives import ObjectiveSpec
from objectives.losses import DREAM, DRM
from orchestrator.plan.combination import TEACHER_OBJECTIVE, Combination
from orchestrator.plan.evaluation import sampling
from orchestrator.plan.plan import Plan, teacher_train
from orchestrator.plan.space import STEPS
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import Measured
from sr_models.hyper.process import AnyProcess, ProcessParams
from sr_models.hyper.sampling import Sampling

CPU_FLOPS = 100e9
"""Floating-point operations per second that one core sustains on small 3x3 convolutions in fp32, forward and backward;
rounded down from what `quick` journals (train.seconds) on two EPYC cores. An estimate is good to a factor of 2."""

GPU_FLOPS = 10e12
"""The same of a GPU: what the inference times that He & Cheng print for a Titan RTX amount to, 10.6e12 for
EDSR-baseline and 10.1e12 for RCAN at x4 (https://arxiv.org/abs/2201.10084, Tables 3 and 6). Training is taken to
sustain as much. With what newer cards and bf16 gain, and small networks lose, an estimate is good to a factor of 3."""

FORWARDS = 3
"""What a plain step costs in forward passes: one, and its backward pass is two more."""

TRIAL_SECONDS = 2.0
"""Start, validation and export of one short trial beside its steps."""


LR_SECONDS = {
    "realesrgan": 3.6e-7, "ccsr": 2.0e-7, "bsrgan": 1.0e-7, "bsrgan_plus": 3.0e-7, "additive": 4.3e-8, "scales": 4e-8,
}  # fmt: skip
"""That one core makes LR in, an HR pixel that it is made of: by a degradation's set (benchmarks/RESULTS.md, patches of
192 pixels), and under `train.scales` by the kernel (one run with patches of 72 to 384 pixels, within a factor of 2)."""


def trial_seconds(network: str, hyper: Mapping[str, Any], scale: int, train: TrainConfig, spec: ObjectiveSpec) -> float:
    """Seconds of one full run's steps on one core: two operations a multiply-add."""
    macs = sr_models.multiply_adds(network, scale, hyper, sigma_width=spec.sigma.width if spec.sigma else None)
    if train.scales is not None:
        macs *= train.scales.mean_square / scale**2
    return train.steps * train.batch_size * train.patch**2 * macs * 2 * forwards(spec) / CPU_FLOPS


def lr_seconds(train: TrainConfig, scale: int) -> float:
    """Seconds of one full run that one core makes LR in; 0 where it is the store's."""
    if train.degradation is not None:
        pixels = float(train.cut(scale) * scale) ** 2
        each = LR_SECONDS.get(train.degradation.set, LR_SECONDS["additive"])  # a plug-in's is taken for a cheap one
    elif train.scales is not None:
        pixels, each = train.patch**2 * train.scales.mean_square, LR_SECONDS["scales"]
    else:
        return 0.0
    return train.steps * train.batch_size * pixels * each


def calls_of_step(spec: ObjectiveSpec) -> tuple[int, int]:
    """Forward passes of a training step, and backward ones.

    DRM and DREAM begin with one more, without its gradient; a terminal loss is two more of both. A decoder is tuned on
    what a frozen chain gives, and what it costs itself is not in it.
    """
    if spec.chain is not None:
        return calls(spec.chain, ProcessParams()), 0
    first = isinstance(spec.loss, DRM) or (isinstance(spec.loss, DREAM) and spec.loss.p is not None)
    terminal = spec.timesteps is not None and spec.timesteps.terminal is not None
    return 1 + first + 2 * terminal, 1 + 2 * terminal


def forwards(spec: ObjectiveSpec) -> int:
    """What a step costs in forward passes: a backward pass is two."""
    forward, backward = calls_of_step(spec)
    return forward + 2 * backward


def picture_flops(combination: Combination, side: int) -> float:
    """Operations of one pass for a picture of so many HR pixels a side."""
    macs = sr_models.multiply_adds(combination.network, combination.scale, combination.hyper)
    return 2 * macs * (side / combination.scale) ** 2


def calls(drawn: Sampling, process: AnyProcess) -> int:
    """Passes that a picture is drawn in."""
    steps = drawn.steps or process.steps
    if drawn.t_max is None or drawn.t_min is None:
        return steps
    return 1 + max(round(steps * drawn.t_max) - round(steps * drawn.t_min), 0)


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


def wall_seconds(plan: Plan, cores: int) -> float:
    """Estimated wall time of all trials on `cores` CPU cores, evaluation aside, if no trial is stopped early."""
    count, steps, made = _work(plan)
    return (steps + made + count * TRIAL_SECONDS) / cores


def gpu_hours(plan: Plan) -> float:
    """Estimated hours of all trials' steps on one GPU of `GPU_FLOPS`, which waits for one core where that makes LR."""
    _, steps, made = _work(plan)
    return (steps * CPU_FLOPS / GPU_FLOPS + made) / 3600


def kept_bytes(plan: Plan) -> float:
    """Bytes that the trials' weights, snapshots and two last checkpoints take, about, if none is stopped early.

    Parameters are the published network's times the share of its multiply-adds; an optimiser has two numbers for each.
    """
    config, total = plan.config, 0.0
    runs = [(c.network, c.hyper, c.scale, c.train, c.trials + config.seeds) for c in plan.combinations]
    if config.teacher is not None and config.teacher.weights is None:
        runs += [
            (config.teacher.model, config.teacher.hyper, scale, teacher_train(config, scale), 1)
            for scale in plan.teacher_scales
        ]
    for network, hyper, scale, train, count in runs:
        counts = sr_models.spec(network).counts
        weights = 4 * sr_models.multiply_adds(network, scale, hyper)  # of one that no row counts: a use a pixel
        if counts:
            published = sr_models.multiply_adds(network, scale, {})
            weights *= counts.get(scale, max(counts.values())) / published
        averages = 1 + bool(train.ema)
        total += count * weights * (averages * (1 + len(train.snapshots)) + 2 * (2 + averages))
    return total


def duration(seconds: float) -> str:
    """A time as people say it: `42 s`, `12 minutes`, `5.3 hours`, `3.2 days`, `2,110 days`."""
    for unit, one, least in (("days", 86_400, 2), ("hours", 3600, 2), ("minutes", 60, 2)):
        if seconds >= least * one:
            value = seconds / one
            return f"{value:,.0f} {unit}" if value >= 10 or unit == "minutes" else f"{value:.1f} {unit}"
    return f"{seconds:.0f} s"


def passes(plan: Plan, combination: Combination, *, evaluated: bool = False) -> int:
    """Passes of a diffusion network for one picture, of a validation or of the evaluation; the most, if searched."""
    config, process = plan.config, combination.process
    own = max(combination.axes.values(STEPS), default=combination.steps)
    drawn = sampling(combination.spec, config.evaluation, own or (None if evaluated else config.validation.steps))
    assert drawn is not None and process is not None
    return calls(drawn, process)


def _work(plan: Plan) -> tuple[int, float, float]:
    """How many runs there are, and what their steps, and LR that is made in them, take one CPU core in seconds.

    If none is stopped early.
    """
    config, count, total, made = plan.config, 0, 0.0, 0.0
    for c in plan.combinations:
        what = (c.network, c.hyper, c.scale, c.train)
        runs = c.trials + config.seeds
        drawn = validation_seconds(*what, config.validation.measured, passes(plan, c)) or 0.0 if c.process else 0.0
        count, total = count + runs, total + runs * (trial_seconds(*what, c.spec) + drawn)
        made += runs * lr_seconds(c.train, c.scale)
    teacher = config.teacher
    if teacher is not None and teacher.weights is None:
        for scale in plan.teacher_scales:
            hyper = sr_models.check(teacher.model, scale, teacher.hyper).model_dump()
            train = teacher_train(config, scale)
            total += trial_seconds(teacher.model, hyper, scale, train, TEACHER_OBJECTIVE)
            count, made = count + 1, made + lr_seconds(train, scale)
    return count, total, made
