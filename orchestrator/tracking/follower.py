"""The tracker as a process of its own beside a sweep: it reads the run folder and never holds up a trial."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

FAREWELL_SECONDS = 120
"""How long the end of a sweep waits for the tracker to deliver what is left."""


class Follower:
    """`python -m orchestrator.tracking RUN --follow` for the length of a `with` block, logging to RUN/tracking.log.

    The URI goes by the environment: it may hold a password, and everyone on a machine sees a process's arguments.
    """

    def __init__(self, run_folder: Path, uri: str) -> None:
        self.run_folder, self.uri = run_folder, uri
        self._stop = run_folder / "tracking.stop"

    def __enter__(self) -> Self:
        self._stop.unlink(missing_ok=True)
        command = [sys.executable, "-m", "orchestrator.tracking", str(self.run_folder)]
        with (self.run_folder / "tracking.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--follow", str(os.getpid())],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"SR_TRACKING_URI": self.uri},
                start_new_session=True,  # Ctrl-C is for the sweep, which then lets the tracker finish
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self) -> bool:
        """Let the tracker deliver what is left and end; False if something stays behind (the journals keep it)."""
        if self._process.poll() is None:
            self._stop.touch()
            try:
                self._process.wait(FAREWELL_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait() == 0
