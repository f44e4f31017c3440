"""Settings that a sweep ignores: a dry run and a run say each in a line.

Said and not refused: a preset's config with one thing changed on the command line would otherwise be refused for what
it has no more use for. A setting is given where it is not its default, since configs in run folders hold the defaults
too. Of one that a part of the sweep uses, the other part is named. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sr_models
from objectives.losses import AdversarialBranch, CCSRDecoder
from objectives.spec import RampedTarget
from objectives.timesteps import Range
from orchestrator.plan.combination import Combination
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.evaluation import sampling
from orchestrator.plan.plan import Plan, teacher_train
from orchestrator.plan.read import expand
from orchestrator.plan.space import STEPS, TRAIN
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.weights import Weights, weights_of
from sr_models.errors import InputError
from sr_models.hyper.process import ProcessParams, ShiftParams
from sr_models.hyper.sampling import Sampling
from sr_models.params import Params

_SCHEDULES = {"decay_at": "step", "decay": "step", "lr_floor": "cosine"}
"""Field of a training -> the schedule that reads it."""

_SHAPES = {"power": ("polynomial",), "steepness": ("sigmoid",)}
"""Field of a ramp -> the shapes that read it; of `length` and `warm_hold` all but given points."""

_SHOWN = 3  # ids in a line

_SAYS = {"t_max": "timesteps.t_max", "t_min": "timesteps.ratio", "jump": "loss.jump"}
"""Field of a truncated sampling -> what of an objective says it instead."""

_OF_TRAINING = ("train", "process", "objectives")
"""Keys of a model's entry that only training reads."""


@dataclass(frozen=True)
class Idle:
    """What is ignored."""

    said: list[str] = field(default_factory=list)
    """A line each."""

    def ignored(self, setting: str, why: str) -> None:
        """A setting that nothing in the sweep uses, and what keeps it from being used."""
        self.said.append(f"{setting}: ignored: {why}")

    def judge(
        self,
        setting: str,
        over: Sequence[Combination],
        why: Callable[[Combination], str | None],
        *,
        layered: bool = False,
    ) -> None:
        """Say of a setting that it has no effect on some combinations, by name where it has one on others.

        Args:
            why: what keeps it from having one; None: it has.
            layered: as long as one of them uses it, others say otherwise on purpose, and nothing is said.
        """
        reasons: dict[str, list[str]] = {}
        for combination in over:
            if reason := why(combination):
                reasons.setdefault(reason, []).append(combination.id)
        if over and sum(map(len, reasons.values())) == len(over):
            self.ignored(setting, " and ".join(reasons))
        elif not layered:
            self.said.extend(f"{setting}: ignored by {_some(ids)}: {reason}" for reason, ids in reasons.items())


def idle(plan: Plan) -> list[str]:
    """Everything that is given to a sweep, and that a part or all of it ignores, a line each."""
    found = Idle()
    for check in (_drawing, _processes, _objectives, _training, _search, _teacher, _models, _files):
        check(plan, found)
    resources = plan.config.resources
    if resources.placement != "pack" and resources.workers_per_trial == 1:
        found.ignored(f"resources.placement {resources.placement}", "a trial has one worker")
    return found.said


