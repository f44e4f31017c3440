"""What evaluation's processes do: load a network and the metrics once, score unit after unit, leave rows on disk.

A `ScoringWorker` samples and scores by itself; with a `SamplingWorker` it only scores what that one streams to it. Both
compute one image at a time, so a row does not depend on who computed it or what else was asked. What they leave lies in
`orchestrator.evaluate.measured.rows_folder`, where no label is.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from safetensors.torch import load_file, save_file

import sr_models
from cluster.ray_private import ITEMS_AHEAD
from eval.benchmarks import Benchmark
from eval.metrics.scorer import Scorer
from eval.protocol import Protocol
from eval.report import versions
from eval.rows import FEATURES, file_name, measured_key, write_rows
from eval.score import Sampled, Scored, needs_features, reconstruct, sample, score_draws, set_row
from orchestrator.data.inputs import load_benchmark
from orchestrator.evaluate.measured import rows_folder
from orchestrator.evaluate.work import Job, Picture, Unit
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.run.access import Access
from orchestrator.run.outage import weathered
from orchestrator.training.failure import failure_cause
from sr_models.checkpoints.published import load_weights
from sr_models.diffusion.base import Denoiser
from sr_models.errors import InputError
from sr_models.files import replacing
from sr_models.images.files import sha256_file
from sr_models.inference.bound import Bound
from sr_models.networks.base import Network
from sr_models.networks.sigma import WithSigma

FEATURES_SUFFIX = ".features.safetensors"
"""What the name of a file ends with that holds, beside rows, what the metrics of a whole set see of their images."""

IN_FLIGHT = 2
"""Draws that a sampler computes ahead of the process that scores them."""

LOAD_RETRIES = 3
"""How often a sampler that died is waited for, and told again what to load."""


class ScoringWorker:
    """A process that scores units. Without a `sampler` it runs the networks itself, on `device`."""

    def __init__(
        self, access: Access, threads: int, device: str, max_bytes: int | None = None, sampler: Any = None
    ) -> None:
        torch.set_num_threads(threads)
        self.access, self.device, self.max_bytes, self.sampler = access, device, max_bytes, sampler

    def ready(self) -> list[str]:
        """Answers once the process is there."""
        return []

    def score(self, unit: Unit) -> list[str]:
        """Write what the unit measures; returns a line on each of its images that cannot be scored.

        Raises:
            InputError: weights, test set or metrics' files cannot be used on this node.
        """
        return self._whole(unit) if unit.files else self._images(unit)

    def _images(self, unit: Unit) -> list[str]:
        job, bench, metrics = unit.job, benchmark_of(unit.job), self._metrics(unit.job)
        if self.sampler is None:
            network_of(self.access, job, self.device)
        else:
            result_of(self.sampler.load.options(max_task_retries=LOAD_RETRIES).remote(job))
        measured: dict[str, Scored] = {}
        refused: list[str] = []
        for picture in unit.pictures:
            try:
                measured[picture.measured] = self.image(job, bench, picture, metrics)
            except InputError as error:
                refused.append(str(error))
            except (MemoryError, RuntimeError) as error:
                if (cause := failure_cause(error, self.device)) is None:
                    raise
                refused.append(f"image {picture.path!r}: {cause}")
        if measured:
            keys = {name: measured_key(name, metrics.metrics) for name in measured}
            file, details = file_name(list(keys.values())), {}
            if needs_features(metrics):
                self._write_features(file, job, {name: scored.features for name, scored in measured.items()})
                details = {FEATURES: file}
            rows = [{**scored.row, "key": keys[name], "details": details} for name, scored in measured.items()]
            self._write_rows(file, job, rows)
        return refused

    def image(self, job: Job, bench: Benchmark, picture: Picture, metrics: Scorer) -> Scored:
        """Score one image of a job.

        Raises:
            InputError: as `eval.score.score_image`, or the image is not the one that was planned with.
        """
        index = next((i for i, pair in enumerate(bench.pairs) if pair.name == picture.name), None)
        if index is None:
            raise InputError(f"image {picture.path!r}: gone since the evaluation began")
        scored = score_draws(
            functools.partial(self._sampled, job, picture.name),
            bench,
            index,
            scorer=metrics,
            draws=job.protocol.draws,
            seed=job.subject.seed,
            options=job.subject.options,
        )
        if (scored.row["lr_sha256"], scored.row["hr_sha256"]) != (picture.lr_sha256, picture.hr_sha256):
            raise InputError(f"image {picture.path!r}: changed since the evaluation began")
        return scored

    def _sampled(self, job: Job, name: str, lr: np.ndarray) -> Iterator[Sampled]:
        if self.sampler is None:
            yield from drawn_of(self.access, job, name, lr, self.device, self.max_bytes)
            return
        ahead = {"num_returns": "streaming", ITEMS_AHEAD: IN_FLIGHT}
        for drawn in self.sampler.draw.options(**ahead).remote(job, name):
            yield result_of(drawn)

    def _whole(self, unit: Unit) -> list[str]:
        """The row of a whole set, from its images' features."""
        job, bench, metrics = unit.job, benchmark_of(unit.job), self._metrics(unit.job)
        hr = {pair.name: i for i, pair in enumerate(bench.pairs)}
        kept = {file: load_file(self._fetch(job, f"{file}{FEATURES_SUFFIX}")) for file in dict.fromkeys(unit.files)}
        features = [list(kept[file][picture.measured]) for picture, file in zip(unit.pictures, unit.files, strict=True)]
        assert unit.row is not None
        reference = metrics.reference_features(
            [picture.hr_sha256 for picture in unit.pictures], lambda i: bench.read(hr[unit.pictures[i].name])[1]
        )
        row = set_row([unit.row] * len(features), features, reference, metrics.metrics)
        measured = job.subject.measured_set([picture.measured for picture in unit.pictures])
        key = measured_key(measured, metrics.metrics)
        self._write_rows(file_name([key]), job, [row | {"key": key}])
        return []

    def _metrics(self, job: Job) -> Scorer:
        folder = job.weights_dir
        if folder is not None and not Path(folder).is_absolute():
            folder = str(self.access.fetch_folder(folder))
        subject = job.subject
        return _warm_metrics(job.protocol, job.metrics, subject.identity.scale, subject.kernel, folder, self.device)

    def _write_features(self, name: str, job: Job, features: dict[str, list[torch.Tensor]]) -> None:
        """What the metrics of a whole set see of each image: (draws, patches, features) by measurement."""
        file = f"{rows_folder(job.subject)}/{name}{FEATURES_SUFFIX}"
        with replacing(self.access.run.at(file)) as part:
            save_file({measured: torch.stack(draws) for measured, draws in features.items()}, part)
        self.access.send(file)

    def _write_rows(self, name: str, job: Job, rows: list[dict[str, Any]]) -> None:
        file = f"{rows_folder(job.subject)}/{name}.parquet"
        write_rows(self.access.run.at(file), job.subject.unlabelled, rows, versions=json.dumps(versions(job.metrics)))
        self.access.send(file)

    def _fetch(self, job: Job, name: str) -> Path:
        path = self.access.fetch(f"{rows_folder(job.subject)}/{name}")
        if not path.exists():
            raise InputError(f"{path} is gone; delete the rows beside it and run again")
        return path


