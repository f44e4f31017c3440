"""The evaluation service: what is to be scored, what is there already, and the rest on warm Ray actors.

A unit of work is a fixed number of images of one job (one set of weights on one test set), however many workers there
are. Its rows are on disk before it counts as done, and each is known by its content: what is there is never computed
again, and the same command goes on where any process of it died. Where networks run on GPUs, one actor a GPU samples,
and actors without one pull draws from it and score them, so that no GPU waits for a metric.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from eval.backbones import BACKBONES, VARIABLE, WeightFiles
from eval.benchmarks import Benchmark
from eval.protocol import get_metric
from eval.rows import SET, read_file, read_keys
from eval.scorer import Scorer as Metrics
from orchestrator import scorers
from orchestrator.place import Place
from orchestrator.pool import Pool
from orchestrator.rundir import RunDir
from orchestrator.scorers import Job, Picture, Unit
from sr_models.errors import InputError
from sr_models.files import replacing
from sr_models.images import pixels_sha256

IMAGES_PER_UNIT = 4
"""Images whose rows share a file; enough work for a worker to hide what it costs to hand it over."""

_BACKBONES = "backbones"  # folder of a run on a storage


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What evaluation takes of a cluster.

    workers: processes that run networks at a time. cpus, gpus: of each. apart: whether they only sample, and `cpus`
    processes of one core beside each of them score.
    """

    workers: int
    cpus: int = 1
    gpus: float = 0
    apart: bool = False
    max_restarts: int = 3


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
        return self.job.subject.set_key([one.key for one in self.pictures], self.job.metrics)

    def units(self, there: Mapping[str, str]) -> list[Unit]:
        """What is not there, in units of images."""
        left = [one for one in self.pictures if one.key not in there]
        chunks = [left[i : i + IMAGES_PER_UNIT] for i in range(0, len(left), IMAGES_PER_UNIT)]
        return [Unit(job=self.job, pictures=tuple(chunk)) for chunk in chunks]

    def closing(self, there: Mapping[str, str]) -> Unit | None:
        """The unit of the whole set's row, if it is wanted, not there, and all images are."""
        if self.set_key in (None, *there) or any(one.key not in there for one in self.pictures):
            return None
        return Unit(job=self.job, pictures=self.pictures, files=tuple(there[one.key] for one in self.pictures))


def plan(
    jobs: Sequence[Job], benchmarks: Mapping[tuple[str, int], Benchmark], place: Place, *, strict: bool = False
) -> list[Planned]:
    """Read every image once, and find out which metrics can be computed.

    On a storage, the files that metrics need go there, so that all nodes use the same ones.

    Args:
        benchmarks: (name, scale) -> the test set as this machine finds it.
        strict: a metric that cannot be computed is an error.

    Raises:
        InputError: a folder of weights that is missing; with `strict`, what cannot be computed and why.
    """
    read = {where: _read(bench) for where, bench in benchmarks.items()}
    able: dict[tuple[Any, ...], tuple[Metrics, str | None]] = {}
    made = []
    for job in jobs:
        subject = job.subject
        scale, kernel = subject.identity.scale, subject.kernel
        asked = (job.protocol, job.metrics, scale, kernel, job.weights_dir)
        if asked not in able:
            folder = Path(job.weights_dir) if job.weights_dir else None
            found = Metrics(job.protocol, job.metrics, scale=scale, kernel=kernel, weights_dir=folder, strict=strict)
            able[asked] = found, _shared_weights(place, found.metrics, job.weights_dir)
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


