"""`python -m orchestrator.leaderboard RUN` prints a run's board."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.leaderboard import over_images
from orchestrator.leaderboard import text as board_text
from orchestrator.leaderboard.compare import boards
from orchestrator.run.folder import RunDir
from sr_models.command import EXIT_DONE, Parser, run_command, tell

PROG = "python -m orchestrator.leaderboard"


def main(argv: Sequence[str] | None = None) -> int:
    """Print a run's board; 0, or 2 for a folder that has none."""
    return run_command(PROG, _run, argv)


def _run(argv: Sequence[str]) -> int:
    parser = Parser(prog=PROG, description="Print the leaderboard of a run.")
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, such as runs/quick-1a2b3c4d")
    parser.add_argument(
        "--images", action="store_true", help="also compare over images: would it hold on other pictures of this kind?"
    )
    parser.add_argument(
        "--step", type=int, metavar="N", help="of the weights kept after N steps (train.snapshots), once scored"
    )
    arguments = parser.parse_args(argv)
    RunDir(arguments.run.absolute()).refuse_links()
    found = boards(arguments.run, arguments.step)
    tell(board_text.text(found))
    if arguments.images:
        tell(f"\n{over_images.text(found)}")
    return EXIT_DONE


if __name__ == "__main__":
    raise SystemExit(main())
