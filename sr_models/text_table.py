"""Tables of plain text, and counts in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], *, left: Collection[int]) -> list[str]:
    """A line a row: columns as wide as their widest cell, two spaces apart, no spaces at the end.

    Args:
        rows: cells, equally many a row.
        left: numbers of the columns that are flush left; all others are flush right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_padded(row, widths, left)).rstrip() for row in rows]


def counted(count: float, one: str, many: str | None = None) -> str:
    """`1 trial`, `2 trials`, `0.5 GPUs`; `many` where an s does not make it the plural."""
    number = str(count) if isinstance(count, int) else f"{count:g}"
    return f"{number} {one if count == 1 else many or f'{one}s'}"


def _padded(row: Sequence[str], widths: Sequence[int], left: Collection[int]) -> list[str]:
    cells = enumerate(zip(row, widths, strict=True))
    return [cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in cells]
