"""The faults: what each is called, what a sweep may answer, and how it is injected.

A fault strikes a sweep that runs, or the files of one that does not (`damage`). What strikes returns what it hit, in
words, or None if there was nothing to hit.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stage import Stage

from orchestrator.run import journal
from orchestrator.run.checkpoint import CHECKPOINT
from sr_models.command import EXIT_DONE, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_LOST, EXIT_UNSCORED

WORKERS = ("ray::_execute", "ray::ImplicitFunc", "ray::make_part")
SCORER = "ray::ScoringWorker"
"""Processes that train, and those that score, by what their command lines hold."""

Strike = Callable[[Stage, random.Random], str | None]


@dataclass(frozen=True)
class Fault:
    strike: Strike
    codes: tuple[int, ...] = (EXIT_DONE,)
    """How the command that it strikes, or the one after damage, may end; the same one then goes on."""
    needs: Literal["", "disk", "storage", "postgres", "server"] = ""
    """What the sweep must be given for it."""
    spread: float = 2.0
    """It strikes within so many seconds after there is something to hit."""
    damage: bool = False
    """Whether it strikes files, while no process works on them."""


# ---- processes -------------------------------------------------------------------------------------------------------


def send(number: int, *names: str) -> Strike:
    """Send a signal to a process whose command line begins with, or names a program or module, so."""

    def strike(stage: Stage, rng: random.Random) -> str | None:
        if not (target := _process(stage, rng, names)):
            return None
        os.kill(target[0], number)
        return target[1]

    return strike


def pause(*names: str) -> Strike:
    """Stop a process for a while."""

    def strike(stage: Stage, rng: random.Random) -> str | None:
        if not (target := _process(stage, rng, names)):
            return None
        os.kill(target[0], signal.SIGSTOP)
        time.sleep(stage.pause)
        try:
            os.kill(target[0], signal.SIGCONT)
        except ProcessLookupError:  # it was killed meanwhile
            return f"{target[1]}, which was ended"
        return f"{target[1]} for {stage.pause:.0f} s"

    return strike


def _process(stage: Stage, rng: random.Random, names: tuple[str, ...]) -> tuple[int, str] | None:
    found = [(pid, name) for pid, line in sorted(stage.alive().items()) for name in names if name in line]
    return rng.choice(found) if found else None


# ---- what a sweep works with -----------------------------------------------------------------------------------------


def full_disk(stage: Stage, _rng: random.Random) -> str | None:
    """Fill the disk of the output until the sweep ends, or for a while."""
    ballast = stage.disk / "ballast"
    if not any(stage.trials()):
        return None
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(2**16)):
                pass
        except OSError:
            pass
    ended = stage.ends_within(stage.pause)
    ballast.unlink()
    return f"{'until the sweep ended' if ended else f'for {stage.pause:.0f} s'}"


def storage_away(stage: Stage, _rng: random.Random) -> str | None:
    away = stage.storage.with_name("away")
    if not any(stage.storage.glob("chaos-*/driver.json")):  # before that it is a new storage, which a driver may make
        return None
    stage.storage.rename(away)
    stage.ends_within(stage.outage)
    if stage.storage.exists():  # begun anew by somebody
        left = [str(path.relative_to(stage.storage)) for path in stage.storage.rglob("*") if path.is_file()]
        shutil.rmtree(stage.storage)
        away.rename(stage.storage)
        return f"for {stage.outage:.0f} s; meanwhile {len(left)} files were written to a new one: {left[:3]}"
    away.rename(stage.storage)
    return f"for {stage.outage:.0f} s"


def postgres_restarts(stage: Stage, _rng: random.Random) -> str | None:
    assert stage.postgres is not None
    stage.postgres.restart()
    return "at once"


def server_down(stage: Stage, _rng: random.Random) -> str | None:
    assert stage.server is not None
    stage.server.kill()
    time.sleep(stage.pause)
    stage.server.start()
    return f"for {stage.pause:.0f} s"


# ---- files -----------------------------------------------------------------------------------------------------------


def cut(data: bytes, _rng: random.Random) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes, rng: random.Random) -> bytes:
    changed, bit = bytearray(data), rng.randrange(8 * len(data))
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def cut_or_flip(data: bytes, rng: random.Random) -> bytes:
    return rng.choice((cut, flip))(data, rng)


def garble_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    lines[rng.randrange(len(lines))] = b'{"kind": "st\xff\x00\n'
    return b"".join(lines)


def empty(_data: bytes, _rng: random.Random) -> bytes:
    return b""


def damage(pattern: str, change: Callable[[bytes, random.Random], bytes]) -> Fault:
    """Change one of the files below the output; of trials under way, if there are any."""

    def strike(stage: Stage, rng: random.Random) -> str | None:
        found = [path for path in sorted(stage.output.glob(pattern)) if path.stat().st_size]
        going = [path for path in found if path.name in (journal.JOURNAL, CHECKPOINT) and not _ended(path.parent)]
        if not found:
            return None
        path = rng.choice(going or found)
        before = path.read_bytes()
        path.write_bytes(after := change(before, rng))
        stage.damaged.append(path)
        where = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(after))
        return f"{path.relative_to(stage.output)} from byte {where} of {len(before)}, now {len(after)}"

    return Fault(strike, (EXIT_DONE, EXIT_INPUT), damage=True)


def empty_run_id(stage: Stage, rng: random.Random) -> str | None:
    """Studies in PostgreSQL would be another run's from then on: who has lost that takes another name."""
    return None if stage.postgres else damage("*/run.id", empty).strike(stage, rng)