def _drawing(plan: Plan, found: Idle) -> None:
    """How pictures are drawn, of networks that draw none or by a way of their own."""
    validation, evaluation = plan.config.validation, plan.config.evaluation
    drawn, asked = [c for c in plan.combinations if c.process], evaluation.sampling or Sampling()
    if not drawn:
        given = {"validation.steps": validation.steps, "validation.draws": validation.draws != 1,
                 "evaluation.sampling": evaluation.sampling}  # fmt: skip
        for name in [name for name, value in given.items() if value]:
            found.ignored(name, "no network of this sweep draws its pictures from noise")
        return

    def steps(c: Combination) -> str | None:
        if isinstance(c.process, ShiftParams):
            return f"residual shifting takes all of its {c.process.steps} steps"
        return f"{STEPS} of its objective says them" if c.steps or STEPS in c.axes.ranges else None

    def sampler(c: Combination) -> str | None:
        made = sampling(c.spec, evaluation)
        return f"it is drawn by {made.sampler}" if made is not None and made.sampler != asked.sampler else None

    def own(c: Combination, name: str) -> str | None:
        said = getattr(sampling(c.spec, evaluation), name)
        return f"{_SAYS[name]} of its objective says it" if said != getattr(asked, name) else None

    given = {"validation.steps": validation.steps, "evaluation.sampling.steps": asked.steps}
    if names := [name for name, value in given.items() if value is not None]:
        found.judge(" and ".join(names), drawn, steps)
    if asked.sampler != Sampling().sampler:
        found.judge(f"evaluation.sampling.sampler {asked.sampler}", drawn, sampler)
    if evaluation.crops is not None:
        scored = [c for c in plan.combinations if c.gives_sr]
        found.judge("evaluation.crops", scored, lambda c: None if c.process else "it draws no picture from noise")
    truncated = [c for c in drawn if sampler(c) is None]
    for name in _SAYS:
        if (value := getattr(asked, name)) != getattr(Sampling(sampler=asked.sampler), name):
            shown = f"{value:g}" if isinstance(value, float) else value
            found.judge(f"evaluation.sampling.{name} {shown}", truncated, lambda c, name=name: own(c, name))  # type: ignore[misc]


def _processes(plan: Plan, found: Idle) -> None:
    """Noise processes that no loss trains under, and what a schedule has no use for."""
    config, drawn = plan.config, [c for c in plan.combinations if c.process]

    def taken(c: Combination) -> str | None:
        return None if c.spec.takes_process else f"loss {c.spec.loss.kind} has a process of its own (loss.T, ...)"

    def betas(c: Combination) -> str | None:
        if not isinstance(c.process, ProcessParams):
            return taken(c)
        return "schedule cosine has none" if c.process.schedule == "cosine" else None

    if config.process and not drawn:
        found.ignored("process", "no network of this sweep has a noise process")
    of_labels = [(f"models.{label}.process", entry.get("process"), [c for c in drawn if c.label == label])
                 for label, entry in config.models.items()]  # fmt: skip
    for where, given, over in [("process", config.process, drawn), *of_labels]:
        if not given:
            continue
        found.judge(where, over, taken)
        if any(c.spec.takes_process for c in over):
            for name in [name for name in ("beta_start", "beta_end") if name in given]:
                found.judge(f"{where}.{name}", over, betas, layered=True)


def _objectives(plan: Plan, found: Idle) -> None:
    """Parts of objectives that other parts of them have no use for."""
    for label in plan.config.objectives:
        where, of = f"objectives.{label}", [c for c in plan.combinations if c.objective == label]
        for name in ("power", "steepness", "length", "warm_hold"):
            given = [c for c in of if isinstance(c.spec.target, RampedTarget) and _given(c.spec.target, name)]
            found.judge(f"{where}: target.{name}", given, lambda c, name=name: _unshaped(c, name), layered=True)  # type: ignore[misc]
        given = [c for c in of if isinstance(c.spec.loss, CCSRDecoder) and isinstance(c.spec.timesteps, Range)
                 and _given(c.spec.timesteps, "t_low")]  # fmt: skip
        found.judge(f"{where}: timesteps.t_low", given, lambda c: "loss ccsr_decoder practises no noise levels, and "
                    "its chain goes from t_max to t_min")  # fmt: skip
        for c in of:
            if isinstance(c.spec.loss, AdversarialBranch) and c.spec.loss.start >= c.train.steps:
                found.said.append(
                    f"{where}: loss.start {c.spec.loss.start} is after the last step of {c.id} ({c.train.steps - 1}, "
                    "counted from 0), so its discriminator never counts"
                )


def _unshaped(c: Combination, name: str) -> str | None:
    """Why a field of a ramp is not read."""
    assert isinstance(c.spec.target, RampedTarget)
    shapes = c.axes.values("target.shape") or [c.spec.target.shape]
    reads = [shape for shape in shapes if (shape in _SHAPES[name] if name in _SHAPES else shape != "points")]
    return None if reads else f"shape {shapes[0]} has none"


