"""The JSON files of a run folder, typed: plan, trials, home; each reader beside its writer.

A record that lacks a key, has another one or is not JSON is refused in one line that names the file, and so is one that
is not what was written: `sha256` is of the rest. Needs neither Ray, MLflow, Optuna nor torch; only `write_plan` builds
networks, to count their parameters.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field

from orchestrator.plan.combination import Combination, parameters, trained_parameters
from orchestrator.plan.config import BoardConfig
from orchestrator.plan.cost import step_seconds
from orchestrator.plan.evaluation import EvaluationConfig
from orchestrator.plan.paper import PaperConfig
from orchestrator.plan.plan import Plan, higher_is_better
from orchestrator.plan.plugins import used
from orchestrator.plan.read import read_yaml
from orchestrator.plan.trial import NUMERICS_VERSION, TrialConfig, numerics_version, plugins_of
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, begin_anew
from orchestrator.run.machine import Machine
from sr_models.errors import InputError
from sr_models.files import read_json, write_json
from sr_models.hashing import digest
from sr_models.params import Params
from sr_models.plugins import plugins_text

Role = Literal["search", "final", "teacher"]

WRITTEN_AGAIN = "delete it, and run the same sweep, which writes it again"
"""The way out of damage to a file whose contents the sweep knows from elsewhere."""


@contextmanager
def way_out() -> Iterator[None]:
    """Have the line on a file that cannot be read, an InputError raised within, say what to do about it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{error}; {WRITTEN_AGAIN}") from None


_SHA256 = "sha256"


