"""The command end to end on Ray: to a leaderboard, again for nothing, through a `kill -9` and through Ctrl-C.

Two sweeps are run once for all tests here: one unbroken, one that a SIGKILL and then a SIGINT cut in mid-search.
"""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
import yaml
from optuna.trial import TrialState
from PIL import Image

import sr_models
from cluster import ray_runtime
from orchestrator import api, sweep
from orchestrator.data.store import PatchStore
from orchestrator.leaderboard import compare as leaderboard
from orchestrator.plan.trial import TrialConfig
from orchestrator.run import journal
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, TrialResult
from orchestrator.run.records import TrialRecord, read_plan, read_sealed
from orchestrator.run.roles import read_roles
from orchestrator.run.winners import read_winners
from orchestrator.tracking import address
from orchestrator.training.loop import run_trial
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.files import read_json
from sr_models.inference.super_resolve import super_resolve

ROOT = Path(__file__).resolve().parents[2]
MARK = "SR_SWEEP_TEST"
"""Environment variable that every process of one launch inherits, Ray's daemons and workers included."""
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Ray's two helpers of a node: of a killed driver's cluster they notice its end only after a minute (Ray 2.60)."""
LAUNCH_SECONDS = 200
"""Longest one command may take; an idle machine needs a fifth."""
MODELS = {"edsr_baseline": {"channels": 8, "blocks": 1}, "imdn": {"channels": 16, "blocks": 1}}

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(3 * LAUNCH_SECONDS),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes it started in /proc"),
]


def smooth(seed: int) -> np.ndarray:
    """40x48 pixels: random blocks of 4x4 under a 5x5 mean."""
    blocks = np.random.Generator(np.random.Philox(seed)).integers(0, 256, (12, 14, 3))
    fine = np.kron(blocks, np.ones((4, 4, 1), np.int64))
    return (sum(fine[i : i + 40, j : j + 48] for i in range(5) for j in range(5)) // 25).astype(np.uint8)


def write_sweep(root: Path, models: dict[str, Any], objectives: dict[str, Any], steps: int, **changes: Any) -> Path:
    """A config over six generated images below `root`."""
    for i, (split, count) in enumerate({"train": 3, "validation": 1, "test": 2}.items()):
        (root / split).mkdir(parents=True)
        for k in range(count):
            Image.fromarray(smooth(10 * i + k)).save(root / split / f"{k}.png")
    config = {
        "name": "tiny",
        "models": models,
        "objectives": objectives,
        "teacher": {"hyper": {"channels": 8, "blocks": 2}},
        "data": {
            "train": [{"hr": str(root / "train")}],
            "validation": [{"hr": str(root / "validation")}],
            "test": {"toy": {"hr": str(root / "test")}},
        },
        "train": {"steps": steps, "batch_size": 4, "patch": 8, "lr": 1e-3, "validate_every": 5, "checkpoint_every": 5},
        "search": {"trials": 3, "startup_trials": 2},
        "seeds": 1,
    }
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(config | changes))
    return path


def fingerprints(run: Path) -> dict[str, dict[str, Any]]:
    """Fingerprint -> the role in which the run makes use of a trial, here one each."""
    found = [role.model_dump() for role in read_roles(RunDir(run))]
    assert len({one["fingerprint"] for one in found}) == len(found)
    return {one["fingerprint"]: one for one in found}


def journal_of(run: Path, fingerprint: str) -> list[dict[str, Any]]:
    return journal.read(RunDir(run).trial(fingerprint) / JOURNAL)


def files(folder: Path) -> dict[str, tuple[str, int]]:
    """Path below `folder` -> (sha256, time of the last change)."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def hear_ctrl_c() -> None:
    """A test run in the background of a shell ignores SIGINT and would hand that down to what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Launch:
    """One command in a process group of its own, as a terminal would start it."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.mark = uuid.uuid4().hex
        self.out, self.err = folder / f"{self.mark}.out", folder / f"{self.mark}.err"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "OMP_", "PYTEST_"))}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.sweep", *arguments],
                cwd=folder,
                env={**inherited, "PYTHONPATH": str(ROOT), MARK: self.mark},
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=hear_ctrl_c,
            )

    def wait(self) -> int:
        return self.process.wait(LAUNCH_SECONDS)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LAUNCH_SECONDS
        while not condition():
            assert self.process.poll() is None, self.err.read_text()[-2000:]
            assert time.monotonic() < deadline, self.err.read_text()[-2000:]
            time.sleep(0.01)

    def alive(self) -> dict[int, str]:
        """Processes of this launch that still run: process id -> command."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                marked = f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
                if marked and (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")[:80]
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found

    def left(self, but: tuple[str, ...] = (), within: float = 30) -> dict[int, str]:
        """What still runs, apart from `but`, when nothing does or the time is up."""
        deadline = time.monotonic() + within
        while True:
            found = {pid: command for pid, command in self.alive().items() if not command.startswith(but)}
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.1)

    def end(self) -> None:
        """Kill whatever is left of this launch."""
        for pid in self.alive():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Launcher:
    folder: Path
    started: list[Launch] = field(default_factory=list)

    def __call__(self, *arguments: str) -> Launch:
        self.started.append(Launch(list(arguments), self.folder))
        return self.started[-1]


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    made = Launcher(tmp_path_factory.mktemp("launches"))
    yield made
    for one in made.started:
        one.end()


# ---- a sweep that nobody disturbs --------------------------------------------------------------------------------


@dataclass
class Finished:
    run: Path
    command: list[str]
    output: str

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.run.parent / 'mlflow.db'}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, launch: Launcher) -> Finished:
    root = tmp_path_factory.mktemp("finished")
    objectives = {
        "l1": {},
        "eco": {"search": ["target.length"]},
        "expectation": {"sigma.width": 8, "search": ["sigma.beta"]},
    }
    command = [str(write_sweep(root, MODELS, objectives, steps=20, seeds=2)), "--output", str(root / "runs")]
    started = launch(*command)
    assert started.wait() == 0, started.err.read_text()[-3000:]
    assert started.left(within=5) == {}
    [run] = (root / "runs").glob("tiny-*/")
    return Finished(run, command, started.out.read_text())


def told(run: Path) -> dict[str, list[optuna.trial.FrozenTrial]]:
    """The trials of each study of a run."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{run / 'studies.db'}")
    found = {s.study_name.partition("/")[2]: storage.get_all_trials(s._study_id) for s in storage.get_all_studies()}
    storage.engine.dispose()
    return found


