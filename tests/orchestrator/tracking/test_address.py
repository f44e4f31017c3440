"""A tracking store's address: which ones are taken, what is printed of them, and which errors are an outage."""

import socket
import sqlite3
import threading
import time
from pathlib import Path

import pytest
import requests
from sqlalchemy.exc import DatabaseError, DataError, OperationalError

from orchestrator.tracking import address
from orchestrator.tracking.address import check, failures, is_outage, one_line, ui_command
from sr_models.errors import InputError


def test_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("mlruns", "file:///tmp/mlruns", "sqlite://", "sqlite:///:memory:", "ftp://host"):
        with pytest.raises(InputError, match=r"expected sqlite:///FILE"):
            check(wrong)
    (tmp_path / "file").write_text("no database")
    with pytest.raises(InputError, match=r"file/mlflow\.db"):
        check(f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(InputError, match="not a database"):
        check(f"sqlite:///{tmp_path}/file")

    monkeypatch.setattr(address, "CHECK_TIMEOUT_S", 1.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        there = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(InputError, match="tracking URI"):
            check(there)  # nobody listens yet
        silent.listen(4)
        with pytest.raises(InputError, match="no answer within"):
            check(there)
        assert time.monotonic() - start < 6


def test_ui_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ui_command("sqlite:///a b.db").endswith(
        f"mlflow ui --backend-store-uri 'sqlite:///{tmp_path}/a b.db' --host 127.0.0.1 --port 5000 --workers 1"
    )
    assert ui_command("http://host:5000") == ui_command("http://me:pass@host:5000") == "http://host:5000"
    shown = ui_command("postgresql://sr:pass@host/mlflow")
    assert "'postgresql://***@host/mlflow'" in shown and "pass" not in shown


def test_an_error_is_one_short_line_without_a_secret() -> None:
    assert "sesame" not in one_line(OSError(f"{'x' * 280} http://me:sesame@host is away")), "not even where it is cut"
    assert one_line(OSError("two\n  lines")) == "two lines" and len(one_line(OSError("x" * 999))) == 300
    assert one_line(TimeoutError()) == "TimeoutError"
    assert one_line(OSError("database is locked\n[SQL: SELECT 1]\n(Background on this error)")) == "database is locked"


def refusal(code: str, cause: Exception | None = None) -> Exception:
    from mlflow.exceptions import ErrorCode, MlflowException

    error = MlflowException("no", error_code=ErrorCode.Value(code))
    error.__cause__ = cause
    return error


def answer(status: int) -> Exception:
    """As which a server's answer to an artifact is raised."""
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} error", response=response)


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (ConnectionError("refused"), True),
        (OperationalError("select", None, Exception("locked")), True),
        (refusal("INTERNAL_ERROR"), True),  # as which MLflow raises a connection that is refused
        (refusal("TEMPORARILY_UNAVAILABLE"), True),
        (refusal("BAD_REQUEST", DatabaseError("select", None, Exception("malformed"))), True),
        (refusal("BAD_REQUEST", DataError("insert", None, Exception("too long"))), False),
        (refusal("UNAUTHENTICATED"), True),
        (refusal("REQUEST_LIMIT_EXCEEDED"), True),
        (refusal("ENDPOINT_NOT_FOUND"), True),
        (refusal("RESOURCE_DOES_NOT_EXIST"), False),
        (refusal("INVALID_PARAMETER_VALUE"), False),  # a deleted run is one
        *((answer(status), True) for status in (500, 502, 503, 504, 401, 403, 407, 408, 429)),
        *((answer(status), False) for status in (400, 404, 405, 409, 413, 415, 422)),
        (requests.HTTPError("no answer"), True),
        (requests.ConnectionError("refused"), True),
    ],
)
def test_an_outage_is_the_stores_and_not_that_of_what_was_sent(error: Exception, outage: bool) -> None:
    assert isinstance(error, failures()) and is_outage(error) is outage


def test_a_locked_database_is_waited_for_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mlflow.db"
    holder = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    holder.execute("CREATE TABLE t (x)")
    address._await_unlocked(file)
    assert capsys.readouterr().err == ""
    holder.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(0.8, holder.rollback)
    timer.start()
    address._await_unlocked(file)
    timer.join()
    assert capsys.readouterr().err == f"{file} is locked by another program; waiting for it\n"
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(address, "LOCKED_S", 0.1)
    with pytest.raises(InputError, match="is locked by another program, for"):
        check(f"sqlite:///{file}")
    holder.close()
    address._await_unlocked(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_a_store_has_its_name_when_all_its_tables_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow never goes on with half of them."""
    file, made = tmp_path / "new" / "mlflow.db", []

    def cut(uri: str) -> None:
        path = Path(uri.removeprefix("sqlite:///"))
        made.append(path)
        path.write_bytes(b"half a database")
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(address, "client", cut)
        with pytest.raises(InputError, match="killed"):
            check(f"sqlite:///{file}")
    assert made and not any(path.exists() for path in (file, *made))
    check(f"sqlite:///{file}")
    assert file.exists()
    check(f"sqlite:///{file}")
