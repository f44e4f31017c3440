"""What the runs of an output need of all that they share, and what is left over.

A run needs the trials of its roles, those whose weights it is computed from, and the stores of its plan; a search is
needed for any trial of its proposals, a measurement for the weights that those trials have left or that a run's own
rows name, a table of stores on a storage (`orchestrator.data.shared`) for any of these that lists it. What lies on a
storage is read in a copy: `RECORDS` are all the files that are opened here.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, Field

from eval.rows import FEATURES
from orchestrator.data.manifest import Manifest, stored_name
from orchestrator.run import journal
from orchestrator.run.folder import SHARED, STORES, RunDir, trial_name
from orchestrator.run.journal import JOURNAL
from orchestrator.run.records import read_sealed
from orchestrator.run.roles import read_roles
from orchestrator.search.record import SearchRecord
from orchestrator.storage.uri import Listed
from sr_models.errors import InputError
from sr_models.files import read_json
from sr_models.params import Params

RECORDS = (
    "*/config.yaml", "*/plan.json", "*/roles.jsonl", "*/store/manifest.json", "*/evaluation/*.parquet",
    f"{SHARED}/trials/*/{JOURNAL}", f"{SHARED}/trials/*/model.json", f"{SHARED}/searches/*.json",
    f"{SHARED}/rows/*.parquet", f"{STORES}/*.json",
)  # fmt: skip
"""Patterns as of `orchestrator.storage.mirror`."""

DAY = 86400.0
"""Half of something, untouched for so long (seconds), was left by a kill; so were measurements that no run knows of."""

Kind = Literal["trial", "search", "store", "table", "rows", "half-built store", "features", "leftover", "checkpoint"]

_THINGS: dict[Kind, str] = {  # what each file's name begins with; what matches none is not ours to remove
    "trial": rf"{SHARED}/trials/[0-9a-f]+(?=/)",
    "search": rf"{SHARED}/searches/[0-9a-f]+\.json$",
    "store": rf"{STORES}/[0-9a-f]+((?=/)|(-[0-9a-f]+)?\.json$)",  # a folder, or on a storage what lists its tables
    "table": rf"{STORES}/[a-z0-9_]+-[0-9a-f]+\.arrow$",
    "rows": rf"{SHARED}/rows/[0-9a-f]+(?=/)",
    "half-built store": rf"{STORES}/\.building/[^/]+(?=/)",
    "features": rf"{SHARED}/rows/[0-9a-f]+/[0-9a-f]+\.features\.safetensors$",
    "leftover": rf"{SHARED}/.*?\.part(?=/|$)",
}
_MADE_OF_TRIALS = ("studies.db", "winners.json", "evaluation")
"""What a sweep leaves in its folder once there are trials, and so roles."""
_CHECKPOINTS = ("checkpoint*.pt", "checkpoint*.sha256")


@dataclass(frozen=True, kw_only=True)
class Needed:
    """What runs make use of."""

    runs: frozenset[str]
    """Names of their folders."""
    earlier: frozenset[str]
    """Those of an earlier version, which have trials and store inside."""
    trials: frozenset[str]
    """Names of their folders."""
    stores: frozenset[str]
    """Names of their folders."""
    weights: frozenset[str]
    """sha256 of what was scored."""

    def __or__(self, other: Needed) -> Needed:
        return Needed(
            runs=self.runs | other.runs,
            earlier=self.earlier | other.earlier,
            trials=self.trials | other.trials,
            stores=self.stores | other.stores,
            weights=self.weights | other.weights,
        )


@dataclass(frozen=True, kw_only=True)
class Thing:
    """What is removed as a whole."""

    kind: Kind
    name: str
    """Its folder or file, as `RunDir.at` finds it."""
    files: tuple[str, ...]
    size: int
    """Bytes."""
    touched: float
    """When a file of it was last written, seconds since 1970."""

    @property
    def own_name(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]

    @classmethod
    def of(cls, kind: Kind, name: str, files: Mapping[str, Listed]) -> Thing:
        """The thing that these files are, with the sum of their sizes."""
        return cls(
            kind=kind,
            name=name,
            files=tuple(files),
            size=sum(listed.size for listed in files.values()),
            touched=max(listed.mtime_ns for listed in files.values()) / 1e9,
        )


class _Ingredients(Params):
    """Of a plan, what its stores are known by: a hash a scale, or one of all in plans of earlier versions.

    And the trials, maybe of other runs, whose weights it starts from or is taught by.
    """

    model_config = ConfigDict(extra="ignore")

    data_hash: str | dict[str, str]
    weights_from: dict[str, str] = Field(default_factory=dict)

    @property
    def hashes(self) -> set[str]:
        return {self.data_hash} if isinstance(self.data_hash, str) else set(self.data_hash.values())


class _Export(Params):
    """Of `model.json`, what its weights are known by."""

    model_config = ConfigDict(extra="ignore")

    weights_sha256: str


def run_folders(output: Path) -> list[RunDir]:
    """The folders of sweeps, and of evaluations that keep their rows. Raises InputError: one that cannot be read."""
    with _readable():
        runs = [RunDir(path) for path in sorted(output.iterdir()) if path.name != SHARED]
        return [run for run in runs if run.config.exists() or run.plan.exists() or run.roles.exists()]


def needed(output: Path) -> Needed:
    """What the runs of an output make use of.

    Raises:
        InputError: plan, roles or rows of a run that cannot be read.
    """
    runs = run_folders(output)
    earlier: set[str] = set()
    fingerprints: set[str] = set()
    hashes: set[str] = set()
    weights: set[str | None] = set()
    with _readable():
        for run in runs:
            if _is_earlier(run):
                earlier.add(run.name)
            else:
                roles = read_roles(run)
                if not roles and run.plan.exists() and any(run.at(name).exists() for name in _MADE_OF_TRIALS):
                    raise InputError(
                        f"{run.roles} names no trial, so what {run.name} needs is not known; run the same sweep again, "
                        "which writes it, or delete that folder"
                    )
                fingerprints |= {role.fingerprint for role in roles}
                if run.plan.exists():
                    made_of = _Ingredients.parse(read_sealed(run.plan), str(run.plan))
                    hashes |= made_of.hashes
                    fingerprints |= {*made_of.weights_from.values()}
            if run.evaluation.exists():
                weights |= _weights(path for path in run.evaluation.iterdir() if path.suffix == ".parquet")
    return Needed(
        runs=frozenset(run.name for run in runs),
        earlier=frozenset(earlier),
        trials=frozenset(fingerprint[:16] for fingerprint in fingerprints),
        stores=frozenset(data_hash[:16] for data_hash in hashes),
        weights=frozenset(sha256 for sha256 in weights if sha256 is not None),
    )


def unneeded(output: Path, files: Mapping[str, Listed], needs: Needed, now: float) -> list[Thing]:
    """What no run needs, in the order of `_THINGS`, which leaves no store without a table that it lists.

    Args:
        output: where the `RECORDS` are.
        files: everything below `SHARED`, by name.
        now: seconds since 1970.

    Raises:
        InputError: searches, rows, what a trial has left, or stores on a storage, that cannot be read.
    """
    with _readable():
        left = {sha256 for name in needs.trials for sha256 in _exported(output / trial_name(name))}
    needs = replace(needs, weights=needs.weights | left)
    things = _things(files)
    listed = _listed(output, things)
    found = [thing for thing in things if not _is_needed(thing, output, needs, listed, now)]
    going = {name for thing in found for name in thing.files}
    found += [thing for thing in _unnamed_features(output, files, going) if now - thing.touched > DAY]
    building = {name for thing in things if thing.kind == "half-built store" for name in thing.files}
    parts = _grouped({name: files[name] for name in files.keys() - going - building}, ("leftover",))
    return found + [thing for thing in parts if now - thing.touched > DAY]


def finished_checkpoints(output: Path, files: Mapping[str, Listed], needs: Needed) -> list[Thing]:
    """The checkpoints of trials that are needed and have come to their end; arguments as for `unneeded`."""
    found = []
    for thing in _things(files):
        states = {name: files[name] for name in thing.files if _is_checkpoint(name)}
        if thing.kind != "trial" or not states or thing.own_name not in needs.trials:
            continue
        result = journal.outcome(journal.read(output / thing.name / JOURNAL))
        if result is not None and result.status == "complete":
            found += [Thing.of("checkpoint", name, {name: listed}) for name, listed in states.items()]
    return found


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read ({error.strerror})") from None


def _is_earlier(run: RunDir) -> bool:
    return not run.roles.exists() and ((run.path / "trials").exists() or (run.path / "store").exists())


def _is_needed(thing: Thing, output: Path, needs: Needed, listed: Mapping[str, Collection[str]], now: float) -> bool:
    """Arguments as for `unneeded`; `listed` is what `_listed` found."""
    match thing.kind:
        case "trial":
            return thing.own_name in needs.trials
        case "store":
            return thing.own_name[:16] in needs.stores
        case "table":
            if of := listed.get(thing.own_name):
                return not needs.stores.isdisjoint(of)
        case "search":
            proposals = SearchRecord.read(output / thing.name).proposals
            return any(proposal.fingerprint[:16] in needs.trials for proposal in proposals)
        case "rows":
            tables = [output / name for name in thing.files if name.endswith(".parquet")]
            own = _weights(tables)
            if None in own or not needs.weights.isdisjoint(own):
                return True
    return now - thing.touched <= DAY


def _listed(output: Path, things: Iterable[Thing]) -> dict[str, set[str]]:
    """Name of a table on a storage -> names of the stores that it is listed for."""
    found: dict[str, set[str]] = defaultdict(set)
    for thing in things:
        if thing.kind == "store" and thing.name.endswith(".json"):
            path = output / thing.name
            for name, product in Manifest.parse(read_json(path), str(path)).products.items():
                found[stored_name(name, product)].add(thing.own_name[:16])
    return found


def _things(files: Mapping[str, Listed]) -> list[Thing]:
    """All that a run may need, whole or half-built."""
    return _grouped(files, [kind for kind in _THINGS if kind not in ("features", "leftover")])


def _unnamed_features(output: Path, files: Mapping[str, Listed], going: Collection[str]) -> list[Thing]:
    """The features that no measurement beside them names: their worker was killed before it wrote its rows."""
    staying = {name: files[name] for name in files.keys() - going}
    tables = {name for name in staying if re.match(_THINGS["rows"], name) and name.endswith(".parquet")}
    named = {f"{name.rpartition('/')[0]}/{file}" for name in tables for file in _named_features(output / name)}
    return [thing for thing in _grouped(staying, ("features",)) if thing.name.partition(".")[0] not in named]


def _grouped(files: Mapping[str, Listed], kinds: Iterable[Kind]) -> list[Thing]:
    found = []
    for kind in kinds:
        groups: dict[str, dict[str, Listed]] = defaultdict(dict)
        for name in sorted(files):
            if match := re.match(_THINGS[kind], name):
                groups[match[0]][name] = files[name]
        found += [Thing.of(kind, name, own) for name, own in groups.items()]
    return found


def _is_checkpoint(name: str) -> bool:
    return name.count("/") == 3 and any(fnmatchcase(PurePosixPath(name).name, pattern) for pattern in _CHECKPOINTS)


def _exported(trial: Path) -> Iterator[str]:
    """The hashes of the weights that a trial has left so far, those along its training too."""
    for path in trial.rglob("model.json"):
        yield _Export.parse(read_json(path), str(path)).weights_sha256


def _named_features(table: Path) -> set[str]:
    """The files, without suffix, that hold the features of a table's images."""
    return {file for details in _column(table, "details") if (file := json.loads(details or "{}").get(FEATURES))}


def _weights(tables: Iterable[Path]) -> set[str | None]:
    """The hashes of the weights that rows are of; None among them where one is of no weights."""
    return {sha256 for path in tables for sha256 in _column(path, "weights_sha256")}


def _column(table: Path, name: str) -> list[str | None]:
    try:
        found: list[str | None] = pq.read_table(table, columns=[name])[name].to_pylist()
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(f"{table} cannot be read as rows ({str(error).splitlines()[0]})") from None
    return found