def check_search(run: Path) -> None:
    """Every planned trial told once, under a fingerprint of its own, by a journal that holds no step twice."""
    plan, studies = read_json(run / "plan.json"), told(run)
    assert {name: len(trials) for name, trials in studies.items()} == {
        one["id"]: one["trials"] for one in plan["combinations"] if one["trials"]
    }
    trials = [trial for one in studies.values() for trial in one]
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    searched = Counter(trial.user_attrs["fingerprint"] for trial in trials)
    recorded = fingerprints(run)
    assert set(searched.values()) == {1}
    assert set(searched) == {fingerprint for fingerprint, one in recorded.items() if one["role"] == "search"}
    for trial in trials:
        entries = journal_of(run, trial.user_attrs["fingerprint"])
        steps = [entry["step"] for entry in journal.steps(entries)]
        complete = trial.state == TrialState.COMPLETE
        assert steps == list(range(5, steps[-1] + 1, 5)) and list(trial.intermediate_values) == steps
        assert [e["status"] for e in entries if e["kind"] == "end"] == ["complete" if complete else "stopped"]
        assert (steps[-1] == journal.steps(entries)[0]["of"]) == complete
    for fingerprint, one in recorded.items():
        if one["role"] != "search":
            assert journal.end(journal_of(run, fingerprint))["status"] == "complete"


