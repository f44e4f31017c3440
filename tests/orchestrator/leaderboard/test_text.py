"""A board in words: what each cell says, what fits the terminal, what Markdown and CSV make of it."""

import csv
import io
from typing import Any

from orchestrator.leaderboard.board import Board, Column, Entry, Training, Value
from orchestrator.leaderboard.text import WIDTH, csv_text, markdown, text

SET5, SET14 = ("Set5", "aaaaaaaa"), ("Set14", "bbbbbbbb")


def entry(model: str, cells: dict[Column, dict[str, Value]], **over: Any) -> Entry:
    objective = "-" if model == "bicubic" else "l1"
    weights = "none" if model == "bicubic" else "raw"
    return Entry(f"x2/{model}/{objective}", model, objective, "hr", "l1", weights, "fp32", cells=cells, **over)


def small(**over: Any) -> Board:
    """Two trained networks with two seeds, one of them tied and without Set14, and bicubic."""
    training = Training(
        parameters=1_369_859, searched=["target.length"], train_seconds=14.6, number=3,
        params={"target.length": 0.51234, "target.shape": "cosine"}, trials=4,
    )  # fmt: skip
    seeds = {0: 31.9, 1: 32.1}
    values: dict[str, Any] = {
        "scale": 2, "protocol": "classical-y-b2", "metric": "psnr_y", "columns": [SET5, SET14], "lead": [SET5],
        "entries": [
            entry("edsr", {
                SET5: {"psnr_y": Value(32.0, 0.1414, 2.0, seeds), "ssim_y": Value(0.91234, None, 0.01, {0: 0.91234})},
                SET14: {"psnr_y": Value(28.0, None, None, {0: 28.0})},
            }, rank=1, training=training),
            entry("imdn", {SET5: {"psnr_y": Value(31.9, 0.2, 1.9, seeds)}}, rank=2, tie=True,
                  training=Training(parameters=12_345)),
            entry("bicubic", {SET5: {"psnr_y": Value(30.0, None, 0.0, {-1: 30.0})}}),
        ],
        "metrics": ["psnr_y", "ssim_y"], "asked": ["psnr_y", "ssim_y"], "missing": {}, "notes": [],
    }  # fmt: skip
    return Board(**values | over)


def test_the_terminals_table() -> None:
    lines = text([small()]).splitlines()
    assert lines[0] == (
        "×2, classical-y-b2: psnr_y (dB), mean ± sd over seeds, (gain over bicubic); ranked by mean psnr_y over Set5"
    )
    assert [" ".join(line.split()) for line in lines[1:5]] == [
        "# model × objective seeds params train s trials Set5 Set14 Set5 ssim_y",
        "1 edsr × l1 1 1.37 M 15 4 32.00 ±0.14 (+2.00) 28.00 0.9123",
        "≈2 imdn × l1 2 12.3 k - - 31.90 ±0.20 (+1.90) - -",
        "- bicubic - - - - 30.00 (+0.00) - -",
    ]
    assert lines[5] == "≈ within the seeds' spread of the row above"
    assert lines[6:] == ["  edsr × l1: target.length=0.512, target.shape=cosine (trial #3)"]


def test_names_stand_to_the_left_and_numbers_to_the_right() -> None:
    header, *rows = text([small()]).splitlines()[1:5]
    name, first = header.index("model"), header.index("Set5") + len("Set5")
    assert all(row[name - 1] == " " != row[name] for row in rows)
    assert all(row[first - 1] == ")" for row in rows)


def test_a_metric_beside_the_leading_one_stands_there_if_it_was_asked_for_or_is_no_spread() -> None:
    cells = {SET5: {"psnr_y": Value(1.0, None, None, {0: 1.0}), "g_std.psnr_y": Value(0.2, None, None, {0: 0.2})}}
    board = small(entries=[entry("edsr", cells)], metrics=["psnr_y", "g_std.psnr_y"], asked=["psnr_y"])
    assert "g_std" not in text([board])
    board.asked.append("g_std.psnr_y")
    assert "Set5 g_std.psnr_y" in text([board])


def test_what_does_not_fit_goes_into_further_tables_and_notes_are_wrapped() -> None:
    columns: list[Column] = [(f"benchmark_number_{i}", "a") for i in range(7)]
    cells = {column: {"psnr_y": Value(30.0, 0.1, 1.0, {0: 30.0})} for column in columns}
    note = "lpips_vgg not computed: " + "a long reason " * 20
    said = text([small(entries=[entry("edsr", cells)], columns=columns, lead=columns[:1], notes=[note])])
    assert max(map(len, said.splitlines())) <= WIDTH
    tables = said.split("\n\n")
    assert len(tables) > 1 and all(sum(f"number_{i}" in table for table in tables[1:]) <= 1 for i in range(7))
    assert all(f"benchmark_number_{i}" in said for i in range(7))
    assert all("edsr × l1" in table and "seeds" not in table for table in tables[1:]), "each says whose line it is"
    assert (said.count("a long reason") == 20 and "\n  a long" in said) or "\n  reason" in said or "\n  long" in said


def test_boards_are_a_paragraph_apart() -> None:
    assert text([small(), small(scale=4)]) == f"{text([small()])}\n\n{text([small(scale=4)])}"
    assert markdown([small(), small(scale=4)]).count("### ×") == 4, "a table a metric"


def test_markdown_is_a_table_a_metric() -> None:
    lines = markdown([small(notes=["fid not computed: no weights"])]).splitlines()
    assert lines[0].startswith("### ×2, classical-y-b2: psnr_y (dB), ") and lines[1] == ""
    assert lines[2] == "| # | model × objective | seeds | params | train s | trials | Set5 | Set14 |"
    assert lines[3] == "|---" * 8 + "|"
    assert lines[4] == "| 1 | edsr × l1 | 1 | 1.37 M | 15 | 4 | 32.00 ±0.14 (+2.00) | 28.00 |"
    assert lines[8].startswith("### ×2, classical-y-b2: ssim_y, ")
    assert lines[12] == "| 1 | edsr × l1 | 1 | 1.37 M | 15 | 4 | 0.9123 (+0.0100) | - |"
    assert lines[-1] == "- fid not computed: no weights"


def test_a_bar_in_a_name_does_not_end_its_cell() -> None:
    board = small(entries=[entry("a|b", {SET5: {"psnr_y": Value(30.0, None, None, {0: 30.0})}})], columns=[SET5])
    assert "| a\\|b × l1 |" in markdown([board])


def test_a_metric_that_no_row_has_is_no_table() -> None:
    assert "ssim_y" not in markdown([small(metrics=["psnr_y", "ssim_rgb"], notes=[])])


def test_csv_has_three_columns_for_each_metric_that_was_computed() -> None:
    flat = [
        {"model": "edsr", "params": {"length": 0.5}, "metrics": {"psnr_y": {"mean": 32.0, "std": 0.1, "gain": 2.0}}},
        {"model": "bicubic", "params": {}, "metrics": {}},
    ]  # fmt: skip
    first, second = csv.DictReader(io.StringIO(csv_text(flat)))
    assert first == {
        "model": "edsr", "params": '{"length": 0.5}', "psnr_y": "32.0", "psnr_y_std": "0.1", "psnr_y_gain": "2.0",
    }  # fmt: skip
    assert second == {"model": "bicubic", "params": "{}", "psnr_y": "", "psnr_y_std": "", "psnr_y_gain": ""}
    assert "\r" not in csv_text(flat)
