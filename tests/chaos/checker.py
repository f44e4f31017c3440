"""What a sweep has come to, read from its folder, its studies and MLflow's database, and what is wrong with that.

`look` reads and `check` compares; nothing here knows which fault struck.
"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
import pyarrow.parquet as pq

from orchestrator.run import journal
from orchestrator.run.folder import RunDir, trial_name
from orchestrator.run.roles import read_roles
from sr_models.files import read_json

STATUS = {"complete": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
"""How a journal's end is called in MLflow."""

Metrics = Mapping[tuple[str, int], float]
"""(metric, step) -> value."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as in a sweep that nobody disturbed."""

    kind: Literal["lost", "duplicated", "different", "open"]
    text: str


@dataclass(frozen=True)
class Trial:
    """What a trial's folder says of it."""

    status: str | None
    steps: tuple[int, ...]
    """Of the journal, in its order."""
    metrics: Metrics
    """The clock aside."""
    weights: str | None
    """sha256 of the exported ones."""


@dataclass(frozen=True)
class Tracked:
    """One of MLflow's runs of a trial."""

    status: str
    points: tuple[tuple[str, int, float], ...]
    """(metric, step, value) of each stored row, the clock aside."""


@dataclass(frozen=True)
class Found:
    """What a sweep has come to; names of trials are their fingerprints."""

    roles: tuple[str, ...]
    """`role trial` of each line in roles.jsonl."""
    told: tuple[str, ...]
    """`study trial state` of each trial in the studies."""
    trials: Mapping[str, Trial]
    rows: tuple[str, ...]
    """Combination, trial, seed and image of each scored image."""
    board: tuple[str, ...]
    """The board's rows as JSON, without what they cost."""
    tracked: Mapping[str, tuple[Tracked, ...]]
    running: tuple[str, ...]
    """Names of MLflow's runs that are not closed."""


# ---- reading ---------------------------------------------------------------------------------------------------------


def look(run: Path, studies_url: str, mlflow_db: Path, storage: Path) -> Found:
    """Read a finished run; weights that are in no mean stay on its storage, if it has one."""
    roles = read_roles(RunDir(run))
    tracked, running = _tracked(mlflow_db)
    return Found(
        roles=tuple(f"{one.role} {one.fingerprint}" for one in roles),
        told=tuple(_told(studies_url)),
        trials={
            one.fingerprint: _trial(RunDir(run).trial(one.fingerprint), storage / trial_name(one.fingerprint))
            for one in roles
        },
        rows=tuple(
            f"{row['combination']} {row['fingerprint']} {row['seed']} {Path(row['image']).stem}"
            for path in sorted((run / "evaluation").glob("*.parquet"))
            for row in pq.read_table(path).to_pylist()
        ),
        board=tuple(json.dumps(_timeless(row)) for row in read_json(run / "leaderboard.json")["rows"]),
        tracked=tracked,
        running=running,
    )


def _told(url: str) -> Iterator[str]:
    storage = optuna.storages.RDBStorage(url)
    for study in storage.get_all_studies():
        for trial in storage.get_all_trials(study._study_id, deepcopy=False):
            yield f"{study.study_name} {trial.user_attrs.get('fingerprint')} {trial.state.name}"
    storage.engine.dispose()


def _trial(folder: Path, stored: Path) -> Trial:
    entries = journal.read(folder / journal.JOURNAL)
    weights = next((path for place in (folder, stored) for path in place.glob("model/model.safetensors")), None)
    steps, end = journal.steps(entries), journal.end(entries)
    return Trial(
        status=end["status"] if end else None,
        steps=tuple(entry["step"] for entry in steps),
        metrics={
            (name, entry["step"]): value for entry in steps for name, value in entry["metrics"].items() if _counts(name)
        },
        weights=hashlib.sha256(weights.read_bytes()).hexdigest() if weights else None,
    )