def check_evaluation(run: Path) -> None:
    """One row for each image of the benchmark and each of bicubic and every winner's every seed; no row twice."""
    winners = read_sealed(run / "winners.json")
    assert set(winners) == {one["id"] for one in read_json(run / "plan.json")["combinations"]}
    planned = {
        (combination, fingerprint, seed, image)
        for combination, winner in winners.items()
        for seed, fingerprint in enumerate(winner["fingerprints"], start=1)  # the search had seed 0
        for image in ("0", "1")
    } | {("x2/bicubic/-", "", -1, image) for image in ("0", "1")}
    rows = [row for path in (run / "evaluation").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    found = [(row["combination"], row["fingerprint"], row["seed"], Path(row["image"]).stem) for row in rows]
    assert len(found) == len(set(found)) and set(found) == planned
    assert all(np.isfinite(row["psnr_y"]) and 0 < row["ssim_y"] <= 1 for row in rows)


def test_every_trial_is_told_once_and_every_winner_scored_once(finished: Finished) -> None:
    check_search(finished.run)
    check_evaluation(finished.run)
    assert sum(len(trials) for trials in told(finished.run).values()) == 2 * (3 + 3)
    plan, winners = read_json(finished.run / "plan.json"), read_sealed(finished.run / "winners.json")
    for one in plan["combinations"]:
        winner, recorded = winners[one["id"]], fingerprints(finished.run)
        assert [recorded[name]["seed"] for name in winner["fingerprints"]] == [1, 2]
        assert (winner["number"] is None) == (winner["search_run"] is None) == (one["trials"] == 0)
        if winner["search_run"]:
            searched = recorded[winner["search_run"]]
            assert (searched["seed"], searched["number"], searched["params"]) == (0, winner["number"], winner["params"])
    assert list(finished.run.rglob("*.part")) == []


def test_the_board_is_printed_and_tracked_in_its_order(finished: Finished) -> None:
    [board] = leaderboard.boards(finished.run)
    names = [board.name(entry) for entry in board.entries]
    assert sorted(names) == sorted(
        ["bicubic", *(f"{model} × {o}" for model in MODELS for o in ("l1", "eco", "expectation"))]
    )
    places = [finished.output.index(name) for name in names]
    assert places == sorted(places)
    assert "mlflow ui --backend-store-uri" in finished.output

    client = address.client(finished.uri)
    experiments = {one.name: one.experiment_id for one in client.search_experiments()}
    metric = "psnr_y"
    rows = client.search_runs([experiments["tiny leaderboard"]], order_by=[f"metrics.{metric} DESC"])
    assert [row.data.tags["mlflow.runName"] for row in rows] == names
    runs = client.search_runs([experiments["tiny"]])
    parents = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    nested = [one for one in runs if "mlflow.parentRunId" in one.data.tags]
    assert [one.info.status for one in parents] == ["FINISHED"]
    assert {one.data.tags["mlflow.parentRunId"] for one in nested} == {parents[0].info.run_id}
    trials = Counter(one.data.tags["fingerprint"] for one in nested if one.data.tags.get("role") != "evaluation")
    assert set(trials) >= set(fingerprints(finished.run))


def test_the_same_command_again_does_nothing_new(finished: Finished, launch: Launcher) -> None:
    before = files(finished.run.parent / "shared") | files(finished.run / "evaluation")
    client = address.client(finished.uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = {one.info.run_id: one.data.metrics for one in client.search_runs(experiments)}
    again = launch(*finished.command)
    assert again.wait() == 0, again.err.read_text()[-3000:]
    assert files(finished.run.parent / "shared") | files(finished.run / "evaluation") == before
    assert {one.info.run_id: one.data.metrics for one in client.search_runs(experiments)} == runs
    assert board_of(again.out.read_text()) == board_of(finished.output)


def test_a_finished_sweep_starts_no_ray(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_runtime, "connect", lambda *_, **__: pytest.fail("Ray was started"))
    assert sweep.main(finished.command) == 0
    assert board_of(capsys.readouterr().out) == board_of(finished.output)


def test_the_same_sweep_from_python(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    run = api.run_sweep(finished.command[0], output=finished.run.parent)
    assert (run.folder, run.unscored) == (finished.run, ())
    assert board_of(capsys.readouterr().out) == board_of(finished.output)
    assert len(run.board.to_dataframe()) == len(run.board.rows) == 7


def test_a_finished_sweep_draws_again_what_is_gone(finished: Finished, launch: Launcher) -> None:
    pictures = files(finished.run / "pictures")
    shutil.rmtree(finished.run / "pictures")
    again = launch(*finished.command)
    assert again.wait() == 0, again.err.read_text()[-3000:]
    assert files(finished.run / "pictures").keys() == pictures.keys() and again.left(within=5) == {}


@pytest.mark.long
def test_finished_trials_whose_journal_is_damaged_or_gone_are_run_again_and_nothing_else_changes(
    finished: Finished, launch: Launcher
) -> None:
    folders = {path.name: path for path in finished.run.parent.glob("shared/trials/*")}
    before, scores = {name: metrics(folder) for name, folder in folders.items()}, files(finished.run / "evaluation")
    states: dict[TrialState, list[Path]] = {TrialState.COMPLETE: [], TrialState.PRUNED: []}
    for trial in (trial for one in told(finished.run).values() for trial in one):
        states[trial.state].append(folders[trial.user_attrs["fingerprint"][:16]] / JOURNAL)
    [winner, *_] = read_sealed(finished.run / "winners.json").values()
    final = folders[winner["fingerprints"][0][:16]] / JOURNAL
    damaged = {states[TrialState.COMPLETE][0]: 1, final: 5, **dict.fromkeys(states[TrialState.PRUNED][:1], 1)}
    shutil.rmtree(states[TrialState.COMPLETE][1].parent)
    for path, line in damaged.items():
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[: line - 1], lines[line - 1].replace(b"time", b"tine"), *lines[line:]]))
    again = launch(*finished.command)
    assert again.wait() == 0, again.err.read_text()[-3000:]
    said = again.err.read_text()
    assert all(f"{path}, line {line}, is damaged" in said for path, line in damaged.items())
    assert {name: metrics(folder) for name, folder in folders.items()} == before
    check_search(finished.run)
    assert files(finished.run / "evaluation") == scores and board_of(again.out.read_text()) == board_of(finished.output)


