"""The MLflow side alone: where its board is, and what it makes of journals' numbers."""

import errno
import math
from pathlib import Path

import pytest

from orchestrator.run.records import MetricRecord, PlanRecord
from orchestrator.tracking import mlflow_store
from orchestrator.tracking.mlflow_store import Store, metric_rows, text
from orchestrator.tracking.record import DeliveredRun, TrackingRecord
from orchestrator.tracking.view import board_link


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of which nothing has been delivered."""
    folder = tmp_path / "quick-1a2b3c4d"
    PlanRecord(
        data_hash="d", benchmarks={}, numerics_version=1, inits={}, teachers={}, name="quick", run=folder.name,
        config_hash="c", git_commit=None, metric=MetricRecord(name="psnr_y", higher_is_better=True),
        protocol="classical", combinations=(),
    ).write(folder / "plan.json")  # fmt: skip
    (folder / "config.yaml").write_text("evaluation: {metrics: [psnr_y]}\n")
    return folder


def test_the_boards_page_is_sorted_by_its_leading_metric(run: Path) -> None:
    assert board_link(run, "sqlite:///x.db") == "", "not delivered yet"
    TrackingRecord(uri="u", experiments={"quick": "1", "quick leaderboard": "2"}).write(run / "tracking.json")
    page = "/#/experiments/2/runs?workflowType=machine_learning&orderByKey=metrics.%60psnr_y%60&orderByAsc=false"
    assert board_link(run, "sqlite:///x.db") == f"http://127.0.0.1:5000{page}"
    assert board_link(run, "https://me:pass@host/mlflow/") == f"https://host/mlflow{page}"
    (run / "config.yaml").write_text("evaluation: {metrics: [lpips_alex]}\n")
    assert board_link(run, "http://host:1").endswith("metrics.%60lpips_alex%60&orderByAsc=true"), "less is better"


def test_after_a_line_that_a_full_disk_cut_the_memory_is_written_whole(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, path = Store(run, "sqlite:///x.db"), run / "tracking.json"
    store.save()
    store.state.runs["parent"] = DeliveredRun(id="r", status="running")

    def half(_state: TrackingRecord, path: Path, *_what: str) -> None:
        with path.open("a") as file:
            file.write('["runs", "par')
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(TrackingRecord, "append", half)
        with pytest.raises(OSError, match="No space"):
            store.note("runs", "parent")
    assert TrackingRecord.read(path).runs == {}
    for status in ("complete", "failed"):
        store.state.runs["parent"].status = status
        store.note("runs", "parent")
        assert TrackingRecord.read(path) == store.state
    path.unlink()
    store.note("runs", "parent")
    assert TrackingRecord.read(path) == store.state


def test_rows_are_numbers_under_names_that_mlflow_takes() -> None:
    values = {"psnr_y.my, set ×2": 30, "train.loss": 0.1, "text": "no", "none": None, "x" * 300: 1.0}
    values |= {"other": math.nan, "psnr_y": math.inf, "l_std": -math.inf}  # which MLflow would draw as 1.8e308
    found = metric_rows(values, 50, 1050.1234)
    assert [(row.key, row.value) for row in found[:2]] == [("psnr_y.my_ set _2", 30.0), ("train.loss", 0.1)]
    assert [len(row.key) for row in found[2:]] == [250]
    assert {(row.step, row.timestamp) for row in found} == {(50, 1_050_123)}


def test_params_are_text() -> None:
    assert (text("cosine"), text(0.5), text([1, None]), text({"a": True})) == (
        "cosine",
        "0.5",
        "[1, null]",
        '{"a": true}',
    )


@pytest.mark.parametrize(
    ("sizes", "groups"), [([2, 2, 2], [[2, 2], [2]]), ([9], [[9]]), ([1, 9, 1], [[1], [9], [1]]), ([], [])]
)
def test_a_step_is_never_parted(monkeypatch: pytest.MonkeyPatch, sizes: list[int], groups: list[list[int]]) -> None:
    """The last step that MLflow has says where to go on."""
    monkeypatch.setattr(mlflow_store, "BATCH", 5)
    entries = [{"metrics": {str(k): 0.0 for k in range(size)}} for size in sizes]
    assert [[len(entry["metrics"]) for entry in group] for group in mlflow_store._batches(entries)] == groups
