"""The board's files: what a spreadsheet, a page and a program find in the run folder."""

import csv
import io
import json

import pytest

from orchestrator.leaderboard import searched
from orchestrator.leaderboard.compare import boards
from orchestrator.leaderboard.text import text
from orchestrator.leaderboard.write import write
from orchestrator.run.folder import RunDir
from orchestrator.run.records import MetricRecord
from orchestrator.run.winners import FrontRecord, PointRecord


def test_files_and_width(tmp_path, score, winner, make):
    names = [f"benchmark_number_{i}" for i in range(7)]
    rows = [
        score(f"x2/{m}/l1", 30.0 + i + 0.01 * (i == s), benchmark=b, seed=s, fingerprint=f"{m}{s}")
        for i, m in enumerate(("edsr_baseline", "imdn"))
        for b in names
        for s in (0, 1)
    ]
    rows += [score("x2/bicubic/-", 29.0, benchmark=b) for b in names]
    params = {"target.length": 0.51234, "target.shape": "cosine"}
    winners = {f"x2/{m}/l1": winner(3, f"{m}0", f"{m}1", params=params) for m in ("edsr_baseline", "imdn")}
    run = make(tmp_path / "run", rows, winners)
    said = write(run)
    *lines, command = said.splitlines()
    assert max(map(len, lines)) <= 120 and command.startswith("  python -m orchestrator.upscale ")
    assert all(name in said for name in names), "what does not fit goes into a further table"
    assert "target.length=0.512, target.shape=cosine (trial #3)" in said and "12.3 k" in said
    data = json.loads((run / "leaderboard.json").read_text())
    table = list(csv.DictReader(io.StringIO((run / "leaderboard.csv").read_text())))
    assert len(table) == 21 and table[0]["model"] == "imdn" and float(table[0]["psnr_y_gain"]) == pytest.approx(2.005)
    best = data["rows"][0]["metrics"]["psnr_y"]
    assert best["by_seed"] == {"0": 31.0, "1": 31.01} and float(table[0]["psnr_y_low"]) == best["low"] < best["mean"]
    assert (table[0]["psnr_y_rank_first"], table[0]["psnr_y_rank_last"]) == (
        str(best["rank_first"]),
        str(best["rank_last"]),
    )
    assert "python -m orchestrator.upscale" in table[0]["upscale"] and "upscale" not in data["rows"][0]
    assert table[0]["weights_folder"] == data["rows"][0]["weights_folder"] == "shared/trials/imdn0/model"
    assert data["upscale"] == [f"python -m orchestrator.upscale {run} PHOTOS -o OUT --row x2/imdn/l1"]
    assert table[0]["lead"] == str(data["rows"][0]["lead"]["mean"]) and "psnr_y_by_seed" not in table[0]
    assert (data["metric"], data["baseline"], data["steering"], len(data["rows"])) == ("psnr_y", None, "psnr_y", 21)
    header, rule = (run / "leaderboard.md").read_text().splitlines()[2:4]
    assert header.count("|") == rule.count("|") == 2 + (7 + 1) * 5 + 1, "rank, interval, sd and gain beside each mean"


def test_numbers_that_json_has_no_word_for_are_null(tmp_path, score, make):
    run = make(tmp_path / "run", [score("x2/a/l1", float("inf")), score("x2/bicubic/-", 30.0)])
    write(run)
    first, second = json.loads((run / "leaderboard.json").read_text(), parse_constant=pytest.fail)["rows"]
    assert first["metrics"]["psnr_y"] == {
        "mean": None, "std": None, "gain": None, "low": None, "high": None, "rank_first": None, "rank_last": None,
        "may_be_best": None, "unranked": "order not established: a value is not finite", "over_baseline": None,
        "over_baseline_low": None, "over_baseline_high": None, "paper": None, "over_paper": None,
        "by_seed": {"0": None},
    }  # fmt: skip
    assert second["metrics"]["psnr_y"]["mean"] == 30.0
    best, _ = csv.DictReader(io.StringIO((run / "leaderboard.csv").read_text()))
    assert best["psnr_y"] == "inf"


def test_what_is_returned_is_the_terminals_table(tmp_path, score, make):
    run = make(tmp_path / "run", [score("x2/a/l1", 31.0)])
    assert write(run) == text(boards(run))
    head = json.loads((run / "leaderboard.json").read_text())
    assert (head["run"], head["metric"], head["higher_is_better"]) == ("run", "psnr_y", True)


FRONT = FrontRecord(
    metrics=(MetricRecord(name="psnr_y", higher_is_better=True), MetricRecord(name="l_std", higher_is_better=False)),
    points=(
        PointRecord(number=0, params={"loss.p": 1.0}, values=(20.0, 0.01), on_front=True),
        PointRecord(number=3, params={"loss.p": 2.25}, values=(21.0, 0.02), on_front=True),
        PointRecord(number=4, params={"loss.p": 0.5}, values=(19.0, 0.05), on_front=False),
    ),
    reference=(19.0, 0.05), chosen=3, hypervolume=0.07,
)  # fmt: skip


def test_a_front_is_told_below_its_row_and_drawn(tmp_path, score, winner, make):
    won = winner(3, "f", params={"loss.p": 2.25}).model_copy(update={"front": FRONT})
    rows = [score("x4/sr3/dream", 31.0, fingerprint="f"), score("x4/imdn/l1", 30.0), score("x2/imdn/l1", 30.0)]
    run = make(tmp_path / "run", rows, {"x4/sr3/dream": won})
    said, page = write(run), (run / "leaderboard.md").read_text()
    told = (
        "front of x4/sr3/dream: 2 of 3 trials that ran in full, hypervolume 0.07 against (psnr_y 19.00, l_std 0.0500)"
    )
    for line in (
        told,
        "#0 loss.p=1: psnr_y 20.00, l_std 0.0100",
        "#3 loss.p=2.25: psnr_y 21.00, l_std 0.0200; best by psnr_y, so run in full with other seeds",
        "selected by",
    ):
        assert line in " ".join(said.split()) and line in page
    assert said.count("front of") == 1 and "#4" not in said, "of its own scale alone, and the front alone"
    found = json.loads((run / "leaderboard.json").read_text())["fronts"]
    assert FrontRecord.parse(found["x4/sr3/dream"], "") == FRONT
    folder = RunDir(run)
    folder.pictures.mkdir()
    searched.fronts(folder, {"x4/sr3/dream": won, "x2/imdn/l1": winner(1, "g")}, 4)
    searched.fronts(folder, {"x4/sr3/dream": won}, 2)
    assert [path.name for path in folder.pictures.iterdir()] == ["front_x4.png"]


def test_a_run_without_fronts_says_nothing_of_them(tmp_path, score, winner, make):
    run = make(tmp_path / "run", [score("x2/a/l1", 31.0)], {"x2/a/l1": winner(1, "x2/a/l1#0")})
    said = write(run).replace(str(tmp_path), "")
    assert "front" not in said and "fronts" not in json.loads((run / "leaderboard.json").read_text())
    assert "front" not in (run / "winners.json").read_text() + (run / "plan.json").read_text()