@pytest.mark.long
def test_larger_sweeps_at_once_train_and_score_only_what_is_new(finished: Finished, launch: Launcher) -> None:
    """An objective, seeds and a metric more; both ask for the same new trials, and one waits for the other's."""
    output = finished.run.parent
    before = {name: found for name, found in files(output / "shared").items() if name.startswith("trials")}
    measured = measurements(output)
    small = [
        "models={edsr_baseline: {channels: 8, blocks: 1}}",
        "objectives={l1: {}, l2: {}, eco: {search: [target.length]}}",
        "evaluation.metrics=[psnr_y, ssim_y, psnr_rgb]",
    ]
    both = [launch(*finished.command, *small, f"seeds={seeds}") for seeds in (3, 4)]
    for one in both:
        assert one.wait() == 0, one.err.read_text()[-3000:]
    now = files(output / "shared")
    assert {name: now[name] for name in before} == before
    assert measured.items() <= measurements(output).items(), "in files that were put together since"
    trained = {name.split("/")[1] for name in now if name.startswith("trials/")}
    new = trained - {name.split("/")[1] for name in before}
    assert len(new) == 4 + 2 + 2, "of l2, and further seeds of l1 and eco"
    for name in new:
        entries = journal.read(output / "shared" / "trials" / name / JOURNAL)
        assert [entry["step"] for entry in journal.steps(entries)] == [5, 10, 15, 20]
        assert journal.end(entries)["status"] == "complete"
    runs = [run for run in output.glob("tiny-*/") if run != finished.run]
    assert sorted(len(fingerprints(run)) for run in runs) == [1 + 3 + 3 * 3, 1 + 3 + 3 * 4]
    old = {row["fingerprint"]: row["psnr_y"] for row in rows_of(finished.run) if row["image"] == "0"}
    for run in runs:
        found = {row["fingerprint"]: row["psnr_y"] for row in rows_of(run) if row["image"] == "0"}
        assert {name: found[name] for name in found.keys() & old.keys()}.items() <= old.items()
        assert len(found.keys() & old.keys()) == 1 + 2 * 2 and all(row["psnr_rgb"] for row in rows_of(run))


