"""Rows of several runs: what may share a board and a ranking, and what stands apart."""

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.leaderboard.compare import boards, rows_of_boards
from orchestrator.leaderboard.scores import read_runs
from orchestrator.leaderboard.text import text
from orchestrator.run.records import PlanRecord, TrialRecord
from sr_models.errors import InputError


@pytest.fixture
def run(score, winner, make):
    """Makes a run: label -> PSNR at each seed."""

    def made(folder: Path, values: dict[str, list[float]], hyper: int = 32, data: str = "d" * 64, **over) -> Path:
        rows = [
            score(f"x2/edsr/{name}", psnr, seed=seed, fingerprint=f"{folder.name}-{name}{seed}", **over)
            for name, found in values.items()
            for seed, psnr in enumerate(found)
        ]
        winners = {
            f"x2/edsr/{name}": winner(1, *(f"{folder.name}-{name}{seed}" for seed in range(len(found))))
            for name, found in values.items()
        }
        make(folder, [*rows, score("x2/bicubic/-", 30.0, **over)], winners)
        plan = PlanRecord.read(folder / "plan.json")
        plan.model_copy(update={"data_hash": {"x2": data}}).write(folder / "plan.json")
        for won in winners.values():
            for name in won.fingerprints:
                path = folder / "trials" / name[:16] / "trial.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                config = {"model": "edsr", "hyper": {"channels": hyper}, "init": None}
                TrialRecord(fingerprint=name, config=config, role="final", seed=0).write(path)
        return folder

    return made


ONE = {"l1": [31.0, 31.02, 30.98], "kd": [31.5, 31.52, 31.49]}
OTHER = {"eco": [32.0, 32.02, 31.97]}


def test_rows_of_one_protocol_and_data_share_a_ranking(tmp_path, run):
    one, other = run(tmp_path / "quick-11111111", ONE), run(tmp_path / "wide-22222222", OTHER)
    [board] = boards(one, other)
    assert [(e.run, e.objective, e.network) for e in board.entries] == [
        ("22222222", "eco", "edsr"), ("11111111", "kd", "edsr"), ("11111111", "l1", "edsr"), ("", "-", "bicubic"),
    ]  # fmt: skip
    assert [e.lead.standing.ranks for e in board.entries[:3]] == [(1, 1), (2, 2), (3, 3)]
    assert board.data == "dddddddd" and board.runs["11111111"] == "quick-11111111"
    first = rows_of_boards([board])[0]
    assert (first["run"], first["data"]) == ("22222222", "dddddddd")
    [alone] = boards(one)
    assert not {"run", "data"} & rows_of_boards([alone])[0].keys() and not alone.runs


def test_a_combination_of_two_runs_is_two_rows_and_its_name_says_whose(tmp_path, run):
    [board] = boards(run(tmp_path / "a", {"l1": [31.0, 31.1]}), run(tmp_path / "b", {"l1": [32.0, 32.1]}))
    assert [board.name(entry) for entry in board.entries] == ["edsr × l1 (b)", "edsr × l1 (a)", "bicubic"]


def test_weights_that_two_runs_share_are_counted_once(tmp_path, run):
    one = run(tmp_path / "a", ONE)
    shutil.copytree(one, tmp_path / "b")
    [board] = boards(one, tmp_path / "b")
    assert {board.name(e): e.twin_of for e in board.entries if e.twin_of} == {
        "edsr × l1 (b)": "x2/edsr/l1/raw/fp32/a", "edsr × kd (b)": "x2/edsr/kd/raw/fp32/a",
    }  # fmt: skip


def test_a_label_that_means_two_networks_is_two_networks(tmp_path, run):
    [board] = boards(run(tmp_path / "a", ONE), run(tmp_path / "b", OTHER, hyper=64))
    assert {entry.network for entry in board.entries} == {"edsr@a", "edsr@b", "bicubic"}
    shutil.rmtree(tmp_path / "b" / "trials")
    [board] = boards(tmp_path / "a", tmp_path / "b")
    assert "edsr@b" in {entry.network for entry in board.entries}, "nothing says that it is the same one"


@pytest.mark.parametrize("over", [{"data": "e" * 64}, {"protocol": "uncropped-y-b0"}], ids=["data", "protocol"])
def test_other_data_or_protocols_are_other_boards(over, tmp_path, run):
    found = boards(run(tmp_path / "a", ONE), run(tmp_path / "b", OTHER, **over))
    assert [{e.run for e in board.entries} for board in found] in ([{"a", ""}, {"b", ""}], [{"b", ""}, {"a", ""}])
    said = " ".join(text(found).split())
    assert said.startswith("2 runs on 2 boards: a, b; rows of another scale, protocol or other training images have a")
    assert ("data eeeeeeee" in said) == ("data" in over)


def test_other_lr_pixels_are_another_column(tmp_path, run):
    [board] = boards(run(tmp_path / "a", ONE), run(tmp_path / "b", OTHER, lr_sha256="bb"))
    assert len(board.columns) == 2 and not any(len(entry.cells) > 1 for entry in board.entries if entry.trained)


def test_baselines_of_two_runs(tmp_path, run):
    one, other = run(tmp_path / "a", ONE), run(tmp_path / "b", {"l1": [30.5, 30.52, 30.49]})
    (one / "config.yaml").write_text("evaluation: {metrics: [psnr_y]}\nboard: {baseline: l1}\n")
    [board] = boards(one, other)
    assert board.baseline is None and any("runs name different ones" in note for note in board.notes)
    shutil.copy(one / "config.yaml", other / "config.yaml")
    [board] = boards(one, other)
    assert "differences to l1 are to edsr × l1 (a), not edsr × l1 (b)" in board.notes


def test_a_papers_numbers_stand_where_all_runs_mean_it(tmp_path, run):
    one, other = run(tmp_path / "a", ONE), run(tmp_path / "b", OTHER)
    paper = {"source": "ECO, Table 1", "scores": {"x2/edsr/l1": {"Set5": {"psnr_y": 38.0}}}}
    config = json.dumps({"evaluation": {"metrics": ["psnr_y"]}, "paper": paper})
    for folder in (one, other):
        (folder / "config.yaml").write_text(config)
    [board] = boards(one, other)
    assert board.paper and board.paper.source == "ECO, Table 1"
    (other / "config.yaml").write_text(config.replace("Table 1", "Table 2"))
    [board] = boards(one, other)
    assert board.paper is None and any("on the board of their own run" in note for note in board.notes)


def test_runs_are_called_by_what_tells_them_apart(tmp_path, run):
    for name in ("a/quick", "b/quick"):
        run(tmp_path / name, OTHER)
    assert [found.label for found in read_runs([tmp_path / "a/quick", tmp_path / "b/quick"])] == ["a/quick", "b/quick"]
    with pytest.raises(InputError, match="is given twice"):
        read_runs([tmp_path / "a/quick", tmp_path / "b" / ".." / "a/quick"])