def read_sealed(path: Path) -> Any:
    """The content of a JSON file without its checksum; files of earlier versions have none.

    Raises:
        InputError: the file is not JSON, or not what was written.
    """
    found = read_json(path)
    if isinstance(found, dict) and found.pop(_SHA256, None) not in (None, digest(found)):
        raise InputError(f"{path} is damaged: its checksum is another one")
    return found


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file with its checksum, whole or not at all."""
    write_json(path, {**content, _SHA256: digest(content)})


class Record(Params):
    """A JSON file of a run folder, its keys in the order of the fields."""

    @classmethod
    @way_out()
    def read(cls, path: Path) -> Self:
        """Raises InputError: as `read_sealed`; the file lacks a key, has one too many or a value of another type."""
        return cls.parse(read_sealed(path), str(path))

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        write_sealed(path, self.model_dump(mode="json"))


# ---- plan.json -------------------------------------------------------------------------------------------------------


class MetricRecord(Params):
    """A validation metric that steers the search."""

    name: str
    higher_is_better: bool


class CombinationRecord(Params):
    """One row of the table."""

    id: str
    model: str
    objective: str
    target: str
    loss: str
    scale: int
    trials: int
    searched: tuple[str, ...]
    """Names of the hyperparameters that its search varies."""
    parameters: int
    """Trainable ones of the network, without the σ head."""
    trained_parameters: int | None = None
    """With the σ head; None in plans of earlier versions."""
    steps: int | None = None
    """Of a full run; None in plans of earlier versions, as the next."""
    step_seconds: float | None = None
    """That one of them takes one CPU core, estimated (`orchestrator.plan.cost`)."""
    plugins: dict[str, str] = Field(default_factory=dict, exclude_if=lambda stamps: not stamps)
    """As of its trials (`TrialConfig.plugins`)."""

    @classmethod
    def of(cls, plan: Plan, combination: Combination) -> Self:
        """The record of a planned combination."""
        return cls(
            id=combination.id,
            model=combination.label,
            objective=combination.objective_label,
            target=combination.spec.target.kind,
            loss=combination.spec.loss.kind,
            scale=combination.scale,
            trials=combination.trials,
            searched=tuple(combination.axes.ranges) if combination.trials else (),
            parameters=parameters(combination),
            trained_parameters=trained_parameters(combination),
            steps=combination.train.steps,
            step_seconds=step_seconds(plan, combination),
            plugins=plugins_of(combination.network, combination.spec, combination.train),
        )


class PlanRecord(Record):
    """`plan.json`: what a run is made of. A run goes on only with what it was started with."""

    data_hash: dict[str, str] | str
    """"xSCALE" -> data hash of the training and validation images; one of all scales in plans of earlier versions."""
    benchmarks: dict[str, str]
    """"NAME xSCALE" -> hash of the test set."""
    numerics_version: int
    inits: dict[str, str]
    """"MODEL xSCALE" -> sha256 of the weights that it starts from."""
    parts: dict[str, str] = Field(default_factory=dict, exclude_if=lambda found: not found)
    """"MODEL xSCALE PART" -> sha256 of a frozen part that it stands on; not in the file while there are none."""
    teachers: dict[str, str]
    """"xSCALE" -> name of the teacher's centroids (`TeacherConfig.centroids`); empty before."""
    weights_from: dict[str, str] = Field(default_factory=dict, exclude_if=lambda found: not found)
    """"MODEL xSCALE", "teacher xSCALE" or "MODEL xSCALE PART" -> fingerprint of the trial whose weights start it, teach
    or are that part; not in the file while there are none, nor what comes from a file or was trained as a teacher."""
    centroid_seconds: dict[str, float] = Field(default_factory=dict)
    """"xSCALE" -> seconds that workers spent on the teacher's centroids, all together, whichever run's they were."""
    unscored: dict[str, tuple[str, ...]] = Field(default_factory=dict, exclude_if=lambda found: not found)
    """"NAME xSCALE" -> ids of the combinations that a test set of that scale alone cannot score."""
    scored: dict[str, tuple[str, ...]] = Field(default_factory=dict, exclude_if=lambda found: not found)
    """"NAME xSCALE" -> ids of the combinations that a test set scores; not in plans of earlier versions."""
    plugins: dict[str, str] = Field(default_factory=dict, exclude_if=lambda stamps: not stamps)
    """All plug-ins of the run (`orchestrator.plan.plugins.used`); not in the file while there are none."""
    name: str
    run: str
    config_hash: str
    git_commit: str | None
    metric: MetricRecord
    """What the winner is best by: the first, where several steer."""
    front: tuple[MetricRecord, ...] = Field(default=(), exclude_if=lambda metrics: not metrics)
    """All that steer, of searches for a front."""
    halve_by: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """The one of these by which trials are stopped early; None: none are, or one metric steers and does so."""
    protocol: str
    combinations: tuple[CombinationRecord, ...]
    trials_at_a_time: int | None = None
    """The most that ever shared the machines; None in plans of earlier versions."""

    @property
    def data_text(self) -> str:
        """The data hash as a short text."""
        if isinstance(self.data_hash, str):
            return self.data_hash
        return " ".join(f"{scale}:{sha[:16]}" for scale, sha in self.data_hash.items())


_ORIGIN = ("data_hash", "benchmarks", "numerics_version")
"""The fields of a plan that everything is computed from."""
_FOUND = ("inits", "parts", "teachers", "weights_from")
"""Those that become known as the run goes on, key by key."""


