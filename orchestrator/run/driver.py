"""A run's home, as its driver keeps it. On a storage, what only the driver writes goes there, and results come back.

A head that is lost then costs nothing: the same command on another machine finds the run by its URI and goes on.
"""

from __future__ import annotations

import socket
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext

from orchestrator.run import lease
from orchestrator.run.access import Access, LocalAccess
from orchestrator.run.folder import SHARED, TRIALS, RunDir, trial_name
from orchestrator.run.journal import JOURNAL
from orchestrator.run.mirrored import MirroredAccess
from orchestrator.run.outage import weathered
from orchestrator.run.records import TRIAL, HomeRecord
from orchestrator.run.roles import read_roles
from orchestrator.storage.uri import Storage
from sr_models.errors import InputError
from sr_models.files import unwritable

PUSH_SECONDS = 30
"""Least time between two copies of the studies to the storage while the search runs."""

_STUDIES = "studies.db"
_OWN = (
    "config.yaml", "run.id", "plan.json", "init/*", "teacher/*", "roles.jsonl", "winners.json", "leaderboard.*",
    "pictures/*",
)  # fmt: skip
"""What the driver writes; trials, evaluation and the patch stores come to the storage by themselves. What MLflow holds
is found again by its tags, and if its database was lost with the machine, delivered anew."""
_RESULTS = "evaluation/*.parquet"
_FRESH = ("config.yaml", "plan.json", "winners.json", "roles.jsonl", _RESULTS)
"""What a visitor reads."""
_SEARCHES = f"{SHARED}/searches"


class Home(ABC):
    """The run folder of this machine, and where else the run lives.

    Args:
        run: the run folder, absolute.
        access: the driver's.
        address: of the storage, as people may see it; None: the run lives in its folder alone.
    """

    def __init__(self, run: RunDir, access: Access, address: str | None) -> None:
        self.run, self.access, self.address = run, access, address

    @property
    def is_shared(self) -> bool:
        """Whether nodes that do not see the run folder find the run too."""
        return self.address is not None

    @property
    def shown(self) -> str:
        """Where the run lives, for people."""
        return f"run folder {self.run.path}" + (f", home {self.address}" if self.address else "")

    @abstractmethod
    def visit(self) -> None:
        """Have a run that this machine does not know here, without being its driver; what lies here is only read.

        Raises:
            InputError: the storage cannot be reached or written, or the run lives elsewhere.
        """

    def bind(self) -> None:
        """Write down where the run lives, and hold it there: half of it would be missing anywhere else.

        Raises:
            InputError: it lives on another storage, or on none.
        """
        if not self._is_bound():
            HomeRecord(storage=self.address).write(self.run.home)

    def _is_bound(self) -> bool:
        """Whether it is written down that the run lives here. Raises InputError: it lives elsewhere."""
        path = self.run.home
        if not path.exists():
            return False
        if (there := HomeRecord.read(path).storage) != self.address:
            raise InputError(
                f"--storage: this run lives {f'at {there}' if there else 'in its folder alone'}, not {self.address}"
            )
        return True

    @abstractmethod
    def driven(self) -> AbstractContextManager[None]:
        """Be the run's only driver for the length of a `with` block, and begin with what the last one knew.

        Raises:
            InputError: the storage cannot be reached or written, or another driver is at work.
        """

    @abstractmethod
    def push(self, *, sometimes: bool = False) -> None:
        """Carry what the driver wrote to the storage; `sometimes`: only if the last time is long ago."""

    def pull_trials(self) -> None:
        """Bring here how the run's trials stand, also those that other runs began."""
        names = {trial_name(role.fingerprint).rpartition("/")[2] for role in read_roles(self.run)}
        files = [f"{name}/{file}" for name in names for file in (TRIAL, JOURNAL)]
        self.access.pull(TRIALS, files, only_read=True)  # workers have a copy of their own

    def pull_weights(self, fingerprint: str) -> None:
        """Bring a finished trial's journal and weights into the run folder."""
        self.access.pull(trial_name(fingerprint), [JOURNAL, TRIAL, "model/*", "model_ema/*"], only_read=True)


