"""The runs that a probe looks into: run folders, or all of a folder of them, on this machine or a storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orchestrator.data.inputs import Inputs
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.read import load
from orchestrator.run.driver import Home, visited
from orchestrator.run.folder import RunDir
from sr_models.errors import InputError

OPTION = "RUN"
"""How complaints call what names the runs."""


@dataclass(frozen=True)
class Probed:
    """One run that is looked into."""

    home: Home
    plan: Plan

    @property
    def run(self) -> RunDir:
        return self.home.run

    @cached_property
    def inputs(self) -> Inputs:
        """Its images."""
        return Inputs(self.plan.config)


def open_runs(paths: Sequence[Path], root: str | None) -> list[Probed]:
    """The runs that paths name, each once, what their drivers last wrote brought here.

    Args:
        root: URI below which they live; None: in their folders alone.

    Raises:
        InputError: neither a run folder nor a folder of run folders, or a run that this version cannot read.
    """
    found: dict[Path, Probed] = {}
    for path in paths:
        for folder in _folders(path.absolute(), root):
            if folder not in found:
                home = visited(RunDir(folder), root, OPTION)
                found[folder] = Probed(home, make_plan(load(home.run.config)))
    return list(found.values())


def _folders(path: Path, root: str | None) -> list[Path]:
    if root is not None or RunDir(path).config.exists():
        return [path]
    below = [file.parent for file in sorted(path.glob("*/plan.json")) if RunDir(file.parent).config.exists()]
    if below:
        return below
    raise InputError(f"{OPTION}: {path} is neither a run folder nor a folder of them, such as runs")
