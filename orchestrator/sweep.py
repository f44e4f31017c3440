"""`python -m orchestrator.sweep`: plan, prepare, search, finalise, evaluate, report.

Every stage leaves its result in the run folder and is skipped when that is there, so the same command again goes on
where the last one stopped. Heavy packages are imported by the stage that needs them: `--help` and `--dry-run` are
quick.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cluster.secrets import shown
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.cost import gpu_hours, wall_seconds
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.read import PRESETS, load
from orchestrator.plan.services import Services, add_cluster_options, cluster_of, from_environment, output_folder
from orchestrator.plan.text import plan_text
from orchestrator.ready import ready, refusal
from orchestrator.run import events, progress
from orchestrator.run.budget import UNBOUND, Budget, BudgetReached
from orchestrator.run.folder import SHARED, RunDir
from sr_models.command import (
    EXIT_BUDGET,
    EXIT_CODES,
    EXIT_DONE,
    EXIT_INPUT,
    EXIT_UNSCORED,
    NO_CURE_IN_REPETITION,
    Parser,
    flush_output,
    interrupt_on_sigterm,
    run_command,
    say,
    tell,
)
from sr_models.errors import DiskFullError, InputError, LostError, innermost
from sr_models.files import full_disk

PROG = "python -m orchestrator.sweep"

NAMED = 3
"""How much of what has no score the last line names."""


def parser() -> Parser:
    """The command line; hyperparameters are keys of the config, listed by `--keys`."""
    presets = ", ".join(sorted(path.stem for path in PRESETS.glob("*.yaml")))
    codes = "; ".join(f"{code}: {meaning}" for code, meaning in EXIT_CODES.items())
    made = Parser(
        prog=PROG,
        description="Train every model x objective combination of a config, search the schedules, score the winners.",
        epilog=f"presets: {presets}. The same command again resumes its run. All config keys: --keys. "
        f"Exit codes: {codes}.",
    )
    made.add_argument("config", nargs="?", metavar="CONFIG.yaml", help="a sweep's config (default: --preset quick)")
    made.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="dotted overrides, e.g. train.steps=300 'scales=[2,4]'; scale_down=tiny: the config's `tiny:`, then those",
    )
    made.add_argument("--preset", metavar="NAME", help="a config that comes with the package")
    made.add_argument(
        "--dry-run",
        action="store_true",
        help="print the plan, its estimated cost and what a run would be refused for (then code 2); start nothing",
    )
    made.add_argument(
        "--resume", metavar="RUN", type=Path, help="go on with this run folder, whose config must not have changed"
    )
    made.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow store (default: file mlflow.db in --output; $SR_TRACKING_URI)"
    )
    made.add_argument(
        "--output", metavar="DIR", type=Path, help="where run folders go (default: runs, in a Ray job ~/sr-runs)"
    )
    made.add_argument("--group", action="store_true", help="let the group of --output read folders that are new")
    budget = made.add_argument_group(
        "budgets of this invocation (docs/progress.md)",
        "Once one is reached nothing begins, each trial under way ends at its next validation, what is there is "
        f"printed, and the exit code is {EXIT_BUDGET}. The same line goes on, and counts anew.",
    )
    budget.add_argument(
        "--max-hours", metavar="H", type=_amount, help="wall time since it began, everything included (0.5: 30 minutes)"
    )
    budget.add_argument(
        "--max-trials",
        metavar="N",
        type=_count,
        help="networks whose training it begins or goes on with (search, full runs, audits, teachers); they run to "
        "their ends. What is there already does not count",
    )
    budget.add_argument(
        "--max-gpu-hours",
        metavar="H",
        type=_amount,
        help="sum over its trials of time x GPUs held, from being handed out to their ends; centroids and evaluation "
        "do not count, nor what earlier invocations cost",
    )
    said = made.add_argument_group("what is said (docs/progress.md)")
    said.add_argument(
        "--quiet", action="store_true", help="errors, where the board is, and the line that goes on, alone"
    )
    said.add_argument(
        "--json",
        action="store_true",
        help="events on standard output, a JSON object a line; the rest on standard error",
    )
    cluster = made.add_argument_group("on a cluster (docs/cluster.md)")
    add_cluster_options(cluster)
    cluster.add_argument(
        "--storage", metavar="URI", help="where runs live if nodes share no disk: s3://, gs://, file:// ($SR_STORAGE)"
    )
    cluster.add_argument(
        "--studies-uri", metavar="URI", help="Optuna's database (default: a file in the run folder; $SR_STUDIES_URI)"
    )
    cluster.add_argument(
        "--as-job",
        action="store_true",
        help="end with 0 instead of 2, 4 or 5, so that nothing sends the job again; the last line says why it ended",
    )
    made.add_argument("--keys", action="store_true", help="list every config key: default, choices, range, meaning")
    made.add_argument("--schema", action="store_true", help="print the JSON Schema of a config, for editors")
    return made


def _amount(text: str) -> float:
    """A number of hours. Raises ArgumentTypeError: not above 0, or not finite."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of hours above 0, got {text!r}")
    return value


