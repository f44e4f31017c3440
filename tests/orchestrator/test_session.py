"""What a sweep leaves in its folder before it starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from cluster.ray_runtime import Node, Resources
from orchestrator import session
from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.plan.services import Services
from orchestrator.run.folder import RunDir
from orchestrator.run.records import read_board, read_paper
from orchestrator.session import bounded, write_config
from sr_models.errors import InputError


@pytest.mark.parametrize(("asked", "number"), [("auto", 600), ("1000", 1000), ("null", None)])
def test_auto_is_a_workers_share_of_its_node_and_moves_no_run(asked: str, number: int | None) -> None:
    config = load("quick", [f"resources.max_bytes={asked}", "resources.cpus_per_worker=2"])
    found = Resources(cpus=4, gpus=0, nodes=(Node(address="a", cpus=4, gpus=0, memory=1200),))
    known = bounded(config, found)
    assert known.resources.bound == number and known.hash == load("quick").hash


def test_a_config_is_kept_but_for_the_board_and_the_paper(tmp_path: Path) -> None:
    """They move no trial, so another baseline goes on in the same folder, and must be heard there."""
    run, first = RunDir(tmp_path), load("quick")
    write_config(run, first)
    kept = run.config.read_bytes()
    write_config(run, load("quick", ["resources.max_concurrent=1"]))
    assert run.config.read_bytes() == kept
    other = load("quick", ["board.baseline=l1"])
    assert other.run_name == first.run_name
    write_config(run, other)
    assert read_board(tmp_path).baseline == "l1" and load(run.config).resources == first.resources
    printed = load("quick", ["paper={source: Table 1}"])
    assert printed.run_name == first.run_name
    write_config(run, printed)
    assert read_paper(tmp_path) == printed.paper and read_board(tmp_path).baseline is None
    write_config(run, first)
    assert read_paper(tmp_path) is None and run.config.read_bytes() == kept


def test_a_damaged_config_is_a_line_with_the_way_out(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.config.write_text("models: [imdn")
    with pytest.raises(InputError, match=r"config.yaml is damaged .*; delete it, and run the same sweep, which writes"):
        write_config(run, load("quick"))


def test_a_run_that_goes_on_joins_no_cluster_before_something_is_to_be_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = []

    @contextmanager
    def connect(*_: object, **__: object) -> Iterator[Resources]:
        joined.append("joined")
        yield Resources(cpus=2, gpus=0, nodes=(Node(address="a", cpus=2, gpus=0),))
        joined.append("left")

    monkeypatch.setattr(session.ray_runtime, "connect", connect)
    monkeypatch.setattr(session, "Follower", lambda *_: nullcontext())
    monkeypatch.setattr(session.address, "check", lambda _: None)
    plan, services, run = make_plan(load("quick")), Services(tracking_uri="sqlite://"), RunDir(tmp_path / "out" / "run")
    with session.opened(plan, run.path, services) as new:
        assert joined == ["joined"] and new.cluster.is_joined
        run.plan.touch()
    joined.clear()
    with session.opened(plan, run.path, services) as later:
        assert (later.cores, joined) == (os.cpu_count(), [])
        assert (later.trials_at_a_time, later.trials_at_a_time, later.cores, joined) == (2, 2, 2, ["joined"])
    assert joined == ["joined", "left"]
