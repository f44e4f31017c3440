"""Where a run lies, as a process on any node finds it: in a folder that all see, or in this node's copy of a URI.

A trial always works in a local folder. With a storage URI its checkpoint and journal go there after every write, in
that order, and come back from there before it goes on, on whatever node that is.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from orchestrator.run import journal
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, Journal, outcome
from sr_models.errors import InputError

if TYPE_CHECKING:
    from orchestrator.data.store import PatchStore
    from orchestrator.run.journal import TrialResult
    from orchestrator.storage.uri import Storage

_TRIAL_FILES = (CHECKPOINT, "model/*", "model_ema/*", JOURNAL)  # the journal last: it speaks of the others


@dataclass(frozen=True)
class Place:
    """One run's whereabouts; travels to every worker."""

    run: str
    """The run folder on the machine that drives the sweep, absolute."""
    storage: str | None = field(default=None, repr=False)
    """URI of the run's shared home; None: every node sees `run`."""

    @property
    def here(self) -> RunDir:
        """The run folder that this process works in.

        Raises:
            InputError: without a storage, on a node that does not see the run.
        """
        if self.storage is None:
            run = RunDir(Path(self.run))
            if not run.config.exists():
                raise InputError(
                    f"a node of the cluster does not see {self.run}; give --storage a URI that all nodes reach "
                    "(s3://, gs://, file:// on a shared disk), or --output a folder that they share"
                )
            return run
        from orchestrator.storage.mirror import cache_folder

        return RunDir(cache_folder() / "runs" / hashlib.sha256(self.storage.encode()).hexdigest()[:16])

    def open_store(self) -> PatchStore:
        """The run's patch store: kept open by this process until it changes, one copy a node."""
        if self.storage is None:
            store = self.here.store
            return _open_store(store, (store / "manifest.json").stat().st_mtime_ns)
        from orchestrator.data.shared import fetch_store
        from orchestrator.storage.mirror import cache_folder

        return fetch_store(self._remote(), cache_folder())

    def publish(self, store: PatchStore) -> None:
        """Carry what was added to this node's copy of the store to the storage."""
        if self.storage:
            from orchestrator.data.shared import publish_store

            publish_store(store.folder, self._remote())

    def rows(self) -> set[str]:
        """Keys of the evaluation units whose rows are there, for the driver, whose run folder then holds them."""
        folder = RunDir(Path(self.run)).evaluation
        if self.storage:
            from orchestrator.storage.mirror import pull_tree

            pull_tree(self._remote("evaluation"), folder, ["*.parquet"])
        return {path.stem for path in folder.glob("*.parquet")}

    def push(self, path: Path) -> None:
        """Carry one file of this process's run folder to the storage."""
        if self.storage:
            self._remote().upload(path, path.relative_to(self.here.path).as_posix())

    def init(self, sha256: str | None) -> Path | None:
        """The weights that a trial starts from."""
        if sha256 is None:
            return None
        path = self.here.init(sha256)
        return self.fetch(path.relative_to(self.here.path).as_posix()) if self.storage else path

    def fetch(self, name: str) -> Path:
        """A file of the run, here."""
        path = self.here.path / name
        if self.storage and not path.exists() and not self._remote().download(name, path):
            raise InputError(f"{self._remote().shown} holds no {name}")
        return path

    def fetch_folder(self, name: str) -> Path:
        """A folder of the run, here: a checkpoint, say."""
        if self.storage:
            from orchestrator.storage.mirror import pull_tree

            pull_tree(self._remote(name), self.here.path / name, ["*"])
        return self.here.path / name

    def trial_folder(self, fingerprint: str, rank: int = 0) -> Path:
        """Where a worker of a trial works.

        With a storage the workers beside the first one have a folder of their own, which goes when they end: the first
        may be writing on the same node, and what an earlier group left there is of no use to them.
        """
        folder = self.here.trial(fingerprint)
        return self.here.path / "ranks" / f"{folder.name}-{rank}" if rank and self.storage else folder

    def pull_trial(self, fingerprint: str, rank: int = 0) -> None:
        """Bring a trial's folder to where the storage says it stands.

        What the first worker had written and not carried away when it was stopped is carried away now.
        """
        if self.storage is None:
            return
        from orchestrator.storage.mirror import pull_tree

        folder = self.trial_folder(fingerprint, rank)
        if rank:
            shutil.rmtree(folder, ignore_errors=True)
        pull_tree(self._remote(f"trials/{self.here.trial(fingerprint).name}"), folder, [CHECKPOINT, JOURNAL])
        if not rank:
            self.push_trial(fingerprint)

    def push_trial(self, fingerprint: str) -> None:
        """Carry what has changed in a trial's folder to the storage."""
        if self.storage:
            from orchestrator.storage.mirror import push_tree

            folder = self.here.trial(fingerprint)
            push_tree(folder, self._remote(f"trials/{folder.name}"), _TRIAL_FILES)

    def read_journal(self, fingerprint: str) -> list[dict[str, Any]]:
        """A trial's journal as it stands now, for the driver, whose run folder then holds it too."""
        folder = RunDir(Path(self.run)).trial(fingerprint)
        if self.storage:
            from orchestrator.storage.mirror import pull_tree

            pull_tree(self._remote(f"trials/{folder.name}"), folder, [JOURNAL])
        return journal.read(folder / JOURNAL)

    def result(self, fingerprint: str) -> TrialResult | None:
        """How a trial that no worker is busy with ended; None if it has not."""
        return outcome(journal.read(self._pull_journal(fingerprint)))

    def end(self, fingerprint: str, status: str, step: int | None, cause: str | None = None) -> TrialResult:
        """Write the end of a trial that nobody is working on; `step`: None stands for its last one."""
        path = self._pull_journal(fingerprint)
        with FileLock(path.parent / ".lock"):  # a worker that was stopped may be writing its last line
            own = Journal(path, lambda: self.push_trial(fingerprint))
            if outcome(own.entries) is None:
                own.end(status, own.last_step if step is None else step, cause)
        result = outcome(own.entries)
        assert result is not None
        return result

    def _pull_journal(self, fingerprint: str) -> Path:
        folder = self.here.trial(fingerprint)
        folder.mkdir(parents=True, exist_ok=True)
        if self.storage:
            from orchestrator.storage.mirror import pull_tree

            pull_tree(self._remote(f"trials/{folder.name}"), folder, [JOURNAL])
        return folder / JOURNAL

    def _remote(self, name: str = "") -> Storage:
        from orchestrator.storage.uri import Storage

        assert self.storage is not None
        home = Storage.parse(self.storage, "--storage")
        return home.child(name) if name else home


@functools.lru_cache(maxsize=2)
def _open_store(folder: Path, _changed: int) -> PatchStore:
    from orchestrator.data.store import PatchStore

    return PatchStore.open(folder, verify=False)
