"""What a run and a sweep cost, estimated from their multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import sr_models
from objectives import ObjectiveSpec
from objectives.losses import DREAM, DRM, AdversarialBranch, CCSRDecoder
from orchestrator.plan.combination import TEACHER_OBJECTIVE, Combination
from orchestrator.plan.evaluation import sampling
from orchestrator.plan.plan import Plan, teacher_train
from orchestrator.plan.space import STEPS
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import Measured
from sr_models.hyper.autoencoder import AutoencoderHyper
from sr_models.hyper.base import NetworkHyper
from sr_models.hyper.process import AnyProcess, ProcessParams
from sr_models.hyper.sampling import Sampling

CPU_FLOPS = 100e9
"""Floating-point operations per second that one core sustains on small 3x3 convolutions in fp32, forward and backward;
rounded down from what `quick` journals (train.seconds) on two EPYC cores. An estimate is good to a factor of 2."""

GPU_FLOPS = 10e12
"""The same of a GPU: what the inference times that He & Cheng print for a Titan RTX amount to, 10.6e12 for
EDSR-baseline and 10.1e12 for RCAN at x4 (https://arxiv.org/abs/2201.10084, Tables 3 and 6). Training is taken to
sustain as much. With what newer cards and bf16 gain, and small networks lose, an estimate is good to a factor of 3."""

SMALL_GROUPS = 2.0
"""What networks lose on a CPU that normalise few channels together, where torch's backward pass is slow: one of d
channels a group takes 1 + this / d² times as long. A core sustained 178 GFLOP/s in steps of EDSR-baseline, 163 in those
of Stable Diffusion's autoencoder (d = 4), 97 in SR3's (d = 2) and 40 to 57 in `examples/ccsr_world.yaml` (d = 1)."""

VGG = 305_856.0
"""Multiply-adds of VGG-16's convolutions (https://arxiv.org/abs/1409.1556, column D), per pixel of a picture."""

FORWARDS = 3
"""What a plain step costs in forward passes: one, and its backward pass is two more."""

TRIAL_SECONDS = 2.0
"""Start, validation and export of one short trial beside its steps."""


LR_SECONDS = {
    "realesrgan": 3.6e-7, "ccsr": 2.0e-7, "bsrgan": 1.0e-7, "bsrgan_plus": 3.0e-7, "additive": 4.3e-8, "scales": 4e-8,
}  # fmt: skip
"""That one core makes LR in, an HR pixel that it is made of: by a degradation's set (benchmarks/RESULTS.md, patches of
192 pixels), and under `train.scales` by the kernel (one run with patches of 72 to 384 pixels, within a factor of 2)."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network at a scale, as far as its cost goes."""

    name: str
    hyper: Mapping[str, Any]
    scale: int
    coder: AutoencoderHyper | None = None
    """The frozen autoencoder that it stands on; None: its states are pictures."""

    @classmethod
    def of(cls, plan: Plan, combination: Combination) -> Self:
        """That of a combination, on the autoencoder that another one trains, or one of the size that it says."""
        name, hyper, scale = combination.network, combination.hyper, combination.scale
        asked = sr_models.check(name, scale, hyper).stands_on("autoencoder")
        if asked is None:
            return cls(name=name, hyper=hyper, scale=scale)
        kind, sizes = asked
        row, weights = sr_models.spec(kind).hyper, combination.parts.get("autoencoder")
        trained = [c.hyper for c in plan.combinations if weights and weights.kind == "from" and c.id == weights.name]
        given = trained[0] if trained else {size: n for size, n in sizes.items() if size in row.model_fields}
        coder = row.parse(given, f"{combination.id}: autoencoder")
        assert isinstance(coder, AutoencoderHyper)
        return cls(name=name, hyper=hyper, scale=scale, coder=coder)

    @property
    def multiply_adds(self) -> float:
        """Of one pass, per LR pixel."""
        return sr_models.multiply_adds(self.name, self.scale, self.hyper)

    @property
    def encoded(self) -> int:
        """Pictures that are encoded for one to be trained on: it, and LR enlarged where that is the condition."""
        if self.coder is None:
            return 0
        return 1 + (sr_models.spec(self.name).sr and self._values.latents is not None)

    def seconds(self, flops: float) -> float:
        """That one core takes for so many of its operations."""
        return flops / CPU_FLOPS * (1 + SMALL_GROUPS / self._values.group_width**2)

    def step_flops(self, train: TrainConfig, spec: ObjectiveSpec) -> float:
        """Operations of a training step: two a multiply-add. Latents that are made before it are not in it."""
        forward, backward = calls_of_step(spec)
        one = self.multiply_adds
        total = forward * one + backward * self._values.backward_multiply_adds(self.scale)
        if spec.sigma is not None:
            head = sr_models.multiply_adds(self.name, self.scale, self.hyper, sigma_width=spec.sigma.width) - one
            total += (forward + 2 * backward) * head
        if self.coder is not None and (self._values.latents is None or train.encodes(spec)):
            total += self.encoded * self.coder.encoding * self.scale**2
        if isinstance(spec.loss, CCSRDecoder) and self.coder is not None:
            # its decoder there and back, and there once more for the discriminator's update
            total += (4 * self.coder.decoding + judging(spec.loss)) * self.scale**2
        if train.scales is not None:
            total *= train.scales.mean_square / self.scale**2
        return 2 * total * train.batch_size * train.patch**2

    def picture_flops(self, passes: int, side: int) -> float:
        """Operations of drawing a picture of so many HR pixels a side in so many passes, its frozen parts with it."""
        coding = 0.0
        if self.coder is not None:
            coding = (self.encoded - 1) * self.coder.encoding + self.coder.decoding
        return 2 * (passes * self.multiply_adds / self.scale**2 + coding) * side**2

    @property
    def _values(self) -> NetworkHyper:
        return sr_models.check(self.name, self.scale, self.hyper)


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
    what a frozen chain gives: these are the chain's.
    """
    if spec.chain is not None:
        return calls(spec.chain, ProcessParams()), 0
    first = isinstance(spec.loss, DRM) or (isinstance(spec.loss, DREAM) and spec.loss.p is not None)
    terminal = spec.timesteps is not None and spec.timesteps.terminal is not None
    return 1 + first + 2 * terminal, 1 + 2 * terminal


def judging(branch: AdversarialBranch) -> float:
    """Multiply-adds of a step's discriminator and LPIPS, per pixel of its pictures.

    The discriminator sees a picture that was made, and leads two gradients back to it: the adaptive weight's, and the
    update's. For its own update it sees a real one and a made one, there and twice as much back. LPIPS sees both, and
    leads the same two gradients back to one.
    """
    discriminator = 9 * (12.0 * branch.channels**2 + 14 * branch.channels)
    return discriminator + (4 * VGG if branch.perceptual_weight else 0)


def forwards(spec: ObjectiveSpec) -> int:
    """What a step costs in forward passes: a backward pass is two."""
    forward, backward = calls_of_step(spec)
    return forward + 2 * backward


def calls(drawn: Sampling, process: AnyProcess) -> int:
    """Passes that a picture is drawn in."""
    steps = drawn.steps or process.steps
    if drawn.t_max is None or drawn.t_min is None:
        return steps
    return 1 + max(round(steps * drawn.t_max) - round(steps * drawn.t_min), 0)


def validation_flops(network: Network, train: TrainConfig, measured: Measured, passes: int) -> float | None:
    """Operations of what a run's validations draw; None: it is not declared how many pictures of what size.

    Args:
        passes: of each picture (`calls`).
    """
    if measured.images is None or measured.crop is None:
        return None
    times = math.ceil(train.steps / train.validate_every) * (2 if train.ema else 1)
    pictures = times * measured.images * measured.draws
    return pictures * network.picture_flops(passes, measured.crop // network.scale * network.scale)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a full run costs, one of several alike."""

    count: int
    flops: float
    """Operations of its steps and validations."""
    seconds: float
    """That one core takes for these."""
    made: float
    """That one core makes LR in."""


def run_of(plan: Plan, combination: Combination) -> Run:
    """A full run of a combination; as many as it has proposals and seeds."""
    c, config, network = combination, plan.config, Network.of(plan, combination)
    flops = c.train.steps * network.step_flops(c.train, c.spec)
    if c.process:
        flops += validation_flops(network, c.train, config.validation.measured, passes(plan, c)) or 0.0
    made = lr_seconds(c.train, c.scale)
    return Run(count=c.trials + config.seeds, flops=flops, seconds=network.seconds(flops), made=made)


def step_seconds(plan: Plan, combination: Combination) -> float:
    """Estimated seconds of one of its training steps on one core."""
    c, network = combination, Network.of(plan, combination)
    return network.seconds(network.step_flops(c.train, c.spec)) + lr_seconds(c.train, c.scale) / c.train.steps


def wall_seconds(plan: Plan, cores: int) -> float:
    """Estimated wall time of all trials on `cores` CPU cores, evaluation aside, if no trial is stopped early."""
    return sum(run.count * (run.seconds + run.made + TRIAL_SECONDS) for run in _runs(plan)) / cores


def gpu_hours(plan: Plan) -> float:
    """Estimated hours of all trials' steps on one GPU of `GPU_FLOPS`, which waits for one core where that makes LR."""
    return sum(run.count * (run.flops / GPU_FLOPS + run.made) for run in _runs(plan)) / 3600


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


def _runs(plan: Plan) -> list[Run]:
    """All full runs, those of teachers too."""
    config, found = plan.config, [run_of(plan, combination) for combination in plan.combinations]
    teacher = config.teacher
    if teacher is not None and teacher.weights is None:
        for scale in plan.teacher_scales:
            train, network = teacher_train(config, scale), Network(name=teacher.model, hyper=teacher.hyper, scale=scale)
            flops = train.steps * network.step_flops(train, TEACHER_OBJECTIVE)
            found.append(Run(count=1, flops=flops, seconds=network.seconds(flops), made=lr_seconds(train, scale)))
    return found
