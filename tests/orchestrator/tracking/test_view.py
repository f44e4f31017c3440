"""What MLflow shows first: the columns of a shared view, a description that fits a tag."""

import json
from typing import Any

from orchestrator.leaderboard.board import Board, Entry, Value
from orchestrator.tracking.view import NOTE, best, description, shared_view

SET5 = ("Set5", "aaaaaaaa")


def board(rows: int = 2, **over: Any) -> Board:
    def entry(i: int) -> Entry:
        value = Value(31.0 - i, None, None, {1: 31.0 - i})
        own = {"fingerprints": {1: f"f{i}"}, "lead": value}
        return Entry(f"x2/edsr/o{i}", "edsr", f"o{i}", "hr", "l1", "raw", "fp32", {SET5: {"psnr_y": value}}, **own)

    values: dict[str, Any] = {
        "scale": 2, "protocol": "classical-y-b2", "metric": "psnr_y", "columns": [SET5], "lead": [SET5],
        "entries": [entry(i) for i in range(rows)], "metrics": ["psnr_y"], "asked": ["psnr_y"], "missing": {},
        "notes": [],
    }  # fmt: skip
    return Board(**values | over)


def test_a_view_has_rank_interval_and_gain_and_a_key_of_its_own() -> None:
    view = shared_view(board())
    state = json.loads(view.state)
    assert state["selectedColumns"] == [
        f"metrics.`psnr_y{part}`" for part in ("", ".rank_first", ".rank_last", ".low", ".high", ".gain")
    ]
    assert (state["orderByAsc"], state["lifecycleFilter"], state["modelVersionFilter"]) == (False, "Active", "All Runs")
    assert view.tag == f"mlflow.sharedViewState.{view.key}" and len(view.key) == 32
    assert view == shared_view(board(rows=3)) != shared_view(board(baseline="l1"))
    lower = json.loads(shared_view(board(metric="lpips_alex", baseline="l1")).state)
    assert lower["orderByAsc"] and lower["selectedColumns"][-1] == "metrics.`lpips_alex.over_baseline`"


def test_a_description_holds_the_best_rows_and_says_what_it_leaves_out() -> None:
    said = description([board(rows=30), board(scale=4)], "#/experiments/7/runs")
    assert said.startswith("[The whole board](#/experiments/7/runs)") and "| edsr × o0 | 1 | 31.00 |" in said
    assert "o19" in said and "o20" not in said and "10 more rows" in said and "×4, classical" in said
    many = description([board(rows=20) for _ in range(30)], "#")
    assert len(many) <= NOTE and many.endswith("more boards there.")


def test_the_best_row_of_each_board() -> None:
    metrics, tags = best([board(), board(scale=3, trained_scale=2), board(rows=0, scale=8)])
    assert metrics == {"best psnr_y x2": 31.0, "best psnr_y x3 trained x2": 31.0}
    assert tags["best psnr_y x2"] == "edsr × o0"
    apart, _ = best([board(), board(protocol="uncropped-y-b0")])
    assert list(apart) == ["best psnr_y x2 classical-y-b2", "best psnr_y x2 uncropped-y-b0"]
