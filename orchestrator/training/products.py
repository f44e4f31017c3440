"""What is made once of every training image, by Ray workers in parts: a kill loses the parts under way.

Bits depend on who makes them alone, on one kind of device: each image is computed by itself, by one thread, whole or in
tiles of a size that no machine has a say in. A part is a table of each kind and, once they are sealed, a file of its
seconds; the driver joins them in the order of the images, and what others see is a store that has all of it or nothing.
"""

from __future__ import annotations

import functools
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ray
import torch

from orchestrator.data.store import PatchStore
from orchestrator.data.table import SCHEMA, ImageRow, ImageTable, write_tables
from orchestrator.plan.resources import ResourceConfig
from orchestrator.run.access import Access
from orchestrator.run.budget import Meter
from orchestrator.run.folder import STORES
from orchestrator.run.progress import bar, moves
from orchestrator.training.failure import NODE_OUT_OF_MEMORY
from orchestrator.training.in_full import user_errors
from sr_models.errors import InputError, LostError
from sr_models.files import locked, read_json, write_json
from sr_models.text_table import counted

PART_PIXELS = 2**18
"""LR pixels of a part, of one image or several: enough that a task is more work than its start."""

POLL_SECONDS = 0.5
"""Longest wait for a part before Ctrl-C is looked at."""

Make = Callable[[int], list[ImageRow]]
"""Number of a row -> that row of each table."""


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """What the parts of one product have in common."""

    what: ClassVar[str]
    """Begins messages, and names the folder, in a run, of parts that are not joined yet."""
    kinds: ClassVar[tuple[str, ...]]
    """Of the tables of a part."""
    rows: ClassVar[int] = 1
    """Of an image."""
    schema: ClassVar[Any] = SCHEMA
    """Of the tables."""
    cure: ClassVar[str]
    """What helps against a node without memory."""

    access: Access
    """For workers."""
    name: str
    """Of the product, by what made it."""
    data_hash: str
    device: str

    @property
    def folder(self) -> str:
        """Of its parts, in the run."""
        return f"{self.what}/{self.data_hash[:16]}-{self.name[:16]}"

    @abstractmethod
    def is_in(self, store: PatchStore) -> bool:
        """Whether a store has it."""

    @abstractmethod
    def memory(self) -> Callable[[int, int], int]:
        """What says the bytes that an image of so many LR pixels takes."""

    @abstractmethod
    def maker(self, store: PatchStore) -> Make:
        """What computes it, in a worker."""

    @abstractmethod
    def origins(self, store: PatchStore, part: range, before: Sequence[ImageTable]) -> list[str]:
        """What the rows of a part's next table name as their origin; `before` are its tables before that."""

    @abstractmethod
    def keep(self, store: PatchStore, make: Make, seconds: float) -> None:
        """Put all its rows into the store."""


@dataclass(frozen=True)
class Room:
    """What a trial, and making a product, may hold."""

    resources: ResourceConfig
    """Of a trial that is alone on the cluster."""
    node_bytes: int
    """Memory of the cluster's largest node; 0: not known."""


