"""`python -m orchestrator.clean OUTPUT`: what of an output's shared folder no run needs, and away with it when told to.

Nothing in a run folder is ever removed, nor what a link leads to. One clean at a time, and none beside a sweep or an
evaluation: it takes its lock, then looks at theirs, and they do the same.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import socket
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sr_models.command import EXIT_DONE, EXIT_FAILED, Parser, interrupt_on_sigterm, run_command, say, tell
from sr_models.errors import InputError
from sr_models.text_table import aligned, counted

if TYPE_CHECKING:
    from orchestrator.needed import Needed, Thing
    from orchestrator.storage.uri import Listed, Storage

PROG = "python -m orchestrator.clean"


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog=PROG,
        description="List the trials, searches, stores and rows that no run of an output needs; run folders stay.",
    )
    made.add_argument("output", metavar="OUTPUT", type=Path, help="the folder of run folders, such as runs")
    made.add_argument("--remove", action="store_true", help="remove what is listed")
    made.add_argument("--checkpoints", action="store_true", help="with --remove: also checkpoints of finished trials")
    made.add_argument("--storage", metavar="URI", help="clean there, as sweeps were told, not in OUTPUT ($SR_STORAGE)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0, 1 if something could not be removed, 2 for input that cannot be used, 130 if interrupted."""
    return run_command(PROG, _run, argv, interrupted="the same command goes on")


