"""A sweep's folder: what lies where, written atomically, readable without Ray, MLflow or torch."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sr_models.errors import InputError
from sr_models.files import write_text

SHARED = "shared"
"""The folder, beside the run folders of an output, of what all of them have: trials, stores, searches, rows."""


STORES = f"{SHARED}/store"
"""The folder of the patch stores, as `RunDir.at` finds it."""


TRIALS = f"{SHARED}/trials"
"""The folder of the trials' folders, as `RunDir.at` finds it."""


SNAPSHOTS = "snapshots"
"""Folder of a trial for weights along its training, by step; of a run, for those of trials under way while scored."""


WEIGHTS = {"raw": "model", "ema": "model_ema"}
"""Kind of weights -> their folder in a trial's or a snapshot's."""


def trial_name(fingerprint: str) -> str:
    """The folder of a trial, as `RunDir.at` finds it."""
    return f"{TRIALS}/{fingerprint[:16]}"


@dataclass(frozen=True)
class RunDir:
    """`runs/<config name>-<hash8>`: config, plan, studies, winners, evaluation rows, leaderboard.

    What lies in a run, and in what all runs of its output share, has a name: a relative POSIX path below the run
    folder, or one that begins with `shared/`, below the output.
    """

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def output(self) -> Path:
        """The folder of this run and the others."""
        return self.path.parent

    def make(self, *, group: bool = False) -> None:
        """Make the run folder, its output and what that shares, as far as they are not there.

        A new output is its user's alone; what is made in one that is there is no more open than that one, whose setgid
        bit and ACL the system hands on. What lies deeper, and files, follow the umask behind these doors.

        Args:
            group: the output's group may read what is new, which gets that group.
        """
        made = [self.output] if not self.output.exists() else []
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self.output.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.at(SHARED), self.path):
            made += [folder] if not folder.exists() else []
            folder.mkdir(mode=self.output.stat().st_mode & 0o777, exist_ok=True)
        if group:
            for folder in made:
                folder.chmod(0o2750)

    def refuse_links(self) -> None:
        """For a folder that may be a stranger's: what we read and deliver must lie in it, not where its links lead.

        Raises:
            InputError: names a link that leads out of the run folder, or out of what its output shares.
        """
        for top in (self.path, self.at(SHARED)):
            home = os.path.realpath(top)
            for link in _links(home):
                target = os.path.realpath(link)
                if not Path(target).is_relative_to(home):
                    raise InputError(
                        f"{link} is a link that leads out of {top}, to {target}, where nothing is read or written; "
                        "put what it stands for in its place, or remove it"
                    )

    def at(self, name: str) -> Path:
        """Where what has this name lies."""
        return (self.output if name.partition("/")[0] == SHARED else self.path) / name

    def name_of(self, path: Path) -> str:
        """The name of what lies there."""
        shared = path.is_relative_to(self.output / SHARED)
        return path.relative_to(self.output if shared else self.path).as_posix()

    @property
    def id(self) -> str:
        """A random name of this run, made at the first call: two folders of one config are two runs.

        Raises:
            InputError: its file is empty.
        """
        return self._random("run.id")

    @property
    def driver_id(self) -> str:
        """A random name of this folder, which never leaves it: a run on a storage has a folder on each machine."""
        return self._random("driver.id")

    def _random(self, name: str) -> str:
        path = self.path / name
        if not path.exists():
            write_text(path, secrets.token_hex(8) + "\n")
        found = path.read_text(encoding="utf-8").strip()
        if not found:
            raise InputError(
                f"{path} is empty; delete it and {self.path / 'studies.db'}, and run the same sweep, which makes both "
                "again from the trials that are there"
            )
        return found

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def studies_url(self) -> str:
        return f"sqlite:///{self.path.resolve() / 'studies.db'}"

    @property
    def winners(self) -> Path:
        return self.path / "winners.json"

    @property
    def roles(self) -> Path:
        return self.path / "roles.jsonl"

    @property
    def home(self) -> Path:
        return self.path / "home.json"

    @property
    def tracking(self) -> Path:
        return self.path / "tracking.json"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def pictures(self) -> Path:
        return self.path / "pictures"

    def init(self, sha256: str) -> Path:
        """Weights that trials start from, under our key names, or frozen parts of their networks."""
        return self.path / "init" / f"{sha256[:16]}.safetensors"

    def trial(self, fingerprint: str) -> Path:
        """The folder of one trial: trial.json, journal.jsonl, checkpoint.pt, model/, model_ema/."""
        own = self.path / "trials" / fingerprint[:16]  # where runs of earlier versions have theirs
        return own if own.exists() else self.at(trial_name(fingerprint))


def _links(folder: str) -> Iterator[str]:
    """Symbolic links below a folder, none of them followed."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield entry.path
            elif entry.is_dir(follow_symlinks=False):
                yield from _links(entry.path)
