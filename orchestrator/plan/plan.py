"""From a sweep's config to its trials: legal combinations, and their number of trials.

Nothing here imports torch, Ray or MLflow: `--dry-run` answers at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import sr_models
from eval.protocol import AVERAGED, FIDELITY, get_metric, plain_metric
from objectives import RECIPES, ObjectiveSpec, check_legal, check_process
from objectives.timesteps import Range
from orchestrator.plan.config import SearchConfig, SweepConfig
from orchestrator.plan.evaluation import EvaluationConfig
from orchestrator.plan.graph import levels
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.plan.space import PROCESS, STEPS, Axes, Setting, Varied, apply, axes, corners, shown, varied
from orchestrator.plan.trial import TrainConfig, TrialConfig, degradation_version, latents_of
from orchestrator.plan.weights import FORMS, PARTS, Weights
from sr_models.errors import InputError
from sr_models.hyper.base import NetworkHyper
from sr_models.hyper.process import AnyProcess, ProcessParams
from sr_models.hyper.sampling import SOLVERS, Sampling, check_solvers
from sr_models.params import nearest

_BETAS = (f"{PROCESS}beta_start", f"{PROCESS}beta_end")

TEACHER_OBJECTIVE = RECIPES["l1"]
"""What a teacher that a sweep makes is trained by."""


@dataclass(frozen=True)
class Combination:
    """One row of the table: a network under an objective at a scale, at one point of the objective's grid."""

    label: str
    objective: str
    """Label of the entry of `objectives`."""
    scale: int
    network: str
    hyper: dict[str, Any]
    point: dict[str, Any]
    """Dotted name -> value: where on the grid; `train` and `spec` hold it too."""
    train: TrainConfig
    spec: ObjectiveSpec
    axes: Axes
    trials: int
    """Proposals of its search; 0 where there is nothing to choose from, and so no search."""
    init: Weights | None = None
    """Where its network starts; None: from scratch."""
    teacher: Weights | None = None
    """Where its teacher's weights come from; None: it needs no teacher, or one that the sweep trains first."""
    process: AnyProcess | None = None
    """The noise of a diffusion network; None of others."""
    steps: int | None = None
    """That its pictures are drawn in, where its point of the grid says so."""
    parts: dict[str, Weights] = field(default_factory=dict)
    """Where the frozen parts come from that its network stands on, by their names."""

    @property
    def setting(self) -> Setting:
        """Where its hyperparameters stand, without a search."""
        process = self.process if isinstance(self.process, ProcessParams) else None
        return Setting(self.spec, self.train, process, self.steps)

    def takes(self, source: BenchmarkSource) -> bool:
        """Whether it is scored on a test set: on one of its own scale, and on any if its weights know nothing of it."""
        return source.scale in (None, self.scale) or sr_models.spec(self.network).takes(source.scale)

    @property
    def gives_sr(self) -> bool:
        """As `TrialConfig.gives_sr`, of its trials."""
        return self.spec.target.output == "sr" and sr_models.spec(self.network).sr

    @property
    def lacks_prompt(self) -> bool:
        """Whether a stand-in takes the place of a prompt's embedding."""
        return "prompt" in sr_models.spec(self.network).hyper.parts and "prompt" not in self.parts

    @property
    def after(self) -> tuple[str, ...]:
        """Ids of the combinations whose winners it starts from, is taught by, or stands on."""
        sources = (self.init, self.teacher, *self.parts.values())
        found = [weights.name for weights in sources if weights and weights.kind == "from"]
        return tuple(dict.fromkeys(found))

    @property
    def id(self) -> str:
        """Such as `x2/imdn/l1`, with the grid's point in brackets: `x2/imdn/l1[train.batch_size=16]`."""
        point = ",".join(f"{name}={shown(value)}" for name, value in self.point.items())
        return f"x{self.scale}/{self.label}/{self.objective}" + (f"[{point}]" if point else "")

    @property
    def objective_label(self) -> str:
        """What boards call its objective: the label with the grid's point in words, as `l1, batch_size=16`."""
        short = {name: name.partition(".")[2] for name in self.point}
        words = [
            f"{short[name] if list(short.values()).count(short[name]) == 1 else name}={shown(value)}"
            for name, value in self.point.items()
        ]
        return ", ".join([self.objective, *words])


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
            process=now.process or spec.shifting,
            sampling=sampling(spec, self.config.evaluation, now.steps or self.config.validation.steps),
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
                continue
            if "process" in config.models[label] and sr_models.spec(network).family != "diffusion":
                raise InputError(f"models.{label}.process: {network} is no diffusion network; leave it out")
            _check_parts(config, label, network, scale)
            if config.validation.crop is not None and config.validation.crop % scale:
                raise InputError(
                    f"validation.crop: {config.validation.crop} HR pixels are no whole number of LR pixels at x{scale}"
                )
            for name in config.objectives_of(label):
                spec, tried[name] = specs[name], tried[name] + 1
                try:
                    tuned = bool(hyper.get("tuned_decoder"))
                    check_legal(spec, sr_models.spec(network).family, tuned_decoder=tuned)
                    _check_degradation(spec, scale)
                    _check_shifting(spec, network, values)
                except InputError as error:
                    skipped.append((f"x{scale}/{label}/{name}", str(error)))
                    continue
                combinations += [
                    _combination(config, label, name, scale, hyper, grids[name], point) for point in grids[name].points
                ]
    for name in specs:  # one that fits some of the models leaves a gap in the table; one that fits none is a mistake
        reasons = [reason for cell, reason in skipped if cell.endswith(f"/{name}")]
        if reasons and len(reasons) == tried[name]:
            raise InputError(f"objectives.{name}: {reasons[0].removeprefix('objective: ')}")
        if any(tried.values()) and not tried[name]:
            raise InputError(f"objectives.{name}: no model is trained under it; name it in objectives: of one")
    plan = Plan(config, tuple(combinations), tuple(skipped))
    _check_tests(plan)
    check_sources(combinations)
    if config.teacher is not None and config.teacher.weights is None:
        for scale in plan.teacher_scales or config.scales[:1]:
            try:
                sr_models.check(config.teacher.model, scale, config.teacher.hyper)
                check_legal(TEACHER_OBJECTIVE, sr_models.spec(config.teacher.model).family)
            except InputError as error:
                raise InputError(f"teacher: {str(error).removeprefix('objective: ')}") from None
            train = teacher_train(config, scale)
            train.check_groups(TEACHER_OBJECTIVE, "teacher.train")
            _check_training(config, config.teacher.model, scale, config.teacher.hyper, train, "teacher")
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
    for name, source in tests.items():
        if plan.config.evaluation.tile is not None and not isinstance(source.scale, int | None):
            raise InputError(
                f"evaluation.tile: tiles are for whole scales, and data.test.{name} has x{source.scale}; leave one out"
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


def sampling(spec: ObjectiveSpec, evaluation: EvaluationConfig, steps: int | None = None) -> Sampling | None:
    """How pictures are drawn from what an objective trains, in evaluation's number of steps or another one.

    None: from a regression network, which gives them.
    """
    asked = evaluation.sampling or Sampling()
    return spec.sampled(asked if steps is None else asked.model_copy(update={"steps": steps}))


def refuse_drawn(network: str) -> None:
    """Raises InputError: a teacher that draws its pictures from noise, where it is to give one; an unknown network."""
    if sr_models.spec(network).family == "diffusion":
        raise InputError(f"teacher: {network} draws its pictures from noise, and a teacher gives one; name another")


def _check_parts(config: SweepConfig, label: str, network: str, scale: int) -> None:
    """Raises InputError: a network stands on a frozen part that its entry of `models` does not give.

    The stand-in for a prompt goes with what this project has trained under it alone.
    """
    hyper, given = sr_models.spec(network).hyper, config.parts(label, scale)
    for name in hyper.parts:
        if name not in given and name not in hyper.optional_parts:
            raise InputError(f"models.{label}: {network} at x{scale} stands on a frozen {name}; give {name}: {FORMS}")
    unet = given.get("unet")
    if "prompt" in hyper.parts and "prompt" not in given and unet is not None and unet.kind == "file":
        raise InputError(
            f"models.{label}: its unet is a file, and such a one was trained with a prompt's embedding; give prompt: "
            "FILE (python -m sr_models prompt SD_FOLDER FILE makes it)"
        )


def _check_degradation(spec: ObjectiveSpec, scale: int) -> None:
    """Raises InputError: an objective needs D(mu), and nothing is D: at scale 1 no kernel has made the LR files."""
    if scale == 1 and "mu_lr" in spec.needs:
        raise InputError(
            f"objective: target {spec.target.kind!r} needs D(mu), and at scale 1 no kernel D makes LR from HR"
        )


def _check_shifting(spec: ObjectiveSpec, network: str, hyper: NetworkHyper) -> None:
    """Raises InputError: residual shifting of a network that does not have the clean state of LR for a condition."""
    if spec.shifting is not None and not hyper.shifts:
        raise InputError(
            f"objective: loss {spec.loss.kind!r} moves from LR's latent to HR's, and {network} is not given it "
            "(resshift with condition latent is)"
        )


def _combination(
    config: SweepConfig,
    label: str,
    objective: str,
    scale: int,
    hyper: dict[str, Any],
    what: Varied,
    point: dict[str, Any],
) -> Combination:
    """The combination at one point of an objective's grid.

    Raises:
        InputError: it cannot be trained there, or at an end of a range that its search would look in.
    """
    network, _, train = config.network(label)
    where = f"objectives.{objective}"
    spec = config.objective(objective)
    now = apply(Setting(spec, train, config.process_of(label) if spec.takes_process else None), point, where)
    now = replace(now, train=now.train.at(scale, f"x{scale}/{label}/{objective}: train"))
    spec, train, found = now.spec, now.train, axes(what.search, now, where)
    trials = trials_of(found, config)
    teacher = config.teacher.at(scale) if config.teacher is not None and "mu" in spec.needs else None
    made = Combination(
        label, objective, scale, network, hyper, point, train, spec, found, trials, config.init(label, scale), teacher,
        now.process or spec.shifting, now.steps, config.parts(label, scale),
    )  # fmt: skip
    if now.process is not None:
        for corner in corners(now, found, where):
            assert corner.process is not None
            _check_sampling(config, made, corner.process)
    elif made.process is not None:
        _check_tiles(config, made)
    elif trials and any(plain_metric(name) == "l_std" for name in config.search.metrics):
        raise InputError(f"search.metric: l_std cannot steer {made.id}, which gives one picture and draws none")
    if "mu" in spec.needs and config.teacher is not None and config.teacher.weights and teacher is None:
        raise InputError(f"teacher.weights: none for x{scale}, where {made.id} needs a teacher")
    train.check_groups(spec, f"{made.id}: train")
    train.check_inputs(spec, f"{made.id}: train")
    if trials and not made.gives_sr:
        raise InputError(
            f"{made.id}: what it learns is no SR, so validations cannot steer a search of {', '.join(found.ranges)}; "
            "give `search: []`, and leave search.common out"
        )
    if "train.lr" in found.ranges and all(getattr(train.groups.get(name), "lr", None) for name in spec.update_names):
        raise InputError(f"{made.id}: train.lr is searched, and no update uses it: train.groups gives each its own lr")
    _check_training(config, network, scale, hyper, train, made.id, spec)
    for name in config.search.metrics:
        if name.startswith(AVERAGED) and train.ema is None:
            raise InputError(f"search.metric: {name!r} needs train.ema for {made.id}")
    return made


def _check_sampling(config: SweepConfig, made: Combination, process: ProcessParams) -> None:
    """Raises InputError: a process that the objective cannot be trained on, or pictures cannot be drawn from."""
    check_process(made.spec, process, f"{made.id}: process")
    _check_tiles(config, made)
    if process.schedule == "cosine" and (idle := {*_BETAS} & {*made.axes.ranges, *made.point}):
        raise InputError(f"{made.id}: {min(idle)} has no effect under process.schedule cosine")
    asked_for = [("evaluation.sampling.steps", None), ("validation.steps", config.validation.steps)]
    if own := made.axes.values(STEPS) or [made.steps] * (made.steps is not None):
        asked_for = [(f"objectives.{made.objective}: {STEPS}", steps) for steps in own]
    for key, asked in asked_for:
        drawn = sampling(made.spec, config.evaluation, asked)
        steps = process.steps if drawn is None or drawn.steps is None else drawn.steps
        if steps > process.steps:
            raise InputError(f"{key}: the process of {made.id} has {process.steps} steps, fewer than {steps}")
        if drawn is not None and drawn.sampler in SOLVERS:
            try:
                check_solvers(process.alpha_bar())
            except InputError as error:
                raise InputError(f"evaluation.sampling of {made.id}: {error}") from None
        if isinstance(made.spec.timesteps, Range):
            t_max = min(made.axes.values("timesteps.t_max") or [made.spec.timesteps.t_max])
            ratio = max(made.axes.values("timesteps.ratio") or [made.spec.timesteps.ratio])
            least = math.ceil(1 / (t_max * (1 - ratio)) - 1e-9)
            if steps < least:
                raise InputError(
                    f"{key}: of {steps} steps none may lie between t_max and t_min of {made.id}; give at least {least}"
                )


def _check_tiles(config: SweepConfig, made: Combination) -> None:
    """Raises InputError: tiles that the windows of a diffusion network do not divide, at a scale that it is scored at.

    Another network's are made to fit; such a one draws each tile as large as it is asked for.
    """
    if config.evaluation.tile is None:
        return
    length = config.evaluation.tile + 2 * config.evaluation.tile_overlap
    others = [s.scale for s in config.data.test.values() if isinstance(s.scale, int)]
    for scale in dict.fromkeys([made.scale, *others]):
        window = sr_models.check(made.network, scale, made.hyper).window(scale)
        if length % window:
            raise InputError(
                f"evaluation.tile: {made.network} needs multiples of {window} LR pixels at x{scale}, and a tile with "
                f"its overlap on both sides has {length} ({made.id})"
            )


def check_sources(combinations: Sequence[Combination]) -> None:
    """Refuse references to combinations that could not be followed.

    Raises:
        InputError: no such combination, one of another network to start from, one that learns no SR, a teacher of
            another scale or that draws from noise, no network that trains such a part, combinations that need each
            other.
    """
    known = {combination.id: combination for combination in combinations}
    for one in combinations:
        parts = {f"models.{one.label}.{name}": weights for name, weights in one.parts.items()}
        for where, weights in [(f"models.{one.label}.init", one.init), ("teacher", one.teacher), *parts.items()]:
            if weights is None or weights.kind != "from":
                continue
            if weights.name not in known:
                hint = nearest(weights.name, list(known))
                raise InputError(f"{where}: no combination {weights.name!r} in this sweep{hint}")
            source = known[weights.name]
            if where in parts:
                _check_part(where, source)
                continue
            if source.spec.target.output != "sr" or (weights is one.teacher and not source.gives_sr):
                raise InputError(f"{where}: {source.id} learns no SR, so its weights start and teach nothing")
            if weights is one.init and source.network != one.network:
                raise InputError(
                    f"{where}: {source.id} trains {source.network}, whose weights start no {one.network} ({one.id})"
                )
            if weights is one.teacher:
                refuse_drawn(source.network)
            if weights is one.teacher and source.scale != one.scale:
                raise InputError(f"{where}: {source.id} makes no x{one.scale} pictures, which {one.id} needs")
    levels({name: combination.after for name, combination in known.items()})


def _check_part(where: str, source: Combination) -> None:
    """Raises InputError: what a combination trains is no such part."""
    part, row = where.rpartition(".")[2], sr_models.spec(source.network)
    if part not in PARTS:
        raise InputError(f"{where}: {part} is a file, and nothing here trains one (got from: {source.id})")
    attribute, wanted = PARTS[part]
    if getattr(row, attribute) != wanted:
        kinds = [name for name, other in sr_models.MODELS.items() if getattr(other, attribute) == wanted]
        raise InputError(
            f"{where}: {source.id} trains {source.network}, and {part} is one of: {', '.join(kinds) or 'none yet'}"
        )


def trials_of(found: Axes, config: SweepConfig) -> int:
    """Proposals of a combination's search: no more than there are points, and none where one is all there would be."""
    proposals = int(min(config.search.trials, found.size))
    return proposals if proposals > 1 else 0


def _check_training(
    config: SweepConfig,
    network: str,
    scale: int,
    hyper: Mapping[str, Any],
    train: TrainConfig,
    where: str,
    spec: ObjectiveSpec = TEACHER_OBJECTIVE,
) -> None:
    """Refuse batches and patches that a network cannot be trained on.

    Raises:
        InputError: a patch that the network's windows do not divide, scales that it does not take, LR files beside a
            degradation, fewer samples than workers, parts of a batch for a network that looks at all of it.
    """
    row, resources = sr_models.spec(network), config.resources
    window = math.lcm(row.window, sr_models.check(network, scale, hyper).window(scale))
    if train.patch % window:
        raise InputError(
            f"{where}: {row.name} works on windows of {window} pixels, so train.patch must be a multiple of that "
            f"(got {train.patch})"
        )
    if train.scales is not None and not row.fractions:
        known = ", ".join(row.name for row in sr_models.MODELS.values() if row.fractions and row.trainable)
        raise InputError(
            f"{where}: train.scales is for networks that take any scale ({known}), and {row.name} does not"
        )
    if train.degradation is not None and any(scale in source.lr for source in config.data.train):
        raise InputError(
            f"{where}: train.degradation makes LR from HR, and data.train has LR files at x{scale}, which would be "
            "unused; leave one of them out"
        )
    if resources.workers_per_trial > train.batch_size:
        raise InputError(
            f"resources.workers_per_trial: {resources.workers_per_trial} workers cannot share a batch of "
            f"{train.batch_size} (train.batch_size of {where})"
        )
    given = {"workers_per_trial": resources.workers_per_trial > 1, "min_workers": resources.min_workers is not None,
             "micro_batch": resources.micro_batch is not None}  # fmt: skip
    looks = row.name if row.batch_statistics else "the discriminator (loss.norm batch)" if spec.whole_batches else None
    for key in [key for key, is_given in given.items() if is_given and looks]:
        raise InputError(
            f"resources.{key}: {looks} normalises by the statistics of its batch, so parts of one train another "
            f"network than the whole ({where}); got {getattr(resources, key)}, leave it out"
        )


def first_rung(train: TrainConfig, search: SearchConfig) -> int:
    """The first step at which a trial may be stopped: a validation at or after the configured fraction of a run."""
    return math.ceil(search.first_rung * train.steps / train.validate_every) * train.validate_every


def higher_is_better(metric: str) -> bool:
    """Which end of a validation metric wins; an average's metric is the metric it averages."""
    return get_metric(plain_metric(metric)).higher_is_better


def parameters(combination: Combination) -> int:
    """Trainable parameters of a combination's network, without the σ head that inference drops; imports torch."""
    from sr_models.networks.base import parameters as trainable

    net = sr_models.build(combination.network, combination.scale, **combination.hyper)
    return trainable(net)


def trained_parameters(combination: Combination) -> int:
    """Those, and the σ head's where the objective has one."""
    from sr_models.networks.base import SRNetwork
    from sr_models.networks.base import parameters as trainable
    from sr_models.networks.sigma import SigmaHead

    net, sigma = sr_models.build(combination.network, combination.scale, **combination.hyper), combination.spec.sigma
    if sigma is None or not isinstance(net, SRNetwork):
        return trainable(net)
    return trainable(net) + trainable(SigmaHead(net.feature_channels, net.feature_scale_to_go, width=sigma.width))


def validation_metrics(config: SweepConfig) -> tuple[str, ...]:
    """What each validation measures: the metrics that steer the search and, if it can, the one that leads the board."""
    leads = [name for name in config.evaluation.metrics[:1] if name in FIDELITY]
    return tuple(dict.fromkeys([*map(plain_metric, config.search.metrics), *leads, *config.validation.metrics]))


def teacher_train(config: SweepConfig, scale: int) -> TrainConfig:
    """The training of a teacher that the sweep makes: `train` with the teacher's differences, and without snapshots."""
    assert config.teacher is not None
    train = config.train.changed(config.teacher.train, "teacher.train").at(scale, "teacher.train")
    return train.model_copy(update={"snapshots": ()})
