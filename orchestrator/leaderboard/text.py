"""A board in words: aligned plain text for a terminal, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from eval.protocol import STABILITY, all_metrics, get_metric, plain_metric
from orchestrator.leaderboard import use
from orchestrator.leaderboard.board import Board, Training, Value
from orchestrator.leaderboard.paper import beside_paper, printed_only
from orchestrator.run.winners import FrontRecord
from sr_models.text_table import aligned, counted

WIDTH = 80
"""Columns of the terminal table where no terminal says how many it has."""

ROOMY = 100
"""From so many columns on, metrics beside the leading one have their intervals and spreads, too."""

LEGEND = (
    "rank: the places that other training seeds may give; * may be best. Rows of one network differ where their "
    "intervals (mean ± q·s/(2√n)) do not overlap; a difference has an interval of its own. All of a column hold "
    "together in 95 % of columns, for these images and new seeds; not where one row of a network spreads much more "
    "than its neighbours, nor, with two seeds, across networks that spread differently."
)
"""What the intervals mean and where their limits are; see `statistics`."""

COSTS = (
    "cost: parameters deployed and trained; images: LR patches that one full run saw; proposals of the search "
    "(stopped, failed), steps of all of them, validation at the end of its best run (in no mean); images and "
    "seconds of the teacher that a row needs, and of its outputs on the training images (centroids)"
)

Columns = list[list[str]]
"""Of a table, each with its header first."""


def terminal_width() -> int:
    """Columns of the terminal, or of `COLUMNS`, between 60 and 160; `WIDTH` where there is neither."""
    return min(max(shutil.get_terminal_size((WIDTH, 24)).columns, 60), 160)


def text(found: Sequence[Board], width: int = WIDTH) -> str:
    """The boards as aligned plain text of at most `width` columns, without colours.

    What does not fit goes into further tables. Left out, and said so, are spread and gains that do not fit beside their
    mean, and below `ROOMY` columns all but mean and rank of metrics beside the leading one.
    """
    return "\n\n".join(
        ["\n".join(wrapped(line, width)) for line in _apart(found)] + [_terminal(b, width) for b in found]
    )


def markdown(found: Sequence[Board]) -> str:
    """The boards as Markdown tables with their captions as headings, a table a metric and one of costs."""
    return "\n\n".join([*_apart(found), *(_markdown(board) for board in found)]) + "\n"


def _apart(found: Sequence[Board]) -> list[str]:
    """What several runs' rows share, or not; nothing of a run that stands alone."""
    runs = found[0].runs if found else {}
    if not runs:
        return []
    named = ", ".join(name if label == name else f"{label} = {name}" for label, name in runs.items())
    many = f"{len(found)} boards" if len(found) > 1 else "one board"
    rule = "rows of another scale, protocol or other training images have a board of their own; no ranking holds both"
    return [f"{len(runs)} runs on {many}: {named}; {rule}"]


def _terminal(board: Board, width: int) -> str:
    names = ["model × objective", *map(board.name, board.entries)]
    groups: list[Columns] = []
    left_out: dict[str, None] = {}
    for metric in [name for name in board.metrics if name in board.asked or not name.startswith(STABILITY)]:
        leads = metric == board.metric
        for found in [*(_lead_groups(board) if leads else []), *_groups(board, metric)]:
            shown = found if leads or width >= ROOMY else [c for c in found if c is found[0] or c[0] == "rank"]
            shown = _narrow([names] if groups else [names, _seeds(board)], shown, width)
            left_out |= dict.fromkeys(column[0] for column in found if column not in shown)
            groups.append(shown)
    lines = wrapped(_caption(board, board.metric), width)
    lines += tables([names, _seeds(board)], groups, width)
    if left_out:
        lines += wrapped(f"left out, in part, for want of width: {', '.join(left_out)}; the files have all", width)
    for line in below(board):
        lines += wrapped(line, width)
    if beside := beside_paper(board):
        caption, names, groups = beside
        lines += ["", *wrapped(caption, width), *tables([names], groups, width)]
    if only := printed_only(board):
        caption, names, columns = only
        lines += ["", *wrapped(caption, width), *tables([names], [[column] for column in columns], width)]
    if cost := _cost(board):
        caption, names, columns = cost
        lines += ["", *wrapped(caption, width), *tables([names], [[column] for column in columns], width)]
    *used, command = use.lines(board) or [""]
    for note in [*board.notes, *used]:
        lines += wrapped(note, width)
    lines += [f"  {command}"] if command else []
    return "\n".join(lines)


