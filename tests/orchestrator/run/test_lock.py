"""A folder is held by one process at a time, and the next one is told at once who is in its way."""

import pytest

from orchestrator.run.lock import held
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


def test_what_goes_wrong_inside_is_not_the_locks(tmp_path):
    with pytest.raises(OSError, match="disk full"), held(tmp_path, ".lock", "--run", "busy"):
        raise OSError("disk full")
    with held(tmp_path, ".lock", "--run", "busy"):
        pass
