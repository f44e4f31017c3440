"""What a sweep leaves in its folder before it starts."""

from pathlib import Path

from orchestrator.plan.read import load
from orchestrator.run.folder import RunDir
from orchestrator.run.records import read_board
from orchestrator.session import write_config


def test_a_config_is_kept_but_for_the_board(tmp_path: Path) -> None:
    """The board moves no trial, so another baseline goes on in the same folder, and must be heard there."""
    run, first = RunDir(tmp_path), load("quick")
    write_config(run, first)
    kept = run.config.read_bytes()
    write_config(run, load("quick", ["resources.max_concurrent=1"]))
    assert run.config.read_bytes() == kept
    other = load("quick", ["board.baseline=l1"])
    assert other.run_name == first.run_name
    write_config(run, other)
    assert read_board(tmp_path).baseline == "l1" and load(run.config).resources == first.resources
