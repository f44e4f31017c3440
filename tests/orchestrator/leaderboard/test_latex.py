"""LaTeX of a board: its structure is read back by a small parser of our own, since there is no LaTeX here."""

import re
from typing import Any

import pytest

from orchestrator.leaderboard.board import Board, Column, Entry, Value
from orchestrator.leaderboard.latex import escaped, latex
from orchestrator.leaderboard.statistics import Standing

SET5: Column = ("Set5", "aaaaaaaa")
SET14: Column = ("my_set & $co", "bbbbbbbb")


def value(mean: float, ranks: tuple[int, int] | None = None) -> Value:
    stands = Standing("", "", 3, mean, 0.1, (mean - 1, mean + 1) if ranks else None, ranks, None, "")
    return Value(mean, 0.1, None, {1: mean, 2: mean, 3: mean}, {}, stands)


def row(model: str, cells: dict[Column, dict[str, Value]]) -> Entry:
    own = {"objective": "-", "weights": "none", "fingerprints": {-1: ""}} if model == "bicubic" else {}
    made: dict[str, Any] = {"objective": "l1", "weights": "raw", "fingerprints": {1: "f"}} | own
    return Entry(f"x2/{model}/l1", model, target="hr", loss="l1", precision="fp32", cells=cells, **made)


def board(*entries: Entry, **over: Any) -> Board:
    values: dict[str, Any] = {
        "scale": 2, "protocol": "classical-y-b2", "metric": "psnr_y", "columns": [SET5, SET14], "lead": [SET5],
        "entries": list(entries), "metrics": ["psnr_y", "ssim_y"], "asked": ["psnr_y"], "missing": {}, "notes": [],
    }  # fmt: skip
    return Board(**values | over)


THREE = (
    row("edsr", {SET5: {"psnr_y": value(32.0, (1, 2)), "ssim_y": value(0.9, (2, 3))}, SET14: {"psnr_y": value(28.0)}}),
    row("a_b", {SET5: {"psnr_y": value(31.9, (1, 2)), "ssim_y": value(0.91, (1, 1))}}),
    row("imdn", {SET5: {"psnr_y": value(31.0, (3, 3)), "ssim_y": value(0.89, (2, 3))}}),
    row("bicubic", {SET5: {"psnr_y": value(33.0), "ssim_y": value(0.95)}}),
)


def parsed(text: str) -> list[tuple[str, str, list[list[str]]]]:
    """Of each table caption, column types and rows, rules as ["\\toprule"]; fails where braces do not fit."""
    found = []
    for body in re.findall(r"\\begin\{table\}\n(.*?)\n\\end\{table\}", text, re.DOTALL):
        bare = re.sub(r"\\[{}]", "", body)
        assert bare.count("{") == bare.count("}") and re.sub(r"\\\$", "", body).count("$") % 2 == 0
        caption = re.search(r"^\\caption\{(.*)\}$", body, re.MULTILINE)
        inside = re.search(r"\\begin\{tabular\}\{(\w+)\}\n(.*)\n\\end\{tabular\}", body, re.DOTALL)
        assert caption and inside
        rows = []
        for line in inside[2].splitlines():
            assert line.endswith(r" \\") or line in (r"\toprule", r"\midrule", r"\bottomrule")
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r" \\"))])
        found.append((caption[1], inside[1], rows))
    return found


def test_a_table_a_board_with_bicubic_above_a_rule() -> None:
    [(_, kinds, rows), _] = parsed(latex([board(*THREE), board(*THREE, scale=4)]))
    assert kinds == "lcc" and {len(cells) for cells in rows if not cells[0].endswith("rule")} == {3}
    assert [cells[0] for cells in rows] == [
        r"\toprule", "Method", r"\midrule", "bicubic", r"\midrule", r"edsr $\times$ l1", r"a\_b $\times$ l1",
        r"imdn $\times$ l1", r"\bottomrule",
    ]  # fmt: skip
    assert rows[1][1:] == ["Set5", r"my\_set \& \$co"]


def test_the_best_is_bold_and_ties_are_marked() -> None:
    [(caption, _, rows)] = parsed(latex([board(*THREE)]))
    assert [cells[1] for cells in rows if len(cells) == 3][1:] == [
        "33.00 / 0.9500", r"\textbf{32.00} / 0.9000", r"31.90$^{\dagger}$ / \textbf{0.9100}", "31.00 / 0.8900",
    ]  # fmt: skip
    assert [cells[2] for cells in rows if len(cells) == 3][1:] == ["--", r"\textbf{28.00} / --", "--", "--"]
    assert "protocol classical-y-b2" in caption and "means over 3 training seeds" in caption
    assert caption.endswith(r"$^{\dagger}$: of the same rank range as that, so no order is established")


def test_each_kind_of_weights_has_its_best() -> None:
    averaged = row("edsr", {SET5: {"psnr_y": value(32.5, (1, 2))}})
    averaged.weights = "ema"
    said = latex([board(*THREE, averaged)])
    assert r"\textbf{32.50}" in said and r"\textbf{32.00}" in said and "of ema and of raw weights apart" in said


def test_without_ranks_nothing_is_tied() -> None:
    one = row("edsr", {SET5: {"psnr_y": Value(float("inf"), None, None, {1: float("inf")})}})
    [(caption, _, rows)] = parsed(latex([board(one, columns=[SET5], metrics=["psnr_y"])]))
    assert rows[-2] == [r"edsr $\times$ l1", r"\textbf{$\infty$}"] and "one training seed" in caption
    assert "dagger" not in caption and caption.endswith("no order is established")


def test_a_lower_value_may_be_the_best() -> None:
    rows = [row(name, {SET5: {"lpips_alex": value(mean)}}) for name, mean in (("edsr", 0.3), ("imdn", 0.2))]
    said = latex([board(*rows, metric="lpips_alex", metrics=["lpips_alex"], columns=[SET5])])
    assert r"\textbf{0.2000}" in said and r"\textbf{0.3000}" not in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b", r"a\_b"), (r"\input{x}", r"\textbackslash{}input\{x\}"), ("50 % & #1", r"50 \% \& \#1"),
        ("$x^2~$", r"\$x\textasciicircum{}2\textasciitilde{}\$"), ("<script>", r"\textless{}script\textgreater{}"),
        ("a\nb\u202e", "a b "), ("Ångström", "Ångström"),
    ],
)  # fmt: skip
def test_every_name_is_printed_as_it_stands(text: str, expected: str) -> None:
    assert escaped(text) == expected
