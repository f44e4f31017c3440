"""What the run folder holds is in MLflow once, whatever was killed, lost or away in between."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock, Timeout

from orchestrator.leaderboard.write import write
from orchestrator.run import journal
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, Journal
from orchestrator.run.records import CombinationRecord, MetricRecord, PlanRecord, Role, TrialRecord
from orchestrator.run.roles import read_roles
from orchestrator.run.winners import SearchCounts, WinnerRecord, read_winners, write_winners
from orchestrator.tracking import deliver, view
from orchestrator.tracking.__main__ import main
from orchestrator.tracking.address import check, client
from orchestrator.tracking.deliver import Tracker, mlflow_store
from orchestrator.tracking.record import TrackingRecord

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.timeout(120)

ECO = "x2/edsr_baseline/eco"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for the module (making it costs more than a second); every test has run folders of its own."""
    found = f"sqlite:///{tmp_path_factory.mktemp('a store')}/mlflow.db"
    check(found)
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / f"{tmp_path.name}-1a2b3c4d"
    folder.mkdir()
    eco = CombinationRecord(
        id=ECO, model="edsr_baseline", objective="eco", target="mixup", loss="l1", scale=2, trials=4,
        searched=("target.length",), parameters=12345,
    )  # fmt: skip
    PlanRecord(
        data_hash="d" * 64, benchmarks={}, numerics_version=1, inits={}, teachers={}, name=tmp_path.name,
        run=folder.name, config_hash="c" * 64, git_commit="f" * 40, protocol="classical", combinations=(eco,),
        metric=MetricRecord(name="psnr_y", higher_is_better=True),
    ).write(folder / "plan.json")  # fmt: skip
    (folder / "config.yaml").write_text("evaluation: {metrics: [psnr_y]}\n")
    return folder


def add_trial(run: Path, digit: str, *, role: Role = "search", number: int | None = 3, seed: int = 0) -> Path:
    fingerprint = (digit * 64)[:64]
    folder = run / "trials" / fingerprint[:16]
    TrialRecord(
        fingerprint=fingerprint, combination=None if role == "teacher" else ECO, role=role, number=number, seed=seed,
        params={"target.length": 0.5},
        config={"model": "edsr_baseline", "scale": 2, "train": {"lr": 1e-3, "ema": 0.9}},
    ).write(folder / "trial.json")  # fmt: skip
    return folder


def step(trial: Path, number: int, when: float = 1000.0, **metrics: float) -> None:
    entry = {"kind": "step", "step": number, "of": 200, "time": when + number}
    entry["metrics"] = {"psnr_y": 30 + number / 100, "train.loss": 0.1, **metrics}
    Journal(trial / JOURNAL)._append(entry)


def end(trial: Path, status: str, cause: str | None = None) -> None:
    Journal(trial / JOURNAL)._append({"kind": "end", "status": status, "cause": cause, "time": 2000.0, "step": 200})


def add_scores(run: Path, **means: float) -> None:
    """Per-image rows for bicubic and both seeds of the winner, and the board's files."""
    (run / "evaluation").mkdir(exist_ok=True)
    common = {
        "scale": 2, "benchmark": "Set5", "image": "baby", "protocol": "classical-y-b2", "lr_sha256": "aa",
        "kernel": "files", "precision": "fp32", "seconds": 0.1, "target": "mixup", "loss": "l1",
    }  # fmt: skip
    for name, mean in means.items():
        who: dict[str, Any] = {"combination": ECO, "model": "edsr_baseline", "objective": "eco", "weights": "raw"}
        who |= {"seed": int(name[-1]), "fingerprint": name[-1] * 64} if name != "bicubic" else {}
        if name == "bicubic":
            who = {
                "combination": "x2/bicubic/-",
                "model": "bicubic",
                "objective": "-",
                "weights": "none",
                "seed": -1,
                "fingerprint": "",
            }
        pq.write_table(
            pa.Table.from_pylist([{**common, **who, "psnr_y": mean}]), run / "evaluation" / f"{name}.parquet"
        )
    winner = WinnerRecord(
        number=3, params={"target.length": 0.5}, fingerprints=("0" * 64, "1" * 64),
        search=SearchCounts(trials=4, pruned=1, failed=0), train_seconds=14.0,
    )  # fmt: skip
    write_winners(run / "winners.json", {ECO: winner})
    write(run)


def runs(uri: str, experiment: str) -> list[Any]:
    mlflow = client(uri)
    found = mlflow.get_experiment_by_name(experiment)
    return list(mlflow.search_runs([found.experiment_id], order_by=["start_time ASC"])) if found else []


def one(uri: str, run: Path, **tags: str) -> Any:
    [found] = [r for r in runs(uri, run.parent.name) if all(r.data.tags.get(k) == v for k, v in tags.items())]
    return found


def points(uri: str, run_id: str, key: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in client(uri).get_metric_history(run_id, key))


