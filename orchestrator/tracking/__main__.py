"""`python -m orchestrator.tracking RUN`: deliver a run folder to MLflow, once or for as long as a sweep works on it."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from pathlib import Path

from filelock import Timeout

from cluster.secrets import shown
from orchestrator.plan.services import from_environment
from orchestrator.run.folder import RunDir
from orchestrator.run.records import read_plan
from orchestrator.tracking import address
from orchestrator.tracking.deliver import Tracker
from sr_models.command import EXIT_DONE, EXIT_FAILED, Parser, run_command, say
from sr_models.errors import InputError

PROG = "python -m orchestrator.tracking"


def main(argv: Sequence[str] | None = None) -> int:
    """Deliver a run folder.

    Returns:
        0: all is delivered. 1: the store stayed away, and the same command goes on; or something is left that it does
        not take, or that cannot be read, and a line says what. 2: a wrong folder or URI. With `--follow`, 0 is that
        nothing is left which could be delivered.
    """
    return run_command(PROG, _run, argv)


def _run(argv: Sequence[str]) -> int:
    parser = Parser(prog=PROG, description="Deliver a run folder to MLflow.")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, such as runs/quick-1a2b3c4d")
    parser.add_argument("--tracking-uri", metavar="URI", help="sqlite:///FILE, http://HOST:PORT ($SR_TRACKING_URI)")
    parser.add_argument(
        "--follow", type=int, metavar="PID", help="go on until this parent process ends or RUN/tracking.stop appears"
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    uri = from_environment(arguments.tracking_uri, "SR_TRACKING_URI")
    if uri is None:
        raise InputError("give --tracking-uri, or set SR_TRACKING_URI")
    RunDir(arguments.run.absolute()).refuse_links()
    tracker = Tracker(arguments.run, uri)
    try:
        if arguments.follow is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver's to handle; it tells us when to stop
            signal.signal(signal.SIGTERM, lambda *_: setattr(tracker, "stopping", True))
            return EXIT_DONE if tracker.follow(arguments.follow) else EXIT_FAILED
        read_plan(arguments.run)
        address.check(uri)
        delivered = tracker.sync()
        tracker.finish()
    except Timeout:
        say(f"{PROG}: another process is delivering {arguments.run}")
        return EXIT_FAILED
    except address.failures() as error:
        said = address.one_line(error)
        say(f"{PROG}: interrupted, the same command delivers the rest: {said}")
        return EXIT_FAILED
    print(f"delivered {delivered} new values, runs and files to {shown(uri)}")
    return EXIT_DONE if tracker.complete else EXIT_FAILED


if __name__ == "__main__":
    raise SystemExit(main())
