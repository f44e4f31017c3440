"""MLflow as a projection of the run folder: one process reads journals and scores, and delivers what is new in batches.

Trials never talk to MLflow (https://mlflow.org/docs/latest/ml/tracking/); they append to their own journals. So a
tracking server that is away delays the board and never a trial, and nothing is lost: `python -m orchestrator.tracking
RUN --tracking-uri URI` delivers whatever is missing, at any time. A metric goes out once: its time stamp is the
journal's, and before an interrupted delivery goes on, MLflow is asked how far it came.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from eval.protocol import get_metric
from orchestrator import journal, leaderboard
from orchestrator.rundir import read_json, write_json, write_text
from sr_models.errors import InputError

CHECK_TIMEOUT_S = 10.0
"""How long a tracking server may take to answer at the start."""

INTERVAL_S = 2.0
"""Pause between two looks at the run folder."""

LOCK_WAIT_S = 60.0
"""How long to wait for the tracker of a killed driver to finish."""

LAST_ATTEMPTS = 3
"""Tries of the final delivery before what is left stays for another day."""

BATCH = 1000
"""MLflow's limit of metrics in one call."""

SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")

_STATUS = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "stopped": "KILLED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
_FILES = ("config.yaml", "plan.json", "winners.json", "leaderboard.*", "pictures/*.png")
_log = logging.getLogger("orchestrator.tracking")


def check(uri: str) -> None:
    """Open the tracking store once, creating an SQLite database that is not there (two at a time would break it).

    Raises:
        InputError: a URI of an unknown kind, a database that cannot be opened, no answer within `CHECK_TIMEOUT_S`.
    """
    scheme = uri.split(":", 1)[0].split("+", 1)[0]
    if ":" not in uri or scheme not in SCHEMES or (scheme == "sqlite" and _sqlite_file(uri) is None):
        raise InputError(
            f"tracking URI {uri!r}: expected sqlite:///FILE, http(s)://HOST:PORT or a postgresql or mysql URI"
        )
    failure: list[Exception] = []

    def probe() -> None:
        try:
            if (file := _sqlite_file(uri)) is None:
                client(uri).search_experiments(max_results=1)
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{file}.lock"):
                    client(uri).search_experiments(max_results=1)
        except Exception as error:  # handed to the caller's thread, which raises it
            failure.append(error)

    thread = threading.Thread(target=probe, daemon=True)  # a server may accept and stay silent; give up on it
    thread.start()
    thread.join(CHECK_TIMEOUT_S)
    if thread.is_alive():
        raise InputError(f"tracking URI {uri!r}: no answer within {CHECK_TIMEOUT_S:.0f} s")
    if failure:
        raise InputError(f"tracking URI {uri!r}: {_one_line(failure[0])}") from failure[0]


def client(uri: str) -> Any:
    """An MLflow client for `uri`: quiet, without telemetry, and without retries that last minutes."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    for name, value in {
        "LOGGING_LEVEL": "WARNING",
        "HTTP_REQUEST_MAX_RETRIES": "1",
        "HTTP_REQUEST_TIMEOUT": "30",
    }.items():
        os.environ.setdefault(f"MLFLOW_{name}", value)
    from mlflow.tracking import MlflowClient

    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(uri)


def ui_command(uri: str) -> str:
    """The command that shows the runs in a browser at http://127.0.0.1:5000; a server is its own, so its address.

    The default server keeps MLflow's host and cross-origin checks on.
    """
    if uri.startswith("http"):
        return uri
    beside = Path(sys.executable).parent / "mlflow"
    found = shutil.which("mlflow")
    program = "mlflow" if found and Path(found).resolve() == beside.resolve() else str(beside)
    flags = ["--backend-store-uri", _absolute(uri), "--host", "127.0.0.1", "--port", "5000", "--workers", "1"]
    return shlex.join([program, "ui", *flags])


def board_link(run_folder: Path, uri: str) -> str:
    """The page of `ui_command`'s server that shows the board sorted by its leading metric; "" until delivered."""
    plan, path = leaderboard.read_plan(run_folder), run_folder / "tracking.json"
    known = read_json(path)["experiments"] if path.exists() else {}
    board = known.get(f"{plan['name']} leaderboard")
    metric = leaderboard.leading_metric(run_folder, plan)
    ascending = "false" if get_metric(metric).higher_is_better else "true"
    query = f"orderByKey=metrics.%60{metric}%60&orderByAsc={ascending}"
    server = uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
    return f"{server}/#/experiments/{board}/runs?{query}" if board else ""