@pytest.mark.long
def test_a_budget_stops_it_and_the_same_line_comes_to_the_board_of_an_unbroken_one(
    tmp_path: Path, launch: Launcher
) -> None:
    """One trial at a time, so that no order decides; first by trials, then by hours, then to the end, for programs."""
    config = write_sweep(
        tmp_path,
        {"edsr_baseline": MODELS["edsr_baseline"]},
        {"l1": {}, "eco": {"search": ["target.length"]}},
        steps=40,
        resources={"max_concurrent": 1},
    )
    cut = [str(config), "--output", str(tmp_path / "cut")]
    first = launch(*cut, "--max-trials", "2")
    assert first.wait() == 5, first.err.read_text()[-3000:]
    [run] = (tmp_path / "cut").glob("tiny-*/")
    last = first.err.read_text().splitlines()[-1]
    assert last.startswith("python -m orchestrator.sweep: stopped by --max-trials 2; it cost 0.")
    assert last.endswith(f"; go on with: python -m orchestrator.sweep --resume {run} --max-trials 2")
    assert "unfinished, stopped by --max-trials 2" in first.out.read_text()
    second = launch(*cut, "--max-hours", "0.0001", "--json", "--quiet")
    assert second.wait() == 5, second.err.read_text()[-3000:]
    assert len(second.err.read_text().splitlines()) == 1
    told = [json.loads(line) for line in second.out.read_text().splitlines()]
    assert told[0]["event"] == "sweep_begin" and told[-1]["event"] == "budget_reached"
    third = launch(*cut, "--json", "--quiet")
    assert third.wait() == 0 and third.err.read_text() == ""
    told = [json.loads(line) for line in third.out.read_text().splitlines()]
    begun, ended = ([one for one in told if one["event"] == f"trial_{what}"] for what in ("begin", "end"))
    assert {one["fingerprint"] for one in begun} == {one["fingerprint"] for one in ended}
    assert told[-1]["event"] == "done" and str(run / "leaderboard.json") in told[-1]["boards"]

    whole = launch(str(config), "--output", str(tmp_path / "whole"), "--quiet")
    assert whole.wait() == 0 and whole.err.read_text() == ""
    [other] = (tmp_path / "whole").glob("tiny-*/")
    assert whole.out.read_text() == f"{other / 'leaderboard.md'}\n"
    assert scores_of(run) == scores_of(other)


def scores_of(run: Path) -> list[dict[str, Any]]:
    """The board's rows, without what a clock said."""
    rows = read_json(run / "leaderboard.json")["rows"]
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def measurements(output: Path) -> dict[str, float]:
    """What is measured once for all runs: key -> PSNR."""
    paths = sorted((output / "shared" / "rows").rglob("*.parquet"))
    return {row["key"]: row["psnr_y"] for path in paths for row in pq.read_table(path).to_pylist()}


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [row for path in (run / "evaluation").glob("*.parquet") for row in pq.read_table(path).to_pylist()]


def board_of(output: str) -> list[str]:
    return output.partition("\nfinished in")[0].strip().splitlines()


