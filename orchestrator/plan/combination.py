"""One row of a sweep's table: a network under an objective at a scale, and whether it can be trained, drawn and scored.

Nothing here imports torch before parameters are counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sr_models
from eval.protocol import AVERAGED, plain_metric
from objectives import RECIPES, ObjectiveSpec, check_process
from objectives.timesteps import Range
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.evaluation import sampling
from orchestrator.plan.sources import BenchmarkSource
from orchestrator.plan.space import PROCESS, STEPS, Axes, Setting, Varied, apply, axes, corners, shown
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.weights import FORMS, Weights
from sr_models.errors import InputError
from sr_models.hyper.base import NetworkHyper
from sr_models.hyper.process import AnyProcess, ProcessParams
from sr_models.hyper.sampling import SOLVERS, check_sampler, check_solvers

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


def combine(
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
    trials = _trials_of(found, config)
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
    if "tuned_decoder" in spec.loss.needs and made.init is None:
        raise InputError(
            f"models.{label}: {made.id} tunes a decoder on what stage 1 has trained, which stays as it is, and starts "
            f"from nothing; give init: {FORMS}"
        )
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
    check_training(config, network, scale, hyper, train, made.id, spec)
    for name in config.search.metrics:
        if name.startswith(AVERAGED) and train.ema is None:
            raise InputError(f"search.metric: {name!r} needs train.ema for {made.id}")
    return made


def check_given_parts(config: SweepConfig, label: str, network: str, scale: int) -> None:
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


def check_degradation(spec: ObjectiveSpec, scale: int) -> None:
    """Raises InputError: an objective needs D(mu), and nothing is D: at scale 1 no kernel has made the LR files."""
    if scale == 1 and "mu_lr" in spec.needs:
        raise InputError(
            f"objective: target {spec.target.kind!r} needs D(mu), and at scale 1 no kernel D makes LR from HR"
        )


def check_shifting(spec: ObjectiveSpec, network: str, hyper: NetworkHyper) -> None:
    """Raises InputError: residual shifting of a network that it does not go with."""
    if spec.shifting is not None and not hyper.shifts:
        raise InputError(
            f"objective: loss {spec.loss.kind!r} moves from LR's latent to HR's, and {network} is not drawn "
            "so (resshift is)"
        )


def check_features(spec: ObjectiveSpec, network: str) -> None:
    """Raises InputError: an objective has a σ branch, and the network exposes no features that it could read."""
    if spec.sigma is not None and network == sr_models.ZOO.name:
        raise InputError(f"objective: has a sigma branch, which reads features, and {network} exposes none")


def check_training(
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
    row, resources, values = sr_models.spec(network), config.resources, sr_models.check(network, scale, hyper)
    window = math.lcm(row.window, values.window(scale))
    if train.patch % window:
        raise InputError(
            f"{where}: {row.name} works on windows of {window} pixels, so train.patch must be a multiple of that "
            f"(got {train.patch})"
        )
    if train.scales is not None and not row.fractions:
        known = ", ".join(row.name for row in sr_models.MODELS.own.values() if row.fractions and row.trainable)
        raise InputError(
            f"{where}: train.scales is for networks that take any scale ({known}), and {row.name} does not"
        )
    if train.scales is not None and (beyond := values.beyond(train.scales.high)):
        raise InputError(f"{where}: train.scales.high: {beyond}; give the model a higher highest_scale, or high less")
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


def _check_sampling(config: SweepConfig, made: Combination, process: ProcessParams) -> None:
    """Raises InputError: a process that the objective cannot be trained on, or pictures cannot be drawn from."""
    check_process(made.spec, process, f"{made.id}: process")
    _check_tiles(config, made)
    if process.schedule == "cosine" and (idle := {*_BETAS} & {*made.axes.ranges, *made.point}):
        raise InputError(f"{made.id}: {min(idle)} has no effect under process.schedule cosine")
    asked_for = [("evaluation.sampling.steps", None), ("validation.steps", config.validation.steps)]
    if own := made.axes.values(STEPS) or [made.steps] * (made.steps is not None):
        asked_for = [(f"objectives.{made.objective}: {STEPS}", steps) for steps in own]
    drawings = [(key, sampling(made.spec, config.evaluation, asked)) for key, asked in asked_for]
    if made.spec.chain is not None:
        drawings.append((f"loss.steps of objectives.{made.objective}", made.spec.chain))
    for key, drawn in drawings:
        steps = process.steps if drawn is None or drawn.steps is None else drawn.steps
        if steps > process.steps:
            raise InputError(f"{key}: the process of {made.id} has {process.steps} steps, fewer than {steps}")
        if drawn is not None:
            try:
                check_sampler(process, drawn)
                if drawn.sampler in SOLVERS:
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
    crops, rule = config.evaluation.crops, config.evaluation.crop_rule
    if rule is None:
        return
    if crops is None:
        key, what = "tile", f"a tile with its overlap on both sides has {rule.length}"
    else:
        key, what = "crops", f"tiles of {crops} have {rule.length}"
        what += f", of which neighbours share {rule.overlap}" if rule.fused else ""
    others = [s.scale for s in config.data.test.values() if isinstance(s.scale, int)]
    for scale in dict.fromkeys([made.scale, *others]):
        window = sr_models.check(made.network, scale, made.hyper).window(scale)
        if not rule.fits(window):
            raise InputError(
                f"evaluation.{key}: {made.network} needs multiples of {window} LR pixels at x{scale}, and {what} "
                f"({made.id})"
            )


def _trials_of(found: Axes, config: SweepConfig) -> int:
    """Proposals of a combination's search: no more than there are points, and none where one is all there would be."""
    proposals = int(min(config.search.trials, found.size))
    return proposals if proposals > 1 else 0


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
