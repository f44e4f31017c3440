"""The stages of a sweep, in order: images, starting weights, teachers, search, winners in full, evaluation, report.

Each is a function from what the ones before it returned; what it leaves on disk is found there when it runs again.
Where combinations need the winners of others, the stages from starting weights to winners come once for each level of
that graph (`Plan.levels`), and see its combinations alone.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import sr_models
from cluster.secrets import shown
from eval.pictures.style import attempt
from orchestrator import backbones
from orchestrator.data.build import build_store
from orchestrator.data.store import PatchStore, check_leaks
from orchestrator.ingredients import (
    Ingredients,
    bring_latents,
    check_starts,
    find_trials,
    path_of,
    prepare,
    record,
)
from orchestrator.leaderboard import html, pictures, standing, write
from orchestrator.leaderboard.rungs import rungs_text
from orchestrator.leaderboard.scores import has_scores
from orchestrator.leaderboard.text import terminal_width
from orchestrator.plan.combination import Combination
from orchestrator.plan.plan import higher_is_better
from orchestrator.plan.text import plan_text
from orchestrator.plan.trial import TrialConfig
from orchestrator.plan.weights import Weights
from orchestrator.run import events
from orchestrator.run.bicubic import BicubicRecord, bicubic_path, read_bicubic
from orchestrator.run.budget import BudgetReached
from orchestrator.run.folder import STORES
from orchestrator.run.journal import TrialResult
from orchestrator.run.progress import Bar, bar, moves, say, tell
from orchestrator.run.records import TRIAL, TrialRecord
from orchestrator.run.winners import WinnerRecord, read_winners, write_winners
from orchestrator.search.audit import Audited, audit_text, drawn
from orchestrator.search.pareto import against_one_reference
from orchestrator.search.studies import Assignment, Studies
from orchestrator.session import Session
from orchestrator.there import There, there
from orchestrator.tracking import address, mlflow_store, view


def run(session: Session) -> list[str]:
    """Run every stage that is not finished, then print the board; a line on each planned row that has no score.

    Raises:
        BudgetReached: before the end; what is there is printed, marked unfinished.
    """
    plan, run = session.plan, session.run
    events.emit(
        events.SweepBegin(
            run=run.name,
            folder=str(run.path),
            combinations=len(plan.combinations),
            trials=plan.trials,
            seeds=session.config.seeds,
        )
    )
    try:
        unscored = _every_stage(session)
    except BudgetReached as bound:
        unfinished(session, str(bound))
        raise
    boards = tuple(str(path) for path in sorted(run.path.glob("leaderboard.*")))
    costs = session.meter.costs()
    events.emit(events.Done(folder=str(run.path), boards=boards, unscored=tuple(unscored), **costs))
    return unscored


def _every_stage(session: Session) -> list[str]:
    if session.services.address:  # else it was said at once
        say(plan_text(session.plan, session.cores, session.gpus))
    say(session.home.shown)
    check_starts(session.plan)
    found = find_trials(session)
    stores = build_images(session)
    backbones.check_sizes(session.config, stores)
    backbones.supply(session)
    check_memory(session, stores, found)
    data_hash = {scale: store.data_hash for scale, store in stores.items()}
    ingredients = prepare(session, Ingredients(data_hash=data_hash, sources=found))
    say(already(session, ingredients).text)
    unscored: list[str] = []
    audited: list[Audited] = []
    for number, level in enumerate(session.plan.levels):
        if number:
            ingredients = prepare(session, ingredients)
        unscored += [without(combination, ingredients) for combination in level if not ingredients.hold(combination)]
        ready = [combination for combination in level if ingredients.hold(combination)]
        if not ready:
            continue
        check_pictures(session, stores, [one for one in ready if one.parts], ingredients.parts)
        bring_latents(session, ingredients, ready)
        part = replace(session, plan=session.plan.part(ready))
        studies = search(part, ingredients)
        unscored += finish_winners(part, ingredients, studies)
        audited += audit(part, ingredients, studies)
        ingredients = replace(ingredients, sources={**ingredients.sources, **settled(part, ingredients, studies)})
    refused = evaluate(session)
    record(session, ingredients)  # on how many machines is known now
    attempt("bicubic beside the curves", functools.partial(keep_bicubic, session, stores))
    report(session, refused=refused, audited=audited)
    return unscored + refused


# ---- images ----------------------------------------------------------------------------------------------------------


def build_images(session: Session) -> dict[int, PatchStore]:
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
        say(f"skipped {len(skipped)} images, unreadable or too small: {', '.join(skipped[:3])}")
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


def already(session: Session, ingredients: Ingredients) -> There:
    """What other runs of this output, or this one before it was stopped, have trained of search and full runs."""

    def make(combination: Combination, values: Mapping[str, Any], seed: int, _firsts: Any) -> TrialConfig | None:
        known = ingredients.hold(combination)
        return ingredients.trial(session.plan, combination, values, seed) if known else None

    return there(session.plan, session.run, make, session.home.access.read_journal, teachers=(0, 0))


# ---- trials ----------------------------------------------------------------------------------------------------------


def search(session: Session, ingredients: Ingredients) -> Studies:
    """Run every planned trial of the search; the studies hold how each ended."""
    from orchestrator.search import tune

    plan, config = session.plan, session.config

    def make_config(combination: Combination, values: Mapping[str, Any]) -> TrialConfig:
        return ingredients.trial(plan, combination, values, config.seed)

    studies = Studies(session.services.studies_uri or session.run.studies_url, plan, make_config, session.run)
    for combination, told, trial in studies.told():  # also what another run of this search had come to
        session.roles.add(trial, combination=combination.id, role="search", number=told.number, params=told.params)
    session.home.pull_trials()
    steps = {combination.id: combination.train.steps for combination in plan.combinations}
    total = sum(combination.trials * steps[combination.id] for combination in plan.combinations)
    with bar("search", total, "step", cost=lambda: session.meter.spent.rate) as made:
        made.start_at(sum(studies.finished(combination) * steps[combination.id] for combination in plan.combinations))
        progress = _search_progress(made, lambda: session.home.push(sometimes=True))
        tune.search(
            studies,
            session.home.access,
            session.roles,
            config.resources,
            lambda: session.trials_at_a_time,
            session.device,
            progress,
            session.meter,
        )
    session.home.push()
    for combination in plan.combinations:
        if causes := studies.failures(combination):
            say(f"{combination.id}: {len(causes)} trial(s) failed: {causes[0]}")
        if causes := studies.left(combination):
            say(f"{combination.id}: {len(causes)} trial(s) to be tried again by the same command: {causes[0]}")
    return studies


def _search_progress(made: Bar, after: Callable[[], None]) -> Callable[[Assignment, int, str], None]:
    """What moves the search's bar as trials report and end; `after` is called each time."""
    made.counts = ended = {"done": 0, "stopped": 0, "failed": 0}
    reached: dict[str, int] = {}

    def progress(assignment: Assignment, step: int, status: str) -> None:
        name = f"{assignment.combination.id}#{assignment.number}"
        now = step if status == "running" else assignment.combination.train.steps
        if status != "running":
            ended["done" if status == "complete" else status] += 1
        made.update(max(now - reached.get(name, 0), 0))
        reached[name] = now
        after()

    return progress