def bring(job: Job, access: Access, room: Callable[[], Room], what: str, meter: Meter) -> None:
    """Have a product in the store, whoever makes it: this run, or another one of the output at the same time.

    Args:
        access: the driver's.
        room: asked if some of it is to be made.
        what: names the bar.

    Raises:
        InputError: a node without memory for an image. LostError: workers died with every try of a part.
        BudgetReached: parts are left, and those under way are lost.
    """
    with locked(access.run.at(f"{STORES}/.building/{job.data_hash[:16]}-{job.name[:16]}")):
        store = access.open_store(job.data_hash)
        if not job.is_in(store):
            parts = parts_of(store)
            with bar(what, sum(map(len, parts))) as made:
                _make(job, access, store, parts, room(), moves(made), meter)
            join(job, access, store, parts)
            access.publish(store)
    access.remove(job.what)


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
    progress: Callable[[int], None],
    meter: Meter,
) -> None:
    """Make the parts that are not there."""
    there = access.entries(job.folder)
    todo = [part for part in parts if f"{_stem(part)}.json" not in there]
    ended = sum(map(len, parts)) - sum(map(len, todo))
    progress(ended)
    if not todo:
        return
    resources, takes_of = room.resources, job.memory()
    sizes = list(store.sizes("train").values())
    task = ray.remote(make_part)
    running = {}
    for part in todo:
        takes = max(takes_of(*sizes[i]) for i in part)
        asked = {"memory": min(takes, room.node_bytes)} if room.node_bytes and job.device == "cpu" else {}
        placed = task.options(
            num_cpus=1, num_gpus=resources.gpus_per_worker, max_retries=resources.max_restarts, **asked
        )
        running[placed.remote(job, part)] = part
    try:
        while running:
            meter.check()
            done, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            for ref in done:
                with user_errors():
                    ray.get(ref)
                ended += len(running.pop(ref))
                progress(ended)
    except ray.exceptions.OutOfMemoryError:
        raise InputError(f"{job.what}: {NODE_OUT_OF_MEMORY}; {job.cure}, then run the same command again") from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
        times = counted(resources.max_restarts + 1, "time")
        raise LostError(f"{job.what}: a worker was lost {times} ({error})") from None
    finally:
        for ref in running:  # only on the way out of an interrupted wait
            ray.cancel(ref, force=True)


def make_part(job: Job, part: range) -> None:
    """What a worker runs: the tables of one part, then its seconds, each to where the driver finds it."""
    torch.set_num_threads(1)  # sums of several are other sums
    store, make = tools(job)
    began = time.monotonic()
    names = [f"{job.folder}/{_stem(part)}.{kind}.arrow" for kind in job.kinds]
    home = job.access.run.at(job.folder)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as scratch:  # a worker of a killed driver may be at the same part
        paths, first = [Path(scratch) / kind for kind in job.kinds], part.start * job.rows
        write_tables(paths, job.origins(store, part, ()), lambda i: make(first + i), schema=job.schema)
        for path, name in zip(paths, names, strict=True):
            path.replace(job.access.run.at(name))
    seconds = f"{job.folder}/{_stem(part)}.json"
    write_json(job.access.run.at(seconds), time.monotonic() - began)
    for name in (*names, seconds):
        job.access.hand_over(name)


@functools.lru_cache(maxsize=1)
def tools(job: Job) -> tuple[PatchStore, Make]:
    """The store and what makes an image's rows: once a process, for all its parts."""
    store = job.access.open_store(job.data_hash)
    return store, job.maker(store)


def join(job: Job, access: Access, store: PatchStore, parts: list[range]) -> None:
    """Put all parts, which are there, into the store.

    Raises:
        InputError: a part is damaged.
    """
    where = {i: part for part in parts for i in part}

    @functools.lru_cache(maxsize=1)
    def made(part: range) -> list[list[ImageRow]]:
        """The rows of each kind; their pixels are views of the files."""
        tables, found = list[ImageTable](), []
        for kind in job.kinds:
            origins = job.origins(store, part, tables)
            table = ImageTable(access.fetch(f"{job.folder}/{_stem(part)}.{kind}.arrow"))
            found.append([ImageRow(*row) for row in zip(table.names, table.origins, table.images, strict=True)])
            if table.origins != origins or [row.sha256 for row in found[-1]] != table.hashes:
                raise _damaged(table.path)
            tables.append(table)
        return found

    def rows(i: int) -> list[ImageRow]:
        part = where[i // job.rows]
        return [table[i - part.start * job.rows] for table in made(part)]

    job.keep(store, rows, sum(float(read_json(access.fetch(f"{job.folder}/{_stem(part)}.json"))) for part in parts))


def _stem(part: range) -> str:
    return f"{part.start:06}-{part.stop:06}"


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged; delete {path.parent}, and run the same sweep, which makes it again")
