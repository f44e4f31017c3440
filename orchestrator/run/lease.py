"""Signs of life that a run's driver leaves on the storage, by which other machines know whether it is at work."""

from __future__ import annotations

import json
import time
from typing import Any

from orchestrator.storage.uri import Storage

LEASE_SECONDS = 120
"""How long after its last sign of life another driver may not take a run over."""

_DRIVER = "driver.json"


def read(storage: Storage) -> dict[str, Any]:
    """Who drives the run of this storage, and when it last said so; owner None: nobody has."""
    found: dict[str, Any] = json.loads(storage.read(_DRIVER) or '{"owner": null, "time": 0}')
    return found


def sign(storage: Storage, owner: str, when: float) -> None:
    """Leave a sign of life; `when` 0: the driver has ended."""
    storage.write(_DRIVER, json.dumps({"owner": owner, "time": when}).encode())


def is_driven(storage: Storage) -> bool:
    """Whether the run of this storage has a driver that lives."""
    return time.time() - float(read(storage)["time"]) < LEASE_SECONDS
