"""A run's home on a shared storage, as its driver keeps it: what only the driver writes goes there, results come back.

A head that is lost then costs nothing: the same command on another machine finds the run by its URI and goes on.
"""

from __future__ import annotations

import _thread
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from orchestrator.data.shared import fetch_store, publish_store
from orchestrator.data.store import PatchStore
from orchestrator.run.access import Place
from orchestrator.run.folder import RunDir
from orchestrator.run.progress import say
from orchestrator.run.records import HomeRecord
from orchestrator.storage.mirror import cache_folder, pull_tree, push_tree
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError

PUSH_SECONDS = 30
"""Least time between two copies of the studies to the storage while the search runs."""

BEAT_SECONDS = 20
"""Time between two signs of life that a driver leaves on the storage."""

LEASE_SECONDS = 120
"""How long after its last sign of life another driver may not take a run over."""

TIE_SECONDS = 1.0
"""How long a driver that has signed looks whether another one did so at the same time."""

_STUDIES = "studies.db"
_DRIVER = "driver.json"
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

    def visit(self) -> None:
        """Have a run that this machine does not know here, without being its driver.

        Raises:
            InputError: the storage cannot be reached or written, or the run lives elsewhere.
        """
        if self.storage is not None:
            self.storage.check()
            if not self.run.config.exists():
                pull_tree(self.storage, self.run.path, [*_OWN, *_RESULTS])
        if self.run.config.exists():
            self.bind()

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Be the run's only driver for the length of a `with` block, and begin with what the last one knew.

        Raises:
            InputError: the storage cannot be reached or written, or another driver is at work.
        """
        if self.storage is None:
            yield
            return
        self.storage.check()
        me, last = f"{socket.gethostname()}:{self.run.path}", self._driver()
        age = time.time() - last["time"]
        if last["owner"] not in (None, me):
            if age < LEASE_SECONDS:
                raise InputError(
                    f"--storage: {last['owner']} drives this run, and was alive {age:.0f} s ago; stop it, or if it is "
                    f"gone, try again in {LEASE_SECONDS - age:.0f} s"
                )
            for path in self.run.path.glob(f"{_STUDIES}*"):
                path.unlink()  # what this machine knew is older
        studies = [] if (self.run.path / _STUDIES).exists() else [_STUDIES]
        pull_tree(self.storage, self.run.path, [*_OWN, *studies, *_RESULTS])
        self._sign(me, time.time())
        time.sleep(TIE_SECONDS)  # of two that came at once, the one that signed last stays
        if self._driver()["owner"] != me:
            raise InputError(f"--storage: {self._driver()['owner']} has just begun to drive this run")
        done = threading.Event()

        def beat() -> None:
            while not done.wait(BEAT_SECONDS):
                try:
                    if (now := self._driver()["owner"]) != me:
                        say(f"{now} drives this run now (no sign of life was left here for {LEASE_SECONDS} s)")
                        _thread.interrupt_main()
                        return
                    self._sign(me, time.time())
                except OSError as error:
                    say(f"no sign of life left on the storage: {error}")

        alive = threading.Thread(target=beat, daemon=True)
        alive.start()
        try:
            yield
        finally:
            done.set()
            alive.join()
            if self._driver()["owner"] == me:
                self._sign(me, 0)

    def _driver(self) -> dict[str, Any]:
        assert self.storage is not None
        found: dict[str, Any] = json.loads(self.storage.read(_DRIVER) or '{"owner": null, "time": 0}')
        return found

    def _sign(self, owner: str, when: float) -> None:
        assert self.storage is not None
        self.storage.write(_DRIVER, json.dumps({"owner": owner, "time": when}).encode())

    def bind(self) -> None:
        """Write down where the run lives, and hold it there: half of it would be missing anywhere else.

        Raises:
            InputError: it lives on another storage, or on none.
        """
        path, here = self.run.home, self.storage.shown if self.storage else None
        if path.exists() and (there := HomeRecord.read(path).storage) != here:
            raise InputError(
                f"--storage: this run lives {f'at {there}' if there else 'in its folder alone'}, not {here}"
            )
        HomeRecord(storage=here).write(path)

    def push(self, *, sometimes: bool = False) -> None:
        """Carry what the driver wrote to the storage; `sometimes`: only if the last time is long ago."""
        if self.storage is None or (sometimes and time.monotonic() - self._pushed < PUSH_SECONDS):
            return
        self._pushed = time.monotonic()
        try:
            self._push()
        except OSError as error:
            if not sometimes:
                raise
            say(f"nothing copied to the storage: {error}")

    def _push(self) -> None:
        assert self.storage is not None
        push_tree(self.run.path, self.storage, _OWN)
        if (studies := self.run.path / _STUDIES).exists():
            copy = self.run.path / ".studies.copy"
            with closing(sqlite3.connect(studies)) as live, closing(sqlite3.connect(copy)) as whole:
                live.backup(whole)  # a consistent copy of a database in use
            self.storage.upload(copy, _STUDIES)
            copy.unlink()

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
