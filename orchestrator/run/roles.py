"""`roles.jsonl` of a run: which trials, of those that an output shares, it makes use of, and as what.

One list that is only added to: the driver writes it, and tracker, board and `clean` read it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from orchestrator.plan.trial import TrialConfig
from orchestrator.run import events
from orchestrator.run.folder import RunDir
from orchestrator.run.records import TRIAL, WRITTEN_AGAIN, Role, TrialRecord
from sr_models.errors import InputError
from sr_models.files import write_text
from sr_models.params import Params


class RoleRecord(Params):
    """One line of `roles.jsonl`: a trial that a run makes use of, and as what."""

    fingerprint: str
    combination: str | None
    """None for a teacher, which belongs to no cell of the table."""
    role: Role
    number: int | None
    """Of the search's trial in its study; None for the others."""
    seed: int
    params: dict[str, Any]
    """What the search chose."""


class Roles:
    """A run's roles, as its driver adds to them; a line stands once. A half line that a kill left is dropped."""

    def __init__(self, run: RunDir) -> None:
        self.path = run.roles
        if self.path.exists():
            read_roles(run)  # what is damaged is named before anything runs
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_text(self.path, whole)
        self._there = set(whole.splitlines())

    def add(
        self,
        config: TrialConfig,
        *,
        combination: str | None,
        role: Role,
        number: int | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Write down that the run makes use of a trial."""
        record = RoleRecord(
            fingerprint=config.fingerprint,
            combination=combination,
            role=role,
            number=number,
            seed=config.seed,
            params=dict(params or {}),
        )
        events.emit(events.TrialRole(**record.model_dump()))
        line = record.model_dump_json()
        if line not in self._there:
            self._there.add(line)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())  # a trial whose role is lost is one that nobody needs, to `clean`


def read_roles(run: RunDir) -> list[RoleRecord]:
    """The trials that a run makes use of, in the order in which it came to; a trial can have several roles.

    Raises:
        InputError: a line that cannot be read.
    """
    if not run.roles.exists():
        return _earlier_roles(run)
    found = []
    data = run.roles.read_bytes()
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        try:
            found.append(RoleRecord.model_validate_json(line))
        except ValueError:
            raise InputError(f"{run.roles}, line {number}, is damaged; {WRITTEN_AGAIN}") from None
    return found


def _earlier_roles(run: RunDir) -> list[RoleRecord]:
    """Of a run of an earlier version: what each of its trials says of itself."""
    found = []
    for path in sorted(run.path.glob(f"trials/*/{TRIAL}")):
        trial = TrialRecord.read(path)
        if trial.role is None or trial.seed is None:
            raise InputError(f"{path}: role or seed is missing")
        found.append(
            RoleRecord(
                fingerprint=trial.fingerprint,
                combination=trial.combination,
                role=trial.role,
                number=trial.number,
                seed=trial.seed,
                params=trial.params or {},
            )
        )
    return found
