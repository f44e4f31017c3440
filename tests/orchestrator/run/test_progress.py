"""Bars and lines go to standard error: standard output is the board's."""

import io
import os
import sys

import pytest

from orchestrator.run import progress
from orchestrator.run.progress import Bar, bar, duration, moves, say, tell


class Terminal(io.StringIO):
    """Standard error of someone who sits before it."""

    def isatty(self) -> bool:
        return True


def test_a_bar_in_a_log_is_lines_and_few_of_them(capsys):
    with bar("search", 1000) as made:
        for _ in range(1000):
            made.update()
    said = capsys.readouterr()
    assert said.out == "" and said.err.splitlines() == ["search 0% 0/1000 image", "search 100% 1000/1000 image"]


def test_nothing_is_said_of_nothing_to_do(capsys):
    with bar("patch stores", 0):
        pass
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_it_is_written_over_itself_within_its_width_and_without_codes(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda _: os.terminal_size((40, 24)))
    with bar("winners in full", 200000, "step", cost=lambda: "0.12 trial-h") as made:
        made.counts = {"done": 12, "stopped": 3, "failed": 0}
        say("a trial failed")
        made.update(200000)
    states = terminal.getvalue().split("\r")
    assert states[-1] == "winners in full 100% 200k/200k\n" and len(states[1]) <= 39
    assert "a trial failed\n" in states[-2] and "\x1b" not in terminal.getvalue()


def test_all_of_a_search_fits_eighty_columns(monkeypatch):
    made, now = Bar("search", 30000, "step", lambda: "0.12 trial-h"), made_at()
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    made.start_at(5000)
    made.update(8500)
    made.counts = {"done": 15, "stopped": 12, "failed": 1}
    assert made.text(80) == "search 45% 13.5k/30.0k, 1:56 left, 15 done 12 stopped 1 failed, 0.12 trial-h"
    made.counts = {"done": 100, "stopped": 112, "failed": 1}
    assert made.text(80) == "search 45% 13.5k/30.0k, 1:56 left, 100 done 112 stopped 1 failed, 0.12 trial-h"
    assert made.text(40) == "search 45% 13.5k/30.0k, 1:56 left"


def made_at():
    """Times of a clock that is asked: 0 while a bar begins, then a minute later."""
    yield from (0.0, 0.0)
    while True:
        yield 60.0


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0:00"), (65, "1:05"), (3600, "1:00:00"), (200000, "2 d 7:33:20")])
def test_a_duration_is_read_at_a_glance(seconds, said):
    assert duration(seconds) == said


def test_a_position_is_absolute(capsys):
    with bar("search", 10) as made:
        move = moves(made)
        seen = []
        for done in (3, 3, 7, 5, 10):
            move(done)
            seen.append(made.n)
    assert seen == [3, 3, 7, 5, 10], "a trial that starts again goes back"
    assert "10/10" in capsys.readouterr().err


def test_a_quiet_command_says_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_quiet", True)
    with bar("search", 2) as made:
        made.update(2)
        say("a trial failed")
        tell("the board")
    assert "".join(capsys.readouterr()) == ""
