"""A storage that is away is waited for: said once, no error, nothing made where a share should be; then it is lost."""

import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.run import outage
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.driver import home_of
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, Journal, steps
from orchestrator.run.mirrored import MirroredAccess
from orchestrator.run.outage import weathered
from orchestrator.storage.uri import Storage, StorageAway
from sr_models.errors import LostError

FINGERPRINT = "0123456789abcdef" * 4

pytestmark = pytest.mark.usefixtures("no_waiting", "quick_lease")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))


@contextmanager
def away(bucket: Path, seconds: float) -> Iterator[None]:
    """The share's folder is gone, and comes back after a while."""
    gone = bucket.with_name("gone")
    bucket.rename(gone)
    back = threading.Timer(seconds, lambda: gone.rename(bucket))
    back.start()
    yield
    back.join()


def test_what_fails_is_tried_again_and_said_once(capsys, monkeypatch):
    monkeypatch.setattr(outage, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(outage.time, "sleep", lambda _seconds: None)
    faults = [StorageAway("reading 'a' at s3://b failed: no route")] * 5
    for fault in faults:
        fault.where = "s3://b"

    def action() -> int:
        if faults:
            raise faults.pop()
        return 7

    assert weathered(action) == 7 and not faults
    assert capsys.readouterr().err.splitlines() == [
        "reading 'a' at s3://b failed: no route; trying again for up to 10 minutes", "storage s3://b is back",
    ]  # fmt: skip
    assert weathered(action) == 7 and capsys.readouterr().err == ""


def test_what_stays_away_is_lost(monkeypatch):
    monkeypatch.setattr(outage, "OUTAGE_SECONDS", 0.1)

    def action() -> None:
        raise StorageAway("reading 'a' at s3://b failed: no route")

    with pytest.raises(LostError, match=r"^reading 'a' at s3://b failed: no route, for 0 minutes$"):
        weathered(action)


def test_a_share_that_is_gone_is_away_and_not_empty(tmp_path):
    root = Storage.parse(str(tmp_path / "bucket"), "--storage")
    root.child("mine").check()
    share = pickle.loads(pickle.dumps(root.anchored("mine"))).child("shared")
    share.write("a", b"1")
    (tmp_path / "bucket").rename(tmp_path / "gone")
    for act in (
        lambda: share.read("a"),
        lambda: share.names(),
        lambda: share.write("a", b"2"),
        lambda: share.exists("a"),
        lambda: share.delete("a"),
        lambda: share.download("a", tmp_path / "copy"),
    ):
        with pytest.raises(StorageAway, match=r"/bucket/mine is not there; is it mounted\?"):
            act()
    assert not (tmp_path / "bucket").exists()
    (tmp_path / "gone").rename(tmp_path / "bucket")
    assert share.read("a") == b"1"


def test_a_run_outlives_a_share_that_is_away(tmp_path, capsys):
    """The driver's look at a trial, as it is taken in Tune's callbacks, a worker's writes, and the driver's own."""
    bucket = tmp_path / "bucket"
    home = home_of(RunDir(tmp_path / "runs" / "mine"), f"file://{bucket}")
    home.run.path.mkdir(parents=True)
    worker = pickle.loads(pickle.dumps(home.access.for_workers()))
    assert isinstance(worker, MirroredAccess)
    with home.driven():
        folder = worker.trial_folder(FINGERPRINT)
        folder.mkdir(parents=True)
        journal = Journal(folder / JOURNAL, lambda: worker.push_trial(FINGERPRINT))
        (folder / CHECKPOINT).write_text("step 1")
        journal.step(1, 3, {"loss": 1.0})
        with away(bucket, 0.7):
            assert [entry["step"] for entry in steps(home.access.read_journal(FINGERPRINT))] == [1]
        with away(bucket, 0.7):
            journal.step(2, 3, {"loss": 0.5})
        with away(bucket, 0.7), worker.claimed(FINGERPRINT):
            pass
        home.run.config.write_text("name: mine\n")
        with away(bucket, 0.7):
            home.push()
        assert [entry["step"] for entry in steps(home.access.read_journal(FINGERPRINT))] == [1, 2]
        assert (bucket / "mine/config.yaml").read_text() == "name: mine\n"
    said = capsys.readouterr().err
    assert said.count("trying again for up to 10 minutes") == said.count("is back") == 4
    assert "at work there now" not in said