class Tracker:
    """Delivers one run folder to one tracking store; holds `RUN/tracking.lock` while it works.

    RUN/tracking.json says what was delivered; RUN/tracking.id names the folder in MLflow's tags, so that runs are found
    again if tracking.json is lost, and two folders of equal configs never share runs.
    """

    def __init__(self, run_folder: Path, uri: str) -> None:
        self.folder, self.uri = run_folder, _absolute(uri)
        self.lock = FileLock(run_folder / "tracking.lock")
        self.stopping = False
        self._client: Any = None
        self._state: dict[str, Any] = {}
        self._folder_id = ""
        self._live = self._away = False
        self._asked: set[str] = set()
        """Trials and experiments whose state in MLflow this process has looked up, and from then on knows."""

    def sync(self) -> int:
        """Deliver what is new; how many metric values, runs and files that was, 0 if nothing.

        Raises:
            InputError: not a run folder. Timeout: another tracker works on it. MLflow's errors: the store is away.
        """
        with self.lock.acquire(timeout=LOCK_WAIT_S):
            self._open()
            if not (self.folder / "plan.json").exists():
                return 0  # the sweep is still preparing its images
            self.plan = leaderboard.read_plan(self.folder)
            parent, new = self._parent()
            for path in sorted(self.folder.glob("trials/*/trial.json")):
                new += self._trial(path.parent, parent)
            if (self.folder / "leaderboard.json").exists():
                new += self._scores(parent)
            return new + self._files(parent)

    def finish(self) -> None:
        """Close the parent and what is still open: nobody works on this folder any more."""
        with self.lock.acquire(timeout=LOCK_WAIT_S):
            board, trials = self.folder / "leaderboard.json", list(self.folder.glob(f"trials/*/{journal.JOURNAL}"))
            done = board.exists() and all(path.stat().st_mtime_ns <= board.stat().st_mtime_ns for path in trials)
            for key, run in self._state.get("runs", {}).items():
                if run["status"] == "running":
                    self._set_status(run, "complete" if key == "parent" and done else "interrupted", time.time())
            self._save()

    def follow(self, parent_pid: int, interval_s: float = INTERVAL_S) -> bool:
        """Deliver until the parent process is gone or `RUN/tracking.stop` appears; whether all was delivered.

        A store that is away is logged once an outage and tried again at the next interval.
        """
        with self.lock.acquire(timeout=LOCK_WAIT_S):
            self._live = True
            while not self._last_call(parent_pid):
                self._attempt(self.sync)
                resume = time.monotonic() + interval_s
                while time.monotonic() < resume and not self._last_call(parent_pid):
                    time.sleep(min(0.1, interval_s))
            for attempt in range(LAST_ATTEMPTS):
                if attempt:
                    time.sleep(interval_s)
                if self._attempt(self.sync) and self._attempt(self.finish):
                    return True
            return False

    def _last_call(self, parent_pid: int) -> bool:
        return self.stopping or (self.folder / "tracking.stop").exists() or not _alive(parent_pid)

    def _attempt(self, deliver: Callable[[], object]) -> bool:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            deliver()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            if not self._away:
                _log.warning("tracking store %s is away, trying again until it is back: %s", self.uri, _one_line(error))
            self._away = True
            return False
        if self._away:
            _log.warning("tracking store %s is back", self.uri)
        self._away = False
        return True

    # ---- what is delivered

    def _parent(self) -> tuple[str, int]:
        """The sweep's own run."""
        plan = self.plan
        tags = {
            "role": "sweep", "run": plan["run"], "git_commit": plan["git_commit"], "data_hash": plan["data_hash"],
            "config_hash": plan["config_hash"], "protocol": plan["protocol"], "metric": plan["metric"]["name"],
        }  # fmt: skip
        run, new = self._run("parent", plan["name"], plan["run"], tags, _mtime(self.folder / "plan.json"))
        if run["status"] != "running" and self._live:
            self._set_status(run, "running", None)
        return run["id"], new

    def _trial(self, folder: Path, parent: str) -> int:
        """One nested run a trial: its params once, then the journal's new steps, then how it ended."""
        key, path = f"trial/{folder.name}", folder / journal.JOURNAL
        size = path.stat().st_size if path.exists() else 0
        known = self._state["runs"].get(key)
        if known and known["size"] == size:
            return 0
        trial = read_json(folder / "trial.json")
        config, own = trial["config"], self._tags(trial["combination"], trial["config"])
        title = f"{own['model']} × {own['objective']}" if trial["combination"] else f"teacher {own['model']}"
        title += f" ×{own['scale']} " + (f"seed {trial['seed']}" if trial["number"] is None else f"#{trial['number']}")
        kept = "raw, ema" if (config.get("train") or {}).get("ema") else "raw"
        own |= {**_pick(trial, "fingerprint", "role", "seed"), "weights": kept, "mlflow.parentRunId": parent}
        run, new = self._run(key, self.plan["name"], title, own, _mtime(folder / "trial.json"))
        if key not in self._asked:
            self._params(run["id"], {**flatten(config), **trial["params"]})
            run["step"] = max(run["step"], self._delivered(run["id"]))
            self._asked.add(key)

        entries = journal.read(path)
        fresh = [entry for entry in journal.steps(entries) if entry["step"] > run["step"]]
        if fresh and run["status"] != "running":  # goes on after an interruption
            self._set_status(run, "running", None)
        for batch in _batches(fresh):
            values = [value for entry in batch for value in _metrics(entry["metrics"], entry["step"], entry["time"])]
            self._client.log_batch(run["id"], metrics=values)
            run["step"] = batch[-1]["step"]
            new += len(values)
        end = journal.end(entries)
        if end and entries[-1] is end and run["status"] != end["status"]:
            self._set_status(run, end["status"], end["time"], cause=end["cause"])
            new += 1
        run["size"] = size
        self._save()
        return new

    def _scores(self, parent: str) -> int:
        """The board, one run a row, and a nested run for each evaluated winner, seed and kind of weights."""
        made = [
            self.folder / "leaderboard.json",
            self.folder / "winners.json",
            *self.folder.glob("evaluation/*.parquet"),
        ]
        stamp = hashlib.sha256(json.dumps(sorted(_stamp(path) for path in made if path.exists())).encode()).hexdigest()
        if self._state.get("scores") == stamp:
            return 0
        when, new = _mtime(self.folder / "leaderboard.json"), 0
        boards = leaderboard.boards(self.folder)
        for board in boards:
            suffix = f" ×{board.scale}" if len({b.scale for b in boards}) > 1 else ""
            suffix += f" [{board.protocol}]" if sum(b.scale == board.scale for b in boards) > 1 else ""
            for entry in board.entries:
                new += self._row(board, entry, board.name(entry) + suffix, when)
                for seed, fingerprint in entry.fingerprints.items():
                    if fingerprint:  # bicubic has no training to hang its scores on
                        new += self._evaluated(board, entry, seed, parent, when)
        self._state["scores"] = stamp
        self._save()
        return new

    def _row(self, board: leaderboard.Board, entry: leaderboard.Entry, name: str, when: float) -> int:
        """A row of the board: the leading metric's mean, then each benchmark's mean, spread and gain over bicubic."""
        named = [(board.metric, entry.lead)] if entry.lead else []
        named += [(f"{m}.{board.title(c)}", value) for c, cell in entry.cells.items() for m, value in cell.items()]
        numbers: dict[str, float | None] = {"rank": entry.rank, **_pick(entry.info, "parameters", "train_seconds")}
        for metric, value in named:
            numbers |= {metric: value.mean, f"{metric}.std": value.std, f"{metric}.gain": value.gain}
        tags = {**self._score_tags(board, entry), "role": "row", "mlflow.note.content": _note(entry)}
        return self._scored(
            f"board/{_key(board, entry)}", f"{self.plan['name']} leaderboard", name, tags, numbers, when
        )

    def _evaluated(
        self, board: leaderboard.Board, entry: leaderboard.Entry, seed: int, parent: str, when: float
    ) -> int:
        """One seed's mean over the images of each benchmark."""
        numbers = {
            f"{metric}.{board.title(column)}": value.by_seed.get(seed)
            for column, cell in entry.cells.items()
            for metric, value in cell.items()
        }
        fingerprint = entry.fingerprints[seed]
        tags = self._score_tags(board, entry) | {"role": "evaluation", "fingerprint": fingerprint, "seed": seed}
        name = f"{entry.model} × {entry.objective} ×{board.scale} seed {seed} {entry.weights} scores"
        key = f"scores/{_key(board, entry)}/{fingerprint[:16]}"
        return self._scored(key, self.plan["name"], name, {**tags, "mlflow.parentRunId": parent}, numbers, when)

    def _score_tags(self, board: leaderboard.Board, entry: leaderboard.Entry) -> dict[str, Any]:
        own = _pick(vars(entry), "combination", "model", "objective", "target", "loss", "weights", "precision")
        sweep = _pick(self.plan, "run", "data_hash", "git_commit")
        return {**own, **sweep, "scale": board.scale, "protocol": board.protocol}

    def _scored(
        self, key: str, experiment: str, name: str, tags: Mapping[str, Any], scores: Mapping[str, Any], when: float
    ) -> int:
        """A finished run that holds these scores; only values that differ from what MLflow has are sent."""
        run, new = self._run(key, experiment, name, tags, when)
        there = self._client.get_run(run["id"]).data.metrics
        values = [value for value in _metrics(scores, 0, when) if there.get(value.key) != value.value]
        for start in range(0, len(values), BATCH):
            self._client.log_batch(run["id"], metrics=values[start : start + BATCH])
        if run["status"] != "complete":
            self._set_status(run, "complete", when)
        return new + len(values)

    def _files(self, parent: str) -> int:
        """Artifacts of the sweep's own run; a file goes out again when it has changed."""
        sent: dict[str, list[Any]] = self._state["files"]
        changed = [p for pattern in _FILES for p in sorted(self.folder.glob(pattern)) if sent.get(p.name) != _stamp(p)]
        for path in changed:
            stamp = _stamp(path)
            self._client.log_artifact(parent, str(path), "pictures" if path.suffix == ".png" else None)
            sent[path.name] = stamp
            self._save()
        return len(changed)

    # ---- MLflow and what is remembered

    def _open(self) -> None:
        """Connect and recall what was delivered; after this, only this process writes."""
        if self._client is not None:
            return
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} is not a run folder")
        if not (self.folder / "tracking.id").exists():
            write_text(self.folder / "tracking.id", uuid.uuid4().hex + "\n")
        self._folder_id = (self.folder / "tracking.id").read_text(encoding="utf-8").strip()
        path = self.folder / "tracking.json"
        state = read_json(path) if path.exists() else {}
        self._state = (
            state if state.get("uri") == self.uri else {"uri": self.uri, "experiments": {}, "runs": {}, "files": {}}
        )
        self._client = client(self.uri)

    def _save(self) -> None:
        write_json(self.folder / "tracking.json", self._state)

    def _experiment(self, name: str) -> str:
        known: dict[str, str] = self._state["experiments"]
        if name not in known:
            found = self._client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "deleted":
                self._client.restore_experiment(found.experiment_id)
            place = self._artifacts(name)
            known[name] = (
                found.experiment_id if found else self._client.create_experiment(name, artifact_location=place)
            )
        if name not in self._asked:  # a process killed after making a run left one that only MLflow knows
            self._recall(known[name])
            self._asked.add(name)
        return known[name]

    def _artifacts(self, name: str) -> str | None:
        """Beside an SQLite file; wherever a server or another database puts them otherwise."""
        file = _sqlite_file(self.uri)
        return (file.parent / f"{file.stem}-artifacts" / _safe(name).replace("/", "_")).as_uri() if file else None

    def _recall(self, experiment: str) -> None:
        """Find this folder's runs that MLflow has and tracking.json has not."""
        token = None
        while True:
            page = self._client.search_runs(
                [experiment], f"tags.`sr.folder` = '{self._folder_id}'", max_results=1000, page_token=token
            )
            for run in page:
                status = run.data.tags.get("status", "running")
                self._state["runs"].setdefault(run.data.tags["sr.key"], _record(run.info.run_id, status))
            token = page.token
            if not token:
                return

    def _run(
        self, key: str, experiment: str, name: str, tags: Mapping[str, Any], start: float
    ) -> tuple[dict[str, Any], int]:
        """The record of the run called `key`, and 1 if it had to be made."""
        own = self._experiment(experiment)
        runs: dict[str, Any] = self._state["runs"]
        if key in runs:
            return runs[key], 0
        every = {**tags, "status": "running", "sr.folder": self._folder_id, "sr.key": key}
        if tags.get("git_commit"):
            every["mlflow.source.git.commit"] = tags["git_commit"]
        text = {tag: str(value)[:5000] for tag, value in every.items() if value is not None}
        made = self._client.create_run(own, start_time=int(start * 1000), tags=text, run_name=name)
        runs[key] = _record(made.info.run_id, "running")
        self._save()
        return runs[key], 1

    def _set_status(self, run: dict[str, Any], status: str, end: float | None, cause: str | None = None) -> None:
        if cause:
            self._client.set_tag(run["id"], "cause", cause[:5000])
        if end is None:
            self._client.update_run(run["id"], status=_STATUS[status])
        else:
            self._client.set_terminated(run["id"], _STATUS[status], end_time=int(end * 1000))
        self._client.set_tag(run["id"], "status", status)
        run["status"] = status

    def _params(self, run_id: str, values: Mapping[str, Any]) -> None:
        """Log params in MLflow's batches of 100; a param cannot change, so what is there stays."""
        from mlflow.entities import Param

        there = self._client.get_run(run_id).data.params
        params = [
            Param(_safe(name)[:250], _text(value)[:6000])
            for name, value in values.items()
            if _safe(name)[:250] not in there
        ]
        for start in range(0, len(params), 100):
            self._client.log_batch(run_id, params=params[start : start + 100])

    def _delivered(self, run_id: str) -> int:
        """The last step MLflow has of a run, -1 for none; a step's metrics always go out in one call."""
        keys = self._client.get_run(run_id).data.metrics
        return max((m.step for key in keys for m in self._client.get_metric_history(run_id, key)), default=-1)

    def _tags(self, combination: str | None, config: Mapping[str, Any]) -> dict[str, Any]:
        one: dict[str, Any] = next((c for c in self.plan["combinations"] if c["id"] == combination), {})
        objective = config.get("objective") or {}
        return {
            "combination": combination,
            "model": one.get("model", config.get("model")),
            "objective": one.get("objective"),
            "target": one.get("target", (objective.get("target") or {}).get("kind")),
            "loss": one.get("loss", (objective.get("loss") or {}).get("kind")),
            "scale": one.get("scale", config.get("scale")),
            **_pick(self.plan, "run", "protocol", "data_hash", "git_commit"),
        }


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; empty mappings vanish."""
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= flatten(item, f"{prefix}{name}.") if isinstance(item, Mapping) else {f"{prefix}{name}": item}
    return flat


def _note(entry: leaderboard.Entry) -> str:
    best = ", ".join(f"{name} = {_text(value)}" for name, value in entry.info["params"].items())
    return f"winner: trial #{entry.info['number']} ({best})" if best else ""


def _metrics(values: Mapping[str, Any], step: int, when: float) -> list[Any]:
    """MLflow metrics of the numbers among `values`; the same input gives the same rows, which MLflow stores once."""
    from mlflow.entities import Metric

    numbers = {_safe(k)[:250]: float(v) for k, v in values.items() if isinstance(v, int | float)}
    return [Metric(name, number, int(when * 1000), step) for name, number in numbers.items()]


def _batches(entries: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Groups of whole steps with at most BATCH metrics."""
    group: list[dict[str, Any]] = []
    for entry in entries:
        if group and sum(len(e["metrics"]) for e in [*group, entry]) > BATCH:
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _record(run_id: str, status: str) -> dict[str, Any]:
    """What is remembered of a run: `step` is the last one delivered, `size` the journal's when it was read (bytes)."""
    return {"id": run_id, "status": status, "step": -1, "size": -1}


