"""A run folder that a stranger made: no command reads, sends or overwrites what its links lead to."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import sweep
from orchestrator.evaluate import __main__ as evaluate
from orchestrator.leaderboard import __main__ as leaderboard
from orchestrator.run.folder import RunDir
from orchestrator.storage.mirror import push_tree
from orchestrator.storage.uri import Storage
from orchestrator.tracking import __main__ as tracking
from sr_models.command import EXIT_INPUT

COMMANDS: dict[str, Callable[[str], int]] = {
    "sweep --resume": lambda run: sweep.main(["--resume", run]),
    "evaluate --run": lambda run: evaluate.main(["--run", run]),
    "leaderboard": lambda run: leaderboard.main([run]),
    "tracking": lambda run: tracking.main([run, "--tracking-uri", f"sqlite:///{Path(run).parent}/mlflow.db"]),
}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "runs" / "mine-01234567")
    made.make()
    (tmp_path / "secret.json").write_text('{"token": "hidden"}')
    for name in ("config.yaml", "plan.json", "winners.json", "leaderboard.json"):
        (made.path / name).write_text("{}")
    return made


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["config.yaml", "pictures/a.png", "evaluation/a.parquet", "shared/rows/0/a.parquet"])
def test_no_command_follows_a_link_out_of_a_run_folder(
    run: RunDir, command: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = run.at(name)
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "secret.json")
    before = sorted(tmp_path.rglob("*"))
    assert COMMANDS[command](os.fspath(run.path)) == EXIT_INPUT
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{link} is a link that leads out of" in said and "hidden" not in said
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written, no database made"


def test_a_link_is_not_sent_to_a_storage(run: RunDir, tmp_path: Path) -> None:
    (run.path / "leaderboard.csv").symlink_to(tmp_path / "secret.json")
    storage = Storage.parse(str(tmp_path / "bucket"), "x")
    assert push_tree(run.path, storage, ["leaderboard.*"]) == ["leaderboard.json"]
