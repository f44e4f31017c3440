"""Columns of text tables."""

import pytest

from sr_models.text_table import aligned, counted


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [["name", "×", "paper"], ["edsr", "10", "a"], ["", "2", ""]]
    assert aligned(rows, left={0, 2}) == ["name   ×  paper", "edsr  10  a", "       2"]
    assert aligned([["a", "b"], ["cc", "dd"]], left=()) == [" a   b", "cc  dd"]


def test_rows_have_equally_many_cells() -> None:
    with pytest.raises(ValueError, match="shorter"):
        aligned([["a", "b"], ["c"]], left={0})


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 passes"), (1, "1 pass"), (2, "2 passes"), (1.0, "1 pass"), (0.5, "0.5 passes")]
)
def test_one_of_a_kind_is_no_plural(count: float, said: str) -> None:
    assert counted(count, "pass", "passes") == said
    assert counted(1_000_000, "trial") == "1000000 trials" and counted(1, "more row") == "1 more row"