def _count(text: str) -> int:
    """A number of trials. Raises ArgumentTypeError: not a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (`sr_models.command.EXIT_CODES`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    code = run_command(PROG, _run, words, interrupted="go on with: the same command")
    return EXIT_DONE if "--as-job" in words and code in NO_CURE_IN_REPETITION else code


def _run(argv: Sequence[str]) -> int:
    arguments = parser().parse_intermixed_args(argv)
    if arguments.config and "=" in arguments.config:  # the first override took the place of the config
        arguments.overrides, arguments.config = [arguments.config, *arguments.overrides], None
    if arguments.keys:
        from orchestrator.plan.keys import keys_text

        print(keys_text())
        return EXIT_DONE
    if arguments.schema:
        from orchestrator.plan.schema import schema_text

        print(schema_text())
        return EXIT_DONE
    config, folder = _config(arguments)
    plan = make_plan(config)
    events.to(sys.stdout if arguments.json else None)
    if arguments.dry_run:
        progress.be_quiet(arguments.quiet and arguments.json)  # else the plan is what was asked for
        return _dry_run(plan, folder, _services(arguments, folder))
    progress.be_quiet(arguments.quiet)
    interrupt_on_sigterm()
    again, budget = _resume_line(folder, arguments), Budget.of(arguments)
    try:
        unscored = carry_out(plan, folder, _services(arguments, folder), again, budget, group=arguments.group)
    except BudgetReached as stopped:
        flush_output()
        say(f"{PROG}: {stopped}")
        return EXIT_BUDGET
    if arguments.quiet and not arguments.json:
        tell(str(folder / "leaderboard.md"))
    if not unscored:
        return EXIT_DONE
    flush_output()  # where both go to one log, the reason stands last
    more = f"; and {len(unscored) - NAMED} more" if len(unscored) > NAMED else ""
    say(f"{PROG}: {len(unscored)} without a score: {'; '.join(unscored[:NAMED])}{more}")
    return EXIT_UNSCORED


def carry_out(
    plan: Plan, folder: Path, services: Services, resume: str, budget: Budget = UNBOUND, *, group: bool = False
) -> list[str]:
    """Run every stage that is not finished; a line on each planned row that has no score.

    Args:
        resume: how to go on, for whoever interrupts it or meets what repetition cures.
        group: as of `session.opened`.

    Raises:
        InputError: as `session.opened` and every stage; DiskFullError: what it writes to is full. LostError: the
            cluster, the storage or the database of the studies. KeyboardInterrupt, BudgetReached: with how to go on as
            their text.
    """
    began = time.monotonic()
    found = ready(plan, folder, services)
    if found.faults:
        raise refusal(found.faults)
    if not services.address:  # else once it is joined
        progress.say("\n".join(filter(None, [found.device, plan_text(found.plan, found.cores, found.gpus)])))
    for line in (*found.lines, *found.left_out):
        progress.say(f"  {line}")
    from orchestrator import stages
    from orchestrator.session import opened

    again = f"go on with: {resume}"
    try:
        with opened(found.plan, folder, services, budget, began=began, group=group) as session:
            try:
                return stages.run(session)
            except BudgetReached as bound:
                events.emit(events.BudgetEnd(budget=str(bound), resume=resume, **session.meter.costs()))
                raise BudgetReached(f"stopped by {bound}; it cost {session.meter.spent.text}; {again}") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(again) from None
    except (InputError, BudgetReached):
        raise
    except Exception as error:  # Ray and libraries wrap what ends in one line; a defect goes on with its traceback
        from orchestrator.search.studies import damaged_database, lost_database

        if lost := innermost(error, LostError) or lost_database(error):
            raise LostError(f"{lost}; {again}") from None
        if full := innermost(error, DiskFullError) or full_disk(error, _written(folder)):
            raise DiskFullError(f"{full}; make room, then {again}") from None
        if given := innermost(error, InputError):
            raise given from None
        if (damage := damaged_database(error)) and not services.studies_uri:
            raise InputError(
                f"{folder / 'studies.db'} is damaged ({damage}); delete it, and run the same sweep, which makes it "
                "again from the trials that are there"
            ) from None
        raise


def _dry_run(plan: Plan, folder: Path, services: Services) -> int:
    """Say what a run would do, on what, and for what it would be refused, which is then an error here too."""
    found = ready(plan, folder, services, join=True)
    plan = found.plan
    if found.device:
        progress.tell(found.device)
    progress.tell(plan_text(plan, found.cores, found.gpus))
    for line in (*found.lines, *found.left_out):
        progress.tell(f"  {line}")
    if (folder.parent / SHARED).exists():
        from orchestrator.there import there_in  # reads images and weights for their hashes

        try:
            if known := there_in(plan, RunDir(folder)):
                progress.tell(f"  {known.text}")
        except InputError as error:  # a plan needs no images; the run will, and say the same
            progress.tell(f"  already there: not known ({error})")
    for fault in found.faults:
        progress.tell(f"  a run would be refused here: {fault}")
    hours = gpu_hours(plan)
    events.emit(
        events.Planned(
            run=plan.config.run_name, folder=str(folder), rows=tuple(c.id for c in plan.combinations),
            trials=plan.trials, seeds=plan.config.seeds, gpu_hours=hours,
            seconds=hours * 3600 / found.gpus if found.gpus else wall_seconds(plan, found.cores),
            skipped=tuple(f"{name}: {why}" for name, why in plan.skipped), left_out=found.left_out, faults=found.faults,
        )
    )  # fmt: skip
    return EXIT_INPUT if found.faults else EXIT_DONE


def _written(folder: Path) -> tuple[Path, ...]:
    """Where a sweep writes on this machine."""
    from orchestrator.storage.mirror import cache_folder

    return folder, cache_folder(), Path(tempfile.gettempdir())


def _config(arguments: argparse.Namespace) -> tuple[SweepConfig, Path]:
    """The config and its run folder.

    Raises:
        InputError: two sources of a config, or `--resume` of something else than this config's run.
    """
    if arguments.config and arguments.preset:
        raise InputError(
            f"give a config file or --preset, not both (got {arguments.config!r} and {arguments.preset!r})"
        )
    if arguments.resume is None:
        config = load(arguments.config or arguments.preset or "quick", arguments.overrides)
        return config, output_folder(arguments.output) / config.run_name
    saved = arguments.resume / "config.yaml"
    if not saved.is_file():
        raise InputError(f"--resume: {arguments.resume} is not a run folder (it has no config.yaml)")
    RunDir(arguments.resume).refuse_links()
    if (arguments.resume / "trials").exists() or (arguments.resume / "store").exists():
        raise InputError(
            f"--resume: {arguments.resume} is a run of an earlier version: its board can be read, and it is not gone "
            "on with; without --resume the config starts a run of its own"
        )
    source = arguments.config or arguments.preset
    if source is None and arguments.overrides:
        source = saved
    config = load(source or saved, arguments.overrides)
    if config.hash != load(saved).hash:
        raise InputError(
            f"--resume: the config has changed since {arguments.resume.name} was started; "
            "without --resume it starts a run of its own"
        )
    return config, arguments.resume


def _services(arguments: argparse.Namespace, folder: Path) -> Services:
    """What the command line says, and the environment where it is silent."""
    return Services(
        tracking_uri=from_environment(arguments.tracking_uri, "SR_TRACKING_URI") or local_tracking(folder),
        storage=from_environment(arguments.storage, "SR_STORAGE"),
        studies_uri=from_environment(arguments.studies_uri, "SR_STUDIES_URI"),
        **cluster_of(arguments),
    )


def local_tracking(folder: Path) -> str:
    """The MLflow store beside a run folder, where nobody names another one."""
    return f"sqlite:///{(folder.parent / 'mlflow.db').resolve()}"


def _resume_line(folder: Path, arguments: argparse.Namespace) -> str:
    """The command that goes on with an interrupted run; what came from the environment comes from it again."""
    line = ["python", "-m", "orchestrator.sweep", "--resume", str(folder)]
    for option in ("address", "tracking_uri", "storage", "studies_uri", "may_add"):
        if value := getattr(arguments, option):
            line += [f"--{option.replace('_', '-')}", shown(value)]
    for option, value in Budget.of(arguments).given.items():
        line += [option, str(value)]
    line += ["--quiet"] * arguments.quiet + ["--json"] * arguments.json
    line += ["--allow-anonymous"] * arguments.allow_anonymous + ["--group"] * arguments.group
    return shlex.join(line)


if __name__ == "__main__":
    raise SystemExit(main())
