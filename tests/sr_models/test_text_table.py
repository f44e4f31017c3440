"""Columns of text tables."""

import pytest

from sr_models.text_table import aligned


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [["name", "×", "paper"], ["edsr", "10", "a"], ["", "2", ""]]
    assert aligned(rows, left={0, 2}) == ["name   ×  paper", "edsr  10  a", "       2"]
    assert aligned([["a", "b"], ["cc", "dd"]], left=()) == [" a   b", "cc  dd"]


def test_rows_have_equally_many_cells() -> None:
    with pytest.raises(ValueError, match="shorter"):
        aligned([["a", "b"], ["c"]], left={0})