def _training(plan: Plan, found: Idle) -> None:
    """Fields of trainings that no schedule, and no network, reads."""
    config = plan.config
    for where, given, trains in _trainings(plan):
        for name, schedule in _SCHEDULES.items():
            if name in given and trains and all(train.schedule != schedule for train in trains):
                got = ", ".join(sorted({train.schedule for train in trains}))
                found.ignored(f"{where}.{name}", f"it is of schedule {schedule} (got schedule {got})")
    of_labels = [(f"models.{label}.train", _own_given(config, label)) for label in config.models]
    for where, own in [("train", _all_given(config.train)), *of_labels]:
        over = [c for c in plan.combinations if where in ("train", f"models.{c.label}.train")]
        if "checkpointing" in own:
            found.judge(f"{where}.checkpointing", over, _keeps_all, layered=True)
        if "stored_latents" in own:
            found.judge(f"{where}.stored_latents", over, _has_none, layered=True)


def _keeps_all(c: Combination) -> str | None:
    return None if sr_models.spec(c.network).family == "diffusion" else "it is of diffusion networks"


def _has_none(c: Combination) -> str | None:
    hyper = sr_models.spec(c.network).hyper.parse(c.hyper, c.label)
    return None if hyper.latents is not None else "it is of networks that can be trained on stored latents"


def _own_given(config: SweepConfig, label: str) -> list[str]:
    """What an entry of `models` says of its training, but for defaults: they may undo what `train` says for all."""
    train = config.network(label)[2]
    return [name for name in config.models[label].get("train") or {} if _given(train, name)]


def _trainings(plan: Plan) -> Iterator[tuple[str, Iterable[str], list[TrainConfig]]]:
    """Where trainings are described, the fields that are given there, and what comes of them."""
    config = plan.config

    def updates(over: Iterable[Combination], name: str | None = None) -> list[TrainConfig]:
        names = [(c, update) for c in over for update in c.spec.update_names if name in (None, update)]
        return [c.train.group(update) for c, update in names]

    teachers = _taught(plan)
    yield "train", _all_given(config.train), updates(plan.combinations) + teachers
    for name, group in config.train.groups.items():
        yield f"train.groups.{name}", group.model_dump(exclude_none=True), updates(plan.combinations, name)
    for label in config.models:
        over = [c for c in plan.combinations if c.label == label]
        yield f"models.{label}.train", _own_given(config, label), updates(over)
    for label, entry in config.objectives.items():
        names = [name.removeprefix(TRAIN) for name in entry.get("grid") or {} if name.startswith(TRAIN)]
        yield f"objectives.{label}.grid: train", names, updates(c for c in plan.combinations if c.objective == label)
    if config.teacher is not None:
        yield "teacher.train", config.teacher.train, teachers


def _taught(plan: Plan) -> list[TrainConfig]:
    """How teachers are trained, where the sweep trains them."""
    teacher = plan.config.teacher
    if teacher is None or teacher.weights is not None:
        return []
    return [teacher_train(plan.config, scale) for scale in plan.teacher_scales]


def _search(plan: Plan, found: Idle) -> None:
    """What steers a search that there is none of, or that is steered otherwise."""
    search = plan.config.search
    if search.audit and not (plan.trials and plan.rungs):
        found.ignored("search.audit", "no trial is stopped early" if plan.trials else "nothing is searched")
    if search.sampler == "random" and _given(search, "startup_trials"):
        found.ignored("search.startup_trials", "with search.sampler random all proposals are")
    few: dict[int, list[str]] = {}
    for c in plan.combinations:
        if search.sampler == "tpe" and 0 < c.trials <= search.startup_trials:
            few.setdefault(c.trials, []).append(c.id)
    for trials, ids in few.items():
        found.said.append(
            f"search: all {trials} trials of {_some(ids)} are proposed at random (search.startup_trials "
            f"{search.startup_trials})"
        )
    for name in ("first_rung", "reduction"):
        if search.halved_by is None and _given(search, name):
            found.ignored(f"search.{name}", "without search.halve_by no trial is stopped")