def _narrow(fixed: Columns, group: Columns, width: int) -> Columns:
    """A group that fits beside `fixed` without its spread, or its gains too; whole where that does not help."""
    for without in ([], ["sd"], ["sd", "over bicubic"]):
        fewer = [column for column in group if column[0] not in without]
        if _width([*fixed, *fewer]) <= width:
            return fewer
    return group


def _markdown(board: Board) -> str:
    """One table for each metric that was computed, the leading one first, then that of costs."""
    present = {name for entry in board.entries for cell in entry.cells.values() for name in cell}
    names = ["model × objective", *map(board.name, board.entries)]
    parts = []
    for metric in board.metrics:
        if metric in present:
            groups = (_lead_groups(board) if metric == board.metric else []) + _groups(board, metric)
            columns = [names, _seeds(board), *(column for group in groups for column in group)]
            parts.append(f"### {_caption(board, metric)}\n\n{_markdown_table(columns)}")
    parts += ["\n".join(f"- {line.strip()}" for line in below(board))]
    if found := beside_paper(board):
        caption, names, groups = found
        columns = [names, *(column for group in groups for column in group)]
        parts.append(f"### {caption}\n\n{_markdown_table(columns)}")
    if only := printed_only(board):
        caption, names, columns = only
        parts.append(f"### {caption}\n\n{_markdown_table([names, *columns])}")
    if cost := _cost(board):
        caption, names, columns = cost
        parts.append(f"### {caption}\n\n{_markdown_table([names, *columns])}")
    *used, command = use.lines(board) or [""]
    notes = [*board.notes, *used[:-1], *(f"{line} `{command}`" for line in used[-1:])]
    return "\n\n".join([*filter(None, parts), *(f"- {note}" for note in notes)])


def lead_markdown(board: Board, most: int) -> str:
    """What the board is sorted by as a Markdown table, of its first rows."""
    title = board.title(board.lead[0]) if len(board.lead) == 1 else f"mean of {len(board.lead)} sets"
    values = [entry.lead for entry in board.entries]
    groups = group(title, values, board.metric, gains=True, baseline=board.baseline)
    columns = [["model × objective", *map(board.name, board.entries)], _seeds(board), *(c for g in groups for c in g)]
    table = _markdown_table([column[: most + 1] for column in columns])
    more = f"\n\n{counted(len(values) - most, 'more row')}" if len(values) > most else ""
    return f"{_caption(board, board.metric)}\n\n{table}{more}"


def _markdown_table(columns: Columns) -> str:
    table = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in line] for line in zip(*columns, strict=True)]
    lines = [f"| {' | '.join(line)} |" for line in table]
    return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]])


def _caption(board: Board, metric: str) -> str:
    unit = f" ({get_metric(metric).unit})" if get_metric(metric).unit else ""
    order = f"sorted by mean {board.metric} over {', '.join(board.title(c) for c in board.lead)}"
    kinds = sorted({entry.weights for entry in board.entries if entry.trained})
    apart = f"; {' and '.join(kinds)} weights are ranked apart" if len(kinds) > 1 else ""
    data = f", trained on data {board.data}" if board.data else ""
    return f"{board.at}, {board.protocol}{data}: {metric}{unit}, mean and sd over seeds; {order}{apart}"


def below(board: Board) -> list[str]:
    """What there is to say of ranks: their meaning, why rows have none, twins, what the search chose."""
    values = [cell[m] for entry in board.entries for cell in entry.cells.values() for m in cell]
    ranked = any(value.standing and value.standing.ranks for value in values)
    lines = [LEGEND] if ranked else []
    reasons: dict[str, list[str]] = {}
    for entry in filter(lambda entry: entry.trained, board.entries):
        lead = _why(entry.lead) if entry.lead else f"not scored on all of {', '.join(map(board.title, board.lead))}"
        own = {f"{board.title(c)} {m}: {_why(v)}": _why(v) for c, cell in entry.cells.items() for m, v in cell.items()}
        for said in [lead, *(place for place, why in own.items() if why and why != lead)]:
            reasons.setdefault(said, []).append(board.name(entry))
    reasons.pop("", None)
    trained = sum(entry.trained for entry in board.entries)
    lines += [f"{why}: {'all rows' if len(of) == trained else ', '.join(of)}" for why, of in reasons.items()]
    by_id = {entry.id: entry for entry in board.entries}
    same = [f"{board.name(e)} = {board.name(by_id[e.twin_of])}" for e in board.entries if e.twin_of]
    lines += [f"twins, the same weights, counted once: {', '.join(same)}"] if same else []
    for name, front in board.fronts.items():
        lines += _front(name, front)
    for entry in board.entries:
        if set(entry.training.searched) & set(entry.training.params) and entry.weights in ("raw", "none"):
            best = ", ".join(f"{name}={_short(value)}" for name, value in entry.training.params.items())
            number = "" if entry.training.number is None else f" (trial #{entry.training.number})"
            lines.append(f"  {entry.title}: {best}{number}")
    return lines


