"""What a sweep leaves in its folder before it starts."""

from pathlib import Path

import pytest

from cluster.ray_runtime import Node, Resources
from orchestrator.plan.read import load
from orchestrator.run.folder import RunDir
from orchestrator.run.records import read_board
from orchestrator.session import bounded, write_config
from sr_models.errors import InputError


@pytest.mark.parametrize(("asked", "number"), [("auto", 600), ("1000", 1000), ("null", None)])
def test_auto_is_a_workers_share_of_its_node_and_moves_no_run(asked: str, number: int | None) -> None:
    config = load("quick", [f"resources.max_bytes={asked}", "resources.cpus_per_worker=2"])
    found = Resources(cpus=4, gpus=0, nodes=(Node(address="a", cpus=4, gpus=0, memory=1200),))
    known = bounded(config, found)
    assert known.resources.bound == number and known.hash == load("quick").hash


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


def test_a_damaged_config_is_a_line_with_the_way_out(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.config.write_text("models: [imdn")
    with pytest.raises(InputError, match=r"config.yaml is damaged .*; delete it, and run the same sweep, which writes"):
        write_config(run, load("quick"))
