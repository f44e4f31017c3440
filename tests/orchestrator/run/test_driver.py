"""A run's home on a storage: one driver at a time, and the next one begins with what the last one knew."""

import errno
import json
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.run import lease
from orchestrator.run.access import LocalAccess
from orchestrator.run.driver import Home, home_of
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, Journal, read, steps
from orchestrator.run.records import begin_trial
from orchestrator.run.roles import Roles
from sr_models.command import interrupt_on_sigterm
from sr_models.errors import InputError
from sr_models.files import write_json

pytestmark = pytest.mark.usefixtures("quick_lease")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))


def machine(tmp_path: Path, name: str) -> Home:
    """The run as a driver on one machine sees it."""
    made = home_of(RunDir(tmp_path / name / "mine-01234567"), f"file://{tmp_path}/bucket")
    made.run.path.mkdir(parents=True, exist_ok=True)
    return made


def tell(home: Home, number: int) -> None:
    """What a driver does: its config once, and a study that grows."""
    home.run.config.write_text("name: mine\n")
    with closing(sqlite3.connect(home.run.path / "studies.db")) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS trials (number INTEGER)")
        database.execute("INSERT INTO trials VALUES (?)", (number,))
    home.push()


def told(home: Home) -> list[int]:
    with closing(sqlite3.connect(home.run.path / "studies.db")) as database:
        return [number for (number,) in database.execute("SELECT number FROM trials ORDER BY number")]


def test_a_run_moves_from_machine_to_machine_and_back(tmp_path):
    first, second = machine(tmp_path, "first"), machine(tmp_path, "second")
    with first.driven():
        tell(first, 1)
    with second.driven():
        assert told(second) == [1] and second.run.config.read_text() == "name: mine\n"
        tell(second, 2)
    assert told(first) == [1]
    with first.driven():
        assert told(first) == [1, 2], "what this machine knew is older"


def test_trials_that_another_run_began_come_too(tmp_path):
    """As those of a search that was taken over from its record: their roles come when the run is driven already."""
    home, other = machine(tmp_path, "first"), machine(tmp_path, "other")
    trial = make_plan(load("quick")).teacher_trial(2, "d" * 64)
    with home.driven():
        folder = other.run.trial(trial.fingerprint)
        folder.mkdir(parents=True)
        begin_trial(folder, trial, run="other", steered=True)
        Journal(folder / JOURNAL).step(5, 10, {"psnr_y": 30.0})
        other.access.push_trial(trial.fingerprint)
        Roles(home.run).add(trial, combination=None, role="teacher")
        assert not (home.run.trial(trial.fingerprint) / JOURNAL).exists()
        home.pull_trials()
        assert steps(read(home.run.trial(trial.fingerprint) / JOURNAL))[0]["step"] == 5


def test_the_longer_record_of_a_search_stays(tmp_path):
    first, second = machine(tmp_path, "first"), machine(tmp_path, "second")
    for home, text in ((first, "short"), (second, "shorter, then longer")):
        (home.run.output / "shared" / "searches").mkdir(parents=True)
        (home.run.output / "shared" / "searches" / "a.json").write_text(text)
    with second.driven():
        second.push()
    stored = tmp_path / "bucket" / "shared" / "searches" / "a.json"
    assert stored.read_text() == "shorter, then longer"
    first.push()
    assert stored.read_text() == "shorter, then longer"


def signed(tmp_path: Path) -> Path:
    return tmp_path / "bucket" / "mine-01234567" / "driver.json"


def killed(home: Home) -> None:
    """What a kill -9 of the folder's driver leaves: its last sign, and no farewell."""
    with home.driven():
        tell(home, 1)
        last = home.storage.read("driver.json")
    home.storage.write("driver.json", last)


@contextmanager
def clock(path: Path, ahead: float) -> Iterator[None]:
    """A driver of another machine, whose clock is ahead of ours, at work for the length of a `with` block."""
    done = threading.Event()

    def say() -> None:
        write_json(path, {"owner": "far:/runs", "id": "far", "time": time.time() + ahead})

    def beat() -> None:
        while not done.wait(lease.BEAT_SECONDS):
            say()

    say()
    alive = threading.Thread(target=beat)
    alive.start()
    try:
        yield
    finally:
        done.set()
        alive.join()


def test_two_drivers_at_once_are_refused(tmp_path, capsys):
    first, second = machine(tmp_path, "first"), machine(tmp_path, "second")
    with first.driven():
        tell(first, 1)
        with (
            pytest.raises(InputError, match=r"first/mine-01234567 drives this run, and has just given a sign of life"),
            second.driven(),
        ):
            pass
        with machine(tmp_path, "first").driven():  # the same folder has a lock of its own for that
            pass
    assert "drives this run now" not in capsys.readouterr().err


@pytest.mark.parametrize("ahead", [-200.0, 7200.0], ids=["slow", "fast"])
def test_a_driver_whose_clock_is_wrong_stays_while_it_lives_and_no_longer(tmp_path, ahead):
    home = machine(tmp_path, "second")
    with clock(signed(tmp_path), ahead):
        with pytest.raises(InputError, match="far:/runs drives this run"), home.driven():
            pass
        assert json.loads(signed(tmp_path).read_text())["id"] == "far"
    with home.driven():
        assert json.loads(signed(tmp_path).read_text())["id"] == home.run.driver_id


def test_a_driver_that_died_is_looked_for_and_then_replaced(tmp_path, capsys):
    first, second = machine(tmp_path, "first"), machine(tmp_path, "second")
    killed(first)
    began = time.monotonic()
    with second.driven():
        assert told(second) == [1] and time.monotonic() - began > lease.LEASE_SECONDS
    assert json.loads(signed(tmp_path).read_text())["time"] == 0
    assert capsys.readouterr().err.count("first/mine-01234567 left no farewell; looking for up to 1 s") == 1


