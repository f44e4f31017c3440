"""What a worker says of its node: a full disk is the node's, and no word of it stands in the trial's journal."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.run.access import LocalAccess
from orchestrator.run.journal import JOURNAL, Journal, read
from orchestrator.training import worker
from sr_models.errors import DiskFullError

PLAN = make_plan(load("quick"))


def test_a_full_disk_is_named_and_no_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = PLAN.trial(PLAN.combinations[0], {}, 1, "1" * 64, None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("name: mine\n")
    access = LocalAccess(tmp_path / "mine")
    folder = access.trial_folder(config.fingerprint)

    def run_trial(*_: Any, **__: Any) -> None:
        Journal(folder / JOURNAL).step(1, 2, {"loss": 0.5})
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "checkpoint.pt"))
        except OSError:
            raise RuntimeError("[enforce fail at inline_container.cc]")  # noqa: B904  # as torch does

    monkeypatch.setattr(worker, "run_trial", run_trial)
    monkeypatch.setattr(LocalAccess, "open_store", lambda *_: None)
    with pytest.raises(DiskFullError, match=f"^the disk of {folder} is full"):
        worker.execute(
            config.model_dump(mode="json"), access, device="cpu", threads=1, report=lambda *_: "continue", steered=True
        )
    assert [entry["kind"] for entry in read(folder / JOURNAL)] == ["step"]
