"""A folder is held by one process at a time, and the next one is told at once who is in its way."""

import pytest

from orchestrator.run import lock
from orchestrator.run.lock import held, refuse_if_held, refuse_while_cleaned
from sr_models.errors import InputError


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    folder = tmp_path / "runs" / "mine"
    for _ in range(2):
        with held(folder, ".driver.lock", "--output", "another sweep is running in"):
            with (
                pytest.raises(InputError) as refused,
                held(folder, ".driver.lock", "--output", "another sweep is running in"),
            ):
                pass
            assert str(refused.value) == f"--output: another sweep is running in {folder}"
            with held(folder, ".evaluate.lock", "--run", "another evaluation is writing to"):
                pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"--run: \S+/file/mine cannot be written \(Not a directory\)"),
        held(tmp_path / "file" / "mine", ".evaluate.lock", "--run", "another evaluation is writing to"),
    ):
        pass


def test_looking_at_a_lock_neither_keeps_nor_makes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "PROBE_SECONDS", 0)
    refuse_if_held(tmp_path, ".driver.lock", "OUTPUT", "a sweep is running in")
    refuse_while_cleaned(tmp_path, "--output")
    assert list(tmp_path.iterdir()) == []
    with held(tmp_path, ".driver.lock", "--output", "busy"), pytest.raises(InputError) as refused:
        refuse_if_held(tmp_path, ".driver.lock", "OUTPUT", "a sweep is running in")
    assert str(refused.value) == f"OUTPUT: a sweep is running in {tmp_path}"
    refuse_if_held(tmp_path, ".driver.lock", "OUTPUT", "a sweep is running in")
    with held(tmp_path, ".driver.lock", "--output", "busy"):
        pass
    shared = tmp_path / "shared"
    with held(shared, ".clean.lock", "OUTPUT", "busy"), pytest.raises(InputError) as refused:
        refuse_while_cleaned(tmp_path, "--output")
    assert str(refused.value) == f"--output: orchestrator.clean is at work in {shared}"


def test_what_goes_wrong_inside_is_not_the_locks(tmp_path):
    with pytest.raises(OSError, match="disk full"), held(tmp_path, ".lock", "--run", "busy"):
        raise OSError("disk full")
    with held(tmp_path, ".lock", "--run", "busy"):
        pass