def _teacher(plan: Plan, found: Idle) -> None:
    """What a teacher that is not trained, or that is not needed, has no use for."""
    teacher = plan.config.teacher
    if teacher is None:
        return
    if not plan.teacher_scales:
        found.said.append("teacher is not used: no objective of this sweep learns from one")
        return
    if "snapshots" in teacher.train:
        found.ignored("teacher.train.snapshots", "a teacher is not scored, and keeps none")
    given = [(weights, scale) for scale in plan.teacher_scales if (weights := teacher.at(scale))]
    if teacher.train and given:
        found.ignored("teacher.train", "its weights are given, and nothing is trained")
    for name in ("model", "hyper"):
        if given and _given(teacher, name) and all(one.kind != "file" or _folder(one, scale) for one, scale in given):
            found.ignored(f"teacher.{name}", f"{given[0][0].shown} says its network itself")
    _of_other_scales("teacher.weights", teacher.weights, plan.config, found)


def _folder(weights: Weights, scale: int) -> bool:
    """Whether a file reference is a checkpoint folder."""
    try:
        return (Path(expand(weights.name, "teacher.weights", scale)) / "model.json").is_file()
    except InputError:  # a variable that is not set is one of the faults that `orchestrator.ready` lists
        return False


def _models(plan: Plan, found: Idle) -> None:
    """What entries of `models` say of networks that are not trained, of gradients that are none, of other scales."""
    for label, entry in plan.config.models.items():
        network = entry.get("model", label)
        for key in () if sr_models.spec(network).trainable else [key for key in _OF_TRAINING if key in entry]:
            found.ignored(f"models.{label}.{key}", f"{network} is not trained")
        over = [c for c in plan.combinations if c.label == label and c.hyper.get("encoder_in_gradient")]
        found.judge(f"models.{label}.encoder_in_gradient", over, _without_gradient)
        for key in ("init", *sr_models.spec(network).hyper.parts):
            _of_other_scales(f"models.{label}.{key}", entry.get(key), plan.config, found)


def _without_gradient(c: Combination) -> str | None:
    """Why no gradient would reach a noisy state: only the guess from step T, made noisy again, brings one."""
    terminal = c.spec.timesteps.terminal if c.spec.timesteps else None
    if c.hyper["tuned_decoder"]:
        return "with tuned_decoder the decoder alone is trained"
    if not terminal or terminal.detach:
        return "no state has a gradient without timesteps.terminal, or with its detach"
    return None


def _of_other_scales(where: str, given: Any, config: SweepConfig, found: Idle) -> None:
    """Say of which scales weights are given that the sweep does not have."""
    if others := [f"x{scale}" for scale in weights_of(given) if scale not in (None, *config.scales)]:
        found.said.append(f"{where}: what it says of {', '.join(others)} is not used: {_scales(config)}")


def _files(plan: Plan, found: Idle) -> None:
    """LR files and kernels of images that make or find their LR otherwise."""
    config = plan.config

    def unread(c: Combination) -> str | None:
        if c.train.scales is not None:
            return "train.scales makes LR from HR in each step"
        return f"loss {c.spec.loss.kind} looks at HR alone" if c.spec.loss.family == "autoencoder" else None

    for scale in [scale for scale in config.scales if any(scale in source.lr for source in config.data.train)]:
        over = [c for c in plan.combinations if c.scale == scale]
        # the files are a part of the data's hash, and other rows of a table are trained on them
        found.judge(f"data.train: LR files at x{scale}", over, unread)
    for split, sources in (("train", config.data.train), ("validation", config.data.validation)):
        for source in sources:
            if others := [f"x{scale}" for scale in source.lr if scale not in config.scales]:
                found.said.append(
                    f"data.{split}: LR files of {source.hr} at {', '.join(others)} are not used: {_scales(config)}"
                )
            if _given(source, "kernel") and source.lr.keys() >= {*config.scales}:
                found.ignored(f"data.{split}: kernel of {source.hr}", "its LR are files at every scale")


def _scales(config: SweepConfig) -> str:
    return f"scales are {', '.join(f'x{scale}' for scale in config.scales)}"


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more


def _given(part: Params, name: str) -> bool:
    """Whether a field is not its default."""
    known = type(part).model_fields[name]
    return bool(getattr(part, name) != known.get_default(call_default_factory=True))


def _all_given(part: Params) -> list[str]:
    return [name for name in type(part).model_fields if _given(part, name)]