def finish_winners(session: Session, ingredients: Ingredients, studies: Studies) -> list[str]:
    """Run the best trial of each search in full with seeds that the search never saw, and write winners.json.

    Where nothing is searched, the configured values are run. A winner is scored by these runs alone.

    Returns:
        A line on each combination, or seed of one, that cannot be scored, and why.
    """
    plan, config = session.plan, session.config
    best = {combination.id: studies.winner(combination) for combination in plan.combinations}
    finals: dict[str, list[TrialConfig]] = {}
    unscored: list[str] = []
    for combination in plan.combinations:
        found = best[combination.id]
        if combination.trials and found is None:
            causes = [*studies.left(combination), *studies.failures(combination)]
            why = f" ({causes[0]})" if causes else ""
            unscored.append(f"{combination.id}: no trial of its search ran its full budget{why}")
            say(f"{unscored[-1]}; no score")
            continue
        params = found.params if found else {}
        finals[combination.id] = [
            ingredients.trial(plan, combination, params, config.seed + 1 + i) for i in range(config.seeds)
        ]
        for trial in finals[combination.id]:
            session.roles.add(trial, combination=combination.id, role="final", params=params)
    results = _run_in_full(session, "winners in full", [trial for seeds in finals.values() for trial in seeds])
    seconds = {
        fingerprint: float(result.metrics["train.seconds"])
        for fingerprint, result in results.items()
        if result.status == "complete"
    }
    winners: dict[str, WinnerRecord] = {}
    for combination in plan.combinations:
        found = best[combination.id]
        for trial in finals.get(combination.id, ()):
            if (ended := results[trial.fingerprint]).status != "complete":
                unscored.append(f"{combination.id} seed {trial.seed}: {ended.cause}")
        done = tuple(trial.fingerprint for trial in finals.get(combination.id, ()) if trial.fingerprint in seconds)
        if done:
            winners[combination.id] = WinnerRecord(
                number=found.number if found else None,
                params=found.params if found else {},
                fingerprints=done,
                search=studies.counts(combination),
                train_seconds=statistics.fmean(seconds[fingerprint] for fingerprint in done),
                search_run=str(found.user_attrs["fingerprint"]) if found else None,
                front=studies.front(combination),
            )
    others = read_winners(session.run.winners).items()  # those of the other levels
    ours = {combination.id for combination in plan.combinations}
    every = {name: winner for name, winner in others if name not in ours} | winners
    write_winners(session.run.winners, against_one_reference(every))
    for winner in winners.values():
        for fingerprint in winner.fingerprints:
            session.home.pull_weights(fingerprint)
    session.home.push()
    return unscored


