"""How to speak of a URI without giving away a password."""

from __future__ import annotations

import re


def shown(uri: str) -> str:
    """A URI, or a text that holds some, as it may be printed: without user names, passwords and secret query values."""
    uri = re.sub(r"://[^/\s]*@", "://***@", uri)
    return re.sub(r"(?i)([?&][^=&\s]*(?:password|secret|token|key)[^=&\s]*=)[^&\s]*", r"\1***", uri)
