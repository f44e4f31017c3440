"""Wait for a storage that is away, for minutes: said once, and once more when it is back; no trial pays for it.

This is the one place for it. Beneath, a `Storage` tries three times and raises `StorageAway`; above, `Access` and the
driver's home call through here, so that neither Tune's callbacks nor the driver's loops nor a trial ever see that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.run.progress import say
from orchestrator.storage.uri import StorageAway
from sr_models.errors import LostError

OUTAGE_SECONDS = 600.0
"""How long a storage that is away is waited for."""

LONGEST_PAUSE = 20.0
"""Seconds between two tries; the first pause is one second, each further one twice as long."""

T = TypeVar("T")


def weathered(action: Callable[[], T]) -> T:
    """Do something on a storage, again and again while that is away; done twice, it must be the same as done once.

    Raises:
        LostError: it stayed away for `OUTAGE_SECONDS`.
    """
    began, pause, where = time.monotonic(), 1.0, ""
    while True:
        try:
            done = action()
        except StorageAway as error:
            if time.monotonic() - began > OUTAGE_SECONDS:
                raise LostError(f"{error}, for {OUTAGE_SECONDS / 60:.0f} minutes") from None
            if not where:
                where = error.where
                say(f"{error}; trying again for up to {OUTAGE_SECONDS / 60:.0f} minutes")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if where:
                say(f"storage {where} is back")
            return done
