"""A probe's files on their way to MLflow: by the sweep's tracker while one follows the run, else by this process."""

from __future__ import annotations

import shlex

from filelock import Timeout

from orchestrator.probe.folders import Probed
from orchestrator.run.progress import say
from orchestrator.tracking import address
from orchestrator.tracking.deliver import Tracker
from orchestrator.tracking.record import TrackingRecord
from sr_models.errors import InputError

WAIT_S = 5.0
"""How long another tracker of the run is waited for: one that follows a sweep delivers what it finds by itself."""


def deliver(probed: Probed, uri: str | None) -> None:
    """Deliver what the run's folder holds and its tracking store lacks; a store that is away costs a line.

    Args:
        uri: of the store; None: the file that the run was last delivered to, if it was a file.
    """
    run = probed.run
    uri = uri or _last_file(probed)
    if uri is None:
        return
    again = f"deliver it with: python -m orchestrator.tracking {shlex.quote(str(run.path))} --tracking-uri URI"
    tracker = Tracker(run.path, uri)
    failures: tuple[type[Exception], ...] = (InputError, *address.failures())
    try:
        address.check(uri)
        with tracker.lock.acquire(timeout=WAIT_S):
            tracker.sync()
    except Timeout:
        say("another process delivers this run to MLflow, and these files too")
    except failures as error:
        say(f"not delivered to MLflow ({address.one_line(error)}); {again}")


def _last_file(probed: Probed) -> str | None:
    """The URI of the SQLite file that a run was delivered to."""
    path = probed.run.tracking
    if not path.exists():
        return None
    uri = TrackingRecord.read(path).uri
    return uri if address.sqlite_file(uri) else None
