"""MLflow as a projection of the run folder: one process reads journals and scores, and delivers what is new in batches.

Trials never talk to MLflow (https://mlflow.org/docs/latest/ml/tracking/); they append to their own journals. So a
tracking server that is away delays the board and never a trial, and nothing is lost: `python -m orchestrator.tracking
RUN --tracking-uri URI` delivers whatever is missing, at any time. A metric goes out once: its time stamp is the
journal's, and before an interrupted delivery goes on, MLflow is asked how far it came.

What the store refuses (a value, a run that somebody deleted) is left alone from then on, and the rest arrives; only the
sweep's own run is made anew where it was deleted, because all others are shown below it. A trial that is begun anew is
sent anew: MLflow's run of the attempt before is deleted.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from cluster.secrets import shown
from orchestrator.leaderboard import compare as leaderboard
from orchestrator.leaderboard.behind import flatten
from orchestrator.leaderboard.board import Board, Entry
from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.records import TRIAL, TrialRecord, read_plan
from orchestrator.run.roles import RoleRecord, read_roles
from orchestrator.tracking import address, exhibits, mlflow_store, rows, view
from orchestrator.tracking.mlflow_store import Store
from orchestrator.tracking.record import stamp
from sr_models.errors import InputError

INTERVAL_S = 2.0
"""Pause between two looks at the run folder."""

AT_REST = 20
"""How many of the trials that are delivered to their end each look at the run folder takes in turn: one that is begun
anew, tried again or audited says so in its own journal alone."""

LOCK_WAIT_S = 60.0
"""How long to wait for the tracker of a killed driver to finish."""

LAST_ATTEMPTS = 3
"""Tries of the final delivery before what is left stays for another day."""

_ENDED = ("complete", "stopped", "failed")
"""The statuses of trials that have an end."""

_FILES = ("config.yaml", "plan.json", "winners.json", "leaderboard.*", "pictures/*.png", "probes/[a-z]*.*")

_log = logging.getLogger("orchestrator.tracking")


class Tracker:
    """Delivers one run folder to one tracking store; holds `RUN/tracking.lock` while it works."""

    def __init__(self, run_folder: Path, uri: str) -> None:
        self.folder, self.run_dir, self.store = run_folder, RunDir(run_folder), Store(run_folder, uri)
        self.lock = FileLock(run_folder / "tracking.lock")
        self.stopping = False
        self._live = self._away = False
        self._whole = True
        """Whether the next look is at all trials, and not only at those that are under way and `AT_REST` others."""
        self._turn = 0
        """Of the trials at rest, how many had their turn."""
        self._roles_read: list[RoleRecord] = []
        self._roles_stamp: tuple[str, int, int] | None = None
        """Of roles.jsonl when it was read."""
        self._unreadable: set[str] = set()
        self._refused = 0
        """How much of what is left alone this process has spoken of."""

    @property
    def complete(self) -> bool:
        """Whether nothing had to be left out: the store has taken all, and every file could be read."""
        return not self.store.state.refused and not self._unreadable

    def sync(self) -> int:
        """Deliver what is new; how many metric values, runs and files that was, 0 if nothing.

        Of trials that are delivered to their end, the first look of a process and its last one see all, others some.

        Raises:
            InputError: not a run folder. Timeout: another tracker works on it. MLflow's errors: the store is away.
        """
        with self.lock.acquire(timeout=LOCK_WAIT_S):
            self.store.open()
            if not self.run_dir.plan.exists():
                return 0  # the sweep is still preparing its images
            self.plan = read_plan(self.folder)
            parent, new = self._parent()
            for role in self._due():
                new += self._each(_trial_key(role), functools.partial(self._trial, role, parent))
            self._whole = False
            if (self.folder / "leaderboard.json").exists():
                new += self._scores(parent) + self._crops()
            new += self._files(parent)
            self._say_refused()
            return new

    def finish(self) -> None:
        """Close the parent and what is still open: nobody works on this folder any more."""
        with self.lock.acquire(timeout=LOCK_WAIT_S):
            board = self.folder / "leaderboard.json"
            done = board.exists() and self.run_dir.winners.exists() and _no_newer(self.run_dir.winners, board)
            for key, run in self.store.state.runs.items():
                if run.status == "running":
                    status = "complete" if key == "parent" and done else "interrupted"
                    self._each(key, functools.partial(self.store.set_status, run, status, time.time()))
            self.store.save()
            self._say_refused()

    def follow(self, parent_pid: int, interval_s: float = INTERVAL_S) -> bool:
        """Deliver until our parent is no longer `parent_pid` or `RUN/tracking.stop` appears; whether all was delivered.

        A store that is away is logged once an outage and tried again at the next interval.
        """
        with self.lock.acquire(timeout=LOCK_WAIT_S):
            self._live = True
            while not self._last_call(parent_pid):
                self._attempt(self.sync)
                resume = time.monotonic() + interval_s
                while time.monotonic() < resume and not self._last_call(parent_pid):
                    time.sleep(min(0.1, interval_s))
            self.store.asked.discard("parent")
            self._whole = True
            for attempt in range(LAST_ATTEMPTS):
                if attempt:
                    time.sleep(interval_s)
                if self._attempt(self.sync) and self._attempt(self.finish):
                    return True
            return False

    def _last_call(self, parent_pid: int) -> bool:
        return self.stopping or (self.folder / "tracking.stop").exists() or os.getppid() != parent_pid

    def _attempt(self, deliver: Callable[[], object]) -> bool:
        try:
            deliver()
        except address.failures() as error:
            if not self._away:
                text = address.one_line(error)
                where = shown(self.store.uri)
                _log.warning("tracking store %s is away, trying again until it is back: %s", where, text)
            self._away = True
            self.store.doubt()  # it may have stored what it did not live to confirm
            return False
        if self._away:
            _log.warning("tracking store %s is back", shown(self.store.uri))
        self._away = False
        return True

    # ---- what is delivered

    def _each(self, key: str, deliver: Callable[[], int | None]) -> int:
        """Deliver what belongs to one run or file, unless the store has refused it; how much that was."""
        if key in self.store.state.refused:
            return 0
        try:
            return deliver() or 0
        except address.failures() as error:
            if address.is_outage(error):
                raise
            self.store.refuse(key, error)
        except InputError as error:  # a damaged file, which may be mended
            if key not in self._unreadable:
                _log.warning("%s is not delivered: %s", key, error)
            self._unreadable.add(key)
        return 0

    def _say_refused(self) -> None:
        refused = len(self.store.state.refused)
        if refused > self._refused:
            _log.warning(mlflow_store.left_alone(self.folder))
        self._refused = refused

    def _parent(self) -> tuple[str, int]:
        """The sweep's own run."""
        plan = self.plan
        tags = {
            "role": "sweep", "run": plan.run, "git_commit": plan.git_commit, "data_hash": plan.data_text,
            "config_hash": plan.config_hash, "protocol": plan.protocol, "metric": plan.metric.name,
        }  # fmt: skip
        about = ("parent", plan.name, plan.run, tags, _mtime(self.run_dir.plan))
        run, new = self.store.run(*about)
        stage = "active" if "parent" in self.store.asked else self.store.stage(run)
        if stage != "active":
            if stage == "lost":
                self.store.forget()
            else:
                _log.warning("the sweep's own run was deleted in MLflow; it is made anew")
                self.store.state.runs.pop("parent")
                self.store.state.refused.pop("parent", None)
                self.store.state.files.clear()
                self.store.state.scores = None
                self.store.save()
            run, new = self.store.run(*about)
            for key, child in self.store.state.runs.items():
                if key.startswith(("trial/", "scores/")):
                    self._each(key, functools.partial(self.store.hang, child, run.id))
        if "parent" not in self.store.asked:
            self._each("datasets", functools.partial(exhibits.datasets, self.store, self.run_dir, plan, run.id))
        self.store.asked.add("parent")
        if run.status != "running" and self._live:
            self.store.set_status(run, "running", None)
            self.store.note("runs", "parent")
        return run.id, new

    def _due(self) -> list[RoleRecord]:
        """The trials to look at, each in its first role, as far as they have begun."""
        first: dict[str, RoleRecord] = {}
        for role in self._roles():
            first.setdefault(role.fingerprint, role)
        due = list(first.values())
        if not self._whole:
            at_rest = [role for role in due if self._is_at_rest(role)]
            due = [role for role in due if not self._is_at_rest(role)]
            if at_rest:
                self._turn %= len(at_rest)
                due += (at_rest + at_rest)[self._turn : self._turn + min(AT_REST, len(at_rest))]
                self._turn += AT_REST
        return [role for role in due if (self.run_dir.trial(role.fingerprint) / TRIAL).exists()]

    def _roles(self) -> list[RoleRecord]:
        """Every role of the run; the file is read again when it has changed."""
        path = self.run_dir.roles
        now = stamp(path) if path.exists() else None
        if now is None or now != self._roles_stamp:
            self._roles_read, self._roles_stamp = read_roles(self.run_dir), now
        return self._roles_read

    def _is_at_rest(self, role: RoleRecord) -> bool:
        """Whether nothing more is to come of a trial, as far as is known of it."""
        key, run = _trial_key(role), self.store.state.runs.get(_trial_key(role))
        return key in self.store.state.refused or (run is not None and run.size >= 0 and run.status in _ENDED)

    def _trial(self, role: RoleRecord, parent: str) -> int:
        """One nested run a trial: its params once, then the journal's new steps, then how it ended."""
        folder = self.run_dir.trial(role.fingerprint)
        key, path = _trial_key(role), folder / journal.JOURNAL
        size = path.stat().st_size if path.exists() else 0
        known = self.store.state.runs.get(key)
        if known and known.size == size:
            return 0
        trial, entries = TrialRecord.read(folder / TRIAL), journal.read(path)
        if known and known.attempt != trial.attempt:  # begun anew: steps that MLflow has come again, with more metrics
            self.store.drop(key)
        config, own = trial.config, self._tags(role.combination, trial.config)
        title = f"{own['model']} × {own['objective']}" if role.combination else f"teacher {own['model']}"
        title += f" ×{own['scale']} " + (f"seed {role.seed}" if role.number is None else f"#{role.number}")
        kept = "raw, ema" if (config.get("train") or {}).get("ema") else "raw"
        own |= {"fingerprint": role.fingerprint, "role": role.role, "seed": role.seed}
        own |= {"trained_in": trial.trained_in, "weights": kept, "mlflow.parentRunId": parent}
        own |= {mlflow_store.ATTEMPT: trial.attempt}
        run, new = self.store.run(key, self.plan.name, title, own, _mtime(folder / TRIAL))
        if key not in self.store.asked:
            self.store.log_params(run.id, {**flatten(config), **role.params})
            run.step = max(run.step, self.store.last_step(run.id))
            self.store.asked.add(key)

        fresh = [entry for entry in journal.steps(entries) if entry["step"] > run.step]
        if fresh and run.status != "running":  # goes on after an interruption
            self.store.set_status(run, "running", None)
        new += self.store.log_steps(key, fresh)
        end = journal.end(entries)
        if end and entries[-1] is end and run.status != end["status"]:
            self.store.set_status(run, end["status"], end["time"], cause=end["cause"])
            new += 1
        run.size = size
        self.store.note("runs", key)
        return new

    def _tags(self, combination: str | None, config: Mapping[str, Any]) -> dict[str, Any]:
        planned = next((c for c in self.plan.combinations if c.id == combination), None)
        objective = config.get("objective") or {}
        return {
            "combination": combination,
            "model": planned.model if planned else config.get("model"),
            "objective": planned.objective if planned else None,
            "target": planned.target if planned else (objective.get("target") or {}).get("kind"),
            "loss": planned.loss if planned else (objective.get("loss") or {}).get("kind"),
            "scale": planned.scale if planned else config.get("scale"),
            "protocol": self.plan.protocol,
            **self._origin(),
        }

    def _origin(self) -> dict[str, str | None]:
        """What every run of the sweep is tagged with."""
        return {"run": self.plan.run, "data_hash": self.plan.data_text, "git_commit": self.plan.git_commit}

    def _scores(self, parent: str) -> int:
        """The board, one run a row, and a nested run for each evaluated winner, seed and kind of weights."""
        made = [
            self.folder / "leaderboard.json",
            self.run_dir.winners,
            *self.folder.glob("evaluation/*.parquet"),
        ]
        stamps = sorted(stamp(path) for path in made if path.exists())
        all_of_it = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()
        if self.store.state.scores == all_of_it:
            return 0
        when, new = _mtime(self.folder / "leaderboard.json"), 0
        boards = leaderboard.boards(self.folder)
        for board in boards:
            for entry in board.entries:
                new += self._row(board, entry, rows.name(board, entry, boards), when)
                for seed, fingerprint in entry.fingerprints.items():
                    if fingerprint:  # bicubic has no training to hang its scores on
                        new += self._evaluated(board, entry, seed, parent, when)
        self._each("view", functools.partial(self._first_sight, boards, parent, when))
        for board in exhibits.one_a_scale(boards):
            register = functools.partial(exhibits.model, self.store, self.run_dir, self.plan, board, parent)
            new += self._each(f"model/x{board.scale}", register)
        exhibits.forget_crops(self.store)  # a row that was made anew has none
        self.store.state.scores = all_of_it
        self.store.save()
        return new

    def _first_sight(self, boards: Sequence[Board], parent: str, when: float) -> None:
        """What one sees who opens MLflow: the board's columns, and the board in the sweep's own run."""
        shared = view.shared_view(boards[0])
        experiment = self.store.share(f"{self.plan.name} leaderboard", shared)
        page = view.board_page(experiment, shared.key)
        self.store.describe(parent, view.description(boards, page), *view.best(boards), when)

    def _row(self, board: Board, entry: Entry, name: str, when: float) -> int:
        """A row of the board; where what its search chose is another one now, a new run in the place of the old."""
        key, experiment = f"board/{rows.key(board, entry)}", f"{self.plan.name} leaderboard"
        tags = {**rows.of_row(board, entry), **self._origin()}
        told = name, tags, rows.numbers(board, entry), when
        return self._each(key, lambda: self.store.log_scores(key, experiment, *told, params=rows.params(board, entry)))

    def _evaluated(self, board: Board, entry: Entry, seed: int, parent: str, when: float) -> int:
        """One seed's mean over the images of each benchmark."""
        numbers = {
            f"{metric}.{board.title(column)}": value.by_seed.get(seed)
            for column, cell in entry.cells.items()
            for metric, value in cell.items()
        }
        fingerprint = entry.fingerprints[seed]
        tags = {
            **rows.tags(board, entry),
            **self._origin(),
            "role": "evaluation",
            "fingerprint": fingerprint,
            "seed": seed,
        }
        tags["mlflow.parentRunId"] = parent
        name = f"{entry.model} × {entry.objective} {board.at} seed {seed} {entry.weights} scores"
        key = f"scores/{rows.key(board, entry)}/{fingerprint[:16]}"
        return self._each(key, lambda: self.store.log_scores(key, self.plan.name, name, tags, numbers, when))

    def _files(self, parent: str) -> int:
        """Artifacts of the sweep's own run; a file goes out again when it has changed, and a link never."""
        sent = self.store.state.files
        found = [p for pattern in _FILES for p in sorted(self.folder.glob(pattern)) if not p.is_symlink()]
        changed = [p for p in found if sent.get(p.name) != stamp(p)]
        return sum(self._each(f"file/{path.name}", functools.partial(self._file, parent, path)) for path in changed)

    def _crops(self) -> int:
        """Pieces of the test sets' first images, as far as they have changed, in the rows' runs."""
        changed = exhibits.changed_crops(self.store, self.run_dir)
        boards = exhibits.one_a_scale(leaderboard.boards(self.folder)) if changed else []
        return sum(
            self._each(f"crops/{p.name}", functools.partial(exhibits.crops, self.store, p, boards)) for p in changed
        )

    def _file(self, parent: str, path: Path) -> int:
        sent = stamp(path)
        self.store.log_file(parent, path, path.parent.name if path.parent != self.folder else None)
        self.store.state.files[path.name] = sent
        self.store.note("files", path.name)
        return 1


def _trial_key(role: RoleRecord) -> str:
    return f"trial/{role.fingerprint[:16]}"


def _mtime(path: Path) -> float:
    return path.stat().st_mtime


def _no_newer(path: Path, board: Path) -> bool:
    return path.stat().st_mtime_ns <= board.stat().st_mtime_ns
