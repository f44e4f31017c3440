"""From a sweep's config to everything that it is going to do: its legal combinations, and the trials of each.

Nothing here imports torch, Ray or MLflow: `--dry-run` answers at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import sr_models
from eval.protocol import FIDELITY, get_metric, plain_metric
from objectives import check_legal
from orchestrator.plan.combination import (
    TEACHER_OBJECTIVE,
    Combination,
    check_degradation,
    check_features,
    check_given_parts,
    check_shifting,
    check_training,
    combine,
)
from orchestrator.plan.config import SearchConfig, SweepConfig
from orchestrator.plan.evaluation import sampling
from orchestrator.plan.graph import check_references, levels, refuse_drawn
from orchestrator.plan.space import apply, varied
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import TrialConfig, degradation_version, latents_of, tiles_version
from orchestrator.plan.weights import Weights
from sr_models.errors import InputError


@dataclass(frozen=True)
class Plan:
    """Everything a sweep is going to do."""

    config: SweepConfig
    combinations: tuple[Combination, ...]
    skipped: tuple[tuple[str, str], ...]
    """(combination, reason) of cells whose network and objective do not fit each other."""

    @property
    def rungs(self) -> list[int]:
        """Steps at which a trial may be stopped; asynchronous halving compares within a combination."""
        if self.config.search.halved_by is None:
            return []
        steps, rung, found = self.config.train.steps, first_rung(self.config.train, self.config.search), []
        while rung < steps:
            found.append(rung)
            rung *= self.config.search.reduction
        return found

    @property
    def levels(self) -> list[tuple[Combination, ...]]:
        """The combinations in the order of their needs: those of a level need winners of the levels before it."""
        known = {combination.id: combination for combination in self.combinations}
        found = levels({name: combination.after for name, combination in known.items()})
        return [tuple(known[name] for name in level) for level in found]

    @property
    def unscored(self) -> dict[tuple[str, float], tuple[str, ...]]:
        """(test set, its own scale) -> ids of the combinations of SR that it cannot score, where there are any."""
        found = {
            (name, source.scale): tuple(c.id for c in self._scored if not c.takes(source))
            for name, source in self.config.data.test.items()
            if source.scale is not None
        }
        return {where: ids for where, ids in found.items() if ids}

    @property
    def scored(self) -> dict[tuple[str, float], tuple[str, ...]]:
        """(test set, scale) -> ids of the combinations that it scores."""
        found: dict[tuple[str, float], list[str]] = {}
        for name, source in self.config.data.test.items():
            for c in self._scored:
                if c.takes(source):
                    found.setdefault((name, source.scale or c.scale), []).append(c.id)
        return {where: tuple(ids) for where, ids in found.items()}

    @property
    def _scored(self) -> list[Combination]:
        """The combinations that give SR."""
        return [combination for combination in self.combinations if combination.gives_sr]

    def part(self, combinations: Sequence[Combination]) -> Plan:
        """The same plan of some of its combinations."""
        return replace(self, combinations=tuple(combinations))

    @property
    def patches(self) -> set[tuple[int, int]]:
        """Every (scale, LR side) that some run cuts out of the training images."""
        found = {(c.scale, c.train.cut(c.scale)) for c in self.combinations}
        teacher = self.config.teacher
        if teacher is not None and teacher.weights is None:
            found |= {(scale, teacher_train(self.config, scale).cut(scale)) for scale in self.teacher_scales}
        return found

    def largest_patch(self, scale: int) -> int:
        """Side of the largest LR patch that some run cuts at a scale; 1 where none does."""
        return max((side for of, side in self.patches if of == scale), default=1)

    @property
    def teacher_scales(self) -> tuple[int, ...]:
        """Scales at which some objective needs a teacher's output."""
        return tuple(
            s for s in self.config.scales if any(c.scale == s and "mu" in c.spec.needs for c in self.combinations)
        )

    @property
    def given(self) -> list[tuple[str, str, int, Weights]]:
        """Key of the config, name of a frozen part or "", scale, and weights: of all that is begun with."""
        found: list[tuple[str, str, int, Weights | None]] = []
        for label in self.config.models:
            for scale in self.config.scales:
                found.append((f"models.{label}.init", "", scale, self.config.init(label, scale)))
                parts = self.config.parts(label, scale).items()
                found += [(f"models.{label}.{name}", name, scale, weights) for name, weights in parts]
        if self.config.teacher is not None:
            found += [("teacher.weights", "", scale, self.config.teacher.at(scale)) for scale in self.teacher_scales]
        return [(key, part, scale, weights) for key, part, scale, weights in found if weights is not None]

    def trial(
        self,
        combination: Combination,
        values: Mapping[str, Any],
        seed: int,
        data_hash: str,
        teacher: str | None,
        init: str | None = None,
        parts: Mapping[str, str] = MappingProxyType({}),
    ) -> TrialConfig:
        """The config of one trial of a combination, with the searched `values` filled in.

        Args:
            parts: frozen part -> its sha256, which the network's hyperparameters then hold.
        """
        now = apply(combination.setting, values, combination.id)
        spec, train = now.spec, now.train
        if seed == self.config.seed:  # the search's, whose trials are many and not scored
            train = train.model_copy(update={"snapshots": ()})
        hyper = combination.hyper | {f"{name}_sha256": sha for name, sha in parts.items()}
        drawn = sampling(spec, self.config.evaluation, now.steps or self.config.validation.steps)
        return TrialConfig(
            model=combination.network,
            scale=combination.scale,
            hyper=hyper,
            objective=spec,
            train=train,
            seed=seed,
            protocol=self.config.evaluation.protocol,
            metrics=validation_metrics(self.config),
            data_hash=data_hash,
            teacher=teacher if "mu" in spec.needs else None,
            init=init,
            latents=latents_of(combination.network, hyper, spec, train),
            tile=self.config.evaluation.tile,
            tile_overlap=self.config.evaluation.tile_overlap,
            tiles_version=tiles_version(self.config.evaluation.tile, drawn),
            crops=self.config.evaluation.crops if drawn else None,
            process=now.process or spec.shifting,
            sampling=drawn,
            measured=self.config.validation.measured,
            degradation_version=degradation_version(train),
        )

    def teacher_trial(self, scale: int, data_hash: str) -> TrialConfig:
        """The config of the teacher that the sweep trains for `scale`: its network under plain L1."""
        teacher = self.config.teacher
        assert teacher is not None and teacher.weights is None
        train = teacher_train(self.config, scale)
        return TrialConfig(
            model=teacher.model,
            scale=scale,
            hyper=sr_models.check(teacher.model, scale, teacher.hyper).model_dump(),
            objective=TEACHER_OBJECTIVE,
            train=train,
            seed=self.config.seed,
            protocol=self.config.evaluation.protocol,
            metrics=validation_metrics(self.config),
            data_hash=data_hash,
            tile=self.config.evaluation.tile,
            tile_overlap=self.config.evaluation.tile_overlap,
            measured=self.config.validation.measured,
            degradation_version=degradation_version(train),
        )

    @property
    def trials(self) -> int:
        """Search trials over all combinations."""
        return sum(c.trials for c in self.combinations)


