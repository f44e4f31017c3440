"""Diffusion networks under a probe: whose weights, on the middle of which test images, under which noise.

The noise of a draw depends on the test image and the draw's number, so all objectives of a network get the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from eval.benchmarks import Benchmark
from eval.metrics.scorer import Scorer
from eval.protocol import Protocol, get_protocol
from eval.score import noisy
from orchestrator.probe.kept import Row, Unit
from orchestrator.probe.kinds import DEFAULT_IMAGES, DEFAULT_STEPS, Asked
from orchestrator.probe.trials import Looked, Subject, Weights, loaded
from orchestrator.run.progress import say
from sr_models.diffusion.base import Denoiser
from sr_models.diffusion.process import Level, Process
from sr_models.diffusion.samplers import Noise, Predict, settled
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling
from sr_models.images.files import pixels_sha256
from sr_models.images.operators import to_float
from sr_models.inference.super_resolve import eval_mode, exact_arithmetic
from sr_models.rng import noise_field, noise_seed

LPIPS = "lpips_alex"
SHOWN_T = 5
"""How many t a table has a line for."""


@dataclass(frozen=True)
class Pictures:
    """What a network is given of a test image, and what it should give.

    lr_DCHW: LR, D draws alike but for a noisy test set's noise. hr_1CHW: HR. Both float RGB in [0, 1].
    seeds: (D,) of each draw's noise.
    """

    lr_DCHW: Tensor
    hr_1CHW: Tensor
    seeds: Sequence[int]


@dataclass(frozen=True)
class Scene:
    """A network on all draws of a picture.

    x0: (D, C, H', W') the clean state of HR.
    """

    predict: Predict
    process: Process
    noise: Noise
    x0: Tensor
    picture: Callable[[Tensor], Tensor]
    """State -> picture, (D, 3, H, W) clamped to [0, 1]."""
    pictures: Pictures


@dataclass(frozen=True, kw_only=True)
class Task:
    """A trial's last weights on one test image."""

    subject: Subject
    weights: Weights
    process: ProcessParams
    benchmark: Benchmark
    index: int
    scorer: Scorer
    asked: Asked

    @property
    def begun(self) -> Row:
        """What every row on it begins with."""
        return {
            **self.subject.named(), "weights": self.asked.weights, "step": self.weights.step, "T": self.process.T,
            "benchmark": self.benchmark.name, "image": self.benchmark.pairs[self.index].name, "draws": self.asked.draws,
            "protocol": self.scorer.protocol.id(self.scorer.scale),
        }  # fmt: skip

    @property
    def key(self) -> dict[str, object]:
        """What its rows depend on, beside what a kind adds."""
        facts, config = self.benchmark.facts(self.index), self.subject.probed.plan.config
        return {
            **self.begun, "sha256": self.weights.info.weights_sha256, "hr": facts.hr, "lr": facts.lr,
            "crop": self.asked.crop, "seed_of_noise": config.evaluation.seed, "metrics": self.scorer.metrics,
            "noise": config.data.test[self.benchmark.name].noise,
        }  # fmt: skip

    def sampling(self) -> Sampling:
        """Every step of the asked chain, on the levels that the network has practised.

        Raises:
            InputError: several numbers of them, more than its process has, or too few.
        """
        objective = self.subject.config.objective
        if len(self.asked.steps) > 1:
            given = ",".join(map(str, self.asked.steps))
            raise InputError(f"--steps: this kind looks at one chain and wants one number, got {given}")
        steps = self.asked.steps[0] if self.asked.steps else min(DEFAULT_STEPS, self.process.T)
        try:
            drawn = objective.sampled(Sampling(steps=steps))
            assert drawn is not None, "denoisers draw"
            return settled(self.process, drawn)
        except InputError as error:
            raise InputError(f"--steps: {self.subject.label}: {error}") from None

    def unit(self, drawn: Sampling, rows: Callable[[Task, Sampling], list[Row]]) -> Unit:
        """What is computed once for it and a way of drawing."""
        return Unit(key={**self.key, "sampling": drawn.model_dump()}, rows=partial(rows, self, drawn))

    def network(self) -> Denoiser:
        """Its network, on the asked device."""
        net = loaded(self.subject, self.weights, self.asked.device)
        assert isinstance(net, Denoiser)
        return net

    def pictures(self) -> Pictures:
        """The middle of the image, on the asked device.

        Raises:
            InputError: the network takes none as small.
        """
        lr, hr = self.benchmark.read(self.index)
        scale, window, name = self.scorer.scale, self.network().window, self.benchmark.pairs[self.index].name
        height, width = (min(self.asked.crop // scale, length) // window * window for length in lr.shape[:2])
        if not height or not width:
            raise InputError(f"--crop: of {name} it leaves {height}x{width} LR pixels; at least {window * scale} HR")
        top, left = (lr.shape[0] - height) // 2, (lr.shape[1] - width) // 2
        lr = lr[top : top + height, left : left + width]
        hr = hr[scale * top : scale * (top + height), scale * left : scale * (left + width)]
        config, picture = self.subject.probed.plan.config, pixels_sha256(lr)
        seeds = [noise_seed(config.evaluation.seed, picture, draw) for draw in range(self.asked.draws)]
        sigma = config.data.test[self.benchmark.name].noise
        drawn = [lr if sigma is None else noisy(lr, sigma, seed) for seed in seeds]
        return Pictures(
            torch.cat([to_float(each) for each in drawn]).to(self.asked.device),
            to_float(hr).to(self.asked.device),
            seeds,
        )


def tasks(
    kind: str,
    looked: Looked,
    metrics: Sequence[str],
    change: Callable[[Protocol], Protocol] = lambda protocol: protocol,
) -> list[Task]:
    """Each trial that has a noise process and gives SR on each test image; a line says which metrics are not computed.

    Those of residual shifting are left out: their states are no picture with noise.

    Args:
        change: makes of a run's protocol the one that is scored by.

    Raises:
        InputError: no such trial; it has kept no weights of the kind that is asked for.
    """
    found, asked = [], looked.asked
    scorers: dict[tuple[str, float, str], Scorer] = {}
    for subject in looked.subjects:
        process, plan = subject.config.process, subject.probed.plan
        if not isinstance(process, ProcessParams) or not subject.config.gives_sr:
            continue
        weights = subject.weights(asked.weights)[-1]
        for (_, scale), bench in subject.probed.inputs.benchmarks.items():
            if scale != subject.config.scale:
                continue
            where = subject.probed.run.name, scale, bench.kernel
            if where not in scorers:
                evaluation = plan.config.evaluation
                scorers[where] = Scorer(
                    change(get_protocol(evaluation.protocol)), metrics, scale=scale, device=asked.device,
                    weights_dir=Path(evaluation.weights_dir) if evaluation.weights_dir else None, kernel=bench.kernel,
                )  # fmt: skip
            found += [
                Task(subject=subject, weights=weights, process=process, benchmark=bench, index=index,
                     scorer=scorers[where], asked=asked)
                for index in range(min(len(bench), asked.images or DEFAULT_IMAGES))
            ]  # fmt: skip
    if not found:
        runs = ", ".join(probed.run.name for probed in looked.runs)
        raise InputError(
            f"--kind {kind}: no diffusion network among the trials that are asked for in {runs} (sr3 is one)"
        )
    lacking = {name: reason for scorer in scorers.values() for name, reason in scorer.not_computed.items()}
    for name, reason in lacking.items():
        say(f"{kind}: {name} is not computed: {reason}")
    return found


@contextmanager
def scene(task: Task) -> Iterator[Scene]:
    """Set it up as sampling does, in evaluation mode and without gradients."""
    net, pictures, most = task.network(), task.pictures(), task.asked.at_once
    hr = pictures.hr_1CHW.expand(len(pictures.seeds), -1, -1, -1)
    size = (hr.shape[2], hr.shape[3])
    with torch.no_grad(), eval_mode(net), exact_arithmetic():
        condition, x0 = net.encode(pictures.lr_DCHW, size), net.state(hr)

        def predict(state: Tensor, level: Level) -> Tensor:
            parts = zip(*(of.split(most) for of in (condition, state, level.gamma, level.t)), strict=True)
            return torch.cat([net(known, part, Level(gamma, t)).float() for known, part, gamma, t in parts])

        def noise(number: int) -> Tensor:
            fields = [torch.from_numpy(noise_field(seed, net.state_shape(size), number)) for seed in pictures.seeds]
            return torch.stack(fields).to(x0)

        yield Scene(predict, Process.of(task.process), noise, x0, lambda state: net.decode(state).clamp(0, 1), pictures)


def some(values: Sequence[int], count: int = SHOWN_T) -> list[int]:
    """`count` of some different values, from the largest to the least."""
    rest = sorted(set(values), reverse=True)
    last = len(rest) - 1
    return [rest[i] for i in sorted({round(k * last / max(count - 1, 1)) for k in range(count)})]


def watched(rows: Sequence[Row]) -> str:
    """What captions say of the pictures and of how they were drawn."""
    sets = ", ".join(dict.fromkeys(row["benchmark"] for row in rows))
    ways = ", ".join(dict.fromkeys(row["sampled"] for row in rows))
    images = len({(row["benchmark"], row["image"]) for row in rows})
    return (
        f"{images} image{'s' * (images > 1)} ({sets}), {rows[0]['draws']} draw{'s' * (rows[0]['draws'] > 1)} of each "
        f"under the same noise for all; chain of T = {', '.join(dict.fromkeys(str(row['T']) for row in rows))} "
        f"cut to {ways}; {rows[0]['weights']} weights"
    )
