"""The tracker as a process of its own beside a sweep: it reads the run folder and never holds up a trial.

Where it is killed, the end of the sweep starts another one, which delivers what is left.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.run.folder import RunDir

FAREWELL_SECONDS = 120
"""How long the end of a sweep waits for the tracker while it delivers nothing; as long as it does, it has time."""

POLL_SECONDS = 0.5
"""How often the end of a sweep looks whether something was delivered."""


class Follower:
    """`python -m orchestrator.tracking RUN --follow` for the length of a `with` block, logging to RUN/tracking.log.

    The URI goes by the environment: it may hold a password, and everyone on a machine sees a process's arguments.
    """

    def __init__(self, run_folder: Path, uri: str) -> None:
        self.run_folder, self.uri = run_folder, uri
        self._stop = run_folder / "tracking.stop"

    def __enter__(self) -> Self:
        self._stop.unlink(missing_ok=True)
        self._start()
        return self

    def _start(self) -> None:
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

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self) -> bool:
        """Let the tracker deliver what is left and end; False if something stays behind (the journals keep it)."""
        if not self._stop.exists():
            self._stop.touch()
            if self._process.poll() is not None:  # nobody had told it to end
                self._start()
        delivered, since = self._delivered(), time.monotonic()
        while time.monotonic() - since < FAREWELL_SECONDS:
            try:
                return self._process.wait(POLL_SECONDS) == 0
            except subprocess.TimeoutExpired:
                if (now := self._delivered()) != delivered:
                    delivered, since = now, time.monotonic()
        self._process.kill()
        return self._process.wait() == 0

    def _delivered(self) -> int:
        """Another number whenever the tracker has written down that something was delivered."""
        path = RunDir(self.run_folder).tracking
        return path.stat().st_mtime_ns if path.exists() else 0