def _key(board: leaderboard.Board, entry: leaderboard.Entry) -> str:
    return "/".join([entry.combination, entry.weights, entry.precision, board.protocol])


def _pick(source: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: source[name] for name in names}


def _safe(name: str) -> str:
    """A name that MLflow accepts for metrics and params."""
    return re.sub(r"[^\w.\- :/]", "_", name).strip("/").replace("//", "/")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _mtime(path: Path) -> float:
    return path.stat().st_mtime


def _stamp(path: Path) -> list[Any]:
    found = path.stat()
    return [path.name, found.st_size, found.st_mtime_ns]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite URI; None for other URIs and for a database in memory."""
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    return Path(path).absolute() if uri.startswith("sqlite:///") and path not in ("", ":memory:") else None


def _absolute(uri: str) -> str:
    """An SQLite URI whose file does not depend on the working directory; others unchanged."""
    file = _sqlite_file(uri)
    return f"sqlite:///{file}" if file else uri


def _alive(pid: int) -> bool:
    """Whether a process runs; a killed one that nobody has buried yet does not."""
    status = Path(f"/proc/{pid}/stat")
    if status.parent.parent.joinpath("self").exists():
        try:
            return status.read_text().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Deliver a run folder; 0 when all is delivered, 1 when the store stayed away, 2 for a wrong folder or URI."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.tracking", description="Deliver a run folder to MLflow."
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, such as runs/quick-1a2b3c4d")
    parser.add_argument("--tracking-uri", required=True, metavar="URI", help="sqlite:///FILE or http://HOST:PORT")
    parser.add_argument(
        "--follow", type=int, metavar="PID", help="go on until this process ends or RUN/tracking.stop appears"
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    try:
        tracker = Tracker(arguments.run, arguments.tracking_uri)
        if arguments.follow is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver's to handle; it tells us when to stop
            signal.signal(signal.SIGTERM, lambda *_: setattr(tracker, "stopping", True))
            return 0 if tracker.follow(arguments.follow) else 1
        leaderboard.read_plan(arguments.run)
        check(arguments.tracking_uri)
        print(f"delivered {tracker.sync()} new values, runs and files to {tracker.uri}")
        tracker.finish()
    except Timeout:
        print(f"{parser.prog}: another process is delivering {arguments.run}", file=sys.stderr)
        return 1
    except InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
