"""What a trial minimised at a step of its training, and what its gradients look like there.

The batches are those that the trial drew next at that step, at their own α; a pass is in fp32 whatever it trained in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor, nn

from eval.probes import landscape, spectrum
from eval.probes.gradients import Loss, output_gradients
from objectives import ObjectiveSpec
from objectives.batch import Batch
from objectives.compose import Objective, Update
from orchestrator.plan.trial import TrialConfig
from orchestrator.probe.kept import Row, Unit
from orchestrator.probe.kinds import Asked
from orchestrator.probe.trials import Looked, Subject, Weights
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.errors import InputError
from sr_models.inference.super_resolve import exact_arithmetic
from sr_models.networks.base import Network
from sr_models.networks.sigma import WithSigma
from sr_models.rng import SampleRng, keyed


@dataclass(frozen=True)
class Scene:
    """A network as it was after a step, and the batches that came next."""

    net: Network | WithSigma
    batches: Callable[[], Iterator[Batch]]
    """Makes them anew, one at a time."""


@contextmanager
def scene(subject: Subject, weights: Weights, asked: Asked) -> Iterator[Scene]:
    """Set it up, in training mode; torch's generator is afterwards what it was.

    Raises:
        InputError: it is a diffusion network.
    """
    config, store = subject.config, subject.probed.home.access.open_store(subject.config.data_hash)
    if config.process is not None:
        raise InputError(f"{config.fingerprint[:16]} is a {config.model}: of diffusion networks this kind is not")
    device = torch.device(asked.device)

    def batches() -> Iterator[Batch]:
        for i in range(asked.batches):
            yield store.batch(
                seed=config.seed,
                step=weights.step + i,
                batch_size=config.train.batch_size,
                patch=config.train.patch,
                teacher=config.teacher,
                partner="partner" in config.objective.needs,
                degradation=config.train.degradation,
                device=device,
            )

    with torch.random.fork_rng(), exact_arithmetic():
        yield Scene(load_checkpoint(weights.folder)[0].to(device).train(), batches)


def losses(spec: ObjectiveSpec, config: TrialConfig, step: int) -> Iterator[tuple[Update, Loss]]:
    """Each update of an objective, and its loss at a step of a trial: the same function of weights each time."""
    progress = min(step / (config.train.steps - 1), 1.0)
    dropout = int(keyed(config.seed, step, 0, "init").integers(2**63))

    def value(update: Update, model: nn.Module, batch: Batch) -> Tensor:
        torch.manual_seed(dropout)  # as in training; inside `scene`, which puts the generator back
        rng = SampleRng(batch.seed, batch.step, batch.sample_ids)
        return update.loss(model, batch, progress, rng).per_sample

    for update in Objective(spec, config.train.lr_noise).updates():
        yield update, partial(value, update)


def key(subject: Subject, weights: Weights, asked: Asked) -> dict[str, object]:
    """What rows on a trial at a step depend on, beside what a kind adds."""
    return {
        **subject.named(), "weights": asked.weights, "step": weights.step, "sha256": weights.info.weights_sha256,
        "batches": asked.batches,
    }  # fmt: skip


def begun(subject: Subject, weights: Weights, asked: Asked, update: str) -> Row:
    """What a row on an update of a trial at a step begins with."""
    of = {"weights": asked.weights, "step": weights.step, "steps": subject.config.train.steps, "update": update}
    return {**subject.named(), **of}


# ---- spectrum --------------------------------------------------------------------------------------------------------


def spectrum_units(looked: Looked) -> list[Unit]:
    """A unit a trial and step."""
    asked = looked.asked
    return [
        Unit(key=key(subject, weights, asked), rows=partial(_spectrum, subject, weights, asked))
        for subject, weights in looked.points()
    ]


def _spectrum(subject: Subject, weights: Weights, asked: Asked) -> list[Row]:
    """A row a ring of frequencies; `share_beyond_lr` is of all rings, and the same in all of them."""
    rows = []
    nyquist = 0.5 / subject.config.scale
    with scene(subject, weights, asked) as found:
        for update, loss in losses(subject.config.objective, subject.config, weights.step):
            sums: spectrum.Spectrum | None = None
            for batch in found.batches():
                for gradients in output_gradients(found.net, loss, batch, at_once=asked.at_once):
                    own = [spectrum.Spectrum.of(gradient) for gradient in gradients]
                    of_part = own[0]
                    for more in own[1:]:
                        of_part = of_part.beside(more)
                    sums = of_part if sums is None else sums + of_part
            assert sums is not None
            share = sums.share_from(nyquist)
            for frequency, power in zip(sums.frequencies.tolist(), sums.mean_power.tolist(), strict=True):
                rows.append({
                    **begun(subject, weights, asked, update.name), "frequency": frequency, "corner": frequency > 0.5,
                    "power": power, "share_beyond_lr": share,
                })  # fmt: skip
    return rows


# ---- landscape -------------------------------------------------------------------------------------------------------


def landscape_units(looked: Looked) -> list[Unit]:
    """A unit a trial and step."""
    asked = looked.asked
    lengths = asked.lengths or landscape.LENGTHS
    return [
        Unit(
            key={**key(subject, weights, asked), "lengths": lengths},
            rows=partial(_landscape, subject, weights, asked, lengths),
        )
        for subject, weights in looked.points()
    ]


def _landscape(subject: Subject, weights: Weights, asked: Asked, lengths: Sequence[float]) -> list[Row]:
    """A row a batch and step length, 0 the first."""
    rows = []
    with scene(subject, weights, asked) as found:
        for update, loss in losses(subject.config.objective, subject.config, weights.step):
            parameters = list(update.parameters(found.net))
            for number, batch in enumerate(found.batches()):
                seen = landscape.landscape(found.net, parameters, loss, batch, lengths=lengths, at_once=asked.at_once)
                start = landscape.Place(length=0.0, distance=0.0, loss=seen.loss, gradient_difference=0.0)
                rows += [
                    {
                        **begun(subject, weights, asked, update.name), "batch": number, **asdict(place),
                        "gradient_norm": seen.gradient_norm, "weight_norm": seen.weight_norm, "low": seen.low,
                        "high": seen.high, "largest_difference": seen.gradient_difference,
                        "smoothness": seen.smoothness,
                    }
                    for place in (start, *seen.places)
                ]  # fmt: skip
    return rows
