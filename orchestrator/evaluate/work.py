"""What is to be scored: jobs, their images, the rows that they are to leave, and the units that workers are given.

A run's own rows are made from what is measured (`orchestrator.evaluate.measured`), one file a job, and speak of the run
alone.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from eval.benchmarks import Benchmark, joined
from eval.metrics.backbones import BACKBONES, VARIABLE, WeightFiles
from eval.metrics.scorer import Scorer
from eval.protocol import Protocol, get_metric
from eval.rows import (
    CEILING,
    FEATURES,
    SET,
    Subject,
    file_name,
    knows,
    labelled,
    read_file,
    read_keys,
    write_rows,
)
from orchestrator.data.known import with_facts
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.run.access import Access
from sr_models.errors import InputError


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

    @property
    def is_ceiling(self) -> bool:
        """Whether what is scored is HR through the network's autoencoder and back, and nothing is super-resolved."""
        return self.subject.identity.weights == CEILING


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image of a job: its name in the set, its file on the driver's machine, its pixels' hashes, its row's key, and
    the name of its measurement."""

    name: str
    path: str
    lr_sha256: str
    hr_sha256: str
    key: str
    measured: str


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Images of a job that are measured and written together; with `files`, the whole set instead."""

    job: Job
    """With the metrics that are to be computed."""
    pictures: tuple[Picture, ...]
    files: tuple[str, ...] = ()
    """For each picture the file, without suffix, that holds its features."""
    row: dict[str, Any] | None = None
    """With `files`, the measurement of one picture: what it says of how it was made is true of all."""
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
"""Images whose measurements share a file; enough work for a worker to hide what it costs to hand it over."""

Known = Mapping[str, Mapping[str, Any]]
"""Name of a measurement -> its row."""

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

    @cached_property
    def set_key(self) -> str | None:
        """Key of the whole set's row; None if there is to be none."""
        if not self._of_level("set") or self.refused:
            return None
        return self.job.subject.set_key([picture.key for picture in self.pictures], self.job.metrics)

    @cached_property
    def set_measured(self) -> str:
        """The name of the whole set's measurement."""
        return self.job.subject.measured_set([picture.measured for picture in self.pictures])

    def is_there(self, there: Collection[str]) -> bool:
        """Whether the run has every row, given the keys that it has."""
        return (self.set_key is None or self.set_key in there) and all(
            picture.key in there for picture in self.pictures
        )

    def units(self, there: Collection[str], known: Known, but: Collection[str] = ()) -> list[Unit]:
        """What is to be computed next: units of images that lack the same metrics, then that of the whole set.

        Args:
            there: keys of the run's rows.
            known: what is measured (`orchestrator.evaluate.measured.Measured.of`).
            but: measurements that are not asked for.
        """
        due = defaultdict(list)
        for picture in self.pictures:
            lacking = self._lacking(picture, there, known)
            if lacking is not None and picture.measured not in but:
                due[lacking].append(picture)
        made = [
            Unit(job=replace(self.job, metrics=metrics), pictures=tuple(pictures[i : i + IMAGES_PER_UNIT]))
            for metrics, pictures in due.items()
            for i in range(0, len(pictures), IMAGES_PER_UNIT)
        ]
        closing = None if made or self.set_measured in but else self.closing(there, known)
        return made if closing is None else [closing]

    def closing(self, there: Collection[str], known: Known) -> Unit | None:
        """The unit of the whole set's row, if it is wanted, not measured, and the features of all images are there."""
        metrics, found = self._set_lacking(there, known), [known.get(picture.measured) for picture in self.pictures]
        if not metrics or not all(knows(row, metrics) for row in found):
            return None
        rows = [dict(row) for row in found if row is not None]
        files = tuple(row["details"][FEATURES] for row in rows)
        return Unit(job=replace(self.job, metrics=metrics), pictures=self.pictures, files=files, row=rows[0])

    def own_rows(self, there: Collection[str], known: Known) -> list[dict[str, Any]]:
        """The rows that the run lacks, of those that are measured: of images in the set's order, then of the set."""
        job, total = self.job, len(self.pictures) + len(self.refused)
        made = []
        for picture in self.pictures:
            if picture.key not in there and self._lacking(picture, there, known) is None:
                row, names = known[picture.measured], (picture.key, picture.name, total, picture.lr_sha256)
                made.append(labelled(row, job.subject, job.metrics, *names))
                made[-1]["not_computed"] |= dict(job.lacking)
        if self.set_key is not None and self.set_key not in there and not self._set_lacking(there, known):
            lr_sha256 = joined({picture.name: picture.lr_sha256 for picture in self.pictures})
            row = known[self.set_measured]
            made.append(labelled(row, job.subject, job.metrics, self.set_key, SET, total, lr_sha256))
        return made

    def _lacking(self, picture: Picture, there: Collection[str], known: Known) -> tuple[str, ...] | None:
        """The metrics to compute of an image, none where only its spread over draws is asked for; None: it is done."""
        row = known.get(picture.measured)
        wanted = self._of_level("image") if picture.key not in there else ()
        wanted += self._of_level("set") if self._set_lacking(there, known) else ()
        lacking = tuple(name for name in wanted if not knows(row, [name]))
        return lacking if lacking or (row is None and picture.key not in there) else None

    def _set_lacking(self, there: Collection[str], known: Known) -> tuple[str, ...]:
        """The metrics to compute of the whole set."""
        if self.set_key is None or self.set_key in there:
            return ()
        return tuple(name for name in self._of_level("set") if not knows(known.get(self.set_measured), [name]))

    def _of_level(self, level: str) -> tuple[str, ...]:
        return tuple(name for name in self.job.metrics if get_metric(name).level == level)