def _front(name: str, found: FrontRecord) -> list[str]:
    """What a search by several metrics came to: its front, how large, each of its trials."""
    metrics = [metric.name for metric in found.metrics]
    lines = [
        f"front of {name}: {len(found.front)} of {len(found.points)} trials that ran in full, hypervolume "
        f"{found.hypervolume:.4g} against ({_values(metrics, found.reference)}), the worst of all searches at this "
        "scale; its values are those that the search has selected by, on its validations with one seed, and no scores"
    ]
    for point in found.front:
        chosen = f"; best by {metrics[0]}, so run in full with other seeds" if point.number == found.chosen else ""
        params = ", ".join(f"{name}={_short(value)}" for name, value in point.params.items())
        lines.append(f"  #{point.number} {params}: {_values(metrics, point.values)}{chosen}")
    return lines


def _values(metrics: Sequence[str], values: Sequence[float]) -> str:
    return ", ".join(f"{metric} {_score(metric, value)}" for metric, value in zip(metrics, values, strict=True))


def _why(value: Value) -> str:
    return value.standing.unranked if value.standing else ""


# ---- tables


def tables(fixed: Columns, groups: Sequence[Columns], width: int) -> list[str]:
    """Tables of at most `width` columns: `fixed`, then as many groups as fit, the others below beside the names.

    A group stays in one piece unless it alone is too wide; its first header is then said with each of its columns.
    Names and headers that take more than half are shortened in the middle; numbers never are.
    """
    names = [_shortened(name, width // 2) for name in fixed[0]]
    room = width - max(map(len, names)) - 2
    fitting: list[Columns] = []
    for group in groups:
        if _width([names, *group]) <= width:
            fitting.append(group)
        else:
            title = group[0][0]
            heads = [title, *(f"{title} {column[0]}" for column in group[1:])]
            fitting += [[[_shortened(head, room), *column[1:]]] for head, column in zip(heads, group, strict=True)]
    lines: list[str] = []
    start = 0
    while start < len(fitting):
        chosen = [names, *fixed[1:]] if start == 0 else [names]
        if _width([*chosen, *fitting[start]]) > width:
            chosen = [names]
        first = len(chosen)
        while start < len(fitting) and (len(chosen) == first or _width([*chosen, *fitting[start]]) <= width):
            chosen += fitting[start]
            start += 1
        table = aligned(list(zip(*chosen, strict=True)), left={0})
        lines += ["", *table] if lines else table
    return lines


def group(
    title: str, values: Sequence[Value | None], metric: str, *, gains: bool, baseline: str | None
) -> list[Columns]:
    """One metric in one column of the board: mean, rank, interval, spread together; the baseline's difference apart."""
    digits = get_metric(metric).decimals
    columns: Columns = [[title], ["rank"], ["interval"], ["sd"], ["over bicubic"]]
    over = [f"{title} over {baseline}"]
    for value in values:
        stands = value.standing if value else None
        cells = [
            "-" if value is None else f"{value.mean:.{digits}f}",
            _rank(stands.ranks if stands else None),
            _span(stands.interval if stands else None, digits),
            "-" if value is None or value.std is None else f"{value.std:.{digits}f}",
            "-" if not gains or value is None or value.gain is None else f"{value.gain:+.{digits}f}",
        ]
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell)
        found = stands.over_baseline if stands else None
        over.append(f"{found.value:+.{digits}f} {_span((found.low, found.high), digits, '+')}" if found else "-")
    shown = [columns[0], *(column for column in columns[1:] if set(column[1:]) != {"-"})]
    return [shown, [over]] if set(over[1:]) != {"-"} else [shown]


def _groups(board: Board, metric: str) -> list[Columns]:
    """A metric in every column of the board where some row has it."""
    found = []
    for column in board.columns:
        values = [entry.cells.get(column, {}).get(metric) for entry in board.entries]
        title = board.title(column) if metric == board.metric else f"{board.title(column)} {metric}"
        if any(values) or metric == board.metric:
            found += group(title, values, metric, gains=metric == board.metric, baseline=board.baseline)
    return found


def _lead_groups(board: Board) -> list[Columns]:
    """What the board is sorted by, where that is no column of its own."""
    if len(board.lead) == 1:
        return []
    values = [entry.lead for entry in board.entries]
    return group(f"mean of {len(board.lead)} sets", values, board.metric, gains=True, baseline=board.baseline)


def _cost(board: Board) -> tuple[str, list[str], Columns] | None:
    """Caption, names and costs, a line a combination; None where the plan knows none of the rows."""
    rows: dict[str, tuple[str, Training]] = {}
    for entry in board.entries:
        if entry.training.parameters is not None:
            rows.setdefault(entry.combination, (entry.title, entry.training))
    made = [training for _, training in rows.values()]
    if not made:
        return None
    printed = "as printed, full size" if board.paper and board.paper.scaled_down else "as printed"
    columns = [
        ["deployed", *(_count(t.parameters) for t in made)],
        [printed, *(_count(t.paper_parameters) for t in made)],
        ["s/picture", *("-" if t.picture_seconds is None else f"{t.picture_seconds:.3g}" for t in made)],
        [f"{printed} s", *("-" if t.paper_seconds is None else f"{t.paper_seconds:g}" for t in made)],
        ["trained", *(_count(t.trained_parameters) for t in made)],
        ["images", *(_count(t.run_images) for t in made)],
        ["proposals", *("-" if t.trials is None else f"{t.trials} ({t.pruned}, {t.failed})" for t in made)],
        ["steps", *("-" if t.search_steps is None else str(t.search_steps) for t in made)],
        [f"search {board.steering}", *(_score(board.steering, t.search_value) for t in made)],
        ["teacher", *(_teacher(t) for t in made)],
        ["centroids", *("-" if t.centroid_seconds is None else f"{t.centroid_seconds:.0f} s" for t in made)],
        ["s/step", *("-" if t.seconds_per_step is None else f"{t.seconds_per_step:.3g}" for t in made)],
    ]
    shared = any((t.trials_at_a_time or 1) > 1 for t in made)
    caption = f"{COSTS}; seconds a step: {'none, as trials shared cores' if shared else 'where trials ran alone'}"
    names = ["model × objective", *(name for name, _ in rows.values())]
    return caption, names, [column for column in columns if set(column[1:]) != {"-"}]


# ---- cells


def _seeds(board: Board) -> list[str]:
    return ["seeds", *(str(entry.seeds) if entry.trained else "-" for entry in board.entries)]


def _rank(ranks: tuple[int, int] | None) -> str:
    if ranks is None:
        return "-"
    first, last = ranks
    return f"{'*' if first == 1 else ''}{first}" + (f"-{last}" if last > first else "")


def _span(ends: tuple[float, float] | None, digits: int, sign: str = "") -> str:
    return "-" if ends is None else f"[{ends[0]:{sign}.{digits}f}, {ends[1]:{sign}.{digits}f}]"


def _teacher(training: Training) -> str:
    if training.teacher_images is None:
        return "-"
    seconds = "" if training.teacher_seconds is None else f", {training.teacher_seconds:.0f} s"
    return f"{_count(training.teacher_images)}{seconds}"


def _score(metric: str, value: float | None) -> str:
    return "-" if value is None else f"{value:.{get_metric(plain_metric(metric)).decimals}f}"


def _count(number: int | None) -> str:
    if number is None:
        return "-"
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number / 1e3:.1f} k"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _width(columns: Columns) -> int:
    return sum(max(map(len, column)) for column in columns) + 2 * (len(columns) - 1)