def make_plan(config: SweepConfig) -> Plan:
    """Every legal combination of the config's models, objectives with the points of their grids, and scales.

    Raises:
        InputError: an unknown model, objective or hyperparameter, a scale that a model lacks, an objective that fits no
            model, a teacher or a frozen part that is needed and not given; a grid point or an end of a range that
            cannot be trained; weights of a combination that is none, or none of the right kind, combinations that need
            each other.
    """
    specs = {label: config.objective(label) for label in config.objectives}
    grids = {label: varied(config, label) for label in config.objectives}
    for label, spec in specs.items():
        if "mu" in spec.needs and config.teacher is None:
            raise InputError(
                f"objectives.{label}: needs a teacher; add teacher: {{model: NAME}} or teacher: {{weights: FOLDER}}"
            )
    combinations: list[Combination] = []
    skipped: list[tuple[str, str]] = []
    tried = dict.fromkeys(specs, 0)
    for scale in config.scales:
        for label in config.models:
            network, given, _ = config.network(label)
            values = sr_models.check(network, scale, given)
            hyper = values.model_dump()
            if not sr_models.spec(network).trainable:
                if config.init(label, scale) is not None:
                    raise InputError(f"models.{label}.init: {network} is not trained; leave it out")
                continue
            if "process" in config.models[label] and sr_models.spec(network).family != "diffusion":
                raise InputError(f"models.{label}.process: {network} is no diffusion network; leave it out")
            check_given_parts(config, label, network, scale)
            if config.validation.crop is not None and config.validation.crop % scale:
                raise InputError(
                    f"validation.crop: {config.validation.crop} HR pixels are no whole number of LR pixels at x{scale}"
                )
            for name in config.objectives_of(label):
                spec, tried[name] = specs[name], tried[name] + 1
                try:
                    tuned = bool(hyper.get("tuned_decoder"))
                    check_legal(spec, sr_models.spec(network).family, tuned_decoder=tuned)
                    check_degradation(spec, scale)
                    check_shifting(spec, network, values)
                    check_features(spec, network)
                except InputError as error:
                    skipped.append((f"x{scale}/{label}/{name}", str(error)))
                    continue
                combinations += [
                    combine(config, label, name, scale, hyper, grids[name], point) for point in grids[name].points
                ]
    for name in specs:  # one that fits some of the models leaves a gap in the table; one that fits none is a mistake
        reasons = [reason for cell, reason in skipped if cell.endswith(f"/{name}")]
        if reasons and len(reasons) == tried[name]:
            raise InputError(f"objectives.{name}: {reasons[0].removeprefix('objective: ')}")
        if any(tried.values()) and not tried[name]:
            raise InputError(f"objectives.{name}: no model is trained under it; name it in objectives: of one")
    plan = Plan(config, tuple(combinations), tuple(skipped))
    _check_tests(plan)
    check_references(combinations)
    if config.teacher is not None and config.teacher.weights is None:
        for scale in plan.teacher_scales or config.scales[:1]:
            try:
                sr_models.check(config.teacher.model, scale, config.teacher.hyper)
                check_legal(TEACHER_OBJECTIVE, sr_models.spec(config.teacher.model).family)
            except InputError as error:
                raise InputError(f"teacher: {str(error).removeprefix('objective: ')}") from None
            train = teacher_train(config, scale)
            train.check_groups(TEACHER_OBJECTIVE, "teacher.train")
            check_training(config, config.teacher.model, scale, config.teacher.hyper, train, "teacher")
    elif config.teacher is not None:
        refuse_drawn(config.teacher.model)
    return plan


