"""A sweep's folder: what lies where, written atomically, readable without Ray, MLflow or torch."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from sr_models.files import write_text

SHARED = "shared"
"""The folder, beside the run folders of an output, of what all of them have: trials, stores, searches, rows."""


STORES = f"{SHARED}/store"
"""The folder of the patch stores, as `RunDir.at` finds it."""


SNAPSHOTS = "snapshots"
"""Folder of a trial for weights along its training, by step; of a run, for those of trials under way while scored."""


def trial_name(fingerprint: str) -> str:
    """The folder of a trial, as `RunDir.at` finds it."""
    return f"{SHARED}/trials/{fingerprint[:16]}"


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

    def at(self, name: str) -> Path:
        """Where what has this name lies."""
        return (self.output if name.partition("/")[0] == SHARED else self.path) / name

    def name_of(self, path: Path) -> str:
        """The name of what lies there."""
        shared = path.is_relative_to(self.output / SHARED)
        return path.relative_to(self.output if shared else self.path).as_posix()

    @property
    def id(self) -> str:
        """A random name of this folder, made at the first call: two folders of one config are two runs."""
        path = self.path / "run.id"
        if not path.exists():
            write_text(path, secrets.token_hex(8) + "\n")
        return path.read_text(encoding="utf-8").strip()

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
        """Weights that trials start from, under our key names."""
        return self.path / "init" / f"{sha256[:16]}.safetensors"

    def trial(self, fingerprint: str) -> Path:
        """The folder of one trial: trial.json, journal.jsonl, checkpoint.pt, model/, model_ema/."""
        own = self.path / "trials" / fingerprint[:16]  # where runs of earlier versions have theirs
        return own if own.exists() else self.at(trial_name(fingerprint))
