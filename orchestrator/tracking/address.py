"""A tracking store's address: which kinds there are, opening one, and what its errors mean.

Nothing is delivered here. MLflow and SQLAlchemy are imported when a store is opened, no sooner.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sqlite3
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from filelock import FileLock

from cluster.secrets import shown, without_login
from orchestrator.run.progress import say
from sr_models.errors import InputError
from sr_models.files import replacing

CHECK_TIMEOUT_S = 10.0
"""How long a tracking server may take to answer at the start."""

TABLES_TIMEOUT_S = 120.0
"""How long a database may take at the start: MLflow makes its tables the first time, slowly on a busy machine."""

LOCKED_S = 300.0
"""How long a locked SQLite file is waited for at the start."""

SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")


def check(uri: str) -> None:
    """Open the tracking store once, creating an SQLite database that is not there (two at a time would break it).

    Raises:
        InputError: a URI of an unknown kind, a database that cannot be opened or stays locked, no answer in time.
    """
    scheme = uri.split(":", 1)[0].split("+", 1)[0]
    if ":" not in uri or scheme not in SCHEMES or (scheme == "sqlite" and sqlite_file(uri) is None):
        raise InputError(
            f"tracking URI {shown(uri)!r}: expected sqlite:///FILE, http(s)://HOST:PORT or a postgresql or mysql URI"
        )
    if file := sqlite_file(uri):
        _await_unlocked(file)
    failure: list[Exception] = []

    def probe() -> None:
        try:
            if file := sqlite_file(uri):
                file.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{file}.lock"):
                    if not file.exists():
                        _make_tables(file)
                    client(uri).search_experiments(max_results=1)
                return
            if not uri.startswith("http"):
                _connect(uri)
            client(uri).search_experiments(max_results=1)
        except Exception as error:  # MLflow, Alembic and each driver have their own; the caller's thread raises it
            failure.append(error)

    thread = threading.Thread(target=probe, daemon=True)  # a server may accept and stay silent; give up on it
    thread.start()
    patience = CHECK_TIMEOUT_S if uri.startswith("http") else TABLES_TIMEOUT_S
    thread.join(patience)
    if thread.is_alive():
        raise InputError(f"tracking URI {shown(uri)!r}: no answer within {patience:.0f} s")
    if failure:
        raise InputError(f"tracking URI {shown(uri)!r}: {one_line(failure[0])}") from failure[0]


def _make_tables(file: Path) -> None:
    """Make an SQLite store; it gets its name when all tables are there, as MLflow goes on with none that a kill cut."""
    with replacing(file) as part:
        client(f"sqlite:///{part}").search_experiments(max_results=1)


def _await_unlocked(file: Path) -> None:
    """Wait, and say so once, while another program holds an SQLite file locked."""
    until, said = time.monotonic() + LOCKED_S, False
    while _is_locked(file):
        if time.monotonic() > until:
            raise InputError(f"{file} is locked by another program, for {LOCKED_S:.0f} s now")
        if not said:
            say(f"{file} is locked by another program; waiting for it")
            said = True
        time.sleep(0.5)


def _is_locked(file: Path) -> bool:
    """Whether an SQLite file is there and cannot be written because another program does, or forbids it."""
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_BUSY  # MLflow will say what else is wrong with it
    return False


def _connect(uri: str) -> None:
    """Raise at once what MLflow would only warn of, and try again for many minutes: a wrong password, a closed port."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def client(uri: str) -> Any:
    """An MLflow client for `uri`: quiet, without telemetry, and without retries that last minutes."""
    _set_environment()
    from mlflow.tracking import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # else a traceback beside every exception
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # else a line for every try of a long outage
    return MlflowClient(uri)


def failures() -> tuple[type[Exception], ...]:
    """What MLflow raises where something is not delivered: the store is away (`is_outage`), or refuses it."""
    _set_environment()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


_OF_THE_STORE = {401, 403, 407, 408, 429}
"""Answers below 500 that say nothing of what was sent: log in, not now, too often."""


def is_outage(error: Exception) -> bool:
    """Whether one of `failures()` is the store's (connection, 5xx, database), and not that of what was sent to it."""
    from mlflow.exceptions import MlflowException
    from requests import HTTPError
    from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

    if isinstance(error, HTTPError) and error.response is not None:  # as which a server answers an artifact
        status = error.response.status_code
    elif not isinstance(error, MlflowException):
        return True
    elif isinstance(error.__cause__, SQLAlchemyError):
        return not isinstance(error.__cause__, DataError | IntegrityError)
    elif error.error_code == "ENDPOINT_NOT_FOUND":
        return True
    else:
        status = error.get_http_status_code()
    return status >= 500 or status in _OF_THE_STORE


def _set_environment() -> None:
    """MLflow reads some of these when it is imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    quiet = {"LOGGING_LEVEL": "WARNING", "HTTP_REQUEST_MAX_RETRIES": "1", "HTTP_REQUEST_TIMEOUT": "30"}
    for name, value in quiet.items():
        os.environ.setdefault(f"MLFLOW_{name}", value)


def ui_command(uri: str) -> str:
    """The command that shows the runs in a browser at http://127.0.0.1:5000; a server is its own, so its address.

    The default server keeps MLflow's host and cross-origin checks on.
    """
    if uri.startswith("http"):
        return without_login(uri)
    beside = Path(sys.executable).parent / "mlflow"
    found = shutil.which("mlflow")
    program = "mlflow" if found and Path(found).resolve() == beside.resolve() else str(beside)
    flags = ["--backend-store-uri", shown(absolute(uri)), "--host", "127.0.0.1", "--port", "5000", "--workers", "1"]
    return shlex.join([program, "ui", *flags])


def one_line(error: BaseException) -> str:
    """What an error of MLflow or its database says, in at most 300 letters and without passwords."""
    said = str(error).partition("[SQL:")[0]  # SQLAlchemy adds the statement and a link
    return shown(" ".join(said.split()))[:300] or type(error).__name__


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite URI; None for other URIs and for a database in memory."""
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    return Path(path).absolute() if uri.startswith("sqlite:///") and path not in ("", ":memory:") else None


def absolute(uri: str) -> str:
    """An SQLite URI whose file does not depend on the working directory; others unchanged."""
    file = sqlite_file(uri)
    return f"sqlite:///{file}" if file else uri
