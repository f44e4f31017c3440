"""The stages of a sweep, in order: images, starting weights, teachers, search, winners in full, evaluation, report.

Each is a function from what the ones before it returned; what it leaves on disk is found there when it runs again.
Where combinations need the winners of others, the stages from starting weights to winners come once for each level of
that graph (`Plan.levels`), and see its combinations alone.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from eval.pictures.style import attempt
from orchestrator import backbones, images, report
from orchestrator.ingredients import (
    Ingredients,
    bring_latents,
    check_starts,
    find_trials,
    prepare,
    record,
)
from orchestrator.plan.combination import Combination
from orchestrator.plan.plan import higher_is_better
from orchestrator.plan.text import plan_text
from orchestrator.plan.trial import TrialConfig
from orchestrator.plan.weights import Weights
from orchestrator.run import events
from orchestrator.run.budget import BudgetReached
from orchestrator.run.journal import TrialResult
from orchestrator.run.progress import Bar, bar, moves, say
from orchestrator.run.winners import WinnerRecord, read_winners, write_winners
from orchestrator.search.audit import Audited, drawn
from orchestrator.search.pareto import against_one_reference
from orchestrator.search.studies import Assignment, Studies
from orchestrator.session import Session
from orchestrator.there import There, there


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
        report.unfinished(session, str(bound))
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
    stores = images.build(session)
    backbones.check_sizes(session.config, stores)
    backbones.supply(session)
    images.check_memory(session, stores, found)
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
        images.check_pictures(session, stores, [one for one in ready if one.parts], ingredients.parts)
        bring_latents(session, ingredients, ready)
        part = replace(session, plan=session.plan.part(ready))
        studies = search(part, ingredients)
        unscored += finish_winners(part, ingredients, studies)
        audited += audit(part, ingredients, studies)
        ingredients = replace(ingredients, sources={**ingredients.sources, **settled(part, ingredients, studies)})
    refused = evaluate(session)
    record(session, ingredients)  # on how many machines is known now
    attempt("bicubic beside the curves", functools.partial(images.keep_bicubic, session, stores))
    report.finished(session, refused=refused, audited=audited)
    return unscored + refused


# ---- images ----------------------------------------------------------------------------------------------------------


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
    steps = {combination.id: combination.train.steps for combination in plan.combinations}
    total = sum(combination.trials * steps[combination.id] for combination in plan.combinations)
    left = report.training_left(session, "search") if total else None
    with bar("search", total, "step", cost=lambda: session.meter.spent.rate, left=left) as made:
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
    left = None if steered else report.training_left(session, what)  # which counts no audit
    with bar(what, total, "step", cost=lambda: session.meter.spent.rate, left=left) as made:
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
