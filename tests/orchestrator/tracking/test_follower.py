"""The tracker beside a sweep: started with its secret in the environment, told to finish, not waited for for ever."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.tracking import follower
from orchestrator.tracking.follower import Follower

URI = "http://me:sesame@host:5000"


class FakeProcess:
    """A tracker that ends with a code once it is told to, dies before, hangs, or is slow and delivers all the time."""

    def __init__(self, code: int, how: str, run: Path) -> None:
        self.code, self.how, self.run, self.killed = code, how, run, False
        self.waited: list[float | None] = []

    def poll(self) -> int | None:
        return self.code if self.how == "gone" else None

    def wait(self, seconds: float | None = None) -> int:
        self.waited.append(seconds)
        if self.how == "slow" and len(self.waited) < 20:
            os.utime(self.run / "tracking.json", ns=(0, len(self.waited)))
        if (self.how == "hangs" or (self.how == "slow" and len(self.waited) < 20)) and not self.killed:
            time.sleep(0.01)
            raise subprocess.TimeoutExpired("tracker", seconds or 0)
        assert self.how == "gone" or self.killed or (self.run / "tracking.stop").exists(), "nobody told it to finish"
        return self.code

    def kill(self) -> None:
        self.killed, self.code = True, -9


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Makes a follower whose process is a fake one; returns it with what it was started with."""

    def make(code: int = 0, how: str = "listens") -> tuple[Follower, list[tuple[Any, ...]], FakeProcess]:
        process, calls = FakeProcess(code, how, tmp_path), []
        monkeypatch.setattr(follower.subprocess, "Popen", lambda *args, **how: calls.append((args, how)) or process)
        return Follower(tmp_path, URI), calls, process

    return make


def test_it_follows_this_process_and_the_uri_is_in_no_argument(started, tmp_path):
    made, calls, _ = started()
    (tmp_path / "tracking.stop").touch()
    with made:
        assert not (tmp_path / "tracking.stop").exists(), "the last sweep's word is not for this tracker"
    [((command,), how)] = calls
    assert command == [sys.executable, "-m", "orchestrator.tracking", str(tmp_path), "--follow", str(os.getpid())]
    assert how["env"]["SR_TRACKING_URI"] == URI and how["env"].items() >= {"PATH": os.environ["PATH"]}.items()
    assert how["start_new_session"], "Ctrl-C is for the sweep"
    assert how["stdout"] is how["stderr"] and how["stdout"].name == str(tmp_path / "tracking.log")


@pytest.mark.parametrize(("code", "delivered"), [(0, True), (1, False)])
def test_it_is_told_to_finish_and_says_whether_all_is_delivered(started, tmp_path, code, delivered):
    made, _, process = started(code)
    with made:
        assert made.finish() is delivered
    assert (tmp_path / "tracking.stop").exists() and process.waited[0] == follower.POLL_SECONDS


def test_one_that_hangs_is_ended(started, monkeypatch):
    monkeypatch.setattr(follower, "FAREWELL_SECONDS", 0.05)
    made, _, process = started(how="hangs")
    with made:
        assert made.finish() is False
    assert process.killed


def test_one_that_delivers_has_the_time_it_needs(started, monkeypatch, tmp_path):
    monkeypatch.setattr(follower, "FAREWELL_SECONDS", 0.05)
    (tmp_path / "tracking.json").touch()
    made, _, process = started(how="slow")
    with made:
        assert made.finish() is True
    assert len(process.waited) >= 20 and not process.killed, "0.2 s, of which no 0.05 s passed without a delivery"


@pytest.mark.parametrize(("code", "delivered"), [(0, True), (1, False)])
def test_in_the_place_of_one_that_was_killed_another_delivers_once(started, tmp_path, code, delivered):
    made, calls, _ = started(code, how="gone")
    with made:
        assert not (tmp_path / "tracking.stop").exists()
        assert made.finish() is delivered
    assert len(calls) == 2 and calls[0][0] == calls[1][0], "and not a third one as the block ends"
    assert (tmp_path / "tracking.stop").exists(), "it ends once all is delivered"


def test_it_finishes_when_the_sweep_fails(started, tmp_path):
    made, _, _ = started()
    with pytest.raises(ValueError), made:
        raise ValueError
    assert (tmp_path / "tracking.stop").exists()