def evaluate(planned: Sequence[Planned], place: Place, hold: Hold, progress: Callable[[int], None]) -> list[str]:
    """Compute the rows that are not there yet; this machine's run folder then holds all of them.

    Args:
        progress: called with how many images, of all that are planned, have their rows.

    Returns:
        A line on each image, or whole set, that has no row, and why.

    Raises:
        InputError: weights, test sets or metrics' files that a worker cannot use.
    """
    there = _there(place)
    refused = list(dict.fromkeys(line for one in planned for line in one.refused))
    units = [unit for one in planned for unit in one.units(there)]
    ended = sum(len(one.pictures) for one in planned) - sum(len(unit.pictures) for unit in units)
    progress(ended)
    if not units and not any(one.closing(there) for one in planned):
        return refused

    def done(unit: Unit) -> None:
        nonlocal ended
        ended += 0 if unit.files else len(unit.pictures)
        progress(ended)

    def unfinished(unit: Unit) -> Unit | None:
        """A process may die after its rows are on disk and before it says so."""
        known = _there(place)
        left = tuple(one for one in unit.pictures if one.key not in known)
        return unit if unit.files else replace(unit, pictures=left) if left else None

    size = max(min(hold.workers * (hold.cpus if hold.apart else 1), len(units)), 1)
    with Pool(starter(place, hold, size), size, hold.max_restarts, unfinished) as pool:
        refused += pool.run(units, done)
        there = _there(place)
        refused += pool.run([unit for one in planned if (unit := one.closing(there))], done)
    there = _there(place)
    for one in planned:
        if one.set_key not in (None, *there):
            lost = sum(picture.key not in there for picture in one.pictures)
            what = one.job.subject
            refused.append(
                f"{what.benchmark} x{what.identity.scale}, {what.identity.combination}: no fid and kid of the set, "
                f"{lost} of its {len(one.pictures)} images have no row"
            )
    return refused


def is_done(planned: Sequence[Planned], place: Place) -> bool:
    """Whether `evaluate` would find nothing to do."""
    there = _there(place)
    return not any(one.units(there) or one.closing(there) for one in planned)


def rows_of(one: Planned, place: Place) -> list[dict[str, Any]]:
    """The rows that are there of what was planned: of images in the set's order, then of the whole set."""
    folder, there = RunDir(Path(place.run)).evaluation, read_keys(RunDir(Path(place.run)).evaluation)
    wanted = [key for key in (*(picture.key for picture in one.pictures), one.set_key) if key in there]
    files = {there[key]: read_file(folder / f"{there[key]}.parquet") for key in wanted}
    return [next(row for row in files[there[key]] if row["key"] == key) for key in wanted]


def lacking_set(one: Planned, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """In the place of the whole set's row, why there is none; nothing if there is, or was to be none."""
    asked = [name for name in one.job.metrics if get_metric(name).level == "set"]
    if not asked or any(row["image"] == SET for row in rows):
        return []
    total = len(one.pictures) + len(one.refused)
    reason = f"only {len(rows)} of {total} images could be scored, and sets compare only whole"
    return [{"image": SET, "not_computed": dict.fromkeys(("fid", "kid"), reason)}]


def weights_folder(given: Path | str | None) -> str | None:
    """Where workers look for what metrics need: the folder that is given, else the one that this environment names."""
    folder = given or os.environ.get(VARIABLE) or None
    return folder and str(Path(folder).absolute())


def _there(place: Place) -> dict[str, str]:
    place.rows()
    return read_keys(RunDir(Path(place.run)).evaluation)


def starter(place: Place, hold: Hold, size: int) -> Callable[[int], Any]:
    """What makes the actor of a place in the pool."""
    device = "cuda" if hold.gpus else "cpu"
    if not hold.apart:
        alone = ray.remote(scorers.Scorer).options(num_cpus=hold.cpus, num_gpus=hold.gpus, max_restarts=0)
        return lambda _: alone.remote(place, hold.cpus, device)
    sampler = ray.remote(scorers.Sampler).options(
        num_cpus=0, num_gpus=hold.gpus, max_restarts=-1, max_concurrency=hold.cpus
    )
    scorer = ray.remote(scorers.Scorer).options(num_cpus=1, max_restarts=0)
    samplers = [sampler.remote(place, 1, device) for _ in range(min(hold.workers, size))]
    return lambda number: scorer.remote(place, 1, "cpu", samplers[number % len(samplers)])


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


def _shared_weights(place: Place, metrics: Iterable[str], weights_dir: str | None) -> str | None:
    """Where workers on any node find the files that metrics need."""
    needed = [name for name, file in BACKBONES.items() if set(file.serves) & set(metrics) and not file.package]
    if place.storage is None or not needed:
        return weights_dir
    from orchestrator.nodecache import push_tree
    from orchestrator.storage import Storage

    files, folder = WeightFiles(Path(weights_dir) if weights_dir else None), place.here.path / _BACKBONES
    for name in needed:
        if not (folder / name).exists():
            with replacing(folder / name) as part:
                shutil.copyfile(files.path(name), part)
    push_tree(folder, Storage.parse(place.storage, "--storage").child(_BACKBONES), ["*"])
    return _BACKBONES
