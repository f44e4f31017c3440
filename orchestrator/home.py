"""A run's home on a shared storage, as its driver keeps it: what only the driver writes goes there, results come back.

A head that is lost then costs nothing: the same command on another machine finds the run by its URI and goes on.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from orchestrator.nodecache import cache_folder, fetch_store, publish_store, pull_tree, push_tree
from orchestrator.patches import PatchStore
from orchestrator.place import Place
from orchestrator.rundir import RunDir
from orchestrator.storage import Storage
from sr_models.errors import InputError

PUSH_SECONDS = 30
"""Least time between two copies of the studies to the storage while the search runs."""

_STUDIES = "studies.db"
_OWN = (
    "config.yaml", "run.id", "plan.json", "init/*", "teacher/*", "trials/*/trial.json", "winners.json",
    "leaderboard.*", "pictures/*",
)  # fmt: skip
"""What the driver writes; trials, evaluation and the patch store come to the storage by themselves. What MLflow holds
is found again by its tags, and if its database was lost with the machine, delivered anew."""
_RESULTS = ("trials/*/journal.jsonl", "evaluation/*.parquet")


class Home:
    """The run folder of this machine and, with a storage, its counterpart there.

    Args:
        run: the run folder, absolute.
        root: URI below which runs live; None: all nodes see the run folder, and most of this has nothing to do.
    """

    def __init__(self, run: RunDir, root: str | None) -> None:
        self.run = run
        self.storage = Storage.parse(root, "--storage").child(run.name) if root else None
        self.place = Place(str(run.path), self.storage.uri if self.storage else None)
        self._pushed = 0.0

    def restore(self) -> None:
        """Find the storage usable, and bring back a run that this machine does not know.

        Raises:
            InputError: the storage cannot be reached or written.
        """
        if self.storage is None:
            return
        self.storage.check()
        if not self.run.config.exists() and self.storage.exists("config.yaml"):
            pull_tree(self.storage, self.run.path, [*_OWN, _STUDIES, *_RESULTS])

    def push(self, *, sometimes: bool = False) -> None:
        """Carry what the driver wrote to the storage; `sometimes`: only if the last time is long ago."""
        if self.storage is None or (sometimes and time.monotonic() - self._pushed < PUSH_SECONDS):
            return
        push_tree(self.run.path, self.storage, _OWN)
        if (studies := self.run.path / _STUDIES).exists():
            copy = self.run.path / ".studies.copy"
            with closing(sqlite3.connect(studies)) as live, closing(sqlite3.connect(copy)) as whole:
                live.backup(whole)  # a consistent copy of a database in use
            self.storage.upload(copy, _STUDIES)
            copy.unlink()
        self._pushed = time.monotonic()

    def pull_weights(self, fingerprint: str) -> None:
        """Bring a finished trial's journal and weights into the run folder."""
        if self.storage is not None:
            folder = self.run.trial(fingerprint)
            pull_tree(self.storage.child(f"trials/{folder.name}"), folder, ["journal.jsonl", "model/*", "model_ema/*"])

    def publish(self, store: PatchStore) -> None:
        """Put a new patch store on the storage; one that is there stays, with the centroids that were added to it."""
        if self.storage is None:
            return
        if self.storage.exists("store/manifest.json"):
            if fetch_store(self.storage, cache_folder()).data_hash != store.data_hash:
                raise InputError(f"storage {self.storage.shown} holds a store of other images; take another name")
            return
        publish_store(store.folder, self.storage)
