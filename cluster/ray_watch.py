"""Notice, and say in one line, that the Ray which this process is connected to is gone."""

from __future__ import annotations

import signal
import threading

from cluster.ray_private import abandon, leave_lost, lost_part
from sr_models.command import say, signal_main
from sr_models.errors import InputError, LostError

WATCH_SECONDS = 2.0
"""Time between two looks at whether Ray is there."""

HEAR_SECONDS = 10.0
"""How long a call into a Ray that is gone may keep the main thread from hearing of that."""


class Watch:
    """Whether Ray is there, for the length of a `with` block.

    When it is gone the main thread is interrupted, and whatever the block then raises becomes a LostError. Ray's own
    calls would take minutes to notice, and end in a traceback. A main thread that hears nothing is not waited for.
    """

    def __init__(self) -> None:
        self.lost: str | None = None
        self._ended, self._heard = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGUSR1, self._hear)
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._before)
        if isinstance(error, Exception) and not isinstance(error, InputError | LostError):
            self.lost = self.lost or lost_part()  # it may have told before we looked
        if error is not None and self.lost is not None:
            raise LostError(self.lost_line) from None

    @property
    def lost_line(self) -> str:
        return f"the connection to Ray was lost: {self.lost} is gone"

    def leave(self) -> None:
        """End what `ray.init` began."""
        import ray

        if self.lost is None:
            ray.shutdown()
        else:
            abandon()

    def _watch(self) -> None:
        while not self._ended.wait(WATCH_SECONDS):
            self.lost = lost_part()
            if self.lost is not None:
                signal_main(signal.SIGUSR1)
                if not self._heard.wait(HEAR_SECONDS):
                    say(f"{self.lost_line}; go on with the same command")
                    abandon()
                    leave_lost()
                return

    def _hear(self, _signal: int, _frame: object) -> None:
        self._heard.set()
        raise KeyboardInterrupt