def _run(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    if given.checkpoints and not given.remove:
        raise InputError("--checkpoints goes with --remove; the list shows them anyway")
    from orchestrator.needed import needed
    from orchestrator.plan.services import from_environment
    from orchestrator.run.folder import SHARED
    from orchestrator.run.lock import CLEAN_LOCK, held
    from orchestrator.storage.uri import Storage

    interrupt_on_sigterm()
    output = given.output.absolute()
    root = from_environment(given.storage, "SR_STORAGE")
    storage = Storage.parse(root, "--storage") if root else None
    _check_output(output)
    with held(output / SHARED, CLEAN_LOCK, "OUTPUT", "another clean is at work in"):
        _refuse_busy(output)
        here = needed(output)
        if storage is None:
            return _clean(_Folder(output, str(given.output)), here, given)
        with _stored(storage) as place:
            return _clean(place, here | needed(place.folder), given)


def _clean(place: _Place, needs: Needed, given: argparse.Namespace) -> int:
    """List, and remove if that is asked for."""
    from orchestrator.needed import finished_checkpoints, unneeded

    files, now = place.files(), time.time()
    found = unneeded(place.folder, files, needs, now)
    states = finished_checkpoints(place.folder, files, needs)
    tell(
        f"{place.shown}: {counted(len(needs.runs), 'run folder')} need{'s'[: len(needs.runs) == 1]} "
        f"{counted(len(needs.trials), 'trial')}" + _earlier(needs)
    )
    tell(_listing("needed by none of them", found, now))
    tell(_listing("checkpoints of finished trials (an audit, snapshots or a longer search may want them)", states, now))
    if not given.remove:
        tell("nothing was removed; --remove does it" + (", --remove --checkpoints both" if states else ""))
        return EXIT_DONE
    going = found + states if given.checkpoints else found
    for thing in going:
        try:
            place.remove(thing)
        except OSError as error:
            say(f"{PROG}: {thing.name} cannot be removed ({error}); what is listed after it stays")
            return EXIT_FAILED
    tell(f"removed {len(going)}, {_bytes(sum(thing.size for thing in going))}")
    return EXIT_DONE


# ---- where it is done ------------------------------------------------------------------------------------------------


class _Place(ABC):
    """A shared folder: `folder` holds it, or of a storage what must be read to know who needs what."""

    folder: Path
    shown: str

    @abstractmethod
    def files(self) -> dict[str, Listed]:
        """Every file below the shared folder, by name."""

    @abstractmethod
    def remove(self, thing: Thing) -> None:
        """Remove something, so that a kill on the way leaves nothing that looks whole."""


class _Folder(_Place):
    """Of an output, or of a storage that is a folder.

    Raises:
        InputError: its shared folder is a link, behind which other outputs may have theirs.
    """

    def __init__(self, folder: Path, shown: str) -> None:
        from orchestrator.run.folder import SHARED

        self.folder, self.shown, self.shared = folder, shown, folder / SHARED
        if self.shared.is_symlink():
            raise InputError(f"{self.shared} is a link; give the output that it lies in, whose runs may need it too")

    def files(self) -> dict[str, Listed]:
        """Links and what they lead to are left out."""
        from orchestrator.storage.uri import Listed

        found = {}
        for top, _, names in os.walk(self.shared, onerror=_refuse):
            for path in (Path(top) / name for name in names):
                if not path.is_symlink():
                    seen = path.stat()
                    found[path.relative_to(self.folder).as_posix()] = Listed(seen.st_size, seen.st_mtime_ns)
        return found

    def remove(self, thing: Thing) -> None:
        path = self.folder / thing.name
        if path.is_dir():
            part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            path.rename(part)  # from here on it is a leftover, to whoever comes after a kill
            shutil.rmtree(part)
        else:
            path.unlink(missing_ok=True)


class _Stored(_Place):
    """Of a bucket."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self.storage, self.folder, self.shown = storage, folder, storage.shown

    def files(self) -> dict[str, Listed]:
        from orchestrator.run.folder import SHARED

        return self.storage.names(SHARED)

    def remove(self, thing: Thing) -> None:
        for name in sorted(thing.files, key=turn):
            self.storage.delete(name)


@contextmanager
def _stored(storage: Storage) -> Iterator[_Place]:
    """What lies on a storage, held against drivers on any machine."""
    from orchestrator.needed import RECORDS
    from orchestrator.run import lease
    from orchestrator.run.folder import SHARED
    from orchestrator.storage.mirror import pull_tree

    storage.check()
    lease.refuse_while_cleaned(storage)
    with (
        lease.kept(storage.child(SHARED), f"{PROG} on {socket.gethostname()}", secrets.token_hex(8)),
        tempfile.TemporaryDirectory(prefix="sr-clean-") as copy,
    ):
        folder = storage.folder or Path(copy)
        if storage.folder is None:
            pull_tree(storage, folder, [f"*/{lease.DRIVER}"])
        signed = {path.parent.name for path in folder.glob(f"*/{lease.DRIVER}")} - {SHARED}
        if found := lease.first_at_work(storage.child(run) for run in sorted(signed)):
            raise InputError(f"--storage: a sweep is running in {found.storage.name}, driven by {found.last.owner}")
        if storage.folder is not None:
            yield _Folder(folder, storage.shown)
        else:
            pull_tree(storage, folder, RECORDS)  # not before drivers were looked at: one may have been writing them
            try:
                yield _Stored(storage, folder)
            except InputError as error:  # of a file in the copy
                raise InputError(str(error).replace(copy, storage.shown)) from None


def _check_output(output: Path) -> None:
    """Refuse a folder that holds no run and nothing that runs share.

    Raises:
        InputError: so it is.
    """
    from orchestrator.needed import run_folders
    from orchestrator.run.folder import SHARED, RunDir

    if not output.is_dir():
        raise InputError(f"{output} is not a folder; expected one of run folders, such as runs")
    if RunDir(output).config.exists():
        raise InputError(f"{output} is a run folder; give the folder that it lies in, {output.parent}")
    shared = [output / SHARED / kind for kind in ("trials", "searches", "store", "rows")]
    if not any(folder.is_dir() for folder in shared) and not run_folders(output):
        raise InputError(f"{output} is no output: neither run folders nor {SHARED}/trials in it; expected such as runs")


def _refuse_busy(output: Path) -> None:
    """Refuse an output while someone works in a run of it.

    Raises:
        InputError: names the run.
    """
    from orchestrator.needed import run_folders
    from orchestrator.run.lock import DRIVER_LOCK, EVALUATE_LOCK, refuse_if_held

    for run in run_folders(output):
        refuse_if_held(run.path, DRIVER_LOCK, "OUTPUT", "a sweep is running in")
        refuse_if_held(run.path, EVALUATE_LOCK, "OUTPUT", "an evaluation is writing to")


def turn(name: str) -> tuple[bool, bool, str]:
    """First a checkpoint, which must not stand without its journal; then that by which the rest counts as finished."""
    file = name.rpartition("/")[2]
    done = file in ("journal.jsonl", "manifest.json") or file.endswith(".parquet")
    return not file.startswith("checkpoint"), not done, name


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read ({error.strerror})") from None


# ---- text ------------------------------------------------------------------------------------------------------------


def _earlier(needs: Needed) -> str:
    count = len(needs.earlier)
    return f"; {count} of an earlier version, with trials and store inside, left alone" if count else ""


def _listing(title: str, things: Sequence[Thing], now: float) -> str:
    if not things:
        return f"{title}: nothing"
    rows = [("kind", "name", "size", "untouched")]
    rows += [(thing.kind, thing.name, _bytes(thing.size), _age(now - thing.touched)) for thing in things]
    rows.append(("together", str(len(things)), _bytes(sum(thing.size for thing in things)), ""))
    return "\n".join([f"{title}:", *(f"  {line}" for line in aligned(rows, left={0, 1}))])


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} seconds"


if __name__ == "__main__":
    raise SystemExit(main())