class SamplingWorker:
    """A process that holds a GPU and runs networks on it for several `ScoringWorker` processes at a time."""

    def __init__(self, access: Access, threads: int, device: str, max_bytes: int | None = None) -> None:
        torch.set_num_threads(threads)
        self.access, self.device, self.max_bytes, self.turn = access, device, max_bytes, threading.Lock()

    def load(self, job: Job) -> None:
        """Have the job's network at hand. Raises InputError: its weights cannot be used."""
        with self.turn:
            network_of(self.access, job, self.device)

    def draw(self, job: Job, name: str) -> Iterator[Sampled]:
        """The draws of one image, on the CPU; those of several images take turns on the GPU."""
        bench = benchmark_of(job)
        lr, _ = bench.read(next(i for i, pair in enumerate(bench.pairs) if pair.name == name))
        with self.turn:
            draws = drawn_of(self.access, job, name, lr, self.device, self.max_bytes)
        while True:
            with self.turn:
                drawn = next(draws, None)
            if drawn is None:
                return
            out = drawn.out
            sigma = None if out.sigma is None else out.sigma.cpu()
            yield replace(drawn, out=replace(out, sr=out.sr.cpu(), sigma=sigma))


def network_of(access: Access, job: Job, device: str) -> Network | WithSigma:
    """The job's network on `device`, kept while it is in use.

    Raises:
        InputError: weights that cannot be used, or are not those that were planned with.
    """
    who = job.subject.identity
    if job.is_ceiling:
        return _around_parts(access, who.network, who.scale, job.subject.hyper)
    sampling = job.subject.options.sampling
    return _network(
        access, job.checkpoint, who.network, who.scale, job.subject.hyper, job.subject.weights_sha256, device,
        sampling.sampler if sampling else None,
    )  # fmt: skip


