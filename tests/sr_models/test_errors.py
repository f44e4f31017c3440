"""What a command answers with one line is found under whatever libraries wrap it in."""

from types import SimpleNamespace

import pytest

from sr_models.errors import DiskFullError, InputError, LostError, chain, innermost


class TaskError(Exception):
    """As Ray's, which keeps what a task raised in an attribute."""

    def __init__(self, cause: object) -> None:
        super().__init__("a task failed")
        self.cause = cause


def test_the_innermost_error_of_a_kind_is_found() -> None:
    try:
        try:
            raise LostError("the storage is away")
        except LostError as error:
            raise RuntimeError("in a callback") from error
    except RuntimeError as error:
        wrapped = TaskError(error)
    found = innermost(wrapped, LostError)
    assert str(found) == "the storage is away" and innermost(wrapped, InputError) is None
    assert [type(link).__name__ for link in chain(wrapped)] == ["TaskError", "RuntimeError", "LostError"]


def test_a_full_disk_is_an_input_error_and_a_foreign_cause_is_no_link() -> None:
    full = DiskFullError("the disk of /runs is full")
    assert innermost(full, InputError) is full
    assert [*chain(TaskError(SimpleNamespace()))][1:] == []
    with pytest.raises(InputError):
        raise full
