"""A board in words: what each cell says, what fits the terminal, what Markdown and CSV make of it."""

import csv
import io
from typing import Any

from orchestrator.leaderboard.board import Board, Column, Entry, Training, Value
from orchestrator.leaderboard.statistics import Difference, Standing
from orchestrator.leaderboard.text import LEGEND, WIDTH, csv_text, markdown, terminal_width, text

SET5, SET14 = ("Set5", "aaaaaaaa"), ("Set14", "bbbbbbbb")


def entry(model: str, cells: dict[Column, dict[str, Value]], **over: Any) -> Entry:
    objective = "-" if model == "bicubic" else "l1"
    weights = "none" if model == "bicubic" else "raw"
    made = {1: "f"} if model != "bicubic" else {-1: ""}
    over = {"fingerprints": made, "lead": cells.get(SET5, {}).get("psnr_y")} | over
    return Entry(f"x2/{model}/{objective}", model, objective, "hr", "l1", weights, "fp32", cells=cells, **over)


def value(mean: float, ranks: tuple[int, int] | None, over: float | None = None, unranked: str = "") -> Value:
    """Of two seeds, 0.14 apart in spread and 0.5 in half an interval."""
    base = None if over is None else Difference(over, over - 1, over + 1)
    ends = (mean - 0.5, mean + 0.5) if ranks else None
    stands = Standing("", "", 2, mean, 0.1414, ends, ranks, base, unranked)
    return Value(mean, 0.1414, mean - 30.0, {1: mean - 0.1, 2: mean + 0.1}, {}, stands)


def small(**over: Any) -> Board:
    """Two trained networks with two seeds, one of them without Set14, and bicubic."""
    training = Training(
        parameters=1_369_859, trained_parameters=2_000_000, searched=["target.length"], number=3,
        params={"target.length": 0.51234, "target.shape": "cosine"}, trials=4, pruned=2, failed=0, search_steps=550,
    )  # fmt: skip
    values: dict[str, Any] = {
        "scale": 2, "protocol": "classical-y-b2", "metric": "psnr_y", "columns": [SET5, SET14], "lead": [SET5],
        "entries": [
            entry("edsr", {
                SET5: {"psnr_y": value(32.0, (1, 1), 0.25), "ssim_y": Value(0.91234, None, 0.01, {1: 0.91234})},
                SET14: {"psnr_y": value(28.0, None, unranked="order not established: no other row")},
            }, training=training),
            entry("imdn", {SET5: {"psnr_y": value(31.75, (2, 2))}}, training=Training(parameters=12_345)),
            entry("bicubic", {SET5: {"psnr_y": Value(30.0, None, 0.0, {-1: 30.0})}}),
        ],
        "metrics": ["psnr_y", "ssim_y"], "asked": ["psnr_y", "ssim_y"], "missing": {}, "notes": [],
        "baseline": "l2", "steering": "psnr_y",
    }  # fmt: skip
    return Board(**values | over)


def test_the_terminals_tables() -> None:
    board, cost = text([small()], 120).split("\n\nc")
    first, second = board.split("\n\n")
    lines = [" ".join(line.split()) for line in first.splitlines()]
    assert lines == [
        "×2, classical-y-b2: psnr_y (dB), mean and sd over seeds; sorted by mean psnr_y over Set5",
        "model × objective seeds Set5 rank interval sd over bicubic Set5 over l2",
        "edsr × l1 1 32.00 *1 [31.50, 32.50] 0.14 +2.00 +0.25 [-0.75, +1.25]",
        "imdn × l1 2 31.75 2 [31.25, 32.25] 0.14 +1.75 -",
        "bicubic - 30.00 - - - +0.00 -",
    ]
    lines = [" ".join(line.split()) for line in second.splitlines()]
    assert lines[:4] == [
        "model × objective Set14 sd over bicubic Set5 ssim_y",
        "edsr × l1 28.00 0.14 -2.00 0.9123",
        "imdn × l1 - - - -",
        "bicubic - - - -",
    ]
    assert " ".join(lines[4:8]) == LEGEND
    assert lines[8:] == [
        "Set14 psnr_y: order not established: no other row: edsr × l1",
        "edsr × l1: target.length=0.512, target.shape=cosine (trial #3)",
    ]
    assert [" ".join(line.split()) for line in cost.splitlines()[-3:]] == [
        "model × objective deployed trained proposals steps",
        "edsr × l1 1.37 M 2.00 M 4 (2, 0) 550",
        "imdn × l1 12.3 k - - -",
    ]


def test_names_stand_to_the_left_and_numbers_to_the_right() -> None:
    header, *rows = text([small()], 120).splitlines()[1:5]
    end = header.index("Set5") + len("Set5")
    assert all(row[0] != " " for row in rows)
    assert all(row[end - 3] == "." and row[end] == " " for row in rows)


def test_the_lead_over_several_sets_is_a_column_of_its_own() -> None:
    board = small(lead=[SET5, SET14])
    assert "mean of 2 sets" in text([board], 120).splitlines()[1] and "| mean of 2 sets |" in markdown([board])


def test_at_80_columns_names_are_shortened_and_numbers_are_not() -> None:
    columns: list[Column] = [("a_benchmark_with_a_rather_long_name", "a")]
    cell = {columns[0]: {"psnr_y": value(32.0, (1, 2), 0.25), "ssim_y": value(0.91, (1, 1))}}
    name = "a_network_with_a_name_that_leaves_no_room_at_all_for_numbers"
    said = text([small(entries=[entry(name, cell)], columns=columns, lead=columns)])
    assert WIDTH == 80 and max(map(len, said.splitlines())) <= 80
    assert "a_network_with_a_nam…ll_for_numbers × l1" in said and "a_benchmark_with_a_…long_name interval" in said
    assert all(f" {number}\n" in said for number in ("[31.50, 32.50]", "+2.00", "+0.25 [-0.75, +1.25]", "*1", "*1-2"))


