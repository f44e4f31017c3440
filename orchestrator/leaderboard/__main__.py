"""`python -m orchestrator.leaderboard RUN…` prints the boards of one run, or of several beside each other."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.leaderboard import over_images, standing
from orchestrator.leaderboard import text as board_text
from orchestrator.leaderboard.compare import boards
from orchestrator.leaderboard.html import PAGE, write_page_of
from orchestrator.leaderboard.scores import has_scores, unfinished
from orchestrator.leaderboard.write import write_files
from orchestrator.run.folder import RunDir
from sr_models.command import EXIT_DONE, Parser, run_command, tell
from sr_models.errors import InputError
from sr_models.files import writing

PROG = "python -m orchestrator.leaderboard"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the boards of some runs, and write their files where asked to; 0, or 2 for a folder that has none."""
    return run_command(PROG, _run, argv)


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
        where = standing.text(standing.standing(waiting[0]))
        tell(f"nothing is scored yet; this is where the search stands, and no board\n{where}")
        return EXIT_DONE
    found, width = boards(*arguments.runs, step=arguments.step), board_text.terminal_width()
    tell(board_text.text(found, width))
    left = {run: lines for run in arguments.runs if (lines := unfinished(run))}
    for run, lines in left.items():
        where = f"python -m orchestrator.status {shlex.quote(str(run))}"
        tell(f"\nunfinished: {'; '.join(lines)}; {where} says where it stands")
    if arguments.images:
        tell(f"\n{over_images.text(found, width)}")
    if arguments.output:
        names = [run.resolve().name for run in arguments.runs]
        origin: dict[str, Any] = {"run": names[0]} if len(names) == 1 else {"runs": found[0].runs}
        if left:
            origin["unfinished"] = "; ".join(line for lines in left.values() for line in lines)
        with writing(arguments.output, "--output"):
            write_files(found, arguments.output, origin)
            write_page_of(found, arguments.runs, arguments.output)
        tell(f"\ntables in {arguments.output}; {arguments.output / PAGE} is a page for any browser")
    return EXIT_DONE


if __name__ == "__main__":
    raise SystemExit(main())
