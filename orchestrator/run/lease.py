"""Signs of life on a storage, by which other machines know who is at work: a run's driver, or a clean.

No clock is compared with another one: whoever finds a sign watches it, and takes its owner for gone when it has stayed
the same for `LEASE_SECONDS` of the watcher's own. pyarrow offers no conditional write, so two that come at once both
sign and look again: of them, the one that signed last stays.
"""

from __future__ import annotations

import functools
import json
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from orchestrator.run.folder import SHARED
from orchestrator.run.outage import weathered
from orchestrator.run.progress import say
from orchestrator.storage.uri import Storage
from sr_models.command import signal_main
from sr_models.errors import InputError

LEASE_SECONDS = 120.0
"""How long a sign of life must stay the same, to one that watches it, until its owner counts as gone."""

BEAT_SECONDS = 20.0
"""Time between two signs of life."""

TIE_SECONDS = 1.0
"""How long one that has claimed or signed something on a storage looks whether another one did so at the same time."""

LOOK_SECONDS = 2.0
"""Time between two looks at the signs of others."""

DRIVER = "driver.json"


class Sign(NamedTuple):
    """What was last left on a storage."""

    owner: str | None
    """For people: the machine and the folder; None: there is no sign."""
    id: str | None
    """Random, of one run folder or one clean: two containers may have one machine's name and one path."""
    time: float
    """By its owner's clock, so that no two signs are the same; 0: a farewell."""

    @property
    def counts(self) -> bool:
        """Whether somebody may be at work."""
        return self.time != 0


NOBODY = Sign(None, None, 0)


def read(storage: Storage) -> Sign:
    """The last sign of life.

    Raises:
        InputError: the file that holds it is damaged.
    """
    data = storage.read(DRIVER)
    if data is None:
        return NOBODY
    try:
        found = json.loads(data)
        return Sign(found["owner"], found.get("id", found["owner"]), float(found["time"]))  # no id: an earlier version
    except (ValueError, KeyError, TypeError, AttributeError):
        where = storage.child(DRIVER).shown
        raise InputError(f"--storage: {where} is damaged; delete it there if nobody drives this run") from None


def sign(storage: Storage, owner: str, own_id: str, *, ended: bool = False) -> None:
    """Leave a sign of life, or a farewell."""
    text = json.dumps({"owner": owner, "id": own_id, "time": 0 if ended else time.time()})
    storage.write(DRIVER, text.encode())


class Watch:
    """A look from outside at the signs of one storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage, self.last, self.since = storage, weathered(lambda: read(storage)), time.monotonic()

    def is_new(self) -> bool:
        """Look again: whether somebody has left another sign meanwhile, and no farewell."""
        now = weathered(lambda: read(self.storage))
        changed = now != self.last
        if changed:
            self.last, self.since = now, time.monotonic()
        return changed and now.counts

    @property
    def left(self) -> float:
        """Seconds for which the sign must stay the same until its owner counts as gone; 0: there is none at work."""
        return max(self.since + LEASE_SECONDS - time.monotonic(), 0) if self.last.counts else 0


@functools.cache
def _watched(storage: Storage) -> Watch:
    return Watch(storage)


def may_be_driven(storage: Storage) -> bool:
    """Whether somebody may be at work: surely not once this process has seen one sign for the lease's length."""
    watch = _watched(storage)
    return watch.is_new() or watch.left > 0


def first_at_work(storages: Iterable[Storage]) -> Watch | None:
    """Who leaves another sign at one of these while we look; None: nobody did, for `LEASE_SECONDS` at the most."""
    watches = [watch for storage in storages if (watch := Watch(storage)).left]
    if watches:
        most = max(watch.left for watch in watches)
        say(f"{watches[0].last.owner} left no farewell; looking for up to {most:.0f} s whether it is still at work")
    while watches:
        time.sleep(min(LOOK_SECONDS, *(watch.left for watch in watches)))
        if found := next((watch for watch in watches if watch.is_new()), None):
            return found
        watches = [watch for watch in watches if watch.left]
    return None


def wait_until_free(storage: Storage, own_id: str) -> Sign:
    """The last sign of a run whose driver is gone, or is we ourselves.

    Raises:
        InputError: another one is at work.
    """
    last = weathered(lambda: read(storage))
    if last.id != own_id and (other := first_at_work([storage])):
        raise InputError(f"--storage: {other.last.owner} drives this run, and has just given a sign of life; stop it")
    return last


def _of_another(storage: Storage, own_id: str) -> Sign | None:
    """The last sign, if another left it; that one is missing or damaged is no take-over: somebody tidied up."""
    try:
        last = read(storage)
    except InputError:
        return None
    return None if last.id in (own_id, None) else last


@contextmanager
def kept(storage: Storage, owner: str, own_id: str) -> Iterator[None]:
    """Leave signs of life for the length of a `with` block; one that finds another's there is interrupted, by SIGTERM.

    Raises:
        InputError: another one has begun at the same time.
    """
    began = time.monotonic()
    weathered(lambda: sign(storage, owner, own_id))
    slow = time.monotonic() - began > TIE_SECONDS  # then it may lie over the sign of one that had looked already
    time.sleep(2 * BEAT_SECONDS if slow else TIE_SECONDS)  # and that one must have time to find it
    if other := weathered(lambda: _of_another(storage, own_id)):
        raise InputError(f"--storage: {other.owner} has just begun to work there")
    done = threading.Event()

    def beat() -> None:
        away = False
        while not done.wait(BEAT_SECONDS):
            try:
                if other := _of_another(storage, own_id):
                    say(f"{other.owner} is at work there now: no sign of life was left here for {LEASE_SECONDS:.0f} s")
                    signal_main(signal.SIGTERM)
                    return
                sign(storage, owner, own_id)
            except OSError as error:  # workers wait for it too, where nobody hears them
                if not away:
                    say(f"{error}; trials wait for it")
                away = True
            else:
                if away:
                    say(f"storage {storage.shown} answers again")
                away = False

    alive = threading.Thread(target=beat, daemon=True)
    alive.start()
    try:
        yield
    finally:
        done.set()
        alive.join()
        try:
            if not _of_another(storage, own_id):
                sign(storage, owner, own_id, ended=True)
        except OSError as error:
            say(f"no farewell can be left ({error}): another machine looks for {LEASE_SECONDS:.0f} s before it goes on")


def refuse_while_cleaned(root: Storage) -> None:
    """For a driver that has just signed: a clean of what the runs below `root` share signs too, then looks at drivers.

    Raises:
        InputError: it is being cleaned.
    """
    if found := first_at_work([root.child(SHARED)]):
        raise InputError(f"--storage: {root.shown} is being cleaned by {found.last.owner}; try again when it has ended")