# ---- a sweep that is killed, resumed, interrupted and resumed again ---------------------------------------------


@dataclass
class Broken:
    run: Path
    at_kill: dict[str, dict[str, tuple[str, int]]]
    """Trial folder -> its files, of each trial that had ended when the driver was killed."""
    cut: dict[str, list[dict[str, Any]]]
    """Trial folder -> its journal, of each trial that had a checkpoint and no end when the driver was killed."""
    interrupted: Launch
    left: dict[int, str]
    """Processes that were still there after Ctrl-C."""
    last: Launch


def under_way(runs: Path, after: int, steps: int = 60) -> Callable[[], bool]:
    """Whether more than `after` trials have ended and another is in the first half of its run, past a checkpoint."""

    def look() -> bool:
        journals = [journal.read(path) for path in runs.glob(f"shared/trials/*/{JOURNAL}")]
        ended = sum(journal.end(entries) is not None for entries in journals)
        at = [entries[-1]["step"] for entries in journals if entries and journal.end(entries) is None]
        return ended > after and any(step < steps // 2 for step in at)

    return look


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, launch: Launcher) -> Broken:
    root = tmp_path_factory.mktemp("broken")
    objectives = {"l1": {}, "expectation": {"sigma.width": 8, "search": ["sigma.beta"]}}
    runs = root / "my runs"  # a space, as folders have
    config = write_sweep(root, {"edsr_baseline": MODELS["edsr_baseline"]}, objectives, steps=60, search={"trials": 6})
    first = launch(str(config), "--output", str(runs))
    first.wait_until(under_way(runs, after=1))
    first.process.kill()
    first.process.wait()
    assert first.left(but=AGENTS) == {}, "a killed driver's workers and tracker end with it"
    [run] = runs.glob("tiny-*/")
    ended, cut = {}, {}
    for folder in runs.glob("shared/trials/*"):
        if journal.end(journal.read(folder / JOURNAL)):
            ended[folder.name] = files(folder)
        elif (folder / CHECKPOINT).exists():
            cut[folder.name] = journal.read(folder / JOURNAL)

    interrupted = launch("--resume", str(run))
    interrupted.wait_until(under_way(runs, after=len(ended) + 1))
    os.killpg(interrupted.process.pid, signal.SIGINT)
    interrupted.wait()
    left = interrupted.left(within=5)

    line = interrupted.err.read_text().splitlines()[-1]
    python, *module, _resume, folder = shlex.split(line.partition("go on with: ")[2])
    assert [python, *module] == ["python", "-m", "orchestrator.sweep"]
    last = launch("--resume", folder)
    last.wait()
    return Broken(run, ended, cut, interrupted, left, last)


def test_ctrl_c_prints_the_line_that_goes_on_and_leaves_no_process(broken: Broken) -> None:
    said = broken.interrupted.err.read_text()
    assert broken.interrupted.process.returncode == 130, said[-3000:]
    expected = shlex.join(["python", "-m", "orchestrator.sweep", "--resume", str(broken.run)])
    assert said.splitlines()[-1] == f"interrupted; go on with: {expected}"
    assert "Traceback" not in said
    assert broken.left == {}


def test_killed_and_interrupted_every_planned_trial_finishes_once(broken: Broken) -> None:
    assert broken.last.process.returncode == 0, broken.last.err.read_text()[-3000:]
    check_search(broken.run)
    check_evaluation(broken.run)
    assert {name: len(trials) for name, trials in told(broken.run).items()} == {"x2/edsr_baseline/expectation": 6}


def test_results_from_before_the_kill_are_unchanged(broken: Broken) -> None:
    assert len(broken.at_kill) >= 2
    for name, before in broken.at_kill.items():
        assert files(broken.run.parent / "shared" / "trials" / name) == before


