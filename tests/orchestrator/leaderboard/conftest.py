"""Run folders that hold only what a board is made of: a plan, winners, and rows whose scores are known by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import eval.rows
from orchestrator.run.records import CombinationRecord, MetricRecord, PlanRecord
from orchestrator.run.winners import SearchCounts, WinnerRecord, write_winners


@pytest.fixture(autouse=True)
def _no_word_on_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the rows that `make` writes do not have, and of which a process speaks once."""
    monkeypatch.setattr(eval.rows, "_say_earlier", lambda: None)


@pytest.fixture(scope="session")
def score() -> Callable[..., dict[str, Any]]:
    """Makes the row of one image, with what is given changed."""
    return _score


@pytest.fixture(scope="session")
def winner() -> Callable[..., WinnerRecord]:
    """Makes the record of a combination's winner from its number, fingerprints and params."""
    return _winner


@pytest.fixture(scope="session")
def make() -> Callable[..., Path]:
    """Makes a run folder of some rows and winners; returns it."""
    return _make


def _score(combination: str, psnr: float, **over: Any) -> dict[str, Any]:
    scale, model, objective = combination.split("/")
    trained = model != "bicubic"
    row = {
        "combination": combination, "model": model, "objective": objective, "target": "hr", "loss": "l1",
        "scale": over.get("scale") or int(scale[1:]),
            "fingerprint": f"{combination}#0" if trained else "", "seed": 0 if trained else -1,
        "weights": "raw" if trained else "none", "benchmark": "Set5", "image": "baby",
        "protocol": f"classical-y-b{scale[1:]}",
        "lr_sha256": "aa", "kernel": "files", "precision": "fp32", "draws": 1, "seconds": 0.1, "psnr_y": psnr,
        "ssim_y": None, "psnr_rgb": None, "ssim_rgb": None, "versions": "{}",
    }  # fmt: skip
    return row | over


def _planned(combination: str) -> CombinationRecord:
    scale, model, objective = combination.split("/")
    return CombinationRecord(
        id=combination, model=model, objective=objective, target="hr", loss="l1", scale=int(scale[1:]), trials=4,
        searched=("target.length",), parameters=12345,
    )  # fmt: skip


def _winner(number: int, *fingerprints: str, params: dict[str, Any] | None = None) -> WinnerRecord:
    counts = SearchCounts(trials=4, pruned=1, failed=0, steps=150)
    return WinnerRecord(
        number=number, params=params or {}, fingerprints=fingerprints, search=counts, train_seconds=14.2,
        search_run="5" * 64,
    )  # fmt: skip


def _make(folder: Path, rows: list[dict[str, Any]], winners: dict[str, WinnerRecord] | None = None) -> Path:
    (folder / "evaluation").mkdir(parents=True)
    combinations = sorted({row["combination"] for row in rows if row["model"] != "bicubic"})
    PlanRecord(
        data_hash="d", benchmarks={}, numerics_version=1, inits={}, teachers={}, name="quick", run=folder.name,
        config_hash="c", git_commit=None, metric=MetricRecord(name="psnr_y", higher_is_better=True),
        protocol="classical", combinations=tuple(map(_planned, combinations)),
    ).write(folder / "plan.json")  # fmt: skip
    write_winners(folder / "winners.json", winners or {})
    (folder / "config.yaml").write_text("evaluation: {metrics: [psnr_y]}\n")
    for i, row in enumerate(rows):
        pq.write_table(pa.Table.from_pylist([row]), folder / "evaluation" / f"{i}.parquet")
    return folder
