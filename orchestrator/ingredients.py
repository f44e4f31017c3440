"""What trials are computed from beside their configs: images, starting weights and teachers, known by their hashes.

Weights of files and of trials that are there are known before anything is trained, those of a sweep's own combinations
when these have their winners.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cluster import capacity
from orchestrator.plan.combination import Combination
from orchestrator.plan.plan import Plan
from orchestrator.plan.read import expand
from orchestrator.plan.trial import TrialConfig
from orchestrator.plan.weights import Weights
from orchestrator.run.records import exported, write_plan
from orchestrator.session import Session
from orchestrator.training import latents, products, teachers
from orchestrator.training.products import Room


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """The hashes of everything that trials are computed from, beside their configs, as far as they are known."""

    data_hash: Mapping[int, str]
    """Scale -> that of its training and validation images."""
    inits: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """(model's label, scale) -> sha256 of the weights that it starts from."""
    parts: Mapping[tuple[str, int], Mapping[str, str]] = field(default_factory=dict)
    """(model's label, scale) -> frozen part that it stands on, by its name, -> sha256."""
    teachers: Mapping[int, str] = field(default_factory=dict)
    """Scale -> name of the teacher's centroids."""
    sources: Mapping[Weights, str] = field(default_factory=dict)
    """Reference to a trial or a combination -> fingerprint of the trial whose weights it stands for."""

    def trial(self, plan: Plan, combination: Combination, values: Mapping[str, Any], seed: int) -> TrialConfig:
        """A combination's trial with the searched `values` filled in."""
        teacher = self.teachers.get(combination.scale)
        where = combination.label, combination.scale
        init, parts = self.inits.get(where), self.parts.get(where, {})
        return plan.trial(combination, values, seed, self.data_hash[combination.scale], teacher, init, parts)

    def hold(self, combination: Combination) -> bool:
        """Whether all is known that a combination's trials are computed from."""
        where = combination.label, combination.scale
        start = combination.init is None or where in self.inits
        stands = combination.parts.keys() == self.parts.get(where, {}).keys()
        return start and stands and ("mu" not in combination.spec.needs or combination.scale in self.teachers)


def find_trials(session: Session) -> dict[Weights, str]:
    """Every finished trial that the config names -> its fingerprint; its weights are then in the output.

    Raises:
        InputError: no such trial in this output, several, or one that has not come to its end.
    """
    named = {weights: key for key, _, _, weights in session.plan.given if weights.kind == "trial"}
    return {weights: teachers.finished_trial(session.home, weights.name, where) for weights, where in named.items()}


def check_starts(plan: Plan) -> None:
    """Hold that weights of combinations fit the networks that are to start from them, before anything is trained.

    Raises:
        InputError: some do not.
    """
    known = {combination.id: combination for combination in plan.combinations}
    for one in plan.combinations:
        if one.init is not None and one.init.kind == "from":
            teachers.check_start(one, known[one.init.name])


def prepare(session: Session, ingredients: Ingredients) -> Ingredients:
    """The same with the starting weights and teachers that can be known by now, which then lie in the run and stores.

    Raises:
        InputError: weights that cannot be read or do not fit, a teacher whose training failed; or something has changed
            since the run started.
    """
    inits, parts = start_weights(session, ingredients), frozen_parts(session, ingredients)
    ingredients = replace(ingredients, inits=inits, parts=parts)
    record(session, ingredients)  # before anything that takes long
    ingredients = replace(ingredients, teachers=teach(session, ingredients))
    record(session, ingredients)
    return ingredients


def start_weights(session: Session, ingredients: Ingredients) -> dict[tuple[str, int], str]:
    """(model's label, scale) -> sha256 of the weights that it starts from, which then lie in the run folder."""
    config, found = session.config, dict(ingredients.inits)
    for label in config.models:
        for scale in config.scales:
            weights = config.init(label, scale)
            if (label, scale) in found or weights is None:
                continue
            if path := path_of(session, weights, f"models.{label}.init", scale, ingredients.sources):
                found[label, scale] = teachers.start_weights(config, session.home, label, path, scale)
    return found


def frozen_parts(session: Session, ingredients: Ingredients) -> dict[tuple[str, int], dict[str, str]]:
    """(model's label, scale) -> part that it stands on -> sha256, as far as they are known; the run then has them."""
    config = session.config
    found = {where: dict(parts) for where, parts in ingredients.parts.items()}
    for label in config.models:
        for scale in config.scales:
            for name, weights in config.parts(label, scale).items():
                if name in found.get((label, scale), {}):
                    continue
                where = f"models.{label}.{name}"
                if path := path_of(session, weights, where, scale, ingredients.sources):
                    sha256 = teachers.keep_part(config, session.home, label, name, path, scale)
                    found.setdefault((label, scale), {})[name] = sha256
    return found


def path_of(
    session: Session, weights: Weights, where: str, scale: int, sources: Mapping[Weights, str] = MappingProxyType({})
) -> Path | None:
    """Where weights lie; None: a combination that has no winner yet."""
    if weights.kind == "file":
        return Path(expand(weights.name, where, scale))
    return exported(session.run, sources[weights]) if weights in sources else None


def teach(session: Session, ingredients: Ingredients) -> dict[int, str]:
    """Scale -> name of the teacher's centroids, which are then in the scale's store."""
    config, found = session.config, dict(ingredients.teachers)
    if not session.plan.teacher_scales:
        return found

    for scale in session.plan.teacher_scales:
        assert config.teacher is not None  # the plan refuses objectives that need one otherwise
        weights = config.teacher.at(scale)
        if scale in found or (weights and weights.kind == "from" and weights not in ingredients.sources):
            continue
        given = path_of(session, weights, "teacher.weights", scale, ingredients.sources) if weights else None
        found[scale] = teachers.teach(
            session.plan, session.home, session.roles, scale, ingredients.data_hash[scale], lambda: room_of(session),
            session.device, given, session.meter,
        )  # fmt: skip
    return found


def room_of(session: Session) -> Room:
    """What a trial that is alone on the cluster, or a product of the training images, may hold; joins the cluster."""
    cluster, resources = session.cluster.resources, session.config.resources
    if resources.workers_per_trial == 1:  # alone on the cluster, so all cores of the largest node are its
        cores = capacity.cores_of_largest(cluster, resources.cpus_per_worker, resources.gpus_per_worker)
        resources = resources.model_copy(update={"cpus_per_worker": cores})
    return Room(resources, max((node.memory for node in cluster.nodes), default=0))


def bring_latents(session: Session, ingredients: Ingredients, combinations: Sequence[Combination]) -> None:
    """Have in the stores the latents that trials of these combinations, of which all is known, are trained on."""
    trials = {}
    for one in [each for each in combinations if "autoencoder" in each.parts]:
        trial = ingredients.trial(session.plan, one, {}, session.config.seed)
        if trial.latents is not None:
            trials[trial.latents, trial.data_hash] = trial
    for (name, data_hash), trial in trials.items():
        job = latents.Job(
            access=session.home.access.for_workers(), name=name, data_hash=data_hash, device=session.device,
            model=trial.model, scale=trial.scale, hyper=json.dumps(trial.hyper, sort_keys=True),
        )  # fmt: skip
        products.bring(job, session.home.access, lambda: room_of(session), f"latents x{trial.scale}", session.meter)


def record(session: Session, ingredients: Ingredients) -> None:
    """Write plan.json, here and on the storage.

    Raises:
        InputError: something that trials are computed from has changed since the run started.
    """
    config, sources = session.config, ingredients.sources
    seconds = {
        scale: session.home.access.open_store(ingredients.data_hash[scale]).centroid_seconds(teacher)
        for scale, teacher in ingredients.teachers.items()
    }
    given = {f"{label} x{scale}": config.init(label, scale) for label, scale in ingredients.inits}
    for (label, scale), parts in ingredients.parts.items():
        given |= {f"{label} x{scale} {name}": config.parts(label, scale).get(name) for name in parts}
    given |= {f"teacher x{scale}": config.teacher.at(scale) for scale in ingredients.teachers if config.teacher}
    write_plan(
        session.run,
        session.plan,
        data_hash=ingredients.data_hash,
        benchmarks={where: bench.hash for where, bench in session.inputs.known.items()},
        inits=ingredients.inits,
        parts=ingredients.parts,
        teachers=ingredients.teachers,
        centroid_seconds={scale: known for scale, known in seconds.items() if known is not None},
        trials_at_a_time=session.trials_at_a_time if session.cluster.is_joined else 0,
        weights_from={what: sources[weights] for what, weights in given.items() if weights and weights in sources},
    )
    session.home.push()