def _shortened(name: str, most: int) -> str:
    """A name's two ends, in at most so many letters."""
    end = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - end]}…{name[len(name) - end :]}"


def wrapped(line: str, width: int) -> list[str]:
    """Lines of at most `width` columns."""
    return textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)


# ---- CSV


def csv_text(flat: Sequence[Mapping[str, Any]]) -> str:
    """`csv_lines` as CSV; lists and mappings are JSON."""
    lines = [
        {name: json.dumps(cell) if isinstance(cell, dict | list) else cell for name, cell in line.items()}
        for line in csv_lines(flat)
    ]
    out = io.StringIO()
    names = list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(out, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def csv_lines(flat: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`compare.rows` without nesting of scores: <metric> is the mean, <metric>_<what> all else of `Value.numbers`.

    Only metrics that were computed have columns; those of the lead are called lead, lead_std and so on.
    """
    present = [name for name in all_metrics() if any(name in row["metrics"] for row in flat)]
    cells = [{"lead": row["lead"] or {}, **{name: row["metrics"].get(name, {}) for name in present}} for row in flat]
    heads = {
        name: [key for key in next((own[name] for own in cells if own[name]), {}) if key != "by_seed"]
        for name in ("lead", *present)
    }
    lines: list[dict[str, Any]] = []
    for row, own in zip(flat, cells, strict=True):
        plain = {name: cell for name, cell in row.items() if name not in ("metrics", "lead")}
        for name, keys in heads.items():
            plain |= {name if key == "mean" else f"{name}_{key}": own[name].get(key) for key in keys}
        lines.append(plain)
    return lines
