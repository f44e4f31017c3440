"""What is to be scored: jobs, their images, the rows that they are to leave, and the units that workers are given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.benchmarks import Benchmark
from eval.metrics.backbones import BACKBONES, VARIABLE, WeightFiles
from eval.metrics.scorer import Scorer
from eval.protocol import Protocol, get_metric
from eval.rows import SET, Subject, read_file, read_keys
from orchestrator.plan.config import BenchmarkSource
from orchestrator.run.access import Access
from sr_models.errors import InputError
from sr_models.images.files import pixels_sha256


@dataclass(frozen=True, kw_only=True)
class Job:
    """One set of weights on one test set under one protocol."""

    subject: Subject
    checkpoint: str | None
    """Where the weights are: a folder of the run by its relative name, or a file or folder by its absolute path; None
    for a network that has none."""
    source: BenchmarkSource
    """The test set as every node finds it."""
    protocol: Protocol
    """With the number of draws."""
    metrics: tuple[str, ...]
    lacking: tuple[tuple[str, str], ...] = ()
    """(metric, reason) of those that were asked for too and cannot be computed."""
    weights_dir: str | None
    """Folder of the files that perceptual metrics need, absolute or relative to the run; None looks where libraries do.
    """


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image of a job: its name in the set, its file on the driver's machine, its pixels' hashes, its row's key."""

    name: str
    path: str
    lr_sha256: str
    hr_sha256: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Images of a job whose rows are computed and written together; with `files`, the row of the whole set instead."""

    job: Job
    pictures: tuple[Picture, ...]
    files: tuple[str, ...] = ()
    """For each picture the file, without suffix, that holds its row and features."""
    losses: int = 0
    """Processes that died with it."""

    @property
    def again(self) -> tuple[Unit, ...]:
        """What to try after a process died with it: its halves, or itself where nothing is to be halved."""
        more, half = replace(self, losses=self.losses + 1), len(self.pictures) // 2
        if self.files or not half:
            return (more,)
        return replace(more, pictures=self.pictures[:half]), replace(more, pictures=self.pictures[half:])

    @property
    def name(self) -> str:
        what = self.job.subject
        whole = f"{what.benchmark} x{what.identity.scale} as a whole"
        return whole if self.files else ", ".join(f"image {picture.path!r}" for picture in self.pictures)


IMAGES_PER_UNIT = 4
"""Images whose rows share a file; enough work for a worker to hide what it costs to hand it over."""

_BACKBONES = "backbones"  # folder of a run


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A job, of whose metrics those are left that can be computed, and the rows that it is to leave.

    Attributes:
        pictures: the images of the set that can be read.
        refused: a line on each other.
    """

    job: Job
    pictures: tuple[Picture, ...]
    refused: tuple[str, ...]

    @property
    def set_key(self) -> str | None:
        """Key of the whole set's row; None if there is to be none."""
        if not any(get_metric(name).level == "set" for name in self.job.metrics) or self.refused:
            return None
        return self.job.subject.set_key([picture.key for picture in self.pictures], self.job.metrics)

    def units(self, there: Mapping[str, str]) -> list[Unit]:
        """What is not there, in units of images."""
        left = [picture for picture in self.pictures if picture.key not in there]
        chunks = [left[i : i + IMAGES_PER_UNIT] for i in range(0, len(left), IMAGES_PER_UNIT)]
        return [Unit(job=self.job, pictures=tuple(chunk)) for chunk in chunks]

    def closing(self, there: Mapping[str, str]) -> Unit | None:
        """The unit of the whole set's row, if it is wanted, not there, and all images are."""
        if self.set_key in (None, *there) or any(picture.key not in there for picture in self.pictures):
            return None
        return Unit(job=self.job, pictures=self.pictures, files=tuple(there[picture.key] for picture in self.pictures))