class LocalHome(Home):
    """All nodes see the run folder, and the run lives nowhere else: there is nothing to carry."""

    def __init__(self, run: RunDir) -> None:
        super().__init__(run, LocalAccess(run.path), None)

    def visit(self) -> None:
        self._is_bound()  # one that is not bound is not bound by whoever looks at it: the folder may be another's

    def driven(self) -> AbstractContextManager[None]:
        return nullcontext()

    def push(self, *, sometimes: bool = False) -> None:
        pass


class StoredHome(Home):
    """The run lives on a storage, and its folder is the driver's copy.

    Args:
        root: below which runs live.
    """

    def __init__(self, run: RunDir, root: Storage) -> None:
        self.root = root.anchored(run.name)  # `check` makes it
        self.storage = self.root.child(run.name)
        super().__init__(run, MirroredAccess(self.root, run.name, run.path), self.storage.shown)
        self._pushed = 0.0

    def visit(self) -> None:
        if line := unwritable(self.run.path, "--storage"):  # what is brought here has to lie somewhere
            raise InputError(line)
        self.storage.check()
        if not self.run.config.exists():
            self._fetch(_OWN)
        if self.run.config.exists():
            self.bind()

    @contextmanager
    def driven(self) -> Iterator[None]:
        self.storage.check()
        own_id = self.run.driver_id  # whoever drives from here holds the folder's lock: a sign with it is of the dead
        if lease.wait_until_free(self.storage, own_id).id not in (own_id, None):
            for path in self.run.path.glob(f"{_STUDIES}*"):
                path.unlink()  # what this machine knew is older
        with lease.kept(self.storage, f"{socket.gethostname()}:{self.run.path}", own_id):
            lease.refuse_while_cleaned(self.root)
            studies = [] if (self.run.path / _STUDIES).exists() else [_STUDIES]
            self._fetch([*_OWN, *studies])
            yield

    def push(self, *, sometimes: bool = False) -> None:
        if sometimes and time.monotonic() - self._pushed < PUSH_SECONDS:
            return
        self._pushed = time.monotonic()
        self.access.push("", _OWN)
        self.access.pull(_SEARCHES, ["*"])  # another machine may have gone further; what is ours is written again
        self.access.push(_SEARCHES, ["*"])
        if (studies := self.run.path / _STUDIES).exists():
            copy = self.run.path / ".studies.copy"
            with closing(sqlite3.connect(studies)) as live, closing(sqlite3.connect(copy)) as whole:
                live.backup(whole)  # a consistent copy of a database in use
            weathered(lambda: self.storage.upload(copy, _STUDIES))
            copy.unlink()

    def _fetch(self, own: Sequence[str]) -> None:
        """Bring here what drivers wrote, and what came out."""
        self.access.pull("", [*own, _RESULTS])
        self.access.pull(_SEARCHES, ["*"])
        self.pull_trials()


def home_of(run: RunDir, root: str | None) -> Home:
    """The run's home.

    Args:
        run: the run folder, absolute.
        root: URI below which runs live; None: in the run folder alone.

    Raises:
        InputError: a URI that cannot be used.
    """
    return StoredHome(run, Storage.parse(root, "--storage")) if root else LocalHome(run)


def visited(run: RunDir, root: str | None, option: str) -> Home:
    """The home of a run that is there, for one that is not its driver; what its driver last wrote is then here.

    Args:
        run, root: as for `home_of`.
        option: of the command line, that named the run.

    Raises:
        InputError: not a run folder, or a link in it that leads out of it.
    """
    run.refuse_links()
    home = home_of(run, root)
    home.visit()
    home.access.pull("", _FRESH)
    if not run.config.exists() or not run.plan.exists():
        raise InputError(f"{option}: {run.path} is not a run folder (it has no config.yaml and plan.json)")
    return home
