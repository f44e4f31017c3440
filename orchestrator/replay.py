"""`python -m orchestrator.replay FINGERPRINT --output OUT`: one trial again from its record; did it come out equal?

A trial is a function of its config, its data and its seed: on the same kind of machine with as many threads it has the
same bits, elsewhere it differs by the order of float additions. No Ray; what an output holds is read and left alone.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.plan.services import from_environment, output_folder
from orchestrator.run.folder import WEIGHTS
from sr_models.command import EXIT_DONE, EXIT_FAILED, Parser, interrupt_on_sigterm, run_command, say, tell
from sr_models.errors import InputError
from sr_models.files import full_disk, unwritable
from sr_models.params import nearest
from sr_models.text_table import counted

if TYPE_CHECKING:
    from orchestrator.plan.resources import ResourceConfig
    from orchestrator.plan.trial import TrialConfig
    from orchestrator.run.access import Access
    from orchestrator.run.machine import Machine
    from orchestrator.run.records import TrialRecord

PROG = "python -m orchestrator.replay"

_CLOCKS = ("train.seconds",)
"""Metrics of a validation that are no function of the trial."""


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog=PROG,
        description="Train one trial again from its record, in a folder of its own, and compare what comes out.",
        epilog="Exit code 0: bit-equal, or differences that the machines explain; 1: others, or what only one has.",
    )
    made.add_argument("fingerprint", metavar="FINGERPRINT", help="the trial's, or enough of its beginning")
    made.add_argument("--output", metavar="OUT", type=Path, help="the folder of run folders (default: runs)")
    made.add_argument("--into", metavar="DIR", type=Path, help="fresh folder for it (default: replay-FINGERPRINT)")
    made.add_argument("--threads", metavar="N", type=int, help="default: as the run had (resources.cpus_per_worker)")
    made.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: what the run asked for, if here)")
    made.add_argument("--weights-dir", metavar="DIR", type=Path, help="of metrics that its validations need")
    made.add_argument("--storage", metavar="URI", help="where the runs live, as the sweep was told ($SR_STORAGE)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 where it came out otherwise, 2 for input that cannot be used."""
    return run_command(PROG, _run, argv, interrupted="the same command goes on")


