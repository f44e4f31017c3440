"""A sweep's images: their patch stores, whether its trials can take them, and what bicubic makes of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import sr_models
from orchestrator.data.build import build_store
from orchestrator.data.store import PatchStore, check_leaks
from orchestrator.ingredients import (
    path_of,
)
from orchestrator.plan.combination import Combination
from orchestrator.plan.weights import Weights
from orchestrator.run.bicubic import BicubicRecord, bicubic_path, read_bicubic
from orchestrator.run.folder import STORES
from orchestrator.run.progress import bar, say
from orchestrator.run.records import TRIAL, TrialRecord
from orchestrator.run.winners import read_winners
from orchestrator.session import Session
from sr_models.text_table import counted


def build(session: Session) -> dict[int, PatchStore]:
    """Scale -> the training and validation images as a patch store, which all runs of the output share.

    Raises:
        InputError: images that cannot be read, are too small for a patch, or are in two of train, validation and test.
    """
    config, sources = session.config, session.inputs.sources
    with bar("patch stores", 0) as made:

        def tick(what: str, done: int, total: int) -> None:
            session.meter.check()
            made.note, made.total = what, total
            made.update(done - made.n)

        stores = {
            scale: build_store(
                session.run.at(STORES),
                train=sources["train"],
                validation=sources["validation"],
                scale=scale,
                on_bad=config.data.on_bad,
                patch=session.plan.largest_patch(scale),
                progress=tick,
            )
            for scale in config.scales
        }
    for scale, patch in session.plan.patches:
        stores[scale].check_patch(patch)
    for store in stores.values():
        check_leaks(store, session.inputs.test_hashes)
    if skipped := list({name: None for store in stores.values() for name in store.skipped}):
        say(f"skipped {counted(len(skipped), 'image')}, unreadable or too small: {', '.join(skipped[:3])}")
    for store in stores.values():
        session.home.access.publish(store)
    return stores


def check_memory(session: Session, stores: Mapping[int, PatchStore], found: Mapping[Weights, str]) -> None:
    """Refuse pictures that take more than `resources.max_bytes`, before anything is trained.

    Those of networks that stand on frozen parts are looked at once these are there (`check_pictures`).

    Args:
        found: `find_trials`.

    Raises:
        InputError: one of a network that tiles would change, or whose tiles are too large; it names what to declare.
    """
    from orchestrator.training import memory
    from orchestrator.training.centroids import WHOLE_BYTES

    config, max_bytes = session.config, session.config.resources.bound
    if max_bytes is None:
        return
    check_pictures(session, stores, [one for one in session.plan.combinations if not one.parts])
    for scale in session.plan.teacher_scales:
        assert config.teacher is not None  # the plan refuses objectives that need one otherwise
        weights = config.teacher.at(scale)
        if weights and weights.kind == "from":
            teacher = memory.Network.of(next(c for c in session.plan.combinations if c.id == weights.name))
        else:
            given = path_of(session, weights, "teacher.weights", scale, found) if weights else None
            teacher = memory.Network.of_teacher(config.teacher, scale, given)
        memory.check(teacher, stores[scale].sizes("train"), config.teacher, "teacher", max_bytes, WHOLE_BYTES)
        if config.teacher.weights is None:
            memory.check(teacher, stores[scale].sizes("validation"), config.evaluation, "evaluation", max_bytes)


def check_pictures(
    session: Session,
    stores: Mapping[int, PatchStore],
    combinations: Sequence[Combination],
    parts: Mapping[tuple[str, int], Mapping[str, str]] = MappingProxyType({}),
) -> None:
    """Refuse pictures of validations and test sets that take more of some combinations' networks.

    Args:
        parts: as of `Ingredients`.

    Raises:
        InputError: as `check_memory`.
    """
    from orchestrator.training import memory

    config, max_bytes = session.config, session.config.resources.bound
    if max_bytes is None:
        return
    networks = {
        memory.Network.of(
            one, {name: session.run.init(sha) for name, sha in parts.get((one.label, one.scale), {}).items()}
        )
        for one in combinations
        if one.gives_sr
    }
    validated: dict[float, dict[str, tuple[int, int]]] = {s: store.sizes("validation") for s, store in stores.items()}
    elsewhere: dict[float, dict[str, tuple[int, int]]] = defaultdict(dict)  # test sets that have a scale of their own
    for (name, scale), bench in session.inputs.benchmarks.items():
        sizes = {f"{name}/{image}": size for image, size in bench.lr_sizes.items()}
        if scale in validated:
            validated[scale] = validated[scale] | sizes
        if config.data.test[name].scale is not None:
            elsewhere[scale] |= sizes
    for network in networks:
        memory.check(network, validated[network.scale], config.evaluation, "evaluation", max_bytes)
        for scale in elsewhere.keys() - {network.scale}:
            if sr_models.spec(network.name).takes(scale):
                at = replace(network, scale=scale)
                memory.check(at, elsewhere[scale], config.evaluation, "evaluation", max_bytes)


def keep_bicubic(session: Session, stores: Mapping[int, PatchStore]) -> None:
    """Write what bicubic scores on the validation images of each scale, as its winners are validated, once a run."""
    from orchestrator.training.validation import bicubic_scores

    run, winners = session.run, read_winners(session.run.winners)
    known = dict(read_bicubic(run))
    for combination in session.plan.combinations:
        scale = f"x{combination.scale}"
        if scale not in known and combination.id in winners:
            record = TrialRecord.read(run.trial(winners[combination.id].fingerprints[0]) / TRIAL)
            known[scale] = bicubic_scores(record.trial_config(), stores[combination.scale])
            BicubicRecord(scales=known).write(bicubic_path(run))
