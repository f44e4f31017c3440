"""A run's home on a storage: one driver at a time, and the next one begins with what the last one knew."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.run import driver as homes
from orchestrator.run import lease
from orchestrator.run.access import LocalAccess
from orchestrator.run.driver import Home, home_of
from orchestrator.run.folder import RunDir
from sr_models.errors import InputError


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


def test_two_drivers_at_once_are_refused(tmp_path):
    first, second = machine(tmp_path, "first"), machine(tmp_path, "second")
    with first.driven():
        tell(first, 1)
        with (
            pytest.raises(InputError, match=r"first/mine-01234567 drives this run, and was alive \d+ s ago"),
            second.driven(),
        ):
            pass
        with machine(tmp_path, "first").driven():  # the same machine has a lock of its own for that
            pass


def test_a_driver_that_died_is_waited_for_and_then_replaced(tmp_path, monkeypatch):
    first, second = machine(tmp_path, "first"), machine(tmp_path, "second")
    with first.driven():
        tell(first, 1)
    signed = tmp_path / "bucket" / "mine-01234567" / "driver.json"
    owner = json.loads(signed.read_text())["owner"]
    signed.write_text(json.dumps({"owner": owner, "time": time.time()}))  # a kill -9 leaves it so
    with pytest.raises(InputError, match=r"try again in 1[12]\d s"), second.driven():
        pass
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0)
    with second.driven():
        assert told(second) == [1]
    assert json.loads(signed.read_text())["time"] == 0


def test_signs_of_life_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(homes, "BEAT_SECONDS", 0.05)
    home, seen = machine(tmp_path, "first"), set()
    with home.driven():
        until = time.monotonic() + 10
        while len(seen) < 3 and time.monotonic() < until:
            seen.add((tmp_path / "bucket" / "mine-01234567" / "driver.json").read_text())
            time.sleep(0.02)
    assert len(seen) >= 3


def test_a_run_in_its_folder_alone_has_nothing_to_carry(tmp_path):
    home = home_of(RunDir(tmp_path / "mine-01234567"), None)
    assert home.access == LocalAccess(home.run.path) and not home.is_shared
    assert home.shown == f"run folder {home.run.path}"
    home.visit()
    assert not home.run.path.exists(), "a visit leaves nothing behind"
    home.run.path.mkdir()
    home.bind()
    with home.driven(), home_of(home.run, None).driven():
        tell(home, 1)
        home.pull_weights("0" * 64)
    assert sorted(path.name for path in home.run.path.iterdir()) == ["config.yaml", "home.json", "studies.db"]


def test_a_run_is_held_where_it_lives(tmp_path):
    home = machine(tmp_path, "first")
    assert home.is_shared
    assert home.shown == f"run folder {home.run.path}, home file://{tmp_path}/bucket/mine-01234567"
    home.bind()
    with pytest.raises(InputError, match=r"--storage: this run lives at file://\S+/mine-01234567, not None"):
        home_of(home.run, None).bind()
    local = home_of(RunDir(tmp_path / "alone"), None)
    local.run.path.mkdir()
    local.bind()
    with pytest.raises(InputError, match=r"this run lives in its folder alone, not file://\S+/alone"):
        home_of(local.run, f"file://{tmp_path}/bucket").bind()


def test_a_visit_brings_what_the_driver_wrote_and_drives_nothing(tmp_path):
    first, second = machine(tmp_path, "first"), machine(tmp_path, "second")
    with first.driven():
        tell(first, 1)
        second.visit()
    assert sorted(path.name for path in second.run.path.glob("[!.]*")) == ["config.yaml", "home.json"]