def test_a_trial_that_was_cut_ends_as_one_that_was_not(broken: Broken, tmp_path: Path) -> None:
    """Weights, optimiser and journal, bit for bit; a trial that halving stopped later is stopped at the same step."""
    assert broken.cut
    [path] = broken.run.parent.glob("shared/store/*/manifest.json")
    store = PatchStore.open(path.parent)
    for name, before in broken.cut.items():
        cut, whole = broken.run.parent / "shared" / "trials" / name, tmp_path / name
        entries = journal.read(cut / JOURNAL)
        assert entries[: len(before)] == before and len(entries) > len(before)
        config = TrialConfig.model_validate(read_json(cut / "trial.json")["config"])
        result = unbroken(config, store, entries[-1]["step"], whole)
        assert (result.status, result.step) == (entries[-1]["status"], entries[-1]["step"])
        state, expected = (torch.load(folder / CHECKPOINT, weights_only=True) for folder in (cut, whole))
        assert same(state["model"], expected["model"]) and same(state["optimizer"], expected["optimizer"])
        assert metrics(cut) == metrics(whole)


def unbroken(config: TrialConfig, store: PatchStore, stop_at: int, folder: Path) -> TrialResult:
    """The same trial in this process in one go, on a worker's number of threads; stopped at `stop_at`."""

    def report(step: int, _metrics: dict[str, float]) -> Literal["continue", "stop"]:
        return "stop" if step == stop_at < config.train.steps else "continue"

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run_trial(config, store, report, out_dir=folder)
    finally:
        torch.set_num_threads(threads)


