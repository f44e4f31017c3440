"""How to speak of a URI without giving away a password, and how to find one that was written out."""

from __future__ import annotations

import re

PASSWORD = re.compile(r"([\w+]+://[^\s/:@]+):[^\s/@]+@")
"""A URI's user and its password, written out; group 1 ends before the password."""

_LOGIN = re.compile(r"://(?:[^\s/:]*:\S*|[^\s/]*)@")
"""User and password up to the last '@': a password that nobody percent-encoded may hold '/', '?', ':' and '@'."""

_SECRET_VALUE = re.compile(r"(?i)([?&][^=&\s]*(?:pass|pwd|secret|token|key|sig|auth|cred)[^=&\s]*=)[^&\s]*")


def shown(text: str) -> str:
    """A URI, or a text that holds some, as it may be printed: without user names, passwords and secret query values."""
    return _SECRET_VALUE.sub(r"\1***", _LOGIN.sub("://***@", text))


def without_login(uri: str) -> str:
    """A server's address as it may be printed and opened."""
    return _LOGIN.sub("://", uri)