@functools.lru_cache(maxsize=2)
def _around_parts(access: Access, name: str, scale: float, hyper: str) -> Network:
    """A network whose frozen parts are used alone: it has no weights."""
    values = json.loads(hyper)
    with torch.device("meta"):
        return sr_models.build(name, scale, parts=access.parts(name, values), **values)


@functools.lru_cache(maxsize=2)
def _network(
    access: Access, checkpoint: str | None, name: str, scale: float, hyper: str, sha256: str | None, device: str,
    sampler: str | None,
) -> Network | WithSigma:  # fmt: skip
    values = json.loads(hyper)
    parts = access.parts(name, values)
    if checkpoint is None:
        return sr_models.build(name, scale, **values).to(device)
    path = Path(checkpoint) if Path(checkpoint).is_absolute() else access.fetch_folder(checkpoint)
    net = load_weights(path, model=name, scale=scale, hyper=values, parts=parts, sampler=sampler)
    if sha256_file(path / "model.safetensors" if path.is_dir() else path) != sha256:
        raise InputError(f"weights {str(path)!r}: changed since the evaluation began")
    return net.to(device)


def benchmark_of(job: Job) -> Benchmark:
    """The job's test set on this node. Raises InputError: it is not there."""
    return _benchmark(job.subject.benchmark, job.source, job.subject.identity.scale)


@functools.lru_cache(maxsize=8)
def _benchmark(name: str, source: BenchmarkSource, scale: float) -> Benchmark:
    return weathered(lambda: load_benchmark(name, source, scale))


@functools.lru_cache(maxsize=2)
def _warm_metrics(
    protocol: Protocol, metrics: tuple[str, ...], scale: float, kernel: str, weights_dir: str | None, device: str
) -> Scorer:
    folder = Path(weights_dir) if weights_dir else None
    return Scorer(protocol, metrics, scale=scale, device=device, weights_dir=folder, strict=True, kernel=kernel)


def drawn_of(
    access: Access, job: Job, name: str, lr: np.ndarray, device: str, max_bytes: int | None
) -> Iterator[Sampled]:
    """The draws that a job asks for of the image of that name; of a ceiling the one that HR comes back as."""
    net = network_of(access, job, device)
    if not job.is_ceiling:
        return sample_job(net, lr, job, max_bytes)
    bench = benchmark_of(job)
    hr = bench.read(next(i for i, pair in enumerate(bench.pairs) if pair.name == name))[1]
    assert isinstance(net, Denoiser), "ceilings are of networks with an autoencoder"
    return iter([reconstruct(net, hr, device)])


def sample_job(net: Network | WithSigma, lr: np.ndarray, job: Job, max_bytes: int | None) -> Iterator[Sampled]:
    """The draws that a job asks for of one image; `max_bytes`: what a picture may take."""
    exact = sr_models.tile_exact(job.subject.identity.network, json.loads(job.subject.hyper))
    bound = None if max_bytes is None else _bound(net, max_bytes, exact)
    return sample(
        net,
        lr,
        draws=job.protocol.draws,
        seed=job.subject.seed,
        options=job.subject.options,
        bound=bound,
        lr_noise=job.protocol.lr_noise,
    )


@functools.lru_cache(maxsize=2)
def _bound(net: Network | WithSigma, max_bytes: int, tile_exact: bool) -> Bound:
    return Bound.of(net, max_bytes, tile_exact=tile_exact)


def result_of(ref: Any) -> Any:
    """A result of another process, or what it raised as if it had been raised here."""
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