def delete_trial(stage: Stage, rng: random.Random) -> str | None:
    found = [folder for folder in stage.trials() if _ended(folder)]
    if not found:
        return None
    folder = rng.choice(found)
    shutil.rmtree(folder)
    return str(folder.relative_to(stage.output))


def _ended(folder: Path) -> bool:
    return b'"kind": "end"' in (folder / journal.JOURNAL).read_bytes() if (folder / journal.JOURNAL).exists() else False


FAULTS: dict[str, Fault] = {
    "SIGKILL worker": Fault(send(signal.SIGKILL, *WORKERS), (EXIT_DONE, EXIT_UNSCORED)),
    "SIGKILL evaluation worker": Fault(send(signal.SIGKILL, SCORER), (EXIT_DONE, EXIT_UNSCORED), spread=0),
    "SIGKILL driver": Fault(send(signal.SIGKILL, "orchestrator.sweep"), (-signal.SIGKILL,), spread=25),
    "SIGKILL tracker": Fault(send(signal.SIGKILL, "orchestrator.tracking"), spread=12),
    "SIGKILL raylet": Fault(send(signal.SIGKILL, "/raylet/raylet"), (EXIT_LOST,), spread=20),
    "SIGKILL GCS": Fault(send(signal.SIGKILL, "/gcs_server"), (EXIT_LOST,), spread=20),
    "SIGTERM driver": Fault(
        send(signal.SIGTERM, "orchestrator.sweep"), (EXIT_INTERRUPTED, -signal.SIGTERM), spread=25
    ),
    "SIGSTOP driver": Fault(pause("orchestrator.sweep"), spread=20),
    "SIGSTOP worker": Fault(pause(*WORKERS)),
    "SIGSTOP tracker": Fault(pause("orchestrator.tracking"), spread=12),
    "disk full": Fault(full_disk, (EXIT_DONE, EXIT_INPUT), needs="disk", spread=10),
    "storage away": Fault(storage_away, needs="storage", spread=15),
    "PostgreSQL restart": Fault(postgres_restarts, (EXIT_DONE, EXIT_LOST), needs="postgres", spread=15),
    "MLflow down": Fault(server_down, (EXIT_DONE, EXIT_INPUT), needs="server", spread=15),
    "checkpoint.pt: a bit": damage("shared/trials/*/checkpoint.pt", flip),
    "checkpoint.pt: cut in half": damage("shared/trials/*/checkpoint.pt", cut),
    "journal: a line garbled": damage("shared/trials/*/journal.jsonl", garble_line),
    "journal: a bit": damage("shared/trials/*/journal.jsonl", flip),
    "journal: emptied": damage("shared/trials/*/journal.jsonl", empty),
    "Parquet: a bit": damage("*/evaluation/*.parquet", flip),
    "plan.json": damage("*/plan.json", cut_or_flip),
    "trial.json": damage("shared/trials/*/trial.json", cut_or_flip),
    "winners.json": damage("*/winners.json", cut_or_flip),
    "config.yaml": damage("*/config.yaml", cut_or_flip),
    "tracking.json": damage("*/tracking.json", cut_or_flip),
    "studies.db": damage("*/studies.db", cut_or_flip),
    "run.id: emptied": Fault(empty_run_id, (EXIT_DONE, EXIT_INPUT), damage=True),
    "a finished trial deleted": Fault(delete_trial, (EXIT_DONE, EXIT_INPUT), damage=True),
}  # fmt: skip


def why_not(fault: Fault) -> str | None:
    """Why a fault cannot be injected on this machine; None if it can."""
    if fault.needs == "disk" and os.geteuid():
        return "only root can mount a small disk"
    if fault.needs == "postgres" and not Stage.postgres_bin():
        return "no PostgreSQL server below /usr/lib/postgresql"
    if fault.needs == "disk" and subprocess.run(["which", "mount"], capture_output=True).returncode:
        return "there is no mount"
    return None
