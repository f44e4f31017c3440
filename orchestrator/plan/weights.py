"""Where weights come from that networks start from and teachers teach with: a file, a trial, another combination.

Wherever a config names weights it says FILE, {trial: FINGERPRINT}, {from: 'x{scale}/LABEL/OBJECTIVE'}, or one of these
for each scale: {4: {from: x2/edsr/l1}}. No torch here: a plan knows its references before anything is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

FORMS = "FILE, {trial: FINGERPRINT}, {from: 'x{scale}/LABEL/OBJECTIVE'}, or {SCALE: one of these, ...}"

_FINGERPRINT = re.compile("[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Weights:
    """A reference to weights."""

    kind: Literal["file", "trial", "from"]
    name: str
    """A path, {scale} still in it; a fingerprint, or the first 8 of its digits or more; the id of a combination."""

    @property
    def shown(self) -> str:
        """In words."""
        return {"file": "", "trial": "trial ", "from": "the winner of "}[self.kind] + self.name


def weights_of(given: Any) -> dict[int | None, Weights]:
    """Scale -> weights, as a config gives them; None stands for all scales, and {} for no weights at all.

    Raises:
        ValueError: none of the `FORMS`, digits that are no fingerprint.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or {"trial", "from"} & set(given):
        return {None: _one(given)}
    found: dict[int | None, Weights] = {}
    for scale, each in given.items():
        if not re.fullmatch("[1-9][0-9]*", str(scale)):
            raise ValueError(f"expected {FORMS}, got {given!r}")
        found[int(scale)] = _one(each)
    return found


def weights_at(given: Any, scale: int) -> Weights | None:
    """The weights of one scale, that scale filled in for {scale} in an id; None: there are none. Raises as above."""
    found = weights_of(given)
    one = found.get(scale, found.get(None))
    if one is None or one.kind != "from":
        return one
    return Weights("from", one.name.replace("{scale}", str(scale)))


def _one(given: Any) -> Weights:
    if isinstance(given, str) and given:
        return Weights("file", given)
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ValueError(f"expected {FORMS}, got {given!r}")
    [(key, value)] = given.items()
    if key == "trial":
        if not isinstance(value, str) or not _FINGERPRINT.fullmatch(value):
            raise ValueError(
                f"trial: expected a fingerprint, or 8 or more of its first hexadecimal digits, got {value!r}"
                + ("; put it in quotes" if isinstance(value, int | float) else "")
            )
        return Weights("trial", value)
    if key == "from" and isinstance(value, str) and value:
        return Weights("from", value)
    raise ValueError(f"expected {FORMS}, got {given!r}")
