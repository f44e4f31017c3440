"""Signs of life on a storage, by which other machines know who is at work: a run's driver, or a clean."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.run.folder import SHARED
from orchestrator.run.progress import say
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError

LEASE_SECONDS = 120
"""How long after its last sign of life another driver may not take a run over."""

BEAT_SECONDS = 20
"""Time between two signs of life."""

DRIVER = "driver.json"


def read(storage: Storage) -> dict[str, Any]:
    """Who drives the run of this storage, and when it last said so; owner None: nobody has."""
    found: dict[str, Any] = json.loads(storage.read(DRIVER) or '{"owner": null, "time": 0}')
    return found


def sign(storage: Storage, owner: str, when: float) -> None:
    """Leave a sign of life; `when` 0: the driver has ended."""
    storage.write(DRIVER, json.dumps({"owner": owner, "time": when}).encode())


def is_driven(storage: Storage) -> bool:
    """Whether the run of this storage has a driver that lives."""
    return time.time() - float(read(storage)["time"]) < LEASE_SECONDS


@contextmanager
def kept(storage: Storage, owner: str) -> Iterator[None]:
    """Leave signs of life for the length of a `with` block."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT_SECONDS):
            try:
                sign(storage, owner, time.time())
            except OSError as error:
                say(f"no sign of life left on the storage: {error}")

    sign(storage, owner, time.time())
    alive = threading.Thread(target=beat, daemon=True)
    alive.start()
    try:
        yield
    finally:
        done.set()
        alive.join()
        sign(storage, owner, 0)


def refuse_while_cleaned(root: Storage) -> None:
    """For a driver that has just signed: a clean of what the runs below `root` share signs too, then looks at drivers.

    Raises:
        InputError: it is being cleaned.
    """
    if is_driven(root.child(SHARED)):
        owner = read(root.child(SHARED))["owner"]
        raise InputError(f"--storage: {root.shown} is being cleaned by {owner}; try again when that has ended")
