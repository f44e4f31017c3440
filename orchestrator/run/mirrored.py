"""A run that lies on a storage, of which each node works in a copy of its own."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.data.inputs import Inputs
from orchestrator.data.shared import fetch_store, publish_store
from orchestrator.data.store import PatchStore
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.run import lease
from orchestrator.run.access import CLAIM, Access
from orchestrator.run.folder import SHARED, STORES, RunDir, trial_name
from orchestrator.run.outage import weathered
from orchestrator.storage.mirror import cache_folder, private, pull_tree, push_tree
from orchestrator.storage.uri import Storage, StorageAway
from sr_models.errors import InputError
from sr_models.files import replacing

CLAIM_POLL_SECONDS = 5.0
"""How often one that waits for a claim looks whether it still stands."""


@dataclass(frozen=True)
class MirroredAccess(Access):
    """The run lies on a storage, and each node works in a copy of its own."""

    root: Storage
    """Where the runs of an output and what they share lie."""
    name: str
    """The run's."""
    folder: Path | None = None
    """The copy of the run, absolute; None: in this node's cache, which its processes share."""
    backbones: str | None = None

    @property
    def storage(self) -> Storage:
        """The run's own."""
        return self.root.child(self.name)

    @property
    def run(self) -> RunDir:
        if self.folder is not None:
            return RunDir(self.folder)
        outputs, of = private(cache_folder() / "outputs"), hashlib.sha256(self.root.uri.encode()).hexdigest()[:16]
        return RunDir(outputs / of / self.name)

    def supplied(self, backbones: str | None) -> MirroredAccess:
        return replace(self, backbones=backbones)

    def for_workers(self) -> MirroredAccess:
        return replace(self, folder=None)

    def pull(self, name: str, patterns: Sequence[str], into: Path | None = None, *, only_read: bool = False) -> None:
        weathered(lambda: pull_tree(self._stored(name), into or self.run.at(name), patterns, only_read=only_read))

    def push(self, name: str, patterns: Sequence[str]) -> None:
        weathered(lambda: push_tree(self.run.at(name), self._stored(name), patterns))

    def fetch(self, name: str) -> Path:
        """A file of the run, here. Raises InputError: the storage has none of that name."""
        path = self.run.at(name)
        if not path.exists() and not weathered(lambda: self._above(name).download(name, path)):
            raise InputError(f"{self._above(name).shown} holds no {name}")
        return path

    def send(self, name: str) -> None:
        weathered(lambda: self._above(name).upload(self.run.at(name), name))

    def hand_over(self, name: str) -> None:
        self.send(name)
        self.run.at(name).unlink()

    def entries(self, name: str) -> set[str]:
        return {found.partition("/")[0] for found in weathered(self._stored(name).names)}

    def remove(self, name: str) -> None:
        def delete() -> None:
            above = self._above(name)
            for stored in above.names(name):
                above.delete(stored)

        weathered(delete)
        super().remove(name)

    def discard(self, name: str) -> None:
        weathered(lambda: self._above(name).delete(name))
        super().discard(name)

    def share(self, name: str, files: Sequence[str], find: Callable[[str], Path]) -> str:
        access = self.for_workers()
        for file in files:
            path = access.run.at(f"{name}/{file}")
            if not path.exists():
                with replacing(path) as part:
                    shutil.copyfile(find(file), part)
        access.push(name, ["*"])
        return name

    def open_store(self, data_hash: str) -> PatchStore:
        """A patch store of the output: one copy a node."""
        return weathered(lambda: fetch_store(self.root.child(STORES), data_hash, cache_folder()))

    def publish(self, store: PatchStore) -> None:
        weathered(lambda: publish_store(store, self.root.child(STORES)))

    def test_set(self, inputs: Inputs, name: str, scale: float) -> BenchmarkSource:
        return weathered(lambda: inputs.stored(name, scale, self.storage))

    def is_busy(self, fingerprint: str) -> bool:
        holder = weathered(lambda: self.root.read(f"{trial_name(fingerprint)}/{CLAIM}"))
        return holder not in (None, self.name.encode()) or super().is_busy(fingerprint)

    @contextmanager
    def claimed(self, fingerprint: str) -> Iterator[None]:
        """A claim is a run's name beside the trial; it stands as long as that run may have a driver that lives."""
        name, mine = f"{trial_name(fingerprint)}/{CLAIM}", self.name.encode()

        def claim() -> bool:
            """Whether we have it; one try."""
            holder = self.root.read(name)
            if holder == mine:
                return True
            if holder and lease.may_be_driven(self.root.child(holder.decode())):
                time.sleep(CLAIM_POLL_SECONDS)
                return False
            self.root.write(name, mine)
            time.sleep(lease.TIE_SECONDS)  # of two that came at once, the one that wrote last has it
            return False

        while not weathered(claim):
            pass
        try:
            yield
        finally:
            with suppress(StorageAway):  # then it stands until our run's driver ends, and is ours if we come back
                if self.root.read(name) == mine:
                    self.root.delete(name)

    def trial_folder(self, fingerprint: str, rank: int = 0) -> Path:
        """Where a worker of a trial works.

        Workers beside the first one have a folder of their own, which goes when they end: the first may be writing on
        the same node, and what an earlier group left there is of no use to them.
        """
        folder = self.run.trial(fingerprint)
        return self.run.path / "ranks" / f"{folder.name}-{rank}" if rank else folder

    def _above(self, name: str) -> Storage:
        """What a name is relative to."""
        return self.root if name.partition("/")[0] == SHARED else self.storage

    def _stored(self, name: str) -> Storage:
        return self._above(name).child(name) if name else self.storage
