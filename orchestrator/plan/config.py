"""What a sweep is: frozen, typed; read from YAML, presets and `key=value` overrides.

Unknown keys are refused with the nearest valid one before anything starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

import sr_models
from objectives import ObjectiveSpec, resolve
from orchestrator.plan.evaluation import EvaluationConfig, ValidationConfig, check_validated
from orchestrator.plan.paper import PaperConfig
from orchestrator.plan.resources import ResourceConfig
from orchestrator.plan.sources import BenchmarkSource, ImageSource
from orchestrator.plan.teacher import TeacherConfig
from orchestrator.plan.train import MOST_COUNT, TrainConfig
from orchestrator.plan.weights import Weights, weights_at, weights_of
from orchestrator.plan.zoo import recognised
from sr_models.errors import InputError
from sr_models.hashing import digest
from sr_models.hyper.process import ProcessParams
from sr_models.params import Params, each_once, nearest, one_as_list

LABEL = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}"
"""What names a sweep, a model, an objective or a benchmark: they become ids, folders and file names (255 bytes)."""

LAYOUT = 2
"""Of run folders; in their names, so that no run goes on in a folder that an earlier version has laid out otherwise.

2: what runs have in common lies beside them, in `shared`.
"""


class SearchConfig(Params):
    """How schedules are searched: Optuna proposes within a combination, asynchronous halving stops the worse ones."""

    trials: int = Field(
        default=8,
        ge=1,
        le=MOST_COUNT,
        description="proposals per combination, the configured values first; 1 searches nothing",
    )
    common: tuple[str, ...] = Field(
        default=(), description="searched in every combination, from a quarter to four times its own value: [train.lr]"
    )
    metric: str | tuple[str, ...] = Field(
        default="psnr_y",
        description="validation metric that steers the search and picks the winner; or two or three, "
        "[psnr_y, lpips_alex]: the search is for their front, whose best by the first one is run in full",
    )
    halve_by: str | None = Field(
        default=None,
        exclude_if=lambda name: name is None,
        description="of several metrics, the one by which the worse trials are stopped early; null: none are stopped",
    )
    sampler: Literal["tpe", "random"] = Field(default="tpe", description="how Optuna proposes")
    startup_trials: int = Field(
        default=4, ge=1, le=MOST_COUNT, description="random proposals before TPE starts to model"
    )
    first_rung: float = Field(
        default=0.25, gt=0, le=1, description="fraction of a full run before a trial may be stopped"
    )
    reduction: int = Field(
        default=2, ge=2, le=MOST_COUNT, description="halving factor: one in this many trials goes on at each rung"
    )
    audit: int = Field(
        default=0,
        ge=0,
        le=MOST_COUNT,
        description="stopped trials of each search that are run on to the end, to judge the rungs",
    )

    @field_validator("common", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, given: Any) -> Any:
        return one_as_list(given)

    @field_validator("metric", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        names = [given] if isinstance(given, str) else given
        several = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
        if not several or (names is given and len(names) not in (2, 3)):
            raise ValueError("give one metric by its name, or a list of two or three")
        each_once(names)
        for name in names:
            check_validated(name)
        return given

    @model_validator(mode="after")
    def _halved_by_one_that_steers(self) -> SearchConfig:
        if self.halve_by is not None and self.halve_by not in self.metrics:
            raise ValueError(f"halve_by names one of search.metric ({', '.join(self.metrics)}), got {self.halve_by!r}")
        if self.audit and self.halved_by is None:
            raise ValueError(f"audit runs stopped trials on, and without halve_by none is stopped (got {self.audit})")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that steer; the first one picks what runs in full."""
        return (self.metric,) if isinstance(self.metric, str) else self.metric

    @property
    def halved_by(self) -> str | None:
        """The metric by which trials are stopped early; None: none are."""
        return self.metric if isinstance(self.metric, str) else self.halve_by


class DataConfig(Params):
    """Images to train on, to steer the search by, and to score winners on; no image may be in two of them."""

    train: tuple[ImageSource, ...] = Field(min_length=1, description="training images")
    validation: tuple[ImageSource, ...] = Field(min_length=1, description="images that steer the search")
    test: dict[Annotated[str, Field(pattern=f"^{LABEL}$")], BenchmarkSource] = Field(
        min_length=1, description="benchmarks: name -> images"
    )
    on_bad: Literal["fail", "skip"] = Field(default="fail", description="what an unreadable training image does")


class BoardConfig(Params):
    """How rows are compared; moves no trial and no score, so it is in no run's name."""

    baseline: str | None = Field(
        default=None, description="objective that each network's other rows are compared with, by its label; or null"
    )


