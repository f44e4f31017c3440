"""A board as LaTeX (`leaderboard.tex`), for `\\input` into a paper; it needs the package booktabs alone.

A table a board: rows are methods, columns test sets, a cell is "PSNR / SSIM" where both were computed. What users name
is escaped, letters beyond ASCII stay as they are (UTF-8 is what LaTeX reads), but for those that LaTeX has a sign for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from eval.protocol import get_metric
from orchestrator.leaderboard.board import Board, Column, Entry, Value

TIE = r"$^{\dagger}$"
"""Behind a score whose rank range is that of the best one."""

_SIGNS = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "×": r"$\times$", "±": r"$\pm$", "−": "$-$", "α": r"$\alpha$", "β": r"$\beta$", "η": r"$\eta$", "μ": r"$\mu$",
    "σ": r"$\sigma$", "ℓ": r"$\ell$",
    **{sign: f"\\{sign}" for sign in "$&%#_{}"},
}  # fmt: skip
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Line breaks, what no reader sees, and what turns the direction of reading."""


def latex(found: Sequence[Board]) -> str:
    """The boards as `table` environments."""
    return "\n".join(["% Needs \\usepackage{booktabs}.", *(_table(board) for board in found)]) + "\n"


def escaped(text: str) -> str:
    """A text that LaTeX prints as it stands, on one line."""
    return "".join(_SIGNS.get(letter, letter) for letter in _UNSEEN.sub(" ", text))


def _table(board: Board) -> str:
    metrics = _shown(board)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(board, metrics)}}}",
        rf"\begin{{tabular}}{{l{'c' * len(board.columns)}}}",
        r"\toprule",
        _line(["Method", *(board.title(column) for column in board.columns)]),
        r"\midrule",
    ]
    references = [entry for entry in board.entries if not entry.trained]
    lines += [_row(board, entry, metrics) for entry in references]
    lines += [r"\midrule"] if 0 < len(references) < len(board.entries) else []
    lines += [_row(board, entry, metrics) for entry in board.entries if entry.trained]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _shown(board: Board) -> list[str]:
    """The leading metric, and SSIM beside a PSNR of the same colours."""
    pair = board.metric.replace("psnr", "ssim", 1)
    return [board.metric, pair] if pair != board.metric and pair in board.metrics else [board.metric]


def _caption(board: Board, metrics: Sequence[str]) -> str:
    units = {name: f" ({get_metric(name).unit})" if get_metric(name).unit else "" for name in metrics}
    names = " / ".join(f"{get_metric(name).description}{unit}" for name, unit in units.items())
    seeds = sorted({entry.seeds for entry in board.entries if entry.trained})
    many = f"means over {' to '.join(map(str, dict.fromkeys(seeds[:1] + seeds[-1:])))} training seeds"
    data = f", trained on data {board.data}" if board.data else ""
    parts = [f"{board.at}, protocol {board.protocol}{data}: {names}, {'one training seed' if seeds == [1] else many}"]
    values = [v for e in board.entries for c in board.columns for m in metrics if (v := e.cells.get(c, {}).get(m))]
    kinds = sorted({entry.weights for entry in board.entries if entry.trained})
    parts.append("bold: best mean" + (f", of {' and of '.join(kinds)} weights apart" if len(kinds) > 1 else ""))
    if not any(value.standing and value.standing.ranks for value in values):
        return escaped("; ".join([*parts, "no order is established"]))
    return f"{escaped('; '.join(parts))}; {TIE}: of the same rank range as that, so no order is established"


def _row(board: Board, entry: Entry, metrics: Sequence[str]) -> str:
    cells = [" / ".join(_number(board, entry, column, metric) for metric in metrics) for column in board.columns]
    return _line([board.name(entry)], [cell if set(cell) - set("-/ ") else "--" for cell in cells])


def _number(board: Board, entry: Entry, column: Column, metric: str) -> str:
    """One mean, marked if it is the best of the column's trained rows, or tied with that."""
    value = entry.cells.get(column, {}).get(metric)
    if value is None or math.isnan(value.mean):
        return "--"
    digits = get_metric(metric).decimals
    text = f"{value.mean:.{digits}f}" if math.isfinite(value.mean) else rf"${'-' * (value.mean < 0)}\infty$"
    best = _best(board, column, metric, entry.weights) if entry.trained else None
    if best is None:
        return text
    if value.mean == best.mean:
        return rf"\textbf{{{text}}}"
    ranks = [v.standing.ranks if v.standing else None for v in (value, best)]
    return text + TIE if ranks[0] and ranks[0] == ranks[1] else text


def _best(board: Board, column: Column, metric: str, weights: str) -> Value | None:
    """The best of a column by its mean, among rows with such weights that training made and all seeds have."""
    trained = [entry for entry in board.entries if entry.trained and entry.weights == weights]
    own = [entry.cells[column][metric] for entry in trained if metric in entry.cells.get(column, {})]
    most = max((len(value.by_seed) for value in own), default=0)
    whole = [value for value in own if len(value.by_seed) == most and not math.isnan(value.mean)]
    choose = max if get_metric(metric).higher_is_better else min
    return choose(whole, key=lambda value: value.mean) if whole else None


def _line(names: Sequence[str], cells: Sequence[str] = ()) -> str:
    return " & ".join([*map(escaped, names), *cells]) + r" \\"