def test_the_same_folder_goes_on_at_once_after_a_kill(tmp_path, monkeypatch):
    killed(machine(tmp_path, "first"))
    monkeypatch.setattr(lease, "LEASE_SECONDS", 60)
    began, again = time.monotonic(), machine(tmp_path, "first")
    with again.driven():
        assert told(again) == [1]
    assert time.monotonic() - began < 20


def test_two_containers_of_one_name_and_path_are_two(tmp_path):
    killed(first := machine(tmp_path, "first"))
    first.run.path.rename(tmp_path / "first" / "in the other container")
    second = machine(tmp_path, "first")
    began = time.monotonic()
    with second.driven():
        assert time.monotonic() - began > lease.LEASE_SECONDS
    assert first.shown == second.shown


def test_of_two_that_come_at_once_one_drives(tmp_path, monkeypatch):
    homes, ended = [machine(tmp_path, name) for name in ("first", "second", "third")], []
    monkeypatch.setattr(lease, "TIE_SECONDS", 0.5)
    told_all = threading.Barrier(3)

    def drive(home: Home) -> None:
        told_all.wait(10)
        try:
            with home.driven():
                ended.append("drove")
                told_all.wait(10)
        except InputError as error:
            ended.append(str(error))
            told_all.wait(10)

    threads = [threading.Thread(target=drive, args=(home,)) for home in homes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted("drove" if text == "drove" else "refused" for text in ended) == ["drove", "refused", "refused"]


def test_a_sign_that_is_missing_is_no_take_over(tmp_path, capsys):
    home = machine(tmp_path, "first")
    with home.driven():
        signed(tmp_path).unlink()
        until = time.monotonic() + 10
        while not signed(tmp_path).exists() and time.monotonic() < until:
            time.sleep(0.02)
        assert json.loads(signed(tmp_path).read_text())["id"] == home.run.driver_id
    assert "at work there now" not in capsys.readouterr().err


def test_a_driver_that_was_replaced_stops(tmp_path, capsys):
    home = machine(tmp_path, "first")
    before = signal.getsignal(signal.SIGTERM)
    interrupt_on_sigterm()
    with pytest.raises(KeyboardInterrupt), home.driven():
        signed(tmp_path).write_text(json.dumps({"owner": "far:/runs", "id": "far", "time": 1.0}))
        time.sleep(20)
    assert "far:/runs is at work there now" in capsys.readouterr().err
    signal.signal(signal.SIGTERM, before)
    assert json.loads(signed(tmp_path).read_text())["id"] == "far", "no farewell for another"


def test_a_damaged_sign_is_named(tmp_path):
    home = machine(tmp_path, "first")
    signed(tmp_path).parent.mkdir(parents=True)
    signed(tmp_path).write_text('{"owner": "fa')
    with pytest.raises(InputError, match=r"mine-01234567/driver\.json is damaged; delete it there"), home.driven():
        pass


def test_signs_of_life_go_on(tmp_path):
    home, seen = machine(tmp_path, "first"), set()
    with home.driven():
        until = time.monotonic() + 10
        while len(seen) < 3 and time.monotonic() < until:
            seen.add(signed(tmp_path).read_text())
            time.sleep(0.02)
    assert len(seen) >= 3


def test_a_run_in_its_folder_alone_has_nothing_to_carry(tmp_path):
    home = home_of(RunDir(tmp_path / "mine-01234567"), None)
    assert home.access == LocalAccess(home.run.path) and not home.is_shared
    assert home.shown == f"run folder {home.run.path}"
    home.visit()
    assert not home.run.path.exists(), "a visit leaves nothing behind"
    home.run.path.mkdir()
    home.run.config.touch()
    home.visit()
    assert not home.run.home.exists(), "in none that is there either"
    home.bind()
    with home.driven(), home_of(home.run, None).driven():
        tell(home, 1)
        home.pull_weights("0" * 64)
    assert sorted(path.name for path in home.run.path.iterdir()) == ["config.yaml", "home.json", "studies.db"]


def test_a_run_is_held_where_it_lives(tmp_path, refuse_writing):
    home = machine(tmp_path, "first")
    assert home.is_shared
    assert home.shown == f"run folder {home.run.path}, home file://{tmp_path}/bucket/mine-01234567"
    home.bind()
    with pytest.raises(InputError, match=r"--storage: this run lives at file://\S+/mine-01234567, not None"):
        home_of(home.run, None).bind()
    local = home_of(RunDir(tmp_path / "alone"), None)
    local.run.path.mkdir()
    local.bind()
    refuse_writing(tmp_path, errno.EROFS)
    local.bind()
    local.visit()
    with pytest.raises(InputError, match=r"this run lives in its folder alone, not file://\S+/alone"):
        home_of(local.run, f"file://{tmp_path}/bucket").bind()


def test_a_visit_to_a_storage_needs_room_here(tmp_path):
    (tmp_path / "first").touch()
    home = home_of(RunDir(tmp_path / "first" / "mine-01234567"), f"file://{tmp_path}/bucket")
    with pytest.raises(InputError, match=r"--storage: \S+/first/mine-01234567 cannot be written \(Not a directory\)"):
        home.visit()


def test_a_visit_brings_what_the_driver_wrote_and_drives_nothing(tmp_path):
    first, second = machine(tmp_path, "first"), machine(tmp_path, "second")
    with first.driven():
        tell(first, 1)
        second.visit()
    assert sorted(path.name for path in second.run.path.glob("[!.]*")) == ["config.yaml", "home.json"]
