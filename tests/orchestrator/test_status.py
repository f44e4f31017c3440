"""Where a run stands, whoever drives it: finished, running here, or on a storage."""

import errno
import shutil

import pytest
from filelock import FileLock

from orchestrator.run import lease
from orchestrator.run.lock import DRIVER_LOCK
from orchestrator.status import main
from orchestrator.storage.uri import Storage


def run(*words: object) -> int:
    return main([*map(str, words)])


def test_a_finished_run_and_one_that_is_driven(scored_run, capsys):
    assert run(scored_run.path) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "no sweep is running in it\nrun scored-1a2b3c4d: search 0 of 8; full runs 4 of 4; scored 4 of 4\n"
    )
    assert "every combination has its winner\n" in said and "x2/sr3/nutl" in said
    with FileLock(scored_run.path / DRIVER_LOCK):
        assert run(scored_run.path) == 0
    assert capsys.readouterr().out.startswith("a sweep is running in it on this machine\n")
    (scored_run.path / DRIVER_LOCK).unlink()


def test_a_run_that_was_stopped_while_it_was_scored_goes_on(scored_run, tmp_path, capsys):
    """A set of rows comes as a file; here those of one seed are gone, and of the other row all."""
    shutil.copytree(scored_run.output, tmp_path / "runs", ignore=shutil.ignore_patterns("store"))
    folder = tmp_path / "runs" / scored_run.name
    for name in ("edsr_baseline-1", "sr3-1", "sr3-2"):
        (folder / "evaluation" / f"{name}.parquet").unlink()
    assert run(folder) == 0
    said = capsys.readouterr().out
    assert said.startswith("no sweep is running in it; the command that began it goes on\n")
    assert (
        "; full runs 4 of 4; scored 1 of 4\nevery combination has its winner; scores are lacking, or were refused\n"
        in said
    )


def test_a_run_is_read_from_where_nothing_can_be_written(scored_run, refuse_writing, capsys):
    (scored_run.path / DRIVER_LOCK).touch()
    refuse_writing(scored_run.output, errno.EROFS)
    assert run(scored_run.path) == 0
    assert capsys.readouterr().out.startswith("no sweep is running in it\nrun scored-1a2b3c4d: ")
    with pytest.raises(OSError, match="Read-only file system"):
        (scored_run.path / "new").touch()  # else this test says nothing


def test_a_run_on_a_storage_says_who_drives_it(scored_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    shutil.copytree(scored_run.output, tmp_path / "stored", ignore=shutil.ignore_patterns("store", "home.json"))
    stored = Storage.parse(str(tmp_path / "stored"), "x")
    lease.sign(stored.child(scored_run.name), "head:/runs/scored", "id")
    here = tmp_path / "here" / scored_run.name
    assert run(here, "--storage", f"file://{tmp_path / 'stored'}") == 0
    said = capsys.readouterr().out
    assert (
        said.startswith("driven by head:/runs/scored, which last gave a sign of life ") and "full runs 4 of 4" in said
    )
    lease.sign(stored.child(scored_run.name), "head:/runs/scored", "id", ended=True)
    assert run(here, "--storage", f"file://{tmp_path / 'stored'}") == 0
    assert capsys.readouterr().out.startswith("no sweep is running in it\n")


def test_what_is_no_run_is_one_line(tmp_path, capsys):
    assert run(tmp_path) == 2
    assert "is not a run folder" in capsys.readouterr().err
