"""`python -m orchestrator.status RUN`: what runs, what is done, the best so far, what is left, whenever one asks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sr_models.command import EXIT_DONE, Parser, run_command, tell

if TYPE_CHECKING:
    from orchestrator.run.driver import Home

PROG = "python -m orchestrator.status"


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog=PROG, description="Say where a run stands: one that runs, one that was cut, or one that is finished."
    )
    made.add_argument("run", metavar="RUN", type=Path, help="a run folder, such as runs/quick-1a2b3c4d")
    made.add_argument("--storage", metavar="URI", help="where it lives, as the sweep was told ($SR_STORAGE)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for input that cannot be used, 130 when interrupted."""
    return run_command(PROG, _run, argv)


def _run(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    from orchestrator.leaderboard import standing
    from orchestrator.plan.services import from_environment
    from orchestrator.run.driver import visited
    from orchestrator.run.folder import RunDir

    home = visited(RunDir(given.run.absolute()), from_environment(given.storage, "SR_STORAGE"), "RUN")
    home.pull_trials()
    found = standing.standing(home.run.path)
    idle = "no sweep is running in it" + ("" if found.finished else "; the command that began it goes on")
    tell(f"{_driver(home) or idle}\n{standing.text(found)}")
    return EXIT_DONE


def _driver(home: Home) -> str:
    """Who is at work on it, in words; "" where nobody is."""
    from orchestrator.run import lease
    from orchestrator.run.driver import StoredHome
    from orchestrator.run.lock import DRIVER_LOCK, is_held

    if is_held(home.run.path, DRIVER_LOCK):
        return "a sweep is running in it on this machine"
    if isinstance(home, StoredHome) and (last := lease.read(home.storage)).counts:
        return f"driven by {last.owner}, which last gave a sign of life {max(time.time() - last.time, 0):.0f} s ago"
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