def write_plan(
    run: RunDir,
    plan: Plan,
    *,
    data_hash: Mapping[int, str],
    benchmarks: Mapping[tuple[str, float], str],
    inits: Mapping[tuple[str, int], str],
    teachers: Mapping[int, str],
    centroid_seconds: Mapping[int, float] = MappingProxyType({}),
    trials_at_a_time: int,
    weights_from: Mapping[str, str] = MappingProxyType({}),
    parts: Mapping[tuple[str, int], Mapping[str, str]] = MappingProxyType({}),
) -> None:
    """Write RUN/plan.json: the combinations, and the hashes of everything that they are computed from.

    Args:
        data_hash: scale -> that of its training and validation images.
        benchmarks: (name, scale) -> hash of the test set.
        inits: (model's label, scale) -> sha256 of the weights that it starts from.
        parts: the same -> frozen part that it stands on, by its name, -> sha256.
        teachers: scale -> name of the centroids.
        weights_from: as in the record. Of these four what is written stays, as long as it is not known again.
        trials_at_a_time: 0 before anything is run, which keeps what is written.

    Raises:
        InputError: images, benchmarks, weights, plug-ins or the numbers' meaning have changed since the run started.
    """
    steering = [MetricRecord(name=name, higher_is_better=higher_is_better(name)) for name in plan.config.search.metrics]
    now = PlanRecord(
        data_hash={f"x{scale}": sha for scale, sha in data_hash.items()},
        benchmarks={f"{name} x{scale}": sha for (name, scale), sha in benchmarks.items()},
        numerics_version=_numerics_version(plan),
        inits={f"{label} x{scale}": sha for (label, scale), sha in inits.items()},
        parts={f"{label} x{scale} {name}": sha for (label, scale), own in parts.items() for name, sha in own.items()},
        teachers={f"x{scale}": sha for scale, sha in teachers.items()},
        weights_from=dict(weights_from),
        centroid_seconds={f"x{scale}": seconds for scale, seconds in centroid_seconds.items()},
        unscored={f"{name} x{scale}": ids for (name, scale), ids in plan.unscored.items()},
        scored={f"{name} x{scale}": ids for (name, scale), ids in plan.scored.items()},
        plugins=used(plan),
        name=plan.config.name,
        run=run.name,
        config_hash=plan.config.hash,
        git_commit=git_commit(),
        metric=steering[0],
        front=tuple(steering) if len(steering) > 1 else (),
        halve_by=plan.config.search.halve_by if len(steering) > 1 else None,
        protocol=plan.config.evaluation.protocol,
        combinations=tuple(CombinationRecord.of(plan, one) for one in plan.combinations),
        trials_at_a_time=trials_at_a_time,
    )
    if run.plan.exists():
        before = PlanRecord.read(run.plan)
        for key in _ORIGIN:
            was, is_now = getattr(before, key), getattr(now, key)
            if was and is_now and was != is_now:
                raise _changed(key, run)
        if before.plugins != now.plugins:
            was, is_now = (plugins_text(plan.plugins) or "none" for plan in (before, now))
            raise InputError(
                f"plug-ins changed since {run.name} was started (then {was}; now {is_now}); take another name or "
                "--output"
            )
        found = {key: getattr(before, key) | getattr(now, key) for key in _FOUND}
        for key in _FOUND:
            if any(found[key][name] != sha for name, sha in getattr(before, key).items()):
                raise _changed(key, run)
        most = max(trials_at_a_time, before.trials_at_a_time or 0)
        now = now.model_copy(update={**found, "trials_at_a_time": most})
    now.write(run.plan)


def _changed(key: str, run: RunDir) -> InputError:
    return InputError(f"{key.replace('_', ' ')} changed since {run.name} was started; take another name or --output")


def _numerics_version(plan: Plan) -> int:
    """What the numbers of a plan's trials mean, as far as any of them is concerned."""
    return max((numerics_version(combination.spec) for combination in plan.combinations), default=NUMERICS_VERSION)


def read_plan(folder: Path) -> PlanRecord:
    """plan.json of a run folder. Raises InputError if there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected a run folder such as runs/quick-1a2b3c4d")
    if not (path := RunDir(folder).plan).exists():
        raise InputError(f"{folder} is not a run folder: it has no {path.name}")
    return PlanRecord.read(path)


def read_evaluation(folder: Path) -> EvaluationConfig:
    """`evaluation` of a run's config, whose first metric orders the board. Raises InputError if there is no config."""
    path, found = _config(folder)
    if "evaluation" not in found:
        raise InputError(f"{path}: evaluation is missing")
    return EvaluationConfig.parse(found["evaluation"], f"{path}: evaluation")


def read_board(folder: Path) -> BoardConfig:
    """`board` of a run's config; that of earlier versions has none. Raises InputError if there is no config."""
    path, found = _config(folder)
    return BoardConfig.parse(found.get("board", {}), f"{path}: board")


