"""How a process finds a run: in a folder that all nodes see, or in a copy of what lies on a storage.

A trial always works in a local folder. With a storage its checkpoint and journal go there after every write, in that
order, and come back from there before it goes on, on whatever node that is.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import sr_models
from orchestrator.data.inputs import Inputs
from orchestrator.data.store import PatchStore, opened
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.plan.trial import TrialConfig
from orchestrator.run import journal
from orchestrator.run.checkpoint import BEFORE, CHECKPOINT
from orchestrator.run.folder import SNAPSHOTS, STORES, RunDir, trial_name
from orchestrator.run.journal import JOURNAL, Journal, TrialResult, Why, outcome
from orchestrator.run.progress import say
from orchestrator.run.records import TRIAL, TrialRecord
from sr_models.errors import InputError

_TRIAL_FILES = (f"{SNAPSHOTS}/*", BEFORE, CHECKPOINT, "model/*", "model_ema/*", JOURNAL, TRIAL)
"""In the order in which they go: a journal speaks of what comes before it, and trial.json of the journal."""
CLAIM = "claim"
_IN_RUN = RunDir(Path())  # where things lie in any run


class Access(ABC):
    """A run as one process works on it: `run` is a folder of its node, and what others wrote comes there when asked.

    The driver's has the run folder that the user named; workers are sent `for_workers()`. Names are those of `RunDir`,
    "" for all of the run; patterns are those of `orchestrator.storage.mirror`.
    """

    backbones: str | None = None
    """Folder of the weights that metrics of validations need: absolute, or of the run; None: where they are looked for
    without one."""

    # ---- what differs ------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def run(self) -> RunDir:
        """The run folder that this process works in.

        Raises:
            InputError: this node does not see it.
        """

    @abstractmethod
    def supplied(self, backbones: str | None) -> Access:
        """The same run, with another folder of weights that metrics of validations need."""

    @abstractmethod
    def for_workers(self) -> Access:
        """The same run, for processes on any node."""

    @abstractmethod
    def pull(self, name: str, patterns: Sequence[str], into: Path | None = None, *, only_read: bool = False) -> None:
        """Bring what others wrote in a folder of the run here, or into another folder; `only_read`: as `pull_tree`."""

    @abstractmethod
    def push(self, name: str, patterns: Sequence[str]) -> None:
        """Bring what changed here in a folder of the run to where others find it."""

    @abstractmethod
    def fetch(self, name: str) -> Path:
        """A file of the run, here."""

    @abstractmethod
    def send(self, name: str) -> None:
        """Bring one file of the run that was written here to where others find it."""

    @abstractmethod
    def hand_over(self, name: str) -> None:
        """`send`, and keep no copy here that nobody will read."""

    @abstractmethod
    def entries(self, name: str) -> set[str]:
        """Names of the files and folders in a folder of the run, there where all find them; none if it is not there."""

    @abstractmethod
    def share(self, name: str, files: Sequence[str], find: Callable[[str], Path]) -> str | None:
        """Put files of this machine into a folder of the run; None if workers see them where they are.

        Args:
            find: the path of each; asked only for those that are to be copied.

        Returns:
            The folder's name.
        """

    @abstractmethod
    def open_store(self, data_hash: str) -> PatchStore:
        """A patch store of the output."""

    @abstractmethod
    def publish(self, store: PatchStore) -> None:
        """Bring a new patch store, or what was added to one here, to where others find it."""

    @abstractmethod
    def test_set(self, inputs: Inputs, name: str, scale: float) -> BenchmarkSource:
        """A test set as workers on any node find it."""

    @abstractmethod
    def claimed(self, fingerprint: str) -> AbstractContextManager[None]:
        """Hold a trial against the other runs of the output for a `with` block; waits for one that has it.

        Whoever starts the trial's workers waits here: a group of them must not wait for its first one, as long as
        another run may take.
        """

    @abstractmethod
    def trial_folder(self, fingerprint: str, rank: int = 0) -> Path:
        """Where a worker of a trial works."""

    # ---- what follows ------------------------------------------------------------------------------------------------

    def remove(self, name: str) -> None:
        """Delete a folder of the run."""
        shutil.rmtree(self.run.at(name), ignore_errors=True)

    def discard(self, name: str) -> None:
        """Delete a file of the run, here and where others find it; it is no fault if there is none."""
        self.run.at(name).unlink(missing_ok=True)

    def weights_dir(self) -> Path | None:
        """`backbones`, here."""
        if self.backbones is None:
            return None
        folder = Path(self.backbones)
        return folder if folder.is_absolute() else self.fetch_folder(self.backbones)

    def fetch_folder(self, name: str) -> Path:
        """A folder of the run, here: a checkpoint, say."""
        self.pull(name, ["*"])
        return self.run.at(name)

    def init(self, sha256: str | None) -> Path | None:
        """The weights that a trial starts from."""
        return None if sha256 is None else self.fetch(_IN_RUN.init(sha256).as_posix())

    def parts(self, model: str, hyper: Mapping[str, Any]) -> dict[str, Path]:
        """The frozen parts that a network stands on, by the hashes that its hyperparameters hold."""
        known = sr_models.part_hashes(model, hyper)
        return {name: self.fetch(_IN_RUN.init(sha256).as_posix()) for name, sha256 in known.items()}

    def pull_trial(self, fingerprint: str, rank: int = 0) -> None:
        """Bring the folder of a trial's worker to where others say the trial stands.

        What the first worker had written and not carried away when it was stopped is carried away now.
        """
        folder = self.trial_folder(fingerprint, rank)
        if folder != self.run.trial(fingerprint):
            shutil.rmtree(folder, ignore_errors=True)
        self.pull(trial_name(fingerprint), [BEFORE, CHECKPOINT, "model/model.json", JOURNAL, TRIAL], folder)
        if not rank:
            self.push_trial(fingerprint)

    def push_trial(self, fingerprint: str) -> None:
        """Bring what has changed in a trial's folder to where others find it."""
        self.push(trial_name(fingerprint), _TRIAL_FILES)

    def read_journal(self, fingerprint: str) -> list[dict[str, Any]]:
        """A trial's journal as it stands now; the folder here then holds it too."""
        self.pull(trial_name(fingerprint), [JOURNAL, TRIAL])
        return journal.read(self.run.trial(fingerprint) / JOURNAL)

    def read_journals(self, fingerprints: Sequence[str]) -> list[list[dict[str, Any]]]:
        """What `read_journal` returns of each of several trials, by one look at the storage for all."""
        if fingerprints:
            names = [Path(trial_name(fingerprint)) for fingerprint in fingerprints]
            files = [f"{name.name}/{file}" for file in (JOURNAL, TRIAL) for name in names]
            self.pull(names[0].parent.as_posix(), files)
        return [journal.read(self.run.trial(fingerprint) / JOURNAL) for fingerprint in fingerprints]

    def measures(self, config: TrialConfig, steered: bool = True) -> bool:
        """Whether the trial here, as `read_journal` left it, is validated (if it is steered) and kept as asked."""
        path = self.run.trial(config.fingerprint) / TRIAL
        if not path.exists():
            return False
        there = TrialRecord.read(path).trial_config()
        return (not steered or there.measures(config)) and there.keeps(config)

    def result(self, fingerprint: str) -> TrialResult | None:
        """How a trial that no worker is busy with ended; None if it has not."""
        return outcome(self.read_journal(fingerprint))

    def is_busy(self, fingerprint: str) -> bool:
        """Whether a worker that this machine can see is at work on a trial, or another run has claimed it."""
        lock = FileLock(self.for_workers().run.trial(fingerprint) / ".lock")
        try:
            with lock.acquire(timeout=0):
                return False
        except Timeout:
            return True

    def end(
        self, fingerprint: str, status: str, step: int | None, cause: str | None = None, why: Why | None = None
    ) -> TrialResult:
        """Write the end of a trial that nobody is working on; `step`: None stands for its last one."""
        with self._journal(fingerprint) as own:
            if outcome(own.entries) is None:
                own.end(status, own.last_step if step is None else step, cause, why)
        result = outcome(own.entries)
        assert result is not None
        return result

    def reopen(self, fingerprint: str) -> None:
        """Let a trial go on that its environment ended, from its checkpoint; any other is left as it is."""
        with self._journal(fingerprint) as own:
            ended = outcome(own.entries)
            if ended is not None and not ended.is_final:
                own.reopen()
                say(f"trial {fingerprint[:16]} is tried again, after it ended at step {ended.step}: {ended.cause}")

    def leave(self, fingerprint: str) -> None:
        """Have a trial that was told to stop count as under way: a later invocation goes on with it."""
        with self._journal(fingerprint) as own:
            ended = outcome(own.entries)
            if ended is not None and ended.status == "stopped":
                own.reopen("left to a later invocation")

    @contextmanager
    def _journal(self, fingerprint: str) -> Iterator[Journal]:
        """The journal of a trial that nobody is working on, to write in."""
        access = self.for_workers()  # a driver too writes where a worker of its node did, and under the same lock
        folder = access.run.trial(fingerprint)
        folder.mkdir(parents=True, exist_ok=True)
        access.pull(trial_name(fingerprint), [JOURNAL])
        with FileLock(folder / ".lock"):  # a worker that was stopped may be writing its last line
            yield Journal(folder / JOURNAL, lambda: access.push_trial(fingerprint))