def plan(
    jobs: Sequence[Job], benchmarks: Mapping[tuple[str, int], Benchmark], access: Access, *, strict: bool = False
) -> list[Planned]:
    """Read every image once, and find out which metrics can be computed.

    The files that metrics need are shared with all nodes, so that they use the same ones.

    Args:
        benchmarks: (name, scale) -> the test set as this machine finds it.
        strict: a metric that cannot be computed is an error.

    Raises:
        InputError: a folder of weights that is missing; with `strict`, what cannot be computed and why.
    """
    read = {where: _read(bench) for where, bench in benchmarks.items()}
    able: dict[tuple[Any, ...], tuple[Scorer, str | None]] = {}
    made = []
    for job in jobs:
        subject = job.subject
        scale, kernel = subject.identity.scale, subject.kernel
        asked = (job.protocol, job.metrics, scale, kernel, job.weights_dir)
        if asked not in able:
            folder = Path(job.weights_dir) if job.weights_dir else None
            found = Scorer(job.protocol, job.metrics, scale=scale, kernel=kernel, weights_dir=folder, strict=strict)
            able[asked] = found, _shared_weights(access, found.metrics, job.weights_dir)
        metrics, weights_dir = able[asked]
        computed = tuple(metrics.metrics)
        images, refused = read[subject.benchmark, scale]
        pictures = [
            Picture(name=name, path=path, lr_sha256=lr, hr_sha256=hr, key=subject.key(name, lr, hr, computed))
            for name, path, lr, hr in images
        ]
        job = replace(
            job,
            metrics=computed,
            lacking=tuple(metrics.not_computed.items()),
            weights_dir=weights_dir,
        )
        made.append(Planned(job=job, pictures=tuple(pictures), refused=tuple(refused)))
    return made


def rows_of(planned_job: Planned, access: Access) -> list[dict[str, Any]]:
    """The rows that are there of what was planned: of images in the set's order, then of the whole set."""
    folder = access.run.evaluation
    there = read_keys(folder)
    wanted = [key for key in (*(picture.key for picture in planned_job.pictures), planned_job.set_key) if key in there]
    files = {there[key]: read_file(folder / f"{there[key]}.parquet") for key in wanted}
    return [next(row for row in files[there[key]] if row["key"] == key) for key in wanted]


def lacking_set(planned_job: Planned, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """In the place of the whole set's row, why there is none; nothing if there is, or was to be none."""
    asked = [name for name in planned_job.job.metrics if get_metric(name).level == "set"]
    if not asked or any(row["image"] == SET for row in rows):
        return []
    total = len(planned_job.pictures) + len(planned_job.refused)
    reason = f"only {len(rows)} of {total} images could be scored, and sets compare only whole"
    return [{"image": SET, "not_computed": dict.fromkeys(("fid", "kid"), reason)}]


def weights_folder(given: Path | str | None) -> str | None:
    """Where workers look for what metrics need: the folder that is given, else the one that this environment names."""
    folder = given or os.environ.get(VARIABLE) or None
    return folder and str(Path(folder).absolute())


def rows_there(access: Access) -> dict[str, str]:
    """Key -> name of the file of rows that holds it, after those that others wrote have come here."""
    access.pull("evaluation", ["*.parquet"])
    return read_keys(access.run.evaluation)


def _read(bench: Benchmark) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    """(name, file, LR hash, HR hash) of each image that can be read, and a line on each other."""
    images, refused = [], []
    for i, pair in enumerate(bench.pairs):
        try:
            lr, hr = bench.read(i)
        except InputError as error:
            refused.append(str(error))
        else:
            images.append((pair.name, str(pair.hr), pixels_sha256(lr), pixels_sha256(hr)))
    return images, refused


def _shared_weights(access: Access, metrics: Iterable[str], weights_dir: str | None) -> str | None:
    """Where workers on any node find the files that metrics need."""
    needed = [name for name, file in BACKBONES.items() if set(file.serves) & set(metrics) and not file.package]
    if not needed:
        return weights_dir
    files = WeightFiles(Path(weights_dir) if weights_dir else None)
    return access.share(_BACKBONES, needed, files.path) or weights_dir