def read_paper(folder: Path) -> PaperConfig | None:
    """`paper` of a run's config, where it has one. Raises InputError if there is no config."""
    path, found = _config(folder)
    return PaperConfig.parse(found["paper"], f"{path}: paper") if "paper" in found else None


def _config(folder: Path) -> tuple[Path, dict[str, Any]]:
    if not (path := RunDir(folder).config).exists():
        raise InputError(f"{folder} is not a run folder: it has no {path.name}")
    return path, read_yaml(path)


def git_commit() -> str | None:
    """The commit of the code that runs, with `+changes` if files differ from it; None outside a checkout of ours."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False).stdout.strip()

    commit = git("rev-parse", "HEAD")
    return f"{commit}{'+changes' if git('status', '--porcelain', '--untracked-files=no') else ''}" if commit else None


# ---- trial.json ------------------------------------------------------------------------------------------------------


class TrialRecord(Record):
    """`trial.json`: what a trial computes, beside its journal; who asked for it stands in each run's `roles.jsonl`."""

    fingerprint: str
    trained_in: str | None = None
    """Name of the run that began it; None in files of earlier versions."""
    attempt: int = 0
    """How often it was begun anew, because its validations lacked what a later search steers by, or it snapshots."""
    machine: Machine | None = Field(default=None, exclude_if=lambda machine: machine is None)
    """On which it was begun; None in files of earlier versions."""
    config: dict[str, Any]
    """As it was written: boards and tracking must read trials whose keys a later version no longer knows."""

    combination: str | None = None
    role: Role | None = None
    number: int | None = None
    seed: int | None = None
    params: dict[str, Any] | None = None
    """These five are of earlier versions, whose trials belonged to one run."""

    def trial_config(self) -> TrialConfig:
        """`config` as this version understands it. Raises InputError if it is of another one."""
        return TrialConfig.parse(self.config, f"trial {self.fingerprint[:16]}: config")


TRIAL = "trial.json"


def exported(run: RunDir, fingerprint: str) -> Path:
    """The folder of a finished trial's weights, averaged where it keeps an average."""
    folder = run.trial(fingerprint)
    return folder / ("model_ema" if TrialRecord.read(folder / TRIAL).trial_config().train.ema else "model")


def begin_trial(folder: Path, config: TrialConfig, *, run: str, steered: bool) -> TrialRecord:
    """What a trial in `folder` goes on with: as it was begun, whoever did, if that measures what is needed now.

    Where a search is to steer it and its validations lack what that takes, or where it keeps no snapshots that are now
    asked for (`train.snapshots`), it is begun anew: its journal begins again,
    its checkpoint is of another attempt, and its weights, if it had come to its end, must come out as they were.

    Args:
        config: what is asked for; `folder` is named by its fingerprint.
        run: name of the run that asks.
        steered: whether a search decides on it by its validations; other runs need its weights alone.
    """
    path = folder / TRIAL
    if not path.exists():
        found = TrialRecord(
            fingerprint=config.fingerprint, trained_in=run, machine=Machine.here(),
            config=config.model_dump(mode="json"),
        )  # fmt: skip
        found.write(path)
        return found
    found = TrialRecord.read(path)
    there = found.trial_config()
    if (not steered or there.measures(config)) and there.keeps(config):
        return found
    found = found.model_copy(
        update={"attempt": found.attempt + 1, "config": there.measured_too_as(config).model_dump(mode="json")}
    )
    begin_anew(folder / JOURNAL)  # first: an old journal beside a new trial.json would pass for a finished trial
    found.write(path)
    return found


# ---- home.json -------------------------------------------------------------------------------------------------------


class HomeRecord(Record):
    """`home.json`: the storage that a run lives on, a bare string; null where it lives in its folder alone."""

    storage: str | None

    @classmethod
    @way_out()
    def read(cls, path: Path) -> Self:
        return cls.parse({"storage": read_json(path)}, str(path))

    def write(self, path: Path) -> None:
        write_json(path, self.storage)
