"""What a sweep leaves and says at its end, or where a budget stopped it."""

from __future__ import annotations

import functools
import shlex
import time

from cluster.secrets import shown
from eval.pictures.style import attempt
from orchestrator.leaderboard import html, pictures, standing, write
from orchestrator.leaderboard.rungs import rungs_text
from orchestrator.leaderboard.scores import has_scores
from orchestrator.leaderboard.text import terminal_width
from orchestrator.plan.cost import duration
from orchestrator.run.progress import say, tell
from orchestrator.search.audit import Audited, audit_text
from orchestrator.session import Session
from orchestrator.tracking import address, mlflow_store, view


def training_left(session: Session, stage: str) -> float | None:
    """Seconds of training that all of the sweep has left as a stage begins, about; said, where it is known and some is.

    By what the sweep's trials have taken so far, in this invocation and before; None: none has been validated.
    """
    session.home.pull_trials()
    left = standing.standing(session.run.path).seconds_left
    if left:
        say(f"{stage}: about {duration(left)} of training left in this sweep, if no trial is stopped early")
    return left


def unfinished(session: Session, bound: str) -> None:
    """Say what there is of a sweep that a budget stopped: the board of what is scored, and where the rest stands."""
    folder = session.run.path
    tell(f"\nunfinished, stopped by {bound}")
    if has_scores(folder):
        tell(f"the board of what is scored:\n{write.write(folder, terminal_width(), unfinished=bound)}\n")
    else:
        tell("nothing is scored yet; this is where the sweep stands, and no board")
    tell(standing.text(standing.standing(folder)))
    session.home.push()


def finished(session: Session, *, refused: list[str], audited: list[Audited]) -> None:
    """Write the board and its pictures, let the tracker deliver what is left, and print what came out."""
    from orchestrator.evaluate import first_image

    folder, uri = session.run.path, session.services.tracking_uri
    board = write.write(folder, terminal_width())
    first_images = first_image.on_workers(
        session.run, session.plan, session.inputs, session.home.access, session.device, session.cluster.join
    )
    pictures.pictures(session.run, session.plan, session.inputs.known, first_images)
    attempt(html.PAGE, functools.partial(html.write_page, folder))
    if not session.tracker.finish():
        say(
            "tracking is behind (see tracking.log); deliver it with: "
            f"python -m orchestrator.tracking {shlex.quote(str(folder))} --tracking-uri {shlex.quote(shown(uri))}"
        )
    if said := mlflow_store.left_alone(folder):
        say(said)
    session.home.push()
    tell(f"\n{board}\n")
    for line in refused:
        tell(f"refused: {line}")
    if said := rungs_text(folder):
        tell(said)
    if audited and (judge := session.config.search.halved_by):
        tell(audit_text(audited, judge))
    tell(f"\nfinished in {time.time() - session.began:.0f} s; tables and pictures in {folder}")
    tell(f"all of it as a page: {folder / html.PAGE}")
    tell(f"all runs and curves: {address.ui_command(uri)}")
    if not uri.startswith("http"):
        tell("  (asks nobody who they are: while it runs, any user of this machine can read and change what it shows)")
    link = view.board_link(folder, uri)
    tell(f"the board in it: {link or 'not delivered yet, see tracking.log'}")
