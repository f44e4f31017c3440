"""Names of files in a storage: they lead to no place outside it."""

from __future__ import annotations

from sr_models.errors import InputError


def checked(name: str) -> str:
    """The name, if it leads to a place below the folder it is relative to.

    Raises:
        InputError: absolute, empty, or with an empty, `.` or `..` part.
    """
    if not is_safe(name):
        raise InputError(f"a name in a storage is a relative path without '.' and '..', got {name!r}")
    return name


def is_part(name: str) -> bool:
    """Whether a file of this name is one that `replacing` has not put in its place."""
    return name.startswith(".") and name.endswith(".part")


def is_safe(name: str) -> bool:
    """Whether a name leads to a place below the folder it is relative to."""
    return not {"", ".", ".."} & set(name.split("/")) and "\0" not in name