def _check_tests(plan: Plan) -> None:
    """Raises InputError: a test set of a scale that no network takes, or a network that no test set is for."""
    tests, ids = plan.config.data.test, {c.id for c in plan._scored}
    for (name, scale), unscored in plan.unscored.items():
        if ids == {*unscored}:
            raise InputError(
                f"data.test.{name}.scale: no network of this sweep is scored at x{scale}: none is trained there, and "
                f"weights of {', '.join(dict.fromkeys(c.network for c in plan._scored))} {only_at(scale)}"
            )
    evaluation = plan.config.evaluation
    key = "tile" if evaluation.crops is None else "crops"
    for name, source in tests.items():
        if evaluation.crop_rule is not None and not isinstance(source.scale, int | None):
            raise InputError(
                f"evaluation.{key}: tiles are for whole scales, and data.test.{name} has x{source.scale}; leave one out"
            )
    if evaluation.crops is not None and not any(c.process for c in plan.combinations):
        raise InputError(
            f"evaluation.crops: {evaluation.crops} are tiles of diffusion networks, and this sweep has none; others "
            "have evaluation.tile"
        )
    for c in plan._scored:
        if not any(c.takes(source) for source in tests.values()):
            raise InputError(f"data.test: no set of x{c.scale}, which {c.id} is to be scored on")
        for name, source in tests.items():
            if source.scale is not None and c.takes(source):
                try:
                    sr_models.check(c.network, source.scale, c.hyper)  # ResShift may have LR itself for a condition
                except InputError as error:
                    raise InputError(f"data.test.{name}.scale, which {c.id} is scored at: {error}") from None


def only_at(scale: float) -> str:
    """What keeps weights from being scored on a test set of this scale, in words."""
    return "are of their own scale alone" if isinstance(scale, int) else "are of whole scales alone"


def first_rung(train: TrainConfig, search: SearchConfig) -> int:
    """The first step at which a trial may be stopped: a validation at or after the configured fraction of a run."""
    return math.ceil(search.first_rung * train.steps / train.validate_every) * train.validate_every


def higher_is_better(metric: str) -> bool:
    """Which end of a validation metric wins; an average's metric is the metric it averages."""
    return get_metric(plain_metric(metric)).higher_is_better


def validation_metrics(config: SweepConfig) -> tuple[str, ...]:
    """What each validation measures: the metrics that steer the search and, if it can, the one that leads the board."""
    leads = [name for name in config.evaluation.metrics[:1] if name in FIDELITY]
    return tuple(dict.fromkeys([*map(plain_metric, config.search.metrics), *leads, *config.validation.metrics]))


def teacher_train(config: SweepConfig, scale: int) -> TrainConfig:
    """The training of a teacher that the sweep makes: `train` with the teacher's differences, and without snapshots."""
    assert config.teacher is not None
    train = config.train.changed(config.teacher.train, "teacher.train").at(scale, "teacher.train")
    return train.model_copy(update={"snapshots": ()})