def plan(
    jobs: Sequence[Job], benchmarks: Mapping[tuple[str, Any], Benchmark], access: Access, *, strict: bool = False
) -> list[Planned]:
    """Find out what each image is, as its files are now, and which metrics can be computed.

    The files that metrics need are shared with all nodes, so that they use the same ones.

    Args:
        benchmarks: (name, scale) -> the test set as this machine finds it.
        strict: a metric that cannot be computed is an error.

    Raises:
        InputError: a folder of weights that is missing; with `strict`, what cannot be computed and why.
    """
    read = {where: _read(bench) for where, bench in with_facts(benchmarks).items()}
    able: dict[tuple[Any, ...], tuple[Scorer, str | None]] = {}
    made = []
    for job in jobs:
        subject = job.subject
        scale, kernel = subject.identity.scale, subject.kernel
        asked = (job.protocol, job.metrics, scale, kernel, job.weights_dir)
        if asked not in able:
            folder = Path(job.weights_dir) if job.weights_dir else None
            found = Scorer(job.protocol, job.metrics, scale=scale, kernel=kernel, weights_dir=folder, strict=strict)
            able[asked] = found, shared_weights(access, found.metrics, job.weights_dir)
        metrics, weights_dir = able[asked]
        computed = tuple(metrics.metrics)
        images, refused = read[subject.benchmark, scale]
        pictures = [
            Picture(
                name=name,
                path=path,
                lr_sha256=lr,
                hr_sha256=hr,
                key=subject.key(name, lr, hr, computed),
                measured=subject.measured(lr, hr),
            )
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


def rows_of(planned_job: Planned, access: Access, there: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows of what was planned: of images in the set's order, then of the whole set; `there`: `read_keys`."""
    folder = access.run.evaluation
    keys = (*(picture.key for picture in planned_job.pictures), planned_job.set_key)
    wanted = [key for key in keys if key is not None and key in there]
    files = {name: read_file(folder / f"{name}.parquet") for name in {there[key] for key in wanted}}
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
    """Key -> name of the run's file of rows that holds it, after those that others wrote have come here."""
    access.pull("evaluation", ["*.parquet"])
    return read_keys(access.run.evaluation)


def bring(planned_job: Planned, there: dict[str, str], known: Known, access: Access) -> None:
    """Write what is measured of a job, and not among the run's rows, as one file of them; `there` gains its keys."""
    if rows := planned_job.own_rows(there, known):
        keys = [row["key"] for row in rows]
        name = file_name(keys)
        file = f"evaluation/{name}.parquet"
        write_rows(access.run.at(file), planned_job.job.subject, rows, versions="{}")  # a row knows its own
        access.send(file)
        there |= dict.fromkeys(keys, name)


def _read(bench: Benchmark) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    """(name, file, LR hash, HR hash) of each image that can be read, and a line on each other."""
    images, refused = [], []
    for i, pair in enumerate(bench.pairs):
        try:
            facts = bench.facts(i)
        except InputError as error:
            refused.append(str(error))
        else:
            images.append((pair.name, str(pair.hr), facts.lr, facts.hr))
    return images, refused


def shared_weights(access: Access, metrics: Iterable[str], weights_dir: str | None) -> str | None:
    """Where workers on any node find the files that metrics need."""
    needed = [name for name, file in BACKBONES.items() if set(file.serves) & set(metrics) and not file.package]
    if not needed:
        return weights_dir
    files = WeightFiles(Path(weights_dir) if weights_dir else None)
    return access.share(_BACKBONES, needed, files.path) or weights_dir
