"""On which machine a trial was begun: what may explain other last bits elsewhere. No torch."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Self

from sr_models.params import Params


class Machine(Params):
    """What decides on the last bits of a trial beside its config, its device and its threads."""

    torch: str
    """Its version."""
    processor: str

    @classmethod
    def here(cls) -> Self:
        """This one."""
        return cls(torch=version("torch"), processor=_processor())


@cache
def _processor() -> str:
    """The model of this machine's CPU, or the kind where Linux does not say it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8", errors="replace").splitlines() if about.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.machine()
