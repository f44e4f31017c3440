"""Sweeps on PostgreSQL and an MLflow server that is killed: all arrives once, and no password is in any output.

Three sweeps are run once for all tests here, each with Optuna's studies in PostgreSQL: one whose tracking server is
gone for a while, one whose tracking server comes back after the end, and one that writes to MLflow's database itself.
"""

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from PIL import Image

from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL
from orchestrator.run.records import MetricRecord, PlanRecord
from orchestrator.run.roles import read_roles
from orchestrator.search.studies import Studies
from orchestrator.tracking import __main__ as command
from orchestrator.tracking import address
from orchestrator.tracking.deliver import Tracker, mlflow_store
from sr_models.errors import InputError
from sr_models.files import read_json

psycopg = pytest.importorskip("psycopg", reason="the driver of PostgreSQL is in the extra `dev`")

ROOT = Path(__file__).resolve().parents[3]
BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
"""Debian's place for the newest PostgreSQL."""
MARK = "SR_STORES_TEST"
"""Environment variable that every process started here inherits, Ray's and MLflow's children included."""
PATIENCE = 240
"""Longest wait for one thing, in s; an idle machine needs a tenth."""

MARKS = (
    pytest.mark.cluster,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(4 * PATIENCE),
    pytest.mark.skipif(BIN is None, reason="no PostgreSQL server below /usr/lib/postgresql"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes in /proc"),
)


def served(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that needs the servers."""
    for mark in MARKS:
        test = mark(test)
    return test


def postgres_account() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: `subprocess`'s words for the account that Debian made for it."""
    if os.geteuid():
        return {}
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return {"user": "postgres", "group": "postgres", "extra_groups": []}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_until(condition: Callable[[], bool], alive: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert alive.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)


@dataclass
class Shelter:
    """A folder for everything that these tests leave, and the secrets that must not be in it.

    It has a short name of its own below /tmp because Ray's sockets do not fit below pytest's, which PostgreSQL's
    account could not enter either.
    """

    path: Path
    token: str = field(default_factory=lambda: secrets.token_hex(24))
    password: str = field(default_factory=lambda: secrets.token_hex(24))
    login: str = field(default_factory=lambda: secrets.token_hex(24))
    planted: str = field(default_factory=lambda: secrets.token_hex(24))
    """A string that is put where a secret must not be, to see that it would be found."""
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    seen: set[bytes] = field(default_factory=set)
    """Arguments of every process that ran on this machine meanwhile."""

    def environment(self, **more: str) -> dict[str, str]:
        ours = ("RAY_", "MLFLOW_", "OMP_", "PYTEST_", "SR_", "PG")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        here = {name: str(self.path / "own") for name in ("HOME", "TMPDIR", "RAY_TMPDIR", "SR_CACHE")}
        closed = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "MLFLOW_DISABLE_TELEMETRY": "true"}
        return {**inherited, **here, **closed, MARK: self.mark, "PYTHONPATH": str(ROOT), **more}

    def start(self, name: str, command: list[str], **environment: str) -> "subprocess.Popen[bytes]":
        """Run a command whose stdout and stderr go to one file."""
        with (self.path / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, env=self.environment(**environment), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                cwd=self.path / "own", start_new_session=True,
            )  # fmt: skip

    def look(self) -> None:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                self.seen.add((entry / "cmdline").read_bytes())
            except (FileNotFoundError, ProcessLookupError):
                continue

    def seen_with(self, text: str) -> list[bytes]:
        return [arguments for arguments in tuple(self.seen) if text.encode() in arguments]

    def end(self) -> None:
        """Kill whatever still runs of what was started here."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue


@pytest.fixture(scope="module")
def shelter() -> Iterator[Shelter]:
    made = Shelter(Path(tempfile.mkdtemp(prefix="sr-st-", dir="/tmp")))
    made.path.chmod(0o711)
    (made.path / "own").mkdir()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            made.look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield made
    over.set()
    watcher.join()
    made.end()
    shutil.rmtree(made.path)


@dataclass
class Postgres:
    port: int
    password: str
    log: Path

    def uri(self, database: str) -> str:
        return f"postgresql+psycopg://sr:{self.password}@127.0.0.1:{self.port}/{database}"

    def rows(self, database: str, query: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.uri(database).replace("+psycopg", ""), autocommit=True) as connection:
            done = connection.execute(query, values)
            return list(done.fetchall()) if done.description else []

    def dump(self, database: str) -> bytes:
        """Every table of a database as text."""
        return subprocess.run(
            [f"{BIN}/pg_dump", "-h", "127.0.0.1", "-p", str(self.port), "-U", "sr", "--inserts", database],
            env=os.environ | {"PGPASSWORD": self.password}, check=True, capture_output=True, timeout=PATIENCE,
        ).stdout  # fmt: skip

    def tables_made(self, database: str) -> list[tuple[float, str]]:
        """(time in s since 1970, table) of each one that was created."""
        made = re.findall(rf"^([\d.]+) {database} LOG:\s+[^:\n]+:\s*CREATE TABLE (\w+)", self.log.read_text(), re.M)
        return [(float(when), name) for when, name in made]


@pytest.fixture(scope="module")
def postgres(shelter: Shelter) -> Iterator[Postgres]:
    """A server that wants a password, with an empty database for Optuna and two for MLflow."""
    account, home = postgres_account(), shelter.path / "postgres"
    home.mkdir()
    if account:
        shutil.chown(home, "postgres", "postgres")
    password = shelter.path / "password"
    password.write_text(shelter.password)
    if account:
        shutil.chown(password, "postgres", "postgres")
    subprocess.run(
        [f"{BIN}/initdb", "-D", str(home / "data"), "-U", "sr", f"--pwfile={password}", "--auth=scram-sha-256",
         "--encoding=UTF8", "--no-sync"],
        check=True, capture_output=True, timeout=PATIENCE, **account,
    )  # fmt: skip
    password.unlink()
    made = Postgres(free_port(), shelter.password, shelter.path / "postgres.log")
    settings = {
        "port": made.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
        "log_statement": "ddl", "log_line_prefix": "%n %d ",
    }  # fmt: skip
    command = [f"{BIN}/postgres", "-D", str(home / "data")]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with made.log.open("wb") as log:
        server = subprocess.Popen(command, stderr=log, env={MARK: shelter.mark}, **account)

    def answers() -> bool:
        try:
            return made.rows("postgres", "SELECT 1") == [(1,)]
        except psycopg.OperationalError:
            return False

    try:
        wait_until(answers, server, made.log)
        for name in ("optuna", "mlflow", "direct"):
            made.rows("postgres", f"CREATE DATABASE {name}")
        yield made
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@dataclass
class TrackingServer:
    """`mlflow server` on PostgreSQL; its database's URI goes by the environment, not by its arguments."""

    shelter: Shelter
    database: str
    port: int = field(default_factory=free_port)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--artifacts-destination", str(self.shelter.path / "artifacts")]
        self.process = self.shelter.start(
            "mlflow", command, MLFLOW_BACKEND_STORE_URI=self.database, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"
        )

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def wait(self) -> None:
        wait_until(self.answers, self.process, self.shelter.path / "mlflow.log")

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def server(shelter: Shelter, postgres: Postgres) -> Iterator[TrackingServer]:
    made = TrackingServer(shelter, postgres.uri("mlflow"))
    made.start()
    try:
        made.wait()
        yield made
    finally:
        made.kill()


# ---- the sweeps --------------------------------------------------------------------------------------------------


@dataclass
class Sweep:
    """A sweep with its output, running or done."""

    shelter: Shelter
    name: str
    process: "subprocess.Popen[bytes]"

    @property
    def log(self) -> Path:
        return self.shelter.path / f"{self.name}.log"

    @property
    def run(self) -> Path:
        [found] = (self.shelter.path / "runs").glob(f"{self.name}-*/")
        return found

    def entries(self) -> list[dict[str, Any]]:
        """The steps of all journals."""
        return [entry for path in journals(self.run) for entry in journal.steps(journal.read(path))]

    def wait(self) -> str:
        """Its output, once it has ended well."""
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < until:
            self._keep_logs_of_ray()
            time.sleep(0.5)
        assert self.process.wait(0) == 0, self.log.read_text()[-3000:]
        return self.log.read_text()

    def _keep_logs_of_ray(self) -> None:
        """They go with the sweep."""
        kept = self.shelter.path / "logs-of-ray"
        kept.mkdir(exist_ok=True)
        for path in (self.shelter.path / "own").glob("ray-*/r/session_2*/logs/*"):
            if path.is_file():
                with suppress(FileNotFoundError):
                    shutil.copy(path, kept / f"{self.name}-{path.name}")


def journals(run: Path) -> set[Path]:
    """Of all trials that a run makes use of."""
    return {RunDir(run).trial(role.fingerprint) / JOURNAL for role in read_roles(RunDir(run))}


def start_sweep(
    shelter: Shelter,
    postgres: Postgres,
    name: str,
    steps: int,
    objectives: list[str],
    *options: str,
    **environment: str,
) -> Sweep:
    """One small network on generated images, its studies in PostgreSQL."""
    images = shelter.path / "images"
    for i, (split, count) in enumerate({"train": 2, "validation": 1, "test": 1}.items()):
        (images / split).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            pixels = np.random.Generator(np.random.Philox(10 * i + k)).integers(0, 256, (24, 28, 3), np.uint8)
            Image.fromarray(pixels).save(images / split / f"{k}.png")
    config = {
        "name": name,
        "models": {"edsr_baseline": {"channels": 8, "blocks": 1}},
        "objectives": objectives,
        "data": {
            "train": [{"hr": str(images / "train")}],
            "validation": [{"hr": str(images / "validation")}],
            "test": {"toy": {"hr": str(images / "test")}},
        },
        "train": {"steps": steps, "batch_size": 4, "patch": 8, "lr": 1e-3, "validate_every": steps // 20},
        "search": {"trials": 3, "startup_trials": 2},
        "seeds": 2,
        "resources": {"max_concurrent": 1},  # the search lasts as long on many cores as on two
    }
    path = shelter.path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "orchestrator.sweep", str(path), "--output", str(shelter.path / "runs"), *options]
    return Sweep(shelter, name, shelter.start(name, command, SR_STUDIES_URI=postgres.uri("optuna"), **environment))


@dataclass
class Outcome:
    sweep: Sweep
    output: str
    database: str
    outage: dict[str, float] = field(default_factory=dict)


@pytest.fixture(scope="module")
def interrupted(shelter: Shelter, postgres: Postgres, server: TrackingServer) -> Outcome:
    """The server is killed when the first metrics have arrived, and is back before the search is over."""
    login = server.uri.replace("://", f"://observer:{shelter.login}@")
    sweep = start_sweep(shelter, postgres, "gap", 600, ["l1", "expectation"], SR_TRACKING_URI=login)
    wait_until(lambda: postgres.rows("mlflow", "SELECT count(*) FROM metrics") > [(0,)], sweep.process, sweep.log)
    server.kill()
    gone, before = time.monotonic(), len(sweep.entries())
    server.start()
    server.wait()
    back, meanwhile = time.monotonic() - gone, len(sweep.entries()) - before
    assert not list((shelter.path / "runs").glob("gap-*/winners.json")), "the sweep was over too soon to tell anything"
    return Outcome(sweep, sweep.wait(), "mlflow", {"seconds": round(back, 1), "steps meanwhile": meanwhile})


@pytest.fixture(scope="module")
def left_behind(
    shelter: Shelter, postgres: Postgres, server: TrackingServer, interrupted: Outcome
) -> Iterator[Outcome]:
    """The server is killed when the first metrics have arrived, and is back only when the sweep has ended."""
    query = "SELECT count(*) FROM metrics"
    before = postgres.rows("mlflow", query)
    sweep = start_sweep(shelter, postgres, "late", 1000, ["l1"], "--tracking-uri", server.uri)
    wait_until(lambda: postgres.rows("mlflow", query) > before, sweep.process, sweep.log)
    server.kill()
    gone, known = time.monotonic(), len(sweep.entries())
    output = sweep.wait()
    meanwhile = len(sweep.entries()) - known
    server.start()
    server.wait()
    yield Outcome(sweep, output, "mlflow", {"seconds": round(time.monotonic() - gone, 1), "steps meanwhile": meanwhile})


@pytest.fixture(scope="module")
def direct(shelter: Shelter, postgres: Postgres) -> Outcome:
    """No server: the sweep's tracker writes to MLflow's database, which is empty when the sweep starts."""
    sweep = start_sweep(shelter, postgres, "direct", 40, ["l1"], SR_TRACKING_URI=postgres.uri("direct"))
    return Outcome(sweep, sweep.wait(), "direct")


def expected(run: Path) -> Counter[tuple[Any, ...]]:
    """(trial, metric, step, time, value) of all journals."""
    return Counter(
        (f"trial/{path.parent.name}", row.key, row.step, row.timestamp, row.value)
        for path in journals(run)
        for entry in journal.steps(journal.read(path))
        for row in mlflow_store.metric_rows(entry["metrics"], entry["step"], entry["time"])
    )


def arrived(postgres: Postgres, database: str, run: Path) -> Counter[tuple[Any, ...]]:
    """(trial, metric, step, time, value) of the folder's trials in MLflow's own table."""
    query = """
        SELECT k.value, m.key, m.step, m.timestamp, m.value FROM metrics m
        JOIN tags f ON f.run_uuid = m.run_uuid AND f.key = 'sr.folder' AND f.value = %s
        JOIN tags k ON k.run_uuid = m.run_uuid AND k.key = 'sr.key' AND k.value LIKE 'trial/%%'"""
    return Counter(postgres.rows(database, query, (run / "run.id").read_text().strip()))


def check_once(postgres: Postgres, done: Outcome) -> None:
    """Every metric and every run of the folder is in MLflow once, the board included; prints the numbers."""
    run = done.sweep.run
    wanted, got = expected(run), arrived(postgres, done.database, run)
    twice = sum(n - 1 for n in Counter((trial, key, step) for trial, key, step, *_ in got.elements()).values())
    print(
        f"\n{done.sweep.name}: {wanted.total()} metrics in {len({t for t, *_ in wanted})} journals, {got.total()} "
        f"arrived, {twice} duplicates, {(wanted - got).total()} missing; outage {done.outage or 'none'}"
    )
    assert wanted.total() > 100 and len({trial for trial, *_ in wanted}) >= 2
    assert got == wanted and twice == 0
    folder = (run / "run.id").read_text().strip()
    query = """SELECT k.value, s.value, r.status FROM runs r
        JOIN tags f ON f.run_uuid = r.run_uuid AND f.key = 'sr.folder' AND f.value = %s
        JOIN tags k ON k.run_uuid = r.run_uuid AND k.key = 'sr.key'
        JOIN tags s ON s.run_uuid = r.run_uuid AND s.key = 'status'"""
    rows = postgres.rows(done.database, query, folder)
    assert set(Counter(key for key, *_ in rows).values()) == {1}
    assert {status for _, _, status in rows} <= {"FINISHED"} and ("parent", "complete", "FINISHED") in rows
    boards = [key for key, *_ in rows if key.startswith("board/")]
    assert len(boards) == len(read_json(run / "leaderboard.json")["rows"]) > 1


def deliver(shelter: Shelter, outcome: Outcome, uri: str) -> str:
    command = [sys.executable, "-m", "orchestrator.tracking", str(outcome.sweep.run)]
    process = shelter.start("deliver", command, SR_TRACKING_URI=uri)
    assert process.wait(PATIENCE) == 0, (shelter.path / "deliver.log").read_text()[-3000:]
    return (shelter.path / "deliver.log").read_text().splitlines()[-1]


# ---- what they left ----------------------------------------------------------------------------------------------


@served
def test_a_server_that_is_gone_for_a_while_gets_every_metric_once(postgres: Postgres, interrupted: Outcome) -> None:
    check_once(postgres, interrupted)
    assert interrupted.outage["steps meanwhile"] > 0, "no trial waited for it"
    gone, back = (interrupted.sweep.run / "tracking.log").read_text().splitlines()
    assert " is away, trying again" in gone and back.endswith(" is back"), "a line each, however often it was tried"
    assert "tracking is behind" not in interrupted.output
    assert re.search(r"the board in it: http://127\.0\.0\.1:\d+/#/experiments/\d+", interrupted.output)


@served
def test_a_server_that_returns_after_the_end_gets_the_rest_by_a_command(
    shelter: Shelter, postgres: Postgres, server: TrackingServer, left_behind: Outcome
) -> None:
    assert "tracking is behind (see tracking.log)" in left_behind.output and left_behind.outage["steps meanwhile"] > 0
    run = left_behind.sweep.run
    assert arrived(postgres, "mlflow", run).total() < expected(run).total()
    assert int(re.findall(r"delivered (\d+) new", deliver(shelter, left_behind, server.uri))[0]) > 0
    check_once(postgres, left_behind)
    assert deliver(shelter, left_behind, server.uri).startswith("delivered 0 new")


@served
def test_a_database_without_a_server(shelter: Shelter, postgres: Postgres, direct: Outcome) -> None:
    check_once(postgres, direct)
    sent = [path.name for path in (shelter.path / "runs" / "mlflow-artifacts" / "direct").rglob("*")]
    assert "leaderboard.json" in sent and not list((shelter.path / "own").glob("mlruns"))


@served
def test_a_wrong_password_is_refused_at_once_in_one_line(tmp_path: Path, postgres: Postgres) -> None:
    wrong, config = secrets.token_hex(24), load("quick", [])
    uri = postgres.uri("mlflow").replace(postgres.password, wrong)
    start = time.monotonic()
    with pytest.raises(InputError, match=r"tracking URI .*password authentication failed") as tracking_error:
        address.check(uri)
    with pytest.raises(InputError, match=r"--studies-uri .*password authentication failed") as studies_error:
        Studies(uri, make_plan(config), lambda *_: pytest.fail("asked for a trial"), RunDir(tmp_path / "run"))
    assert time.monotonic() - start < address.CHECK_TIMEOUT_S
    for said in (str(tracking_error.value), str(studies_error.value)):
        assert wrong not in said and len(said.splitlines()) == 1


@served
def test_studies_are_in_postgresql_and_its_tables_were_made_once(
    shelter: Shelter, postgres: Postgres, interrupted: Outcome, left_behind: Outcome, direct: Outcome
) -> None:
    storage = optuna.storages.RDBStorage(postgres.uri("optuna"))
    found = {study.study_name: storage.get_all_trials(study._study_id) for study in storage.get_all_studies()}
    storage.engine.dispose()
    trials = {name.split("-")[0] + name.rpartition("/")[2]: len(trials) for name, trials in found.items()}
    assert trials == {"gapexpectation": 3}, "the others have nothing to search"
    assert all(trial.state.is_finished() for trials in found.values() for trial in trials)
    assert not list((shelter.path / "runs").rglob("studies.db"))

    first = {o.sweep.name: min(entry["time"] for entry in o.sweep.entries()) for o in (interrupted, direct)}
    for database, sweep in {"optuna": "gap", "mlflow": "gap", "direct": "direct"}.items():
        made = postgres.tables_made(database)
        assert len(made) > 5 and max(when for when, _ in made) < first[sweep], "all before the first trial's first step"
        if database == "optuna":  # MLflow's migrations make and rename some tables on their way
            assert set(Counter(name for _, name in made).values()) == {1}
    assert " ERROR: " not in postgres.log.read_text()


def holding(secret: str, folder: Path) -> list[str]:
    """Files below a folder that contain a string, in their bytes."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    return [str(path.relative_to(folder)) for path in files if secret.encode() in path.read_bytes()]


@served
def test_no_secret_is_in_any_output(
    shelter: Shelter, postgres: Postgres, interrupted: Outcome, left_behind: Outcome, direct: Outcome
) -> None:
    assert len(list((shelter.path / "logs-of-ray").iterdir())) > 10, "Ray's logs are among what is searched"
    assert shelter.seen_with("raylet") and shelter.seen_with("orchestrator.tracking"), "seen while they ran"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.uri("mlflow").replace("+psycopg", "").replace(shelter.password, "wrong"))

    # what would be found: a line of a log, a tag of a run, an argument of a process
    with (interrupted.sweep.run / "tracking.log").open("a") as log:
        log.write(f"a line with {shelter.planted}\n")
    query = "INSERT INTO experiment_tags (key, value, experiment_id) VALUES ('planted', %s, 0)"
    postgres.rows("mlflow", query, shelter.planted)
    sleeper = shelter.start("sleeper", [sys.executable, "-c", "import time; time.sleep(600)", shelter.planted])
    wait_until(lambda: shelter.seen_with(shelter.planted) != [], sleeper, interrupted.sweep.log)
    sleeper.kill()
    sleeper.wait()

    dumps = {name: postgres.dump(name) for name in ("optuna", "mlflow", "direct")}
    counts: dict[str, tuple[int, int, int]] = {}
    for name in ("planted", "token", "password", "login"):
        secret = getattr(shelter, name)
        inside = holding(secret, shelter.path)
        tables = [database for database, text in dumps.items() if secret.encode() in text]
        processes = shelter.seen_with(secret)
        counts[name] = len(inside), len(tables), len(processes)
        if name == "planted":
            assert str((interrupted.sweep.run / "tracking.log").relative_to(shelter.path)) in inside
            assert tables == ["mlflow"] and processes
        else:
            assert (inside, tables, processes) == ([], [], [])
    print(f"\n(files, databases, processes) with a secret: {counts}; {len(shelter.seen)} command lines were seen")


# ---- without servers ---------------------------------------------------------------------------------------------


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    """A run folder that has a plan, and no trial yet."""
    run = tmp_path / "mute-1a2b3c4d"
    PlanRecord(
        data_hash="d", benchmarks={}, numerics_version=1, inits={}, teachers={}, name="mute", run=run.name,
        config_hash="c", git_commit="f", metric=MetricRecord(name="psnr_y", higher_is_better=True),
        protocol="classical", combinations=(),
    ).write(run / "plan.json")  # fmt: skip
    return run


def test_a_run_that_a_dying_server_made_without_saying_so_is_found_again(
    planned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    uri = f"sqlite:///{planned.parent}/mlflow.db"
    address.check(uri)
    real = address.client(uri)
    make, calls = real.create_run, []

    def mute(*args: Any, **kwargs: Any) -> Any:
        calls.append(make(*args, **kwargs))
        if len(calls) == 1:
            raise MlflowException("connection reset by peer")
        return calls[-1]

    monkeypatch.setattr(real, "create_run", mute)
    monkeypatch.setattr(mlflow_store, "client", lambda _: real)
    (planned / "tracking.stop").touch()
    assert Tracker(planned, uri).follow(os.getppid(), interval_s=0.01)
    experiment = real.get_experiment_by_name("mute").experiment_id
    assert len(real.search_runs([experiment])) == len(calls) == 1


def test_a_command_whose_server_goes_away_says_so_in_a_line(
    planned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(address, "check", lambda _: None)
    uri = f"http://me:pass@127.0.0.1:{free_port()}"
    assert command.main([str(planned), "--tracking-uri", uri]) == 1
    said = capsys.readouterr().err
    assert "the same command delivers the rest: API request to http://***@127.0.0.1" in said
    assert len(said.splitlines()) == 1 and "pass" not in said