def test_trials_become_nested_runs(uri: str, run: Path) -> None:
    trial = add_trial(run, "a")
    step(trial, 50, **{"ema.psnr_y": 30.2})
    tracker = Tracker(run, uri)
    assert tracker.sync() == 2 + 3 + 2, "two runs, three metrics, config.yaml and plan.json"
    assert tracker.sync() == 0
    step(trial, 100)
    end(trial, "stopped")
    with (trial / "journal.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')  # a crash cut this line
    assert tracker.sync() == 2 + 1
    assert Tracker(run, uri).sync() == 0, "a new process knows as much"

    parent = one(uri, run, role="sweep")
    assert (parent.info.run_name, parent.info.status) == (run.name, "RUNNING")
    assert parent.data.tags["git_commit"] == parent.data.tags["mlflow.source.git.commit"] == "f" * 40
    child = one(uri, run, role="search")
    assert (child.info.run_name, child.info.status) == ("edsr_baseline × eco ×2 #3", "FINISHED")
    assert child.info.end_time == 2_000_000
    expected = {
        "mlflow.parentRunId": parent.info.run_id, "status": "stopped", "fingerprint": "a" * 64, "target": "mixup",
        "loss": "l1", "scale": "2", "weights": "raw, ema", "protocol": "classical", "data_hash": "d" * 64, "seed": "0",
    }  # fmt: skip
    assert {k: child.data.tags[k] for k in expected} == expected
    assert child.data.params == {
        "model": "edsr_baseline", "scale": "2", "train.lr": "0.001", "train.ema": "0.9", "target.length": "0.5",
    }  # fmt: skip
    assert points(uri, child.info.run_id, "psnr_y") == [(50, 30.5), (100, 31.0)]
    [first, _] = client(uri).get_metric_history(child.info.run_id, "psnr_y")
    assert first.timestamp == 1_050_000, "the journal's time, not the delivery's"


@pytest.mark.parametrize(
    ("status", "mlflow_status"),
    [("complete", "FINISHED"), ("stopped", "FINISHED"), ("interrupted", "KILLED"), ("failed", "FAILED")],
)
def test_how_a_trial_ended(status: str, mlflow_status: str, uri: str, run: Path) -> None:
    trial = add_trial(run, "b", role="final", number=None, seed=1)
    step(trial, 50)
    end(trial, status, cause="loss is nan" if status == "failed" else None)
    Tracker(run, uri).sync()
    found = one(uri, run, role="final")
    assert (found.info.status, found.info.run_name) == (mlflow_status, "edsr_baseline × eco ×2 seed 1")
    assert found.data.tags.get("cause") == ("loss is nan" if status == "failed" else None)


def test_each_value_once_when_killed_between_delivery_and_memory(
    uri: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = add_trial(run, "c")
    step(trial, 50)
    Tracker(run, uri).sync()
    step(trial, 100)
    step(trial, 150)

    killed = Tracker(run, uri)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store.Store, "note", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            killed.sync()
    # the whole machine went down: the trial goes on from step 50 and writes its later steps again, at another time
    lines = (trial / "journal.jsonl").read_text().splitlines(keepends=True)
    (trial / "journal.jsonl").write_text(lines[0])
    for number in (100, 150, 200):
        step(trial, number, when=5000.0)
    Tracker(run, uri).sync()
    found = one(uri, run, role="search")
    for key in ("psnr_y", "train.loss"):
        assert [s for s, _ in points(uri, found.info.run_id, key)] == [50, 100, 150, 200]


@pytest.mark.parametrize("lost", ["half a line", "all lines"])
def test_each_value_once_where_the_last_lines_of_the_memory_are_lost(lost: str, uri: str, run: Path) -> None:
    trials = [add_trial(run, "a"), add_trial(run, "b", number=4)]
    tracker, memory = Tracker(run, uri), run / "tracking.json"
    tracker.sync()
    begun = memory.read_text()
    for number in (50, 100):
        for trial in trials:
            step(trial, number)
        tracker.sync()
    lines = memory.read_text()
    whole = lines[: lines.index("\n}\n") + 3]
    assert lines.startswith(begun) and len(lines.removeprefix(begun).splitlines()) == 4, "one a point"
    memory.write_text(lines[:-20] if lost == "half a line" else whole)
    for trial in trials:
        step(trial, 150)
    tracker = Tracker(run, uri)
    tracker.sync()
    tracker.finish()
    for digit in "ab":
        found = one(uri, run, fingerprint=digit * 64).info.run_id
        assert points(uri, found, "psnr_y") == [(50, 30.5), (100, 31.0), (150, 31.5)]
    runs_made = [r.data.tags["sr.key"] for r in runs(uri, run.parent.name)]
    assert len(runs_made) == len(set(runs_made)) == 3
    assert json.loads(memory.read_text())["runs"].keys() == set(runs_made), "at the end one JSON value again"


class Mute:
    """An MLflow client that takes everything and keeps what a tracker asks for: the runs."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}

    def get_experiment_by_name(self, _name: str) -> None:
        return None

    def create_experiment(self, name: str, **_place: str) -> str:
        return name

    def search_runs(self, *_: Any, **_page: Any) -> Any:
        from mlflow.store.entities import PagedList

        return PagedList([], None)

    def create_run(self, _experiment: str, **_about: Any) -> Any:
        info = SimpleNamespace(run_id=f"{len(self.made):032x}", lifecycle_stage="active")
        self.made[info.run_id] = SimpleNamespace(info=info, data=SimpleNamespace(params={}, metrics={}))
        return self.made[info.run_id]

    def get_run(self, identifier: str) -> Any:
        return self.made[identifier]

    def ignored(self, *_: Any, **_more: Any) -> None: ...

    log_batch = set_tag = update_run = set_terminated = log_artifact = log_inputs = ignored


def written(run: Path, trials: int, points: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How often a tracker writes all of tracking.json, and how many bytes in all, for trials that validate in turn."""
    whole, sizes, path = [], [0], run / "tracking.json"
    write, append = TrackingRecord.write, TrackingRecord.append

    def counted_write(state: TrackingRecord, path: Path) -> None:
        write(state, path)
        whole.append(path.stat().st_size)

    def counted_append(state: TrackingRecord, path: Path, *what: Any) -> None:
        before = path.stat().st_size
        append(state, path, *what)
        sizes.append(path.stat().st_size - before)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store, "client", lambda _: Mute())
        patch.setattr(TrackingRecord, "write", counted_write)
        patch.setattr(TrackingRecord, "append", counted_append)
        folders = [add_trial(run, f"{number:x}", number=number) for number in range(trials)]
        tracker = Tracker(run, "http://mute:1")
        for number in range(1, points + 1):
            for folder in folders:
                step(folder, 50 * number)
            tracker.sync()
        tracker.finish()
    assert path.stat().st_size == whole[-1]
    return len(whole), sum(whole) + sum(sizes)


def test_what_a_tracker_writes_down_grows_with_what_is_new(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with trials times points of a file of all trials."""
    found = {}
    for trials, points in ((4, 4), (16, 4), (4, 16)):
        folder = tmp_path / f"{trials}-{points}"
        shutil.copytree(run, folder)
        found[trials, points] = written(folder, trials, points, monkeypatch)
    assert {times for times, _ in found.values()} == {2}, "at the start and at the end"
    per_point = {size: total / (size[0] * size[1]) for size, (_, total) in found.items()}
    assert max(per_point.values()) < 400, "bytes: a line a point, two for a new run, and the file at the end"
    assert per_point[16, 4] < per_point[4, 4] and per_point[4, 16] < per_point[4, 4]


def write_roles(run: Path) -> None:
    """As a sweep of this version does, which finds its trials by them."""
    (run / "roles.jsonl").unlink(missing_ok=True)
    lines = [role.model_dump_json() + "\n" for role in read_roles(RunDir(run))]
    (run / "roles.jsonl").write_text("".join(lines))


@pytest.mark.parametrize("trials", [45, 90])
def test_a_look_is_at_what_is_under_way_and_a_few_others(
    trials: int, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_store, "client", lambda _: Mute())
    folders = [add_trial(run, f"{number:03x}", number=number) for number in range(trials)]
    for folder in folders:
        step(folder, 50)
    for folder in folders[2:]:
        end(folder, "stopped")
    write_roles(run)
    tracker, found = Tracker(run, "http://mute:1"), list[str]()
    folder_of = RunDir.trial
    monkeypatch.setattr(RunDir, "trial", lambda *given: found.append(given[1]) or folder_of(*given))

    def looked() -> set[str]:
        found.clear()
        tracker.sync()
        return {fingerprint[:3] for fingerprint in found}

    names = [folder.name[:3] for folder in folders]
    assert looked() == set(names), "a process begins with all"
    passes = [looked() for _ in range(-(-(trials - 2) // deliver.AT_REST))]
    assert all({"000", "001"} <= seen and len(seen) <= 2 + deliver.AT_REST for seen in passes)
    assert set().union(*passes) == set(names), "all have their turn"
    with monkeypatch.context() as ending:
        ending.setattr(Tracker, "_last_call", lambda *_: True)
        found.clear()
        assert tracker.follow(0)
    assert {fingerprint[:3] for fingerprint in found} == set(names), "and ends with all"


def test_what_grows_after_its_end_is_delivered(uri: str, run: Path) -> None:
    """An audit goes on with a stopped trial, and no role says so."""
    folders = [add_trial(run, f"{number:x}", number=number) for number in range(3)]
    for folder in folders:
        step(folder, 50)
        end(folder, "stopped")
    write_roles(run)
    tracker = Tracker(run, uri)
    tracker.sync()
    assert tracker.sync() == 0
    step(folders[1], 100)
    assert tracker.sync() == 2
    assert one(uri, run, fingerprint="1" * 64).info.status == "RUNNING"
    end(folders[1], "stopped")
    late = add_trial(run, "3", number=3)
    step(late, 50)
    write_roles(run)
    assert tracker.sync() == 1 + 3, "its end, and a trial with its two metrics"


def test_mlflow_itself_stores_a_repeated_batch_once(uri: str, run: Path) -> None:
    trial = add_trial(run, "d")
    step(trial, 50, other=float("nan"))
    tracker = Tracker(run, uri)
    tracker.sync()
    found = one(uri, run, role="search").info.run_id
    again = mlflow_store.metric_rows({"psnr_y": 30.5, "train.loss": 0.1, "other": float("nan")}, 50, 1050.0)
    client(uri).log_batch(found, metrics=again)
    assert [len(points(uri, found, key)) for key in ("psnr_y", "train.loss", "other")] == [1, 1, 0]


@pytest.mark.parametrize("killed", [True, False])
def test_runs_are_found_again(killed: bool, uri: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tracking.json is lost, or its writer was killed after making a run and before noting its id."""
    trial = add_trial(run, "e")
    step(trial, 50)
    end(trial, "complete")
    if killed:
        with monkeypatch.context() as patch:
            patch.setattr(mlflow_store.Store, "note", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                Tracker(run, uri).sync()
    else:
        add_scores(run, bicubic=30.0, seed0=31.0)
        Tracker(run, uri).sync()
        (run / "tracking.json").unlink()
    Tracker(run, uri).sync()
    keys = Counter(
        r.data.tags["sr.key"] for r in runs(uri, run.parent.name) + runs(uri, f"{run.parent.name} leaderboard")
    )
    assert set(keys.values()) == {1} and len(keys) == (2 if killed else 5)
    found = one(uri, run, role="search")
    assert points(uri, found.info.run_id, "psnr_y") == [(50, 30.5)] and found.info.status == "FINISHED"


def test_equal_configs_in_two_folders_share_nothing(uri: str, run: Path, tmp_path: Path) -> None:
    twin = tmp_path / "other" / run.name
    twin.mkdir(parents=True)
    (twin / "plan.json").write_text((run / "plan.json").read_text())
    Tracker(run, uri).sync()
    Tracker(twin, uri).sync()
    assert len(runs(uri, run.parent.name)) == 2


def test_board_and_scores(uri: str, run: Path) -> None:
    add_scores(run, bicubic=30.0, seed0=31.0, seed1=31.4)
    (run / "pictures").mkdir()
    (run / "pictures" / "grid.png").write_bytes(b"png")
    tracker = Tracker(run, uri)
    tracker.sync()
    assert tracker.sync() == 0
    mlflow = client(uri)
    board = mlflow.get_experiment_by_name(f"{run.parent.name} leaderboard")
    rows = mlflow.search_runs([board.experiment_id], order_by=["metrics.psnr_y DESC"])
    assert [r.info.run_name for r in rows] == ["edsr_baseline × eco", "bicubic"]
    best = rows[0].data.metrics
    assert best["psnr_y"] == best["psnr_y.Set5"] == pytest.approx(31.2)
    assert best["psnr_y.Set5.std"] == pytest.approx(0.4 / 2**0.5) and best["psnr_y.Set5.gain"] == pytest.approx(1.2)
    assert (best["parameters"], best["train_seconds"]) == (12345, 14) and "psnr_y.rank_first" not in best
    assert rows[0].data.tags["unranked"] == "order not established: no other row to compare with"

    assert rows[0].data.params == {
        "model": "edsr_baseline", "objective": "eco", "target": "mixup", "loss": "l1", "weights": "raw", "scale": "2",
        "target.length": "0.5",
    }  # fmt: skip
    assert rows[0].data.tags["weights_folder"].endswith(f"/trials/{'0' * 16}/model")
    key = view.board_link(run, uri).partition("&viewStateShareKey=")[2]
    shared = json.loads(board.tags[f"mlflow.sharedViewState.{key}"])
    assert shared["orderByKey"] == shared["selectedColumns"][0] == "metrics.`psnr_y`" and not shared["orderByAsc"]
    sweep = one(uri, run, role="sweep").data
    assert "| edsr_baseline × eco | 2 | 31.20 |" in sweep.tags["mlflow.note.content"]
    assert (
        f"#/experiments/{board.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}"
        in sweep.tags["mlflow.note.content"]
    )
    assert sweep.metrics["best psnr_y x2"] == pytest.approx(31.2)
    assert sweep.tags["best psnr_y x2"] == "edsr_baseline × eco"

    seed1 = one(uri, run, role="evaluation", seed="1")
    assert seed1.data.metrics == {"psnr_y.Set5": 31.4} and seed1.data.tags["fingerprint"] == "1" * 64
    assert seed1.data.tags["weights"] == "raw" and seed1.info.status == "FINISHED"
    parent = one(uri, run, role="sweep").info.run_id
    names = {f.path for folder in (None, "pictures") for f in mlflow.list_artifacts(parent, folder)}
    assert {"config.yaml", "leaderboard.csv", "leaderboard.md", "leaderboard.json", "pictures/grid.png"} <= names

    time.sleep(0.01)
    add_scores(run, seed1=31.6)
    assert tracker.sync() > 0
    assert client(uri).get_run(rows[0].info.run_id).data.metrics["psnr_y"] == pytest.approx(31.3)
    assert len(mlflow.search_runs([board.experiment_id])) == 2, "the same rows, brought up to date"

    winners = read_winners(run / "winners.json")
    write_winners(run / "winners.json", {ECO: winners[ECO].model_copy(update={"params": {"target.length": 0.75}})})
    tracker.sync()
    again = mlflow.search_runs([board.experiment_id], order_by=["metrics.psnr_y DESC"])
    assert [r.info.run_name for r in again] == ["edsr_baseline × eco", "bicubic"]
    assert again[0].data.params["target.length"] == "0.75" and again[0].info.run_id != rows[0].info.run_id
    assert again[1].info.run_id == rows[1].info.run_id


def test_what_a_paper_prints_is_a_metric_of_the_row(uri: str, run: Path) -> None:
    add_scores(run, bicubic=30.0, seed1=31.4)
    paper = {"source": "Table 1", "scores": {ECO: {"Set5": {"psnr_y": 31.0}}}, "parameters": {ECO: 1_518_000}}
    (run / "config.yaml").write_text(json.dumps({"evaluation": {"metrics": ["psnr_y"]}, "paper": paper}))
    write(run)
    Tracker(run, uri).sync()
    rows = {r.data.tags["objective"]: r.data.metrics for r in runs(uri, f"{run.parent.name} leaderboard")}
    for name in ("psnr_y", "psnr_y.Set5"):
        assert (rows["eco"][f"{name}.paper"], rows["eco"][f"{name}.over_paper"]) == (31.0, pytest.approx(0.4))
    assert rows["eco"]["paper_parameters"] == 1_518_000 and "psnr_y.paper" not in rows["-"]


def test_ranks_are_metrics_and_gone_when_there_are_none_any_more(uri: str, run: Path) -> None:
    add_scores(run, bicubic=30.0, seed0=31.0, seed1=31.4)
    l1 = {"combination": "x2/edsr_baseline/l1", "objective": "l1"}
    for seed in (0, 1):
        [row] = pq.read_table(run / "evaluation" / f"seed{seed}.parquet").to_pylist()
        other = {**row, **l1, "fingerprint": f"{seed + 2}" * 64, "psnr_y": 28.0 + seed / 10}
        pq.write_table(pa.Table.from_pylist([other]), run / "evaluation" / f"l1_{seed}.parquet")
    winners = read_winners(run / "winners.json")
    twin = winners[ECO].model_copy(update={"fingerprints": ("2" * 64, "3" * 64)})
    write_winners(run / "winners.json", {**winners, l1["combination"]: twin})
    (run / "config.yaml").write_text("evaluation: {metrics: [psnr_y]}\nboard: {baseline: l1}\n")
    write(run)
    tracker = Tracker(run, uri)
    tracker.sync()
    rows = {r.data.tags["objective"]: r.data for r in runs(uri, f"{run.parent.name} leaderboard")}
    said = json.loads((run / "leaderboard.json").read_text())["rows"][0]["metrics"]["psnr_y"]
    best = rows["eco"].metrics
    for name in ("rank_first", "rank_last", "may_be_best", "low", "high", "std", "over_baseline", "over_baseline_low"):
        assert best[f"psnr_y.{name}"] == best[f"psnr_y.Set5.{name}"] == pytest.approx(float(said[name])), name
    assert (best["psnr_y.over_baseline"], rows["l1"].metrics["psnr_y.rank_last"]) == (pytest.approx(3.15), 2)
    assert rows["eco"].tags["baseline"] == "l1" and rows["eco"].tags["unranked"] == ""

    time.sleep(0.01)
    (run / "evaluation" / "l1_1.parquet").unlink()
    write(run)
    tracker.sync()
    rows = {r.data.tags["objective"]: r.data for r in runs(uri, f"{run.parent.name} leaderboard")}
    assert "psnr_y.rank_first" not in rows["eco"].metrics and rows["l1"].tags["unranked"] == "1 of 2 seeds"
    assert len(rows) == len(runs(uri, f"{run.parent.name} leaderboard")), "made anew, and the one before is deleted"
    assert tracker.sync() == 0


def test_an_experiment_that_another_sweep_makes_at_the_same_moment_is_shared(
    uri: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found none, and the other one was first."""
    step(add_trial(run, "a"), 50)
    add_scores(run, bicubic=30.0, seed0=31.0)
    tracker = Tracker(run, uri)
    tracker.store.open()
    make = tracker.store._client.create_experiment

    def second(name: str, **place: str) -> str:
        client(uri).create_experiment(name, **place)
        return str(make(name, **place))

    monkeypatch.setattr(tracker.store._client, "create_experiment", second)
    tracker.sync()
    assert tracker.store.state.refused == {}
    assert one(uri, run, role="search") and len(runs(uri, f"{run.parent.name} leaderboard")) == 2


def deleted(uri: str, run: Path, **tags: str) -> str:
    """The id of a run that somebody has deleted in the UI."""
    found = one(uri, run, **tags).info.run_id
    client(uri).delete_run(found)
    return str(found)


def test_a_run_deleted_in_mlflow_is_left_alone_and_the_rest_arrives(
    uri: str, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone, other = add_trial(run, "a"), add_trial(run, "b", number=4)
    for trial in (gone, other):
        step(trial, 50)
    Tracker(run, uri).sync()
    identifier = deleted(uri, run, role="search", fingerprint="a" * 64)
    for trial in (gone, other):
        step(trial, 100)
    add_scores(run, bicubic=30.0, seed0=31.0)
    tracker = Tracker(run, uri)
    assert tracker.sync() > 0
    tracker.finish()
    [said] = [record.message for record in caplog.records]
    assert "trial/aaaaaaaaaaaaaaaa" in said and "1 run(s)" in said and identifier in said
    found = one(uri, run, role="search")
    assert points(uri, found.info.run_id, "psnr_y") == [(50, 30.5), (100, 31.0)]
    assert one(uri, run, role="sweep").info.status == "FINISHED" and runs(uri, f"{run.parent.name} leaderboard")
    step(gone, 150)
    assert Tracker(run, uri).sync() == 0 and client(uri).get_run(identifier).info.lifecycle_stage == "deleted"
    caplog.clear()
    assert main([str(run), "--tracking-uri", uri]) == 1, "as long as it does not take all"
    assert "does not take 1 run(s) or file(s)" in caplog.text
    (run / "tracking.stop").touch()
    assert main([str(run), "--tracking-uri", uri, "--follow", str(os.getppid())]) == 0, "what could go has gone"


def test_the_sweeps_own_run_is_made_anew_where_it_was_deleted(uri: str, run: Path) -> None:
    step(add_trial(run, "a"), 50)
    Tracker(run, uri).sync()
    before = deleted(uri, run, role="sweep")
    Tracker(run, uri).sync()
    parent = one(uri, run, role="sweep").info.run_id
    assert parent != before and one(uri, run, role="search").data.tags["mlflow.parentRunId"] == parent
    assert {file.path for file in client(uri).list_artifacts(parent)} == {"config.yaml", "plan.json"}


def test_a_value_that_is_refused_holds_up_nothing_else(
    uri: str, run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow.exceptions import MlflowException

    one_, other = add_trial(run, "a"), add_trial(run, "b", number=4)
    for trial in (one_, other):
        step(trial, 50)
    log = mlflow_store.Store.log_steps

    def refusing(store: Any, key: str, entries: Any) -> int:
        if key == "trial/aaaaaaaaaaaaaaaa":
            raise MlflowException.invalid_parameter_value("Got invalid value")
        return log(store, key, entries)

    monkeypatch.setattr(mlflow_store.Store, "log_steps", refusing)
    damaged = add_trial(run, "c", number=5)
    (run / "roles.jsonl").write_text("".join(f"{role.model_dump_json()}\n" for role in read_roles(RunDir(run))))
    (damaged / "trial.json").write_text("{")
    tracker = Tracker(run, uri)
    tracker.sync()
    assert tracker.sync() == 0
    assert points(uri, one(uri, run, fingerprint="b" * 64).info.run_id, "psnr_y") == [(50, 30.5)]
    assert tracker.store.state.refused == {"trial/aaaaaaaaaaaaaaaa": "Got invalid value"}
    assert not tracker.complete
    unread, refused = [record.message for record in caplog.records]
    assert unread.startswith("trial/cccccccccccccccc is not delivered: ") and "Got invalid value" in refused


def purge(uri: str, condition: str, *values: str) -> None:
    """Take runs out of MLflow's tables for good, as `mlflow gc` does."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database, database:
        gone = f"(SELECT run_uuid FROM runs WHERE {condition})"
        for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid IN {gone}", values)


@pytest.mark.parametrize("other", ["none", "one of its name", "another one"])
def test_a_store_that_has_lost_everything_is_sent_it_again(
    other: str, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a new database ids start again at 1; what another folder has made in it meanwhile may move them, or not."""
    name, board = run.parent.name, f"{run.parent.name} leaderboard"
    step(add_trial(run, "a"), 50)
    add_scores(run, bicubic=30.0, seed0=31.0)
    uri = f"sqlite:///{tmp_path}/own.db"
    check(uri)
    Tracker(run, uri).sync()
    keys = {r.data.tags["sr.key"] for r in runs(uri, name)}
    purge(uri, "true")
    with closing(sqlite3.connect(tmp_path / "own.db")) as database, database:
        database.execute("DELETE FROM experiments WHERE experiment_id != 0")
    for made in {"none": [], "one of its name": [name, board], "another one": ["first"]}[other]:
        client(uri).create_experiment(made, artifact_location=(tmp_path / made).as_uri())
    tracker = Tracker(run, uri)
    tracker.sync()
    tracker.finish()
    assert ["no longer knows what it was sent" in record.message for record in caplog.records] == [True]
    assert {r.data.tags["sr.key"] for r in runs(uri, name)} == keys and tracker.store.state.refused == {}
    assert len(runs(uri, name)) == len(keys) and len(runs(uri, board)) == 2
    parent = one(uri, run, role="sweep").info.run_id
    found = one(uri, run, role="search")
    assert points(uri, found.info.run_id, "psnr_y") == [(50, 30.5)] and found.data.params["model"] == "edsr_baseline"
    assert found.data.tags["mlflow.parentRunId"] == parent
    assert "leaderboard.json" in {file.path for file in client(uri).list_artifacts(parent)}
    assert Tracker(run, uri).sync() == 0


def test_what_is_still_there_of_a_lost_parent_is_found_and_hung_below_a_new_one(uri: str, run: Path) -> None:
    step(add_trial(run, "a"), 50)
    add_scores(run, bicubic=30.0, seed0=31.0)
    Tracker(run, uri).sync()
    before = {r.info.run_id: r.data.tags["role"] for r in runs(uri, run.parent.name)}
    purge(uri, "run_uuid = ?", deleted(uri, run, role="sweep"))
    Tracker(run, uri).sync()
    after = {r.info.run_id: r.data.tags["role"] for r in runs(uri, run.parent.name)}
    assert {i: role for i, role in before.items() if role != "sweep"}.items() < after.items()
    assert Counter(after.values()) == Counter(before.values()) and len(runs(uri, f"{run.parent.name} leaderboard")) == 2
    children = [r for r in runs(uri, run.parent.name) if r.data.tags["role"] != "sweep"]
    assert {r.data.tags["mlflow.parentRunId"] for r in children} == {one(uri, run, role="sweep").info.run_id}


def begin_anew(trial: Path) -> None:
    """As `begin_trial` does for a search that steers by what the trial's validations lacked."""
    journal.begin_anew(trial / JOURNAL)
    found = TrialRecord.read(trial / "trial.json")
    found.model_copy(update={"attempt": found.attempt + 1}).write(trial / "trial.json")


@pytest.mark.parametrize("seen", [True, False])
def test_a_trial_that_is_begun_anew_is_sent_anew(seen: bool, uri: str, run: Path) -> None:
    """By the tracker that sent it before, or by another one; with a metric in steps that were sent without it."""
    trial = add_trial(run, "a")
    for number in (50, 100, 150):
        step(trial, number)
    end(trial, "complete")
    tracker = Tracker(run, uri)
    tracker.sync()
    before = one(uri, run, role="search").info.run_id
    for lpips in (0.4, 0.3):
        begin_anew(trial)
        step(trial, 50, lpips_alex=lpips)
        tracker = tracker if seen else Tracker(run, uri)
        tracker.sync()
    step(trial, 100, lpips_alex=0.2)
    tracker.sync()
    found = one(uri, run, role="search")
    assert points(uri, found.info.run_id, "lpips_alex") == [(50, 0.3), (100, 0.2)]
    assert points(uri, found.info.run_id, "psnr_y") == [(50, 30.5), (100, 31.0)], "once"
    assert found.info.status == "RUNNING" and found.data.params["model"] == "edsr_baseline"
    assert found.data.tags["mlflow.parentRunId"] == one(uri, run, role="sweep").info.run_id
    assert client(uri).get_run(before).info.lifecycle_stage == "deleted"
    assert Tracker(run, uri).sync() == 0


def test_a_trial_begun_anew_is_sent_anew_where_its_run_is_lost_or_was_not_yet_forgotten(uri: str, run: Path) -> None:
    """`mlflow gc` has taken the old run; or a tracker was killed after deleting it and before anything else."""
    for number, take in enumerate((lambda i: client(uri).delete_run(i), lambda i: purge(uri, "run_uuid = ?", i))):
        trial = add_trial(run, "ab"[number], number=number)
        step(trial, 50)
        Tracker(run, uri).sync()
        take(one(uri, run, fingerprint="ab"[number] * 64).info.run_id)
        begin_anew(trial)
        step(trial, 50, lpips_alex=0.4)
        tracker = Tracker(run, uri)
        tracker.sync()
        assert tracker.store.state.refused == {}
        found = one(uri, run, fingerprint="ab"[number] * 64).info.run_id
        assert points(uri, found, "lpips_alex") == [(50, 0.4)]


def test_a_trial_begun_anew_does_not_double_where_its_new_run_was_not_noted(
    uri: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = add_trial(run, "a")
    step(trial, 50)
    Tracker(run, uri).sync()
    begin_anew(trial)
    step(trial, 50, lpips_alex=0.4)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store.Store, "log_params", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Tracker(run, uri).sync()
    state = TrackingRecord.read(run / "tracking.json")
    del state.runs["trial/aaaaaaaaaaaaaaaa"]  # killed between making and noting it
    state.write(run / "tracking.json")
    Tracker(run, uri).sync()
    assert points(uri, one(uri, run, role="search").info.run_id, "lpips_alex") == [(50, 0.4)]


def test_the_cause_of_a_failure_goes_as_the_trial_goes_on(uri: str, run: Path) -> None:
    trial = add_trial(run, "b")
    end(trial, "failed", cause="out of memory")
    Tracker(run, uri).sync()
    Journal(trial / JOURNAL).reopen()
    step(trial, 50)
    end(trial, "complete")
    Tracker(run, uri).sync()
    found = one(uri, run, role="search")
    assert (found.info.status, found.data.tags["cause"]) == ("FINISHED", "")


def test_names_that_mlflow_refuses(uri: str, run: Path) -> None:
    add_scores(run, bicubic=30.0)
    rows = pq.read_table(run / "evaluation" / "bicubic.parquet").to_pylist()
    pq.write_table(
        pa.Table.from_pylist([{**rows[0], "benchmark": "my, (own) photos ×2"}]), run / "evaluation" / "bicubic.parquet"
    )
    write(run)
    Tracker(run, uri).sync()
    [row] = runs(uri, f"{run.parent.name} leaderboard")
    assert row.data.metrics["psnr_y.my_ _own_ photos _2"] == 30.0
    trial = add_trial(run, "f")
    record = TrialRecord.read(trial / "trial.json")
    record.model_copy(update={"config": {"long": "x" * 9000, "a=b": 1}}).write(trial / "trial.json")
    Tracker(run, uri).sync()
    params = one(uri, run, role="search").data.params
    assert len(params["long"]) == 6000 and params["a_b"] == "1"


def test_more_metrics_than_a_batch_holds(uri: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_store, "BATCH", 5)
    trial = add_trial(run, "9")
    for number in range(10):
        step(trial, number)
    Tracker(run, uri).sync()
    assert len(points(uri, one(uri, run, role="search").info.run_id, "psnr_y")) == 10


def parent_of_a_tracker(run: Path, uri: str) -> "subprocess.Popen[str]":
    """A shell that has started a tracker which follows it; its stderr ends when both have ended."""
    command = [sys.executable, "-m", "orchestrator.tracking", str(run), "--tracking-uri", uri]
    script = ["sh", "-c", '"$@" --follow $$ & wait', "sh", *command]
    return subprocess.Popen(script, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_a_teacher_has_a_run_of_its_own(uri: str, run: Path) -> None:
    step(add_trial(run, "6", role="teacher", number=None), 50)
    Tracker(run, uri).sync()
    assert one(uri, run, role="teacher").info.run_name == "teacher edsr_baseline ×2 seed 0"


def test_follow_ends_with_its_parent_and_closes_what_is_open(uri: str, run: Path) -> None:
    trial = add_trial(run, "7")
    step(trial, 50)
    with parent_of_a_tracker(run, uri) as parent:
        while not any(r.data.tags["role"] == "search" and r.data.metrics for r in runs(uri, run.parent.name)):
            assert parent.poll() is None
            time.sleep(0.1)
        with pytest.raises(Timeout):
            FileLock(run / "tracking.lock").acquire(timeout=0)
        step(trial, 100)
        parent.kill()
        assert parent.stderr is not None and parent.stderr.read() == "", "ends before anyone buried its parent"
    found = one(uri, run, role="search")
    assert (found.info.status, found.data.tags["status"]) == ("KILLED", "interrupted")
    assert one(uri, run, role="sweep").info.status == "KILLED"
    assert [s for s, _ in points(uri, found.info.run_id, "psnr_y")] == [50, 100]

    step(trial, 150)  # the sweep is resumed and finishes
    end(trial, "complete")
    add_scores(run, bicubic=30.0, seed0=31.0)
    (run / "tracking.stop").touch()
    assert Tracker(run, uri).follow(os.getppid(), interval_s=0.1)
    assert one(uri, run, role="search").info.status == "FINISHED" == one(uri, run, role="sweep").info.status


def test_an_outage_is_one_line_and_loses_nothing(
    uri: str, run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow.exceptions import MlflowException

    step(add_trial(run, "8"), 50)
    away = [5]

    def flaky(there: str) -> Any:
        if away[0]:
            away[0] -= 1
            raise MlflowException("connection refused")
        return client(there)

    monkeypatch.setattr(mlflow_store, "client", flaky)
    tracker = Tracker(run, uri)
    watcher = threading.Timer(2.0, (run / "tracking.stop").touch)
    watcher.start()
    assert tracker.follow(os.getppid(), interval_s=0.1)
    watcher.join()
    assert ["away" in r.message for r in caplog.records] == [True, False], "gone, and back"
    assert points(uri, one(uri, run, role="search").info.run_id, "psnr_y") == [(50, 30.5)]


def test_a_store_that_stays_away_leaves_the_rest_for_later(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step(add_trial(run, "8"), 50)
    (run / "tracking.stop").touch()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert not Tracker(run, f"http://127.0.0.1:{port}").follow(os.getppid(), interval_s=0.01)
