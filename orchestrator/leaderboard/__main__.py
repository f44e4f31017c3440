"""`python -m orchestrator.leaderboard RUN…` prints the boards of one run, or of several beside each other."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from orchestrator.leaderboard import over_images, standing
from orchestrator.leaderboard import text as board_text
from orchestrator.leaderboard.compare import boards
from orchestrator.leaderboard.html import PAGE, write_page_of
from orchestrator.leaderboard.scores import has_scores
from orchestrator.leaderboard.write import write_files
from orchestrator.run.folder import RunDir
from orchestrator.run.records import read_plan
from orchestrator.run.winners import read_winners
from sr_models.command import EXIT_DONE, Parser, run_command, tell
from sr_models.errors import InputError
from sr_models.text_table import counted

PROG = "python -m orchestrator.leaderboard"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the boards of some runs, and write their files where asked to; 0, or 2 for a folder that has none."""
    return run_command(PROG, _run, argv)


def unfinished(folder: Path) -> str:
    """Where a run without scores stands."""
    return standing.text(standing.standing(folder))


def without_winner(folder: Path) -> list[str]:
    """Ids of a run's combinations that have no winner."""
    winners = read_winners(RunDir(folder).winners)
    return [combination.id for combination in read_plan(folder).combinations if combination.id not in winners]


def _run(argv: Sequence[str]) -> int:
    parser = Parser(prog=PROG, description="Print the leaderboard of a run, or of several beside each other.")
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="a run folder, such as runs/quick-1a2b3c4d; rows of several "
        "share a ranking where scale, protocol and training images are the same"
    )  # fmt: skip
    parser.add_argument(
        "--images", action="store_true", help="also compare over images: would it hold on other pictures of this kind?"
    )
    parser.add_argument(
        "--step", type=int, metavar="N", help="of the weights kept after N steps (train.snapshots), once scored"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="also write leaderboard.csv, .json, .md, .tex and .html there",
    )
    arguments = parser.parse_args(argv)
    for run in arguments.runs:
        RunDir(run.absolute()).refuse_links()
    if arguments.step is None and (waiting := [run for run in arguments.runs if not has_scores(run)]):
        if len(arguments.runs) > 1:
            raise InputError(f"{waiting[0]} holds no scores yet; alone, its search's standing is shown")
        tell(f"nothing is scored yet; this is where the search stands, and no board\n{unfinished(waiting[0])}")
        return EXIT_DONE
    found, width = boards(*arguments.runs, step=arguments.step), board_text.terminal_width()
    tell(board_text.text(found, width))
    for run in arguments.runs:
        if lacking := without_winner(run):
            tell(
                f"\nunfinished: {counted(len(lacking), 'combination')} without a winner yet, such as {lacking[0]}; "
                f"python -m orchestrator.status {shlex.quote(str(run))} says where they stand"
            )
    if arguments.images:
        tell(f"\n{over_images.text(found, width)}")
    if arguments.output:
        names = [run.resolve().name for run in arguments.runs]
        write_files(found, arguments.output, {"run": names[0]} if len(names) == 1 else {"runs": found[0].runs})
        write_page_of(found, arguments.runs, arguments.output)
        tell(f"\ntables in {arguments.output}; {arguments.output / PAGE} is a page for any browser")
    return EXIT_DONE


if __name__ == "__main__":
    raise SystemExit(main())
