"""What MLflow shows first: the board's experiment with its columns in order, and the sweep's own run with the board.

A shared view is a tag of the experiment that MLflow's page reads by its name (`?viewStateShareKey=KEY`, MLflow 3.17); a
description is Markdown in the tag `mlflow.note.content`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.secrets import without_login
from eval.protocol import get_metric
from orchestrator.leaderboard.board import Board
from orchestrator.leaderboard.text import lead_markdown
from orchestrator.run.folder import RunDir
from orchestrator.run.records import read_evaluation, read_plan
from orchestrator.tracking.record import TrackingRecord
from sr_models.hashing import digest
from sr_models.text_table import counted

VIEW_TAG = "mlflow.sharedViewState."

NOTE = 4800
"""Letters of a description, which is a tag."""

_ROWS = 20  # of a board in a description


def board_link(run_folder: Path, uri: str) -> str:
    """The page of `ui_command`'s server with the board by its leading metric, ranks beside; "" until delivered."""
    plan, path = read_plan(run_folder), RunDir(run_folder).tracking
    known = TrackingRecord.read(path) if path.exists() else TrackingRecord(uri="")
    board = known.experiments.get(f"{plan.name} leaderboard")
    metric = read_evaluation(run_folder).metrics[0]
    ascending = "false" if get_metric(metric).higher_is_better else "true"
    query = f"orderByKey=metrics.%60{metric}%60&orderByAsc={ascending}"
    server = without_login(uri).rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
    return f"{server}/{board_page(board, known.view, query)}" if board else ""


def board_page(experiment: str, view: str | None, query: str = "") -> str:
    """The page of a board's experiment below a server's address: as its shared view has it, or else by a query.

    It opens MLflow's view of runs, "Model training", and not the one of language models that MLflow 3.17 begins with.
    """
    how = f"viewStateShareKey={view}" if view else query
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&{how}"


@dataclass(frozen=True)
class SharedView:
    """A view of an experiment's runs: `key` names the tag that holds `state`, JSON."""

    key: str
    state: str

    @property
    def tag(self) -> str:
        return VIEW_TAG + self.key


def shared_view(board: Board) -> SharedView:
    """Rows of a board by its leading metric, with rank, interval, gain and the difference to the baseline."""
    parts = ["", ".rank_first", ".rank_last", ".low", ".high", ".gain", *([".over_baseline"] if board.baseline else [])]
    state = {
        "selectedColumns": [f"metrics.`{board.metric}{part}`" for part in parts],
        "orderByKey": f"metrics.`{board.metric}`",
        "orderByAsc": not get_metric(board.metric).higher_is_better,
        "searchFilter": "", "startTime": "ALL", "lifecycleFilter": "Active", "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
    }  # fmt: skip
    return SharedView(digest(state)[:32], json.dumps(state))


def description(found: Sequence[Board], page: str) -> str:
    """The best rows of each board as Markdown, as many boards as fit, and where the rest is.

    Args:
        page: link to the board's experiment.
    """
    said = f"[The whole board]({page}); all of it with curves and pictures: leaderboard.html among the artifacts."
    for i, board in enumerate(found):
        part = f"\n\n{lead_markdown(board, _ROWS)}"
        if len(said) + len(part) > NOTE - 40:
            return f"{said}\n\n{counted(len(found) - i, 'more board')} there."
        said += part
    return said


def best(found: Sequence[Board]) -> tuple[dict[str, float], dict[str, Any]]:
    """The best row of each board: metrics and tags of the sweep's own run."""
    metrics, tags = {}, {}
    for board in found:
        entry = next((entry for entry in board.entries if entry.trained and entry.lead), None)
        if entry and entry.lead:
            where = f"{board.metric} x{board.scale}" + (
                f" trained x{board.trained_scale}" if board.trained_scale else ""
            )
            where += f" {board.protocol}" if sum(b.at == board.at for b in found) > 1 else ""
            metrics[f"best {where}"] = entry.lead.mean
            tags[f"best {where}"] = board.name(entry)
    return metrics, tags