def _tracked(path: Path) -> tuple[dict[str, tuple[Tracked, ...]], tuple[str, ...]]:
    """Trial -> MLflow's runs of it that are not deleted, and the names of those that are not closed."""
    found: dict[str, tuple[Tracked, ...]] = {}
    with closing(sqlite3.connect(path)) as database:
        tags: dict[str, dict[str, str]] = {}
        for run, key, value in database.execute("SELECT run_uuid, key, value FROM tags"):
            tags.setdefault(run, {})[key] = value
        runs = list(database.execute("SELECT run_uuid, name, status FROM runs WHERE lifecycle_stage = 'active'"))
        for run, _, status in runs:
            own = tags.get(run, {})
            if "fingerprint" in own and own.get("role") != "evaluation":
                rows = database.execute("SELECT key, step, value FROM metrics WHERE run_uuid = ?", (run,))
                points = tuple(sorted(row for row in rows if _counts(row[0])))
                found[own["fingerprint"]] = (*found.get(own["fingerprint"], ()), Tracked(status, points))
    return found, tuple(name for _, name, status in runs if status == "RUNNING")


def _counts(metric: str) -> bool:
    return "seconds" not in metric


def _timeless(value: Any) -> Any:
    """The same without the clock's columns, which no two runs share."""
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if _counts(key)}
    return value


# ---- judging ---------------------------------------------------------------------------------------------------------


def check(found: Found, expected: Found) -> list[Finding]:
    """What is wrong with a finished sweep; `expected` is one of the same config that nobody disturbed."""
    return [
        *_once("role", found.roles, expected.roles),
        *_once("told trial", found.told, expected.told),
        *_once("scored image", found.rows, expected.rows),
        *_board(found.board, expected.board),
        *(
            finding
            for name, trial in expected.trials.items()
            for finding in _same_trial(name[:16], found.trials.get(name), trial)
        ),
        *(
            finding
            for name, trial in found.trials.items()
            for finding in _same_tracked(name[:16], found.tracked.get(name, ()), trial)
        ),
        *(Finding("open", f"MLflow's run {name!r} is RUNNING") for name in found.running),
    ]


def _once(what: str, found: Sequence[str], expected: Sequence[str]) -> Iterator[Finding]:
    """Each of the expected is there once, in any order, and nothing else is."""
    for name, count in (Counter(expected) - Counter(found)).items():
        yield Finding("lost", f"{count} {what} {name}")
    for name, count in (Counter(found) - Counter(expected)).items():
        yield Finding("duplicated" if name in expected else "different", f"{count} {what} {name} too many")


def _board(found: Sequence[str], expected: Sequence[str]) -> Iterator[Finding]:
    if len(found) < len(expected):
        yield Finding("lost", f"the board has {len(found)} of {len(expected)} rows")
    for row, other in zip(found, expected, strict=False):
        if row != other:
            yield Finding("different", f"row of the board: {row[:200]} instead of {other[:200]}")


def _same_trial(name: str, found: Trial | None, expected: Trial) -> Iterator[Finding]:
    if found is None:
        yield Finding("lost", f"trial {name}")
        return
    yield from _once(f"trial {name} step", [*map(str, found.steps)], [*map(str, expected.steps)])
    if found.status is None:
        yield Finding("lost", f"trial {name}: its end")
    for what in ("status", "metrics", "weights"):
        if (is_now := getattr(found, what)) != (was := getattr(expected, what)) and is_now is not None:
            yield Finding("different", f"trial {name}: {what} {str(is_now)[:100]} instead of {str(was)[:100]}")
    if found.weights is None and expected.weights is not None:
        yield Finding("lost", f"trial {name}: its weights")


def _same_tracked(name: str, found: Sequence[Tracked], trial: Trial) -> Iterator[Finding]:
    """MLflow has a trial in one run, with each value of its journal once."""
    if len(found) != 1:
        yield Finding("duplicated" if found else "lost", f"trial {name}: {len(found)} runs in MLflow")
    for run in found[:1]:
        points = [repr(point) for point in run.points]
        in_journal = [repr((metric, step, float(value))) for (metric, step), value in trial.metrics.items()]
        yield from _once(f"trial {name}: MLflow's point", points, in_journal)
        if trial.status and run.status != STATUS[trial.status]:
            yield Finding("different", f"trial {name} is {trial.status}, and {run.status} in MLflow")
