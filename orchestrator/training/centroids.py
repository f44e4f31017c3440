"""mu and D(mu) of a teacher on all training images, made by Ray workers in parts: a kill loses the parts under way.

Their bits depend on the teacher alone, on one kind of device: each image is computed by itself, by one thread, whole or
in tiles of a size that no machine has a say in. A part is two tables and, once they are sealed, a file of its seconds;
the driver joins them in the order of the images, and what others see is a store that has all centroids or none.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

import sr_models
from orchestrator.data.store import PatchStore
from orchestrator.data.table import ImageRow, ImageTable, write_tables
from orchestrator.plan.resources import ResourceConfig
from orchestrator.run.access import Access
from orchestrator.run.folder import STORES
from orchestrator.run.progress import bar
from orchestrator.training.failure import NODE_OUT_OF_MEMORY
from orchestrator.training.in_full import user_errors
from sr_models.checkpoints.folder import CheckpointInfo, load_checkpoint
from sr_models.errors import InputError, LostError
from sr_models.files import locked, read_json, write_json
from sr_models.inference.bound import Bound
from sr_models.inference.super_resolve import Options, super_resolve

PART_PIXELS = 2**18
"""LR pixels of a part, of one image or several: enough that a task is more work than its start."""

WHOLE_BYTES = 4 * 2**30
"""What an image may take in a worker; one that takes more is computed in tiles where these change nothing but rounding.
It decides on bits, so it is the same everywhere: `resources.max_bytes` may refuse an image, and never cuts it."""

FOLDER = "centroids"
"""Of a run, for parts that are not joined yet."""

KINDS = ("mu", "mu_lr")
"""Of the tables of a part."""

POLL_SECONDS = 0.5
"""Longest wait for a part before Ctrl-C is looked at."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the parts have in common."""

    access: Access
    """For workers."""
    checkpoint: str
    """Name of the teacher's folder in the run."""
    name: str
    """`TeacherConfig.centroids`."""
    data_hash: str
    tile: int | None
    tile_overlap: int
    device: str

    @property
    def folder(self) -> str:
        """Of its parts, in the run."""
        return f"{FOLDER}/{self.data_hash[:16]}-{self.name[:16]}"


@dataclass(frozen=True)
class Room:
    """What a teacher's training, and making its outputs, may hold."""

    resources: ResourceConfig
    """Of a trial that is alone on the cluster."""
    node_bytes: int
    """Memory of the cluster's largest node; 0: not known."""


def bring(job: Job, access: Access, room: Callable[[], Room], what: str) -> None:
    """Have the centroids in the store, whoever makes them: this run, or another one of the output at the same time.

    Args:
        access: the driver's.
        room: asked if some are to be made.
        what: names the bar.

    Raises:
        InputError: a node without memory for an image. LostError: workers died with every try of a part.
    """
    with locked(access.run.at(f"{STORES}/.building/{job.data_hash[:16]}-{job.name[:16]}")):
        store = access.open_store(job.data_hash)
        if not store.has_centroids(job.name):
            parts = parts_of(store)
            with bar(what, sum(map(len, parts))) as made:
                _make(job, access, store, parts, room(), made.update)
            join(job, access, store, parts)
            access.publish(store)
    access.remove(FOLDER)


def parts_of(store: PatchStore) -> list[range]:
    """The training images, in parts of about `PART_PIXELS`: the same however many workers there are."""
    sizes = [height * width for height, width in store.sizes("train").values()]
    parts, begin = [], 0
    for end in range(1, len(sizes) + 1):
        if end == len(sizes) or sum(sizes[begin : end + 1]) > PART_PIXELS:
            parts.append(range(begin, end))
            begin = end
    return parts


def _make(
    job: Job,
    access: Access,
    store: PatchStore,
    parts: list[range],
    room: Room,
    progress: Callable[[int], Any],
) -> None:
    """Make the parts that are not there."""
    there = access.entries(job.folder)
    todo = [part for part in parts if f"{_stem(part)}.json" not in there]
    progress(sum(map(len, parts)) - sum(map(len, todo)))
    if not todo:
        return
    resources = room.resources
    net, info = load_checkpoint(access.run.at(job.checkpoint))
    options = Tiles.of(net, info, job)
    sizes = list(store.sizes("train").values())
    task = ray.remote(make_centroids)
    running = {}
    for part in todo:
        takes = max(options.takes(*sizes[i]) for i in part)
        asked = {"memory": min(takes, room.node_bytes)} if room.node_bytes and job.device == "cpu" else {}
        placed = task.options(
            num_cpus=1, num_gpus=resources.gpus_per_worker, max_retries=resources.max_restarts, **asked
        )
        running[placed.remote(job, part)] = part
    try:
        while running:
            done, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            for ref in done:
                with user_errors():
                    ray.get(ref)
                progress(len(running.pop(ref)))
    except ray.exceptions.OutOfMemoryError:
        raise InputError(
            f"centroids: {NODE_OUT_OF_MEMORY}; declare teacher.tile, then run the same command again"
        ) from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
        raise LostError(f"centroids: a worker was lost {resources.max_restarts + 1} times ({error})") from None
    finally:
        for ref in running:  # only on the way out of an interrupted wait
            ray.cancel(ref, force=True)