def test_what_a_narrow_terminal_leaves_out_is_said() -> None:
    cells = {SET5: {"psnr_y": value(32.0, (1, 1)), "ssim_y": value(0.91, (1, 1))}}
    board = small(entries=[entry("edsr_baseline_of_some_width", cells), entry("imdn", cells)], columns=[SET5])
    narrow, wide = text([board]), text([board], 120)
    assert "left out, in part, for want of width: sd, over bicubic, interval; the files have" in narrow
    assert "left out" not in wide
    assert narrow.count("[31.50, 32.50]") == wide.count("[31.50, 32.50]") == 2
    assert "[0.4100, 1.4100]" in wide and "[0.4100, 1.4100]" not in narrow, "of the metric that leads alone"


def test_the_terminal_says_how_wide_it_is(monkeypatch) -> None:
    found = []
    for columns in ("20", "99", "500"):
        monkeypatch.setenv("COLUMNS", columns)
        found.append(terminal_width())
    assert found == [60, 99, 160]


def test_several_runs_are_named_above_their_boards() -> None:
    board = small(runs={"1a2b3c4d": "quick-1a2b3c4d", "other": "other"}, data="ffffffff")
    for said in (text([board, board]), markdown([board, board])):
        first, *_ = said.split("\n\n")
        assert " ".join(first.split()) == (
            "2 runs on 2 boards: 1a2b3c4d = quick-1a2b3c4d, other; rows of another scale, protocol or other training "
            "images have a board of their own; no ranking holds both"
        )
        assert "classical-y-b2, trained on data ffffffff: psnr_y" in said


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
    assert all("edsr × l1" in table for table in tables[1:]), "each says whose line it is"
    assert (said.count("a long reason") == 20 and "\n  a long" in said) or "\n  reason" in said or "\n  long" in said


def test_boards_are_a_paragraph_apart() -> None:
    assert text([small(), small(scale=4)]) == f"{text([small()])}\n\n{text([small(scale=4)])}"
    assert markdown([small(), small(scale=4)]).count("### ") == 6, "a table a metric, and one of costs"


def test_markdown_is_a_table_a_metric() -> None:
    lines = markdown([small(notes=["fid not computed: no weights"])]).splitlines()
    assert lines[0].startswith("### ×2, classical-y-b2: psnr_y (dB), ") and lines[1] == ""
    assert lines[2] == (
        "| model × objective | seeds | Set5 | rank | interval | sd | over bicubic | Set5 over l2 | Set14 | sd "
        "| over bicubic |"
    )
    assert lines[3] == "|---" * 11 + "|"
    assert lines[4] == (
        "| edsr × l1 | 1 | 32.00 | \\*1 | [31.50, 32.50] | 0.14 | +2.00 | +0.25 [-0.75, +1.25] | 28.00 | 0.14 | -2.00 |"
    )
    assert lines[8].startswith("### ×2, classical-y-b2: ssim_y, ")
    assert lines[12] == "| edsr × l1 | 1 | 0.9123 |"
    assert f"- {LEGEND}" in lines and "| edsr × l1 | 1.37 M | 2.00 M | 4 (2, 0) | 550 |" in lines
    assert lines[-1] == "- fid not computed: no weights"


def test_a_bar_in_a_name_does_not_end_its_cell() -> None:
    board = small(entries=[entry("a|b", {SET5: {"psnr_y": Value(30.0, None, None, {0: 30.0})}})], columns=[SET5])
    assert "| a\\|b × l1 |" in markdown([board])


def test_a_metric_that_no_row_has_is_no_table() -> None:
    assert "ssim_y" not in markdown([small(metrics=["psnr_y", "ssim_rgb"], notes=[])])


def test_csv_has_the_numbers_of_each_metric_that_was_computed() -> None:
    numbers = value(32.0, (1, 2), 0.25).numbers
    flat = [
        {"model": "edsr", "params": {"length": 0.5}, "lead": numbers, "metrics": {"psnr_y": numbers}},
        {"model": "bicubic", "params": {}, "lead": None, "metrics": {}},
    ]  # fmt: skip
    first, second = csv.DictReader(io.StringIO(csv_text(flat)))
    assert {name: first[name] for name in first if not name.startswith("lead")} == {
        "model": "edsr", "params": '{"length": 0.5}', "psnr_y": "32.0", "psnr_y_std": "0.1414", "psnr_y_gain": "2.0",
        "psnr_y_low": "31.5", "psnr_y_high": "32.5", "psnr_y_rank_first": "1", "psnr_y_rank_last": "2",
        "psnr_y_may_be_best": "True", "psnr_y_unranked": "", "psnr_y_over_baseline": "0.25",
        "psnr_y_over_baseline_low": "-0.75", "psnr_y_over_baseline_high": "1.25",
        "psnr_y_paper": "", "psnr_y_over_paper": "",
    }  # fmt: skip
    assert first["lead"] == "32.0" and first["lead_rank_last"] == "2" and "lead_by_seed" not in first
    assert (second["model"], second["params"]) == ("bicubic", "{}") and set(second.values()) == {"bicubic", "{}", ""}
    assert "\r" not in csv_text(flat)