def settled(session: Session, ingredients: Ingredients, studies: Studies) -> dict[Weights, str]:
    """Reference to each combination whose winner no later command can change -> fingerprint of its first fresh seed."""
    found = {}
    winners = read_winners(session.run.winners)
    for combination in session.plan.combinations:
        if combination.id in winners and not studies.left(combination):
            params = winners[combination.id].params
            first = ingredients.trial(session.plan, combination, params, session.config.seed + 1).fingerprint
            if first in winners[combination.id].fingerprints:
                found[Weights("from", combination.id)] = first
    return found


def without(combination: Combination, ingredients: Ingredients) -> str:
    """A line on a combination that needs another one's winner, which there is not; it is said."""
    lacking = [name for name in combination.after if Weights("from", name) not in ingredients.sources]
    line = f"{combination.id}: needs the winner's first run of {' and '.join(lacking)}, which has not come to its end"
    say(f"{line}; no score")
    return line


def audit(session: Session, ingredients: Ingredients, studies: Studies) -> list[Audited]:
    """Run some stopped trials of each search on to the end; for the studies they stay stopped."""
    plan, config, judge = session.plan, session.config, session.config.search.halved_by
    if judge is None:
        return []
    sign = 1 if higher_is_better(judge) else -1
    chosen: dict[str, list[TrialConfig]] = {}
    for combination in plan.combinations:
        stopped = studies.stopped(combination)
        if stopped and config.search.audit and studies.winner(combination):
            numbers = drawn(config.seed, combination.id, list(stopped), config.search.audit)
            chosen[combination.id] = [
                ingredients.trial(plan, combination, stopped[n].params, config.seed) for n in numbers
            ]
    results = _run_in_full(session, "audit", [trial for trials in chosen.values() for trial in trials], steered=True)
    found = []
    for combination in plan.combinations:
        best = studies.to_beat(combination)
        if combination.id in chosen and best is not None:
            ended = [results[trial.fingerprint] for trial in chosen[combination.id]]
            last = [r.metrics[judge] if r.status == "complete" else math.nan for r in ended]
            gains = tuple(sign * (value - best) for value in last)
            found.append(Audited(combination=combination.id, stopped=len(studies.stopped(combination)), gains=gains))
    return found


