"""What every `python -m` of the project shares: exit codes, the error line, Ctrl-C, SIGTERM and a closed pipe.

On closed pipes see https://docs.python.org/3/library/signal.html#note-on-sigpipe.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from sr_models.errors import InputError, LostError
from sr_models.version import version_text

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_LOST = 3
EXIT_UNSCORED = 4
EXIT_BUDGET = 5
EXIT_INTERRUPTED = 130

EXIT_CODES = {
    EXIT_DONE: "done; of a sweep: every planned row has its score",
    EXIT_FAILED: "a defect (as Python ends after a traceback), or faults, of a command that looks for some or goes on "
    "without what has them",
    EXIT_INPUT: "something that the user gave cannot be used, or a disk is full",
    EXIT_LOST: "the connection to a cluster or a storage was lost; what runs there may go on",
    EXIT_UNSCORED: "planned rows have no score",
    EXIT_BUDGET: "stopped by a budget (--max-hours, --max-trials, --max-gpu-hours); the same command goes on",
    EXIT_INTERRUPTED: "Ctrl-C or SIGTERM; as a shell says it, 128 + SIGINT",
}

NO_CURE_IN_REPETITION = frozenset({EXIT_INPUT, EXIT_UNSCORED, EXIT_BUDGET})
"""What `--as-job` calls finished, so that nothing sends the job again at once.

While nothing is changed, 2 would come again, and so would 4 of trials that failed by their own numbers. A 4 of trials
that lost their nodes or memory may be cured by the same command, which is left to whoever reads the last line; so is a
5, which the same command would go on from, beyond what it was allowed to cost.
"""

_STDOUT = 1
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are ours, one line, no usage; every command has `--version`.

    Args:
        args, options: argparse's own.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.add_argument("--version", action=_Version, nargs=0, help="say which release and numerics this is")

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


class _Version(argparse.Action):
    """Says the version and ends the command; what is installed is looked up no sooner."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        tell(version_text())
        parser.exit()


def run_command(
    prog: str, body: Callable[[list[str]], int], argv: Sequence[str] | None, *, interrupted: str = ""
) -> int:
    """Run a command, from parsing to its last output; returns its exit code.

    An InputError or a LostError is a line on stderr. Output that nobody reads any more, as in `| head -1`, ends the
    command quietly: its code is the one it came to, 0 if it was still printing.

    Args:
        prog: the command's name, which its error line starts with.
        body: the command; takes its arguments and returns its exit code.
        argv: the arguments, None for this process's.
        interrupted: how to go on after Ctrl-C; a KeyboardInterrupt with a text of its own is answered with that.
    """
    try:
        return body(list(sys.argv[1:] if argv is None else argv))
    except InputError as error:
        flush_output()  # where both go to one log, the reason stands last
        say(f"{prog}: {error}".replace("\n", "\\n"))
        return EXIT_INPUT
    except LostError as error:
        say(f"{prog}: {error}".replace("\n", "\\n"))
        return EXIT_LOST
    except KeyboardInterrupt as error:
        say("\n" + "; ".join(filter(None, ["interrupted", str(error) or interrupted])))
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        if not _output_is_closed():  # a socket's, or another process's
            raise
        return EXIT_DONE
    finally:
        flush_output()


def say(text: str) -> None:
    """A line to whoever started the command, on stderr, which leaves stdout to what was asked for."""
    print(printable(text), file=sys.stderr)


def tell(text: str) -> None:
    """What was asked for, on stdout."""
    print(printable(text))


def printable(text: str) -> str:
    """A text without what a terminal would obey, escaped as Python does: names in files and folders are anyone's.

    Line breaks and tabs stay; other control characters, what turns the direction of reading, and surrogates do not.
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end the command as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)


def signal_main(number: int) -> None:
    """Send this process's main thread a signal: it ends a sleep, and it comes through where a shell ignores SIGINT."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, number)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _output_is_closed() -> bool:
    """Whether stdout is a pipe or socket whose reader has gone."""
    if sys.stdout is None:  # started with `>&-`
        return False
    poll = select.poll()
    poll.register(_STDOUT, 0)  # POLLERR and POLLHUP are always told
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def flush_output() -> None:
    """Flush stdout here, for the interpreter's own last flush answers a closed pipe with a traceback and code 120."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
