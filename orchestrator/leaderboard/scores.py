"""What run folders hold of scores: every row once, of one run or of several, sorted by what may share a ranking.

Rows share a board if scale, scale of training and protocol are the same, and, where runs stand beside each other, the
images that they were trained and validated on. Needs neither Ray, MLflow nor torch.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from eval.rows import read_rows, read_scored
from orchestrator.leaderboard import drawn
from orchestrator.leaderboard.board import BICUBIC
from orchestrator.plan.evaluation import EvaluationConfig
from orchestrator.plan.paper import PaperConfig
from orchestrator.run.folder import WEIGHTS, RunDir
from orchestrator.run.records import TRIAL, PlanRecord, TrialRecord, read_board, read_evaluation, read_paper, read_plan
from orchestrator.run.winners import WinnerRecord, read_winners
from sr_models.errors import InputError
from sr_models.hashing import digest
from sr_models.plugins import require
from sr_models.text_table import counted


class Where(NamedTuple):
    """What the rows of a board have in common; boards are in its order."""

    scale: float
    trained_scale: int
    """0 where it is `scale`."""
    protocol: str
    data: str
    """First digits of the hash of training and validation images; "" of one run, whose rows share them."""


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """A run and its rows."""

    folder: Path
    label: str
    """What its rows are called by; "" of a run that stands alone."""
    plan: PlanRecord
    winners: Mapping[str, WinnerRecord]
    asked: EvaluationConfig
    baseline: str | None
    paper: PaperConfig | None
    rows: Sequence[Mapping[str, Any]]
    """As evaluated, with `run`, `trial` ("" of a winner's), `drawn`, and of what was trained its `data`."""


def has_scores(folder: Path) -> bool:
    """Whether anything of a run is scored."""
    return any((folder / "evaluation").glob("*.parquet"))


def lacking(folder: Path) -> dict[str, tuple[str, ...]]:
    """Combination that has its winner -> the full runs of it, by fingerprint, without all of the scores that they are
    to have; () if all have theirs. Combinations that give no SR are not in it, nor any of an earlier version's run.

    A set has been scored where any image of it is: its rows come together, and what is refused never comes. One of
    which all is refused is lacking for good.

    Raises:
        InputError: no run folder, or a file of it that cannot be read.
    """
    run, plan = RunDir(folder.absolute()), read_plan(folder)
    there = _own_rows(run) if plan.scored else set()
    sets = {where: (name, float(scale)) for where in plan.scored for name, _, scale in [where.rpartition(" x")]}

    def is_scored(name: str, fingerprint: str, where: str) -> bool:
        kept = [kind for kind, at in WEIGHTS.items() if (run.trial(fingerprint) / at / "model.json").exists()]
        return all((name, fingerprint, kind, *sets[where]) in there for kind in kept or ["raw"])

    return {
        name: tuple(one for one in winner.fingerprints if not all(is_scored(name, one, where) for where in own))
        for name, winner in read_winners(run.winners).items()
        if (own := [where for where, ids in plan.scored.items() if name in ids])
    }


def _own_rows(run: RunDir) -> set[tuple[Any, ...]]:
    """(combination, fingerprint, weights, benchmark, scale) of what has rows of the run's own protocol and noise.

    `orchestrator.evaluate` writes those of others beside them.
    """
    asked = read_evaluation(run.path)

    def is_own(protocol: str, scale: float, noise_seed: int | None) -> bool:
        plain = re.sub(r"(-noise[^+]+)?(\+.*)?$", "", protocol)  # without a set's own noise, and how SR was computed
        return plain == asked.full_protocol.id(scale) and noise_seed in (None, asked.seed)

    found = read_scored(run.evaluation)
    return {(*who, scale) for *who, scale, protocol, noise_seed in found if is_own(protocol, scale, noise_seed)}


def unfinished(folder: Path) -> list[str]:
    """Lines on what a run's board lacks that its sweep is to bring yet; none once it is whole.

    Raises:
        InputError: as `lacking`.
    """
    winners = read_winners(RunDir(folder).winners)
    rows = [combination.id for combination in read_plan(folder).combinations if combination.id not in winners]
    runs = {name: own for name, own in lacking(folder).items() if own}
    lines = [f"{counted(len(rows), 'combination')} without a winner yet, such as {rows[0]}"] if rows else []
    if runs:
        name, own = next(iter(runs.items()))
        lines.append(
            f"{counted(sum(map(len, runs.values())), 'full run')} without all scores, such as {len(own)} of the "
            f"{len(winners[name].fingerprints)} of {name}; the command that began it goes on, or says what it refuses"
        )
    return lines


def read_runs(folders: Sequence[Path], step: int | None = None) -> list[RunScores]:
    """Every run with its rows, named where there are several.

    Args:
        step: of the weights that winners have kept after so many steps (`train.snapshots`); None: their last ones.

    Raises:
        InputError: no run folder, no scores in it yet, a metric of a plug-in that is not here, a Parquet file that
            cannot be read; no scores after that step; a folder given twice.
    """
    return [_read(folder, label, step) for folder, label in zip(folders, _labels(folders), strict=True)]


def _labels(folders: Sequence[Path]) -> list[str]:
    """What tells the folders apart: their hashes, or else the shortest ends of their paths; "" of one alone."""
    if len(folders) == 1:
        return [""]
    paths = [folder.resolve() for folder in folders]
    if twice := next((str(folder) for folder, path in zip(folders, paths, strict=True) if paths.count(path) > 1), None):
        raise InputError(f"{twice} is given twice; every run stands on a board once")
    hashes = [path.name.rpartition("-")[2] for path in paths]
    if len(set(hashes)) == len(hashes) and all(re.fullmatch("[0-9a-f]{8}", name) for name in hashes):
        return hashes
    deepest = max(len(path.parts) for path in paths)
    ends = (["/".join(path.parts[-depth:]) for path in paths] for depth in range(1, deepest + 1))
    return next(labels for labels in ends if len(set(labels)) == len(labels))


def _read(folder: Path, label: str, step: int | None) -> RunScores:
    plan, winners = read_plan(folder), read_winners(RunDir(folder).winners)
    require({row: stamp for row, stamp in plan.plugins.items() if row.startswith("metric ")}, exact=False)
    asked, baseline = read_evaluation(folder), read_board(folder).baseline
    found = _scores(folder, winners, asked.seed) if step is None else _scores_at(step, folder, winners, asked.seed)
    rows = [row | {"run": label, "data": _data(plan, row) if label else ""} for row in found]
    return RunScores(
        folder=folder, label=label, plan=plan, winners=winners, asked=asked, baseline=baseline,
        paper=read_paper(folder), rows=rows,
    )  # fmt: skip


def _data(plan: PlanRecord, row: Mapping[str, Any]) -> str:
    """First digits of the hash of what a row's network was trained and validated on."""
    if isinstance(plan.data_hash, str):
        return plan.data_hash[:8]
    return plan.data_hash.get(f"x{row.get('trained_scale') or row['scale']}", "")[:8]


def _scores(folder: Path, winners: Mapping[str, WinnerRecord], noise_seed: int) -> list[dict[str, Any]]:
    """Every row once, but those of a combination's former winners and of noise that the config does not ask for."""
    key = ("combination", "fingerprint", "seed", "weights", "precision", "protocol", "benchmark", "kernel", "image",
           "lr_sha256")  # fmt: skip
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in read_rows(folder / "evaluation"):
        winner = winners.get(row["combination"])
        if row["fingerprint"] and winner is not None and row["fingerprint"] not in winner.fingerprints:
            continue
        if row.get("noise_seed") in (None, noise_seed):
            known = {"trial": row["fingerprint"] if winner is None else ""}
            found[tuple(row[name] for name in key)] = row | known
    if not found:
        raise InputError(f"{folder} holds no scores yet (evaluation/*.parquet)")
    return drawn.beside(found.values())


def _scores_at(step: int, folder: Path, winners: Mapping[str, WinnerRecord], noise_seed: int) -> list[dict[str, Any]]:
    """`_scores` of what winners have kept after a step, as theirs, beside networks that nothing trains."""
    of = {fingerprint: name for name, winner in winners.items() for fingerprint in winner.fingerprints}
    found, steps = [], set()
    for row in _scores(folder, {}, noise_seed):
        fingerprint, at, kept = row["fingerprint"].partition("@")
        if at and fingerprint in of:
            steps.add(int(kept))
        if not row["fingerprint"] or (fingerprint in of and kept == str(step)):
            found.append(row | {"fingerprint": fingerprint, "trial": ""})
    if step not in steps:
        there = f"there are {', '.join(map(str, sorted(steps)))}" if steps else "there are none of any step"
        raise InputError(
            f"--step {step}: no weights after that step are scored; {there} (train.snapshots keeps them, "
            f"python -m orchestrator.evaluate --run {shlex.quote(str(folder))} --snapshots scores them)"
        )
    return found


def by_board(runs: Sequence[RunScores]) -> dict[Where, list[Mapping[str, Any]]]:
    """The rows of each board; those of bicubic, of all runs, are on each of their scale and protocol."""
    groups: dict[Where, list[Mapping[str, Any]]] = defaultdict(list)
    references: dict[tuple[float, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in (row for run in runs for row in run.rows):
        if row["model"] == BICUBIC:
            references[row["scale"], row["protocol"]].append(row)
        else:
            groups[Where(row["scale"], row.get("trained_scale") or 0, row["protocol"], row["data"])].append(row)
    for where, rows in groups.items():
        rows += references.get((where.scale, where.protocol), [])
    for scale, protocol in references.keys() - {(where.scale, where.protocol) for where in groups}:
        groups[Where(scale, 0, protocol, "")] = references[scale, protocol]
    return {where: groups[where] for where in sorted(groups)}


def networks(runs: Sequence[RunScores]) -> dict[tuple[str, str], str]:
    """(run's label, "xSCALE/MODEL") -> the name of that network: rows of one name have the same weights at the start.

    The model's own label, or that with the run where two runs mean different networks by it, or one does not say.
    """
    if len(runs) == 1:
        return {}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for run in runs:
        for combination, winner in run.winners.items():
            found[combination.rpartition("/")[0]].setdefault(run.label, _start(run, winner.fingerprints))
    return {
        (label, name): name.partition("/")[2] + ("" if len(set(own.values())) == 1 else f"@{label}")
        for name, own in found.items()
        for label in own
    }


def _start(run: RunScores, fingerprints: Iterable[str]) -> str:
    """What a trial's network and the weights that it starts from are made of; the run itself where nothing says so."""
    for fingerprint in fingerprints:
        path = RunDir(run.folder.absolute()).trial(fingerprint) / TRIAL
        if path.exists():
            config = TrialRecord.read(path).config
            return digest([config.get(key) for key in ("model", "hyper", "init")])
    return f"run {run.label}"
