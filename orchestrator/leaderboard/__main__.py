"""`python -m orchestrator.leaderboard RUN` prints a run's board."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.leaderboard import over_images, standing
from orchestrator.leaderboard import text as board_text
from orchestrator.leaderboard.compare import boards
from orchestrator.run.folder import RunDir
from orchestrator.run.records import read_plan, read_winners
from sr_models.command import EXIT_DONE, Parser, run_command, tell

PROG = "python -m orchestrator.leaderboard"


def main(argv: Sequence[str] | None = None) -> int:
    """Print a run's board; 0, or 2 for a folder that has none."""
    return run_command(PROG, _run, argv)


def unfinished(folder: Path) -> str:
    """Where a run without scores stands."""
    return standing.text(standing.standing(folder))


def without_winner(folder: Path) -> list[str]:
    """Ids of a run's combinations that have no winner."""
    winners = read_winners(RunDir(folder).winners)
    return [combination.id for combination in read_plan(folder).combinations if combination.id not in winners]


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
    if arguments.step is None and not any((arguments.run / "evaluation").glob("*.parquet")):
        tell(f"nothing is scored yet; this is where the search stands, and no board\n{unfinished(arguments.run)}")
        return EXIT_DONE
    found = boards(arguments.run, arguments.step)
    tell(board_text.text(found))
    if lacking := without_winner(arguments.run):
        tell(
            f"\nunfinished: {len(lacking)} combinations have no winner yet, such as {lacking[0]}; python -m "
            f"orchestrator.status {arguments.run} says where they stand"
        )
    if arguments.images:
        tell(f"\n{over_images.text(found)}")
    return EXIT_DONE


if __name__ == "__main__":
    raise SystemExit(main())
