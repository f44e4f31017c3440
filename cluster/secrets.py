"""How to speak of a URI without giving away a password, and how to find one that was written out."""

from __future__ import annotations

import re

PASSWORD = re.compile(r"([\w+.-]+://[^\s/:@]+):(?!\d+(?:[/?#]|$))[^\s@'\"]+@")
"""A URI's user and its password, written out; group 1 ends before the password. A number and a slash are a port."""

SECRET_VALUE = re.compile(r"(?i)([?&;][^=&;\s]*(?:pass|pwd|secret|token|key|sig|auth|cred)[^=&;\s]*=)[^&;\s]+")
"""A query value that goes by the name of a secret; group 1 ends before the value."""

_SHOWN_KEYS = frozenset(
    {"region", "endpoint_override", "scheme", "project_id", "anonymous", "mode", "uri", "timeout", "connect_timeout",
     "host", "port", "sslmode", "sslrootcert", "charset", "driver", "application_name", "target_session_attrs"}
)  # fmt: skip
"""Of a URI's query, what is shown; a secret may go by any other name."""

_LOGIN = re.compile(r"://(?:[^\s/:]*:\S*|[^\s/]*)@")
"""User and password up to the last '@': a password that nobody percent-encoded may hold '/', '?', ':' and '@'."""

_URI = re.compile(r"[\w+.-]+://\S+")
_PART = re.compile(r"([?&;])([^=&;#\s]*)(=?)[^&;#\s]*?(?=['\")\],.:]*(?:[&;#]|$))")  # what may follow a URI in a text
_FRAGMENT_VALUE = re.compile(r"([#&][\w.-]*=)[^&\s]+")


def shown(text: str) -> str:
    """A URI, or a text that holds some, as it may be printed: without logins and unknown query values."""
    return _URI.sub(lambda uri: _shown_query(uri[0]), _LOGIN.sub("://***@", text))


def without_login(uri: str) -> str:
    """A server's address as it may be printed and opened."""
    return _LOGIN.sub("://", uri)


def _shown_query(uri: str) -> str:
    def masked(part: re.Match[str]) -> str:
        mark, key, equals = part.groups()
        if not equals:
            return mark + ("***" if key else "")
        return part[0] if key in _SHOWN_KEYS else f"{mark}{key}=***"

    address, hash_mark, fragment = uri.partition("#")
    return _PART.sub(masked, address) + _FRAGMENT_VALUE.sub(r"\1***", hash_mark + fragment)