def make_centroids(job: Job, part: range) -> None:
    """What a worker runs: the tables of one part, then its seconds, each to where the driver finds it."""
    torch.set_num_threads(1)  # sums of several are other sums
    store, make = _tools(job)
    began = time.monotonic()
    names = [f"{job.folder}/{_stem(part)}.{kind}.arrow" for kind in KINDS]
    home = job.access.run.at(job.folder)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as scratch:  # a worker of a killed driver may be at the same part
        paths = [Path(scratch) / kind for kind in KINDS]
        write_tables(paths, store.origins(part), lambda i: make(part[i]))
        for path, name in zip(paths, names, strict=True):
            path.replace(job.access.run.at(name))
    seconds = f"{job.folder}/{_stem(part)}.json"
    write_json(job.access.run.at(seconds), time.monotonic() - began)
    for name in (*names, seconds):
        job.access.hand_over(name)


@functools.lru_cache(maxsize=1)
def _tools(job: Job) -> tuple[PatchStore, Callable[[int], list[ImageRow]]]:
    """The store and what makes an image's rows: once a process, for all its parts."""
    net, info = load_checkpoint(job.access.fetch_folder(job.checkpoint))
    tiles = Tiles.of(net, info, job)
    net = net.to(job.device)
    store = job.access.open_store(job.data_hash)

    def teach(lr_BCHW: torch.Tensor) -> torch.Tensor:
        return super_resolve(net, lr_BCHW, options=tiles.options(*lr_BCHW.shape[2:])).sr

    return store, store.centroids_by(teach, device=job.device)


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """How images are cut: as the config says, or else by `WHOLE_BYTES` where tiles change nothing but rounding."""

    bound: Bound
    given: Options

    @classmethod
    def of(cls, net: Any, info: CheckpointInfo, job: Job) -> Tiles:
        """Of a teacher that is still on the CPU: what it takes is measured there, whatever it then runs on."""
        bound = Bound.of(net, WHOLE_BYTES, tile_exact=sr_models.tile_exact(info.model, info.hyper))
        overlap = max(job.tile_overlap, bound.overlap or 0) if job.tile is not None else job.tile_overlap
        return cls(bound=bound, given=Options(tile=job.tile, overlap=overlap))

    def options(self, height: int, width: int) -> Options:
        """Of an image of so many LR pixels."""
        return self.bound.options(height, width, self.given)

    def takes(self, height: int, width: int) -> int:
        """Bytes that it takes so."""
        return self.bound.takes(height, width, self.options(height, width))


def join(job: Job, access: Access, store: PatchStore, parts: list[range]) -> None:
    """Put all parts, which are there, into the store.

    Raises:
        InputError: a part is damaged.
    """
    where = {i: part for part in parts for i in part}

    @functools.lru_cache(maxsize=1)
    def made(part: range) -> list[list[ImageRow]]:
        """The rows of mu, then those of D(mu); their pixels are views of the files."""
        found, origins = [], store.origins(part)
        for kind in KINDS:
            table = ImageTable(access.fetch(f"{job.folder}/{_stem(part)}.{kind}.arrow"))
            found.append([ImageRow(*row) for row in zip(table.names, table.origins, table.images, strict=True)])
            if table.origins != origins or [row.sha256 for row in found[-1]] != table.hashes:
                raise _damaged(table.path)
            origins = table.hashes
        return found

    def rows(i: int) -> list[ImageRow]:
        return [table[i - where[i].start] for table in made(where[i])]

    seconds = sum(float(read_json(access.fetch(f"{job.folder}/{_stem(part)}.json"))) for part in parts)
    store.add_centroids(job.name, rows, seconds=seconds)


def _stem(part: range) -> str:
    return f"{part.start:06}-{part.stop:06}"


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged; delete {path.parent}, and run the same sweep, which makes it again")