def _run_in_full(
    session: Session, what: str, trials: list[TrialConfig], *, steered: bool = False
) -> dict[str, TrialResult]:
    """Fingerprint -> how each ended, none stopped early; twins are run once."""
    from orchestrator.training import in_full

    if not trials:
        return {}
    each = list({trial.fingerprint: trial for trial in trials}.values())
    total = sum(trial.train.steps for trial in each)
    with bar(what, total, "step", cost=lambda: session.meter.spent.rate) as made:
        results = in_full.run_in_full(
            each,
            session.home.access,
            session.config.resources,
            session.device,
            moves(made),
            session.meter,
            at_a_time=lambda: session.trials_at_a_time,
            steered=steered,
        )
    for trial, result in zip(each, results, strict=True):
        if result.status != "complete":
            more = "" if result.is_final else "; the same command tries it again"
            say(f"{trial.model} seed {trial.seed}: {result.status} at step {result.step}: {result.cause}{more}")
    return {trial.fingerprint: result for trial, result in zip(each, results, strict=True)}


# ---- what came out ---------------------------------------------------------------------------------------------------


def evaluate(session: Session) -> list[str]:
    """Score every winner that is not scored yet; a line on each image that was refused."""
    from orchestrator.evaluate import entrants, service, work

    config, access = session.config, session.home.access
    winners = list(entrants.winners(session.run, session.plan))
    jobs = entrants.jobs(winners, config.evaluation, session.inputs, access)
    planned = work.plan(jobs, session.inputs.benchmarks, access)

    def workforce() -> service.Workforce:
        resources = config.resources
        return service.Workforce(
            workers=config.evaluation.workers or session.trials_at_a_time * resources.workers_per_trial,
            cpus=resources.cpus_per_worker,
            gpus=resources.gpus_per_worker,
            apart=resources.gpus_per_worker > 0,
            max_restarts=resources.max_restarts,
            max_bytes=resources.bound,
        )

    with bar("evaluation", sum(len(job.pictures) for job in planned)) as made:
        move = moves(made)

        def progress(done: int) -> None:
            move(done)
            if done < made.total:
                session.meter.check()

        return service.evaluate(planned, access, workforce, progress)


def unfinished(session: Session, bound: str) -> None:
    """Say what there is of a sweep that a budget stopped: the board of what is scored, and where the rest stands."""
    folder = session.run.path
    tell(f"\nunfinished, stopped by {bound}")
    if has_scores(folder):
        tell(f"the board of what is scored:\n{write.write(folder, terminal_width(), unfinished=bound)}\n")
    else:
        tell("nothing is scored yet; this is where the sweep stands, and no board")
    tell(standing.text(standing.standing(folder)))
    session.home.push()


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


def report(session: Session, *, refused: list[str], audited: list[Audited]) -> None:
    """Write the board and its pictures, let the tracker deliver what is left, and print what came out."""
    from orchestrator.evaluate import first_image

    folder, uri = session.run.path, session.services.tracking_uri
    board = write.write(folder, terminal_width())
    first_images = first_image.on_workers(
        session.run, session.plan, session.inputs, session.home.access, session.device, session.cluster.join
    )
    pictures.pictures(session.run, session.plan, session.inputs.known, first_images)
    attempt(html.PAGE, functools.partial(html.write_page, folder))
    if not session.tracker.finish():
        say(
            "tracking is behind (see tracking.log); deliver it with: "
            f"python -m orchestrator.tracking {folder} --tracking-uri {shown(uri)}"
        )
    if said := mlflow_store.left_alone(folder):
        say(said)
    session.home.push()
    tell(f"\n{board}\n")
    for line in refused:
        tell(f"refused: {line}")
    if said := rungs_text(folder):
        tell(said)
    if audited and (judge := session.config.search.halved_by):
        tell(audit_text(audited, judge))
    tell(f"\nfinished in {time.time() - session.began:.0f} s; tables and pictures in {folder}")
    tell(f"all of it as a page: {folder / html.PAGE}")
    tell(f"all runs and curves: {address.ui_command(uri)}")
    if not uri.startswith("http"):
        tell("  (asks nobody who they are: while it runs, any user of this machine can read and change what it shows)")
    link = view.board_link(folder, uri)
    tell(f"the board in it: {link or 'not delivered yet, see tracking.log'}")