def _run(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    if given.threads is not None and given.threads < 1:
        raise InputError(f"--threads must be at least 1, got {given.threads}")
    interrupt_on_sigterm()
    from orchestrator.run.machine import Machine

    access, name = _found(given)
    then = _then(access, name)
    device, threads = _device(given.device, then.resources), given.threads or then.resources.cpus_per_worker
    config = then.record.trial_config()
    say(
        f"trial {name}: {config.model} ×{config.scale}, seed {config.seed}, {counted(then.end.step, 'step')}, "
        f"on {device} with {counted(threads, 'thread')}"
    )
    into = given.into or Path(f"replay-{name}")
    _train(config, then, access, into, device=device, threads=threads, weights_dir=given.weights_dir)
    differences, lacking = _compared(then, into)
    if not differences and not lacking:
        tell(
            f"bit-equal: {counted(then.end.step, 'step')}, {counted(len(then.steps), 'validation')}"
            f"{_weights_text(into)}; it lies in {into}"
        )
        return EXIT_DONE
    why = _machines(then, Machine.here(), device, threads)
    for line in (*differences, *lacking):
        tell(line)
    tell(f"what differs between then and now: {'; '.join(why) or 'nothing that is known'}")
    return EXIT_DONE if why and not lacking else EXIT_FAILED


# ---- what was --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Then:
    """A trial as an output has it."""

    record: TrialRecord
    folder: Path
    end: Any
    """How it ended (`TrialResult`)."""
    steps: Mapping[int, Mapping[str, float]]
    """Step -> what its validation measured."""
    resources: ResourceConfig
    """Of the run that began it."""


def _found(given: argparse.Namespace) -> tuple[Access, str]:
    """The run that began the trial, and the name of the trial's folder.

    Raises:
        InputError: no such trial or several, or its run is gone.
    """
    from orchestrator.run.access import LocalAccess
    from orchestrator.run.folder import TRIALS
    from orchestrator.run.mirrored import MirroredAccess
    from orchestrator.run.records import TRIAL, TrialRecord
    from orchestrator.storage.uri import Storage

    output, root = output_folder(given.output).absolute(), from_environment(given.storage, "SR_STORAGE")
    storage = Storage.parse(root, "--storage") if root else None
    if storage is None:
        there = {path.parent.name for path in (output / TRIALS).glob(f"*/{TRIAL}")}
    else:
        storage.check()
        there = {found.partition("/")[0] for found in storage.child(TRIALS).names()}
    matching = sorted(name for name in there if name.startswith(given.fingerprint[:16]))
    if len(matching) > 1:
        raise InputError(f"{given.fingerprint!r} is the beginning of {len(matching)} trials: {', '.join(matching)}")
    if not matching:
        where = output if storage is None else storage.shown
        raise InputError(f"{where} has no trial {given.fingerprint!r}{nearest(given.fingerprint, sorted(there))}")
    [name] = matching

    def of_run(run: str) -> Access:
        return LocalAccess(output / run) if storage is None else MirroredAccess(storage, run)

    folder = output / TRIALS / name
    if storage is not None:
        folder = of_run("-").run.at(f"{TRIALS}/{name}")
        of_run("-").pull(f"{TRIALS}/{name}", [TRIAL], only_read=True)
    record = TrialRecord.read(folder / TRIAL)
    if not record.fingerprint.startswith(given.fingerprint):
        raise InputError(f"no trial {given.fingerprint!r}; the one of these first characters is {record.fingerprint}")
    run = record.trained_in or "-"
    if storage is not None:
        of_run(run).pull("", ["config.yaml"], only_read=True)
    if not (folder.parents[2] / run / "config.yaml").exists():
        raise InputError(f"trial {name}: the run that began it ({run}) is gone, and with it what its workers were")
    return of_run(run), name


def _then(access: Access, name: str) -> Then:
    """What the output knows of the trial.

    Raises:
        InputError: it is under way, or its record cannot be read.
    """
    from orchestrator.plan.read import read_yaml
    from orchestrator.plan.resources import ResourceConfig
    from orchestrator.run import journal
    from orchestrator.run.folder import TRIALS
    from orchestrator.run.records import TRIAL, TrialRecord

    access.pull(f"{TRIALS}/{name}", [TRIAL, journal.JOURNAL, "model/*", "model_ema/*"], only_read=True)
    folder = access.run.at(f"{TRIALS}/{name}")
    entries = journal.read(folder / journal.JOURNAL)
    end = journal.outcome(entries)
    if end is None or not end.is_final:
        begun = counted(journal.last_step(entries), "step")
        raise InputError(f"trial {name} has not come to its end; its record has {begun}")
    steps = {entry["step"]: entry["metrics"] for entry in journal.steps(entries)}
    resources = ResourceConfig.parse(read_yaml(access.run.config).get("resources", {}), str(access.run.config))
    return Then(record=TrialRecord.read(folder / TRIAL), folder=folder, end=end, steps=steps, resources=resources)


def _device(asked: str | None, resources: ResourceConfig) -> str:
    import torch

    from sr_models.inference.device import check_device

    if asked is not None:
        check_device(asked, "--device")
    return asked or ("cuda" if resources.gpus_per_worker and torch.cuda.is_available() else "cpu")


# ---- again -----------------------------------------------------------------------------------------------------------


def _train(
    config: TrialConfig, then: Then, access: Access, into: Path, *, device: str, threads: int, weights_dir: Path | None
) -> None:
    """Run the trial in `into`; one that was interrupted there goes on.

    Raises:
        InputError: the folder holds something else or cannot be written; images or weights of then are gone.
        DiskFullError: its disk is full.
    """
    import torch

    from orchestrator.run import progress
    from orchestrator.run.records import TRIAL, TrialRecord
    from orchestrator.training.loop import run_trial

    begun = (into / TRIAL).exists() and TrialRecord.read(into / TRIAL).fingerprint == config.fingerprint
    if into.resolve() == then.folder.resolve() or (into.exists() and any(into.iterdir()) and not begun):
        raise InputError(f"--into: {into} holds something else; give a fresh folder")
    if line := unwritable(into, "--into"):
        raise InputError(line)
    torch.set_num_threads(threads)
    last = then.end.step
    bound = then.resources.max_bytes
    with progress.bar("replay", last, "step") as bar:
        move = progress.moves(bar)

        def report(step: int, _metrics: dict[str, float]) -> Literal["continue", "stop"]:
            move(step)
            return "stop" if then.end.status == "stopped" and step >= last else "continue"

        try:
            run_trial(
                config,
                access.open_store(config.data_hash),
                report,
                device=device,
                out_dir=into,
                init=access.init(config.init),
                parts=access.parts(config.model, config.hyper),
                micro_batch=then.resources.micro_batch,
                max_bytes=None if bound == "auto" else bound,
                weights_dir=weights_dir,
                run="replay",
            )
        except Exception as error:  # as a worker of the sweep has it
            if full := full_disk(error, [into]):
                raise full from None
            raise


# ---- compared --------------------------------------------------------------------------------------------------------


def _compared(then: Then, into: Path) -> tuple[list[str], list[str]]:
    """A line on each thing that came out otherwise, and on each that one of both lacks; none: all bits are equal."""
    from orchestrator.run import journal

    entries = journal.read(into / journal.JOURNAL)
    end, found, lacking = journal.outcome(entries), list[str](), list[str]()
    assert end is not None
    if (end.status, end.step) != (then.end.status, then.end.step):
        cause = f" ({end.cause})" if end.cause else ""
        found.append(f"{end.status} at step {end.step}{cause}, then {then.end.status} at step {then.end.step}")
    now = {entry["step"]: entry["metrics"] for entry in journal.steps(entries)}
    for when, here, there in (("then", then.steps, now), ("now", now, then.steps)):
        if alone := sorted(here.keys() - there):
            lacking.append(f"{len(alone)} validation{'s'[: len(alone) > 1]}, from step {alone[0]}: {when} alone")
    shared = sorted(then.steps.keys() & now)
    for name in sorted({name for step in shared for name in (*then.steps[step], *now[step])} - set(_CLOCKS)):
        for when, here, there in (("then", then.steps, now), ("now", now, then.steps)):
            if alone := [step for step in shared if name in here[step] and name not in there[step]]:
                lacking.append(f"{name}: from step {alone[0]}, {when} alone")
        both = [step for step in shared if name in then.steps[step] and name in now[step]]
        pairs = [(step, then.steps[step][name], now[step][name]) for step in both]
        other = [(step, a, b) for step, a, b in pairs if a != b and not (math.isnan(a) and math.isnan(b))]
        if other:
            first, apart = other[0], [abs(a - b) for _, a, b in other if not math.isnan(a - b)]
            largest = f"; at most {max(apart):.3g}" if apart else ""
            found.append(f"{name}: from step {first[0]}, {first[2]:.9g} and not {first[1]:.9g}{largest}")
    for kind in WEIGHTS.values():
        kept = [
            all((folder / kind / name).exists() for name in ("model.json", "model.safetensors"))
            for folder in (then.folder, into)
        ]
        if all(kept):
            found += _weights_apart(then.folder / kind, into / kind)
        elif any(kept):
            lacking.append(f"{kind}: weights {'then' if kept[0] else 'now'} alone")
    return found, lacking


def _weights_apart(then: Path, now: Path) -> list[str]:
    from safetensors.torch import load_file

    from sr_models.checkpoints.folder import CheckpointInfo

    before, after = (CheckpointInfo.read(folder).weights_sha256 for folder in (then, now))
    if before == after:
        return []
    a, b = (load_file(folder / "model.safetensors") for folder in (then, now))
    apart = math.sqrt(sum(float((a[key].double() - b[key].double()).square().sum()) for key in a))
    norm = math.sqrt(sum(float(value.double().square().sum()) for value in a.values()))
    return [f"{now.name}: sha256 {after[:12]} and not {before[:12]}; weights {apart / norm:.3g} of their norm apart"]


def _weights_text(into: Path) -> str:
    from sr_models.checkpoints.folder import CheckpointInfo

    if not (into / "model" / "model.json").exists():
        return ""
    return f", weights sha256 {CheckpointInfo.read(into / 'model').weights_sha256[:12]}"


def _machines(then: Then, here: Machine, device: str, threads: int) -> list[str]:
    """What differs between then and now of what decides on the last bits, as far as it is known."""
    resources, there = then.resources, then.record.machine
    found = []
    if threads != resources.cpus_per_worker:
        found.append(f"threads: {resources.cpus_per_worker} then, {threads} now")
    if resources.workers_per_trial > 1:
        found.append(f"workers: {resources.workers_per_trial} then, 1 now")
    if bool(resources.gpus_per_worker) != device.startswith("cuda"):
        found.append(f"device: {'a GPU' if resources.gpus_per_worker else 'cpu'} then, {device} now")
    if there is None:
        return [*found, "its record, of an earlier version, does not say on which machine it was"]
    pairs = [("torch", there.torch, here.torch), ("processor", there.processor, here.processor)]
    return found + [f"{name}: {a} then, {b} now" for name, a, b in pairs if a != b]


if __name__ == "__main__":
    raise SystemExit(main())