@dataclass(frozen=True)
class LocalAccess(Access):
    """Every node sees the run folder, and works in it: nothing has to be brought anywhere."""

    folder: Path
    """Absolute."""
    backbones: str | None = None

    @property
    def run(self) -> RunDir:
        run = RunDir(self.folder)
        if not run.config.exists():
            raise InputError(
                f"a node of the cluster does not see {self.folder}; give --storage a URI that all nodes reach "
                "(s3://, gs://, file:// on a shared disk), or --output a folder that they share"
            )
        return run

    def supplied(self, backbones: str | None) -> LocalAccess:
        return replace(self, backbones=backbones)

    def for_workers(self) -> LocalAccess:
        return self

    def pull(self, name: str, patterns: Sequence[str], into: Path | None = None, *, only_read: bool = False) -> None:
        pass

    def push(self, name: str, patterns: Sequence[str]) -> None:
        pass

    def fetch(self, name: str) -> Path:
        return self.run.at(name)

    def send(self, name: str) -> None:
        pass

    def hand_over(self, name: str) -> None:
        pass

    def entries(self, name: str) -> set[str]:
        return {path.name for path in self.run.at(name).glob("*")}

    def share(self, name: str, files: Sequence[str], find: Callable[[str], Path]) -> None:
        pass

    def open_store(self, data_hash: str) -> PatchStore:
        """A patch store of the output: kept open by this process until it changes.

        Raises:
            InputError: there is none of that data, or it is damaged.
        """
        return opened(self.run.at(STORES) / data_hash[:16])

    def publish(self, store: PatchStore) -> None:
        pass

    def test_set(self, inputs: Inputs, name: str, scale: float) -> BenchmarkSource:
        return inputs.located(name, scale)

    @contextmanager
    def claimed(self, fingerprint: str) -> Iterator[None]:
        folder = self.run.trial(fingerprint)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{CLAIM}.lock"):
            yield

    def trial_folder(self, fingerprint: str, rank: int = 0) -> Path:
        return self.run.trial(fingerprint)
