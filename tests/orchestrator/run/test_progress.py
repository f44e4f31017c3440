"""Bars and lines go to standard error: standard output is the board's."""

from orchestrator.run.progress import bar, moves, say


def test_a_bar_is_on_standard_error(capsys):
    with bar("evaluation", 4, unit="row") as made:
        made.update(4)
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("\r") and "evaluation      : 100%" in said.err
    assert "4/4" in said.err and "row" in said.err


def test_a_bar_in_a_log_has_few_states(capsys):
    with bar("search", 1000) as made:
        for _ in range(1000):
            made.update(1)
    assert capsys.readouterr().err.count("search") <= 3, "its begin, its end"


def test_a_position_is_absolute(capsys):
    with bar("search", 10) as made:
        move = moves(made)
        seen = []
        for done in (3, 3, 7, 5, 10):
            move(done)
            seen.append(made.n)
    assert seen == [3, 3, 7, 5, 10], "a trial that starts again goes back"
    assert "10/10" in capsys.readouterr().err


def test_a_line_stands_above_the_bars(capsys):
    with bar("search", 2):
        say("a trial failed")
    said = capsys.readouterr()
    assert said.out == "" and "a trial failed\n" in said.err
