"""A sweep's folder: what lies where, written atomically, readable without Ray, MLflow or torch."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from sr_models.files import write_text


@dataclass(frozen=True)
class RunDir:
    """`runs/<config name>-<hash8>`: config, plan, store, studies, trials, winners, evaluation rows, leaderboard."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

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
    def store(self) -> Path:
        return self.path / "store"

    @property
    def studies_url(self) -> str:
        return f"sqlite:///{self.path.resolve() / 'studies.db'}"

    @property
    def winners(self) -> Path:
        return self.path / "winners.json"

    @property
    def home(self) -> Path:
        return self.path / "home.json"

    @property
    def tracking(self) -> Path:
        return self.path / "tracking.json"

    @property
    def trial_records(self) -> list[Path]:
        """trial.json of every trial, in the order of their folders' names."""
        return sorted(self.path.glob("trials/*/trial.json"))

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
        return self.path / "trials" / fingerprint[:16]