class SweepConfig(Params):
    """A table of model x objective x scale, with the data, budget and search that every cell shares."""

    name: str = Field(pattern=f"^{LABEL}$", description="first part of the run folder's name")
    scales: tuple[int, ...] = Field(default=(2,), min_length=1, description="upscaling factors; 1: LR as large as HR")
    models: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="label -> hyperparameters; `model:` names the network if the label does not, `weights:` a file "
        "that says its network and starts it (spandrel), `train:` what differs, "
        "`process:` likewise, `init:` weights to start from, as teacher.weights (x2 ones start x3, x4, x8: "
        "all but the upsampler); a frozen part (`autoencoder:`) likewise; `objectives:` those it is trained under",
    )
    objectives: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="label -> changes to a recipe, plus `search:` and `grid:`, whose points are rows, over its own "
        "names, train.KEY, and of diffusion process.KEY and sampling.steps",
    )
    data: DataConfig
    train: TrainConfig = TrainConfig()
    teacher: TeacherConfig | None = Field(default=None, description="needed by kd, eco_noise_free and eco")
    search: SearchConfig = SearchConfig()
    seeds: int = Field(
        default=1,
        ge=1,
        le=MOST_COUNT,
        description="full runs of each winner, with seeds that the search never saw; they are scored",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="base of every random draw")
    process: dict[str, Any] = Field(
        default={},
        exclude_if=lambda process: not process,
        description="of diffusion networks: T, schedule, beta_start, beta_end, prediction, ...; see process.KEY",
    )
    validation: ValidationConfig = Field(
        default=ValidationConfig(),
        exclude_if=lambda validation: validation == ValidationConfig(),
    )
    evaluation: EvaluationConfig = EvaluationConfig()
    board: BoardConfig = BoardConfig()
    resources: ResourceConfig = ResourceConfig()
    paper: PaperConfig | None = Field(
        default=None,
        exclude_if=lambda paper: paper is None,
        description="what a paper prints for these rows: boards show it beside them",
    )
    tiny: dict[str, Any] = Field(
        default={},
        exclude=True,  # a run folder holds what was run
        description="dotted key -> value that the word scale_down=tiny applies before other overrides: the same sweep "
        "with fewer images, steps and channels",
    )

    @field_validator("models", "objectives", mode="before")
    @classmethod
    def _list_to_mapping(cls, value: Any) -> Any:
        return as_mapping(value)

    @field_validator("models", mode="before")
    @classmethod
    def _files_that_say_their_network(cls, value: Any) -> Any:
        return recognised(value) if isinstance(value, Mapping) else value

    @field_validator("models", "objectives")
    @classmethod
    def _labels(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for label, entry in value.items():
            if not re.fullmatch(LABEL, label):
                raise ValueError(f"a label is at most 100 letters, digits and _ . + -, got {label[:100]!r}")
            if label == "bicubic" and entry.get("model", label) != label:
                raise ValueError("the label 'bicubic' belongs to the row that every gain is measured from")
            if not isinstance(entry.get("model", label), str):
                raise ValueError(f"{label}.model names a network, got {entry['model']!r}")
            for key in ("init", *_parts_of(entry.get("model", label))):
                try:
                    weights_of(entry.get(key))
                except ValueError as error:
                    raise ValueError(f"{label}.{key}: {error}") from None
                if f"{key}_sha256" in entry:
                    raise ValueError(f"{label}.{key}_sha256: a sweep finds it itself; leave it out")
        return value

    @field_validator("scales", mode="before")
    @classmethod
    def _one_scale_is_a_list(cls, given: Any) -> Any:
        return one_as_list(given)

    @field_validator("scales")
    @classmethod
    def _scales(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value) or min(value) < 1:
            raise ValueError("scales must be different whole numbers >= 1")
        return value

    @model_validator(mode="after")
    def _same_size_pairs_are_files(self) -> SweepConfig:
        groups = {"train": self.data.train, "validation": self.data.validation} if 1 in self.scales else {}
        lacking = [(f"data.{name}", "{1: FOLDER}") for name, group in groups.items() for s in group if 1 not in s.lr]
        tests = self.data.test.items()
        lacking += [(f"data.test.{name}", "FOLDER") for name, s in tests if 1 in s.at(self.scales) and s.lr is None]
        for where, folder in lacking:
            raise ValueError(
                f"{where}: at scale 1 no kernel makes LR from HR; name the folder of its files (lr: {folder})"
            )
        return self

    @model_validator(mode="after")
    def _spreads_have_draws(self) -> SweepConfig:
        try:
            self.validation.check_draws(self.search.metrics)
        except ValueError as error:
            raise ValueError(f"search.metric: {error}") from None
        return self

    @model_validator(mode="after")
    def _baseline_is_an_objective(self) -> SweepConfig:
        if (name := self.board.baseline) is None:
            return self
        if self.objectives.get(name, {}).get("grid"):
            raise ValueError(f"board.baseline: {name!r} is a grid of rows, none of which is named so; null: none")
        if name not in self.objectives:
            for label in self.objectives:
                self.objective(label)  # where one is misspelt, that is said: `baseline` may be right
            raise ValueError(
                f"board.baseline: no objective {name!r} in this sweep{nearest(name, list(self.objectives))}; null: none"
            )
        return self

    @property
    def hash(self) -> str:
        """sha256 of everything but where and by how many it is done: the same hash resumes the same run folder.

        Neither an audit of the search, the board's baseline nor what a paper prints is in it: they move no score, and
        may come later.
        """
        beside: dict[str, Any] = {
            "train": {"checkpoint_every", "snapshots", "checkpointing"},
            "evaluation": {"weights_dir", "workers"},
        }
        beside["search"] = {"audit"}
        fields = self.model_dump(mode="json", exclude={"resources": True, "board": True, "paper": True, **beside})
        return digest([LAYOUT, fields])

    @property
    def run_name(self) -> str:
        return f"{self.name}-{self.hash[:8]}"

    @property
    def scored_scales(self) -> tuple[float, ...]:
        """Those of test sets: `scales`, where some set has none of its own, then the sets' own."""
        return tuple(dict.fromkeys(scale for source in self.data.test.values() for scale in source.at(self.scales)))

    def network(self, label: str) -> tuple[str, dict[str, Any], TrainConfig]:
        """One entry of `models`: the network's name, the hyperparameters given for it, and how it is trained.

        Raises:
            InputError: a `train:` of its own that does not fit TrainConfig.
        """
        hyper = dict(self.models[label])
        name, own = hyper.pop("model", label), hyper.pop("train", {})
        for key in ("init", "process", "objectives", *_parts_of(name)):
            hyper.pop(key, None)
        return name, hyper, self.train.changed(own, f"models.{label}.train")

    def init(self, label: str, scale: int) -> Weights | None:
        """Where one entry of `models` starts at a scale; None: from scratch."""
        return weights_at(self.models[label].get("init"), scale)

    def parts(self, label: str, scale: int) -> dict[str, Weights]:
        """Where the frozen parts come from that one entry of `models` stands on at a scale, by their names."""
        entry = self.models[label]
        found = {name: weights_at(entry.get(name), scale) for name in _parts_of(entry.get("model", label))}
        return {name: weights for name, weights in found.items() if weights is not None}

    def objectives_of(self, label: str) -> tuple[str, ...]:
        """Labels of the objectives that one entry of `models` is trained under: all, unless it names some.

        Raises:
            InputError: no list of labels, or an unknown one.
        """
        given, where = self.models[label].get("objectives"), f"models.{label}.objectives"
        if given is None:
            return tuple(self.objectives)
        if not isinstance(given, list) or not given or not all(isinstance(name, str) for name in given):
            raise InputError(f"{where}: expected a list of labels of objectives, got {given!r}")
        for name in given:
            if name not in self.objectives:
                raise InputError(f"{where}: no objective {name!r} in this sweep{nearest(name, list(self.objectives))}")
        return tuple(name for name in self.objectives if name in given)

    def process_of(self, label: str) -> ProcessParams:
        """The noise process of one entry of `models`, a diffusion network: `process` with its own differences.

        What neither says is as `NetworkHyper.process` of the network has it.

        Raises:
            InputError: unknown key, a value out of range, or a chain that cannot be sampled.
        """
        usual = sr_models.spec(self.models[label].get("model", label)).hyper.process
        own = self.models[label].get("process", {})
        where = f"models.{label}.process" if own else "process"
        if not isinstance(own, Mapping):
            raise InputError(f"{where}: expected a mapping of keys to values, got {own!r}")
        return ProcessParams.parse({**usual, **self.process, **own}, where)

    def objective(self, label: str) -> ObjectiveSpec:
        """The objective of one entry of `objectives`; an entry that names neither recipe nor target is called like one.

        Raises:
            InputError: unknown recipe, component or key, or a value out of range.
        """
        changes = {key: value for key, value in self.objectives[label].items() if key not in ("search", "grid")}
        if "recipe" not in changes and "target" not in changes:
            changes["recipe"] = label
        return resolve(changes, f"objectives.{label}")


def _parts_of(network: Any) -> tuple[str, ...]:
    """Names of the frozen parts of a network; none of one that there is not, which the plan refuses."""
    return sr_models.MODELS[network].hyper.parts if network in sr_models.MODELS else ()


def as_mapping(value: Any) -> Any:
    """A list of names as a mapping of names to nothing; `name:` with no value likewise.

    Raises:
        InputError: a name comes twice.
    """
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        each_once(value)
        return {item: {} for item in value}
    if isinstance(value, Mapping):
        return {key: {} if inner is None else inner for key, inner in value.items()}
    return value