def same(a: Any, b: Any) -> bool:
    """Whether two nests of dicts, lists and tensors hold the same bits."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def metrics(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """What a journal says of each step, its clock aside."""
    return [
        (entry["step"], {name: value for name, value in entry["metrics"].items() if name != "train.seconds"})
        for entry in journal.steps(journal.read(folder / JOURNAL))
    ]


# ---- rows that need the winners of others ----------------------------------------------------------------------------

X2, X4 = "x2/edsr_baseline", "x4/edsr_baseline"


@pytest.fixture(scope="module")
def needing(tmp_path_factory: pytest.TempPathFactory, launch: Launcher) -> Path:
    """The run of a sweep whose x4 rows start from x2/l1, and whose kd is taught by the scale's l1.

    It was killed while x4/l1 was searched, which needs x2/l1 and is needed by x4/kd, and given its command again.
    """
    root = tmp_path_factory.mktemp("needing")
    config = write_sweep(
        root,
        {"edsr_baseline": {**MODELS["edsr_baseline"], "init": {4: {"from": f"{X2}/l1"}}}},
        {"l1": {"search": ["train.lr"]}, "kd": {}},
        steps=40,
        scales=[2, 4],
        teacher={"from": "x{scale}/edsr_baseline/l1"},
    )
    command = [str(config), "--output", str(root / "runs")]
    first = launch(*command)

    def searching_x4() -> bool:
        for run in (root / "runs").glob("tiny-*/"):
            trials = [role.fingerprint for role in read_roles(RunDir(run)) if role.combination == f"{X4}/l1"]
            return any(journal.steps(journal_of(run, fingerprint)) for fingerprint in trials)
        return False

    first.wait_until(searching_x4)
    first.process.kill()
    first.process.wait()
    assert first.left(but=AGENTS) == {}
    [run] = (root / "runs").glob("tiny-*/")
    assert set(read_winners(run / "winners.json")) == {f"{X2}/l1"}
    again = launch(*command)
    assert again.wait() == 0, again.err.read_text()[-3000:]
    return run


@pytest.mark.cluster
def test_rows_come_level_by_level_and_a_kill_in_between_costs_none(needing: Path) -> None:
    rows = [f"{scale}/{objective}" for scale in (X2, X4) for objective in ("l1", "kd")]
    winners, plan = read_winners(needing / "winners.json"), read_plan(needing)
    assert set(winners) == set(rows) == {one.id for one in plan.combinations}
    assert {name: len(trials) for name, trials in told(needing).items()} == {f"{X2}/l1": 3, f"{X4}/l1": 3}
    assert {role.combination for role in read_roles(RunDir(needing))} == set(rows), "no teacher was trained first"
    x2, x4 = (winners[f"{scale}/l1"].fingerprints[0] for scale in (X2, X4))
    assert plan.weights_from == {"edsr_baseline x4": x2, "teacher x2": x2, "teacher x4": x4}
    found = leaderboard.boards(needing)
    assert [len([e for e in board.entries if e.trained]) for board in found] == [2, 2]


@pytest.mark.cluster
def test_a_row_starts_from_the_winners_weights_bit_for_bit(needing: Path, tmp_path: Path) -> None:
    run, winners = RunDir(needing), read_winners(needing / "winners.json")
    x2, x4 = (run.trial(winners[f"{scale}/l1"].fingerprints[0]) for scale in (X2, X4))
    config = TrialRecord.read(x4 / "trial.json").trial_config()
    assert config.init is not None and TrialRecord.read(x2 / "trial.json").trial_config().init is None
    start = safetensors.torch.load_file(run.init(config.init))
    assert same(start, safetensors.torch.load_file(x2 / "model" / "model.safetensors"))
    store = PatchStore.open(run.at(f"shared/store/{config.data_hash[:16]}"))
    run_trial(config, store, lambda *_: "continue", out_dir=tmp_path, init=run.init(config.init))
    assert metrics(tmp_path) == metrics(x4)


# ---- centroids -------------------------------------------------------------------------------------------------------


@pytest.mark.cluster
def test_a_kill_while_centroids_are_made_costs_the_images_under_way(tmp_path: Path, launch: Launcher) -> None:
    hyper = {"channels": 32, "blocks": 4}
    net = sr_models.build("edsr_baseline", 2, **hyper)
    save_checkpoint(
        tmp_path / "teacher", net, model="edsr_baseline", scale=2, hyper=hyper, sigma=None, ema=False, fingerprint=None
    )
    models = {"edsr_baseline": MODELS["edsr_baseline"]}
    config = write_sweep(tmp_path, models, {"kd": {}}, steps=5, teacher=str(tmp_path / "teacher"))
    for k in range(4):
        Image.fromarray(np.tile(smooth(k), (26, 22, 1))).save(tmp_path / "train" / f"{k}.png")  # 1040x1056: a part each
    command = [str(config), "--output", str(tmp_path / "runs")]
    first = launch(*command)
    first.wait_until(lambda: any((tmp_path / "runs").glob("tiny-*/centroids/*/*.json")))
    first.process.kill()
    first.process.wait()
    assert first.left(but=AGENTS) == {}
    ended = list((tmp_path / "runs").glob("tiny-*/centroids/*/*.json"))
    assert 0 < len(ended) < 4
    for path in ended:
        path.write_text("1000000.0")  # shows whether it is made again
    [store] = (tmp_path / "runs").glob("shared/store/*/manifest.json")
    assert not any("mu" in name for name in PatchStore.open(store.parent).manifest.products)

    again = launch(*command)
    assert again.wait() == 0, again.err.read_text()[-3000:]
    made = PatchStore.open(store.parent)
    [teacher] = {product.teacher for product in made.manifest.products.values() if product.teacher}
    seconds = made.centroid_seconds(teacher)
    assert seconds and len(ended) == seconds // 1e6 and seconds % 1e6 > 0, "those that had ended were kept, no other"
    [run] = (tmp_path / "runs").glob("tiny-*/")
    assert not (run / "centroids").exists()
    assert read_plan(run).centroid_seconds == {"x2": seconds}
    rows = made.centroids_by(lambda lr: super_resolve(net, lr).sr)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for table, row in zip(made._centroids(teacher), rows(3), strict=True):
            assert made._table(table).hashes[3] == row.sha256
    finally:
        torch.set_num_threads(threads)
