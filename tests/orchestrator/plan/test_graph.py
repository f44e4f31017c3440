"""The order of needs, and circles by their names."""

import pytest

from orchestrator.plan.graph import levels
from sr_models.errors import InputError


def test_each_level_needs_only_what_comes_before():
    after = {"d": ["b", "c"], "a": [], "b": ["a"], "c": ["a"], "e": []}
    assert levels(after) == [["a", "e"], ["b", "c"], ["d"]]
    assert levels({"b": [], "a": []}) == [["b", "a"]] and levels({}) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"a": ["a"]}, "a needs its own weights: a needs a; "),
        ({"z": [], "a": ["z", "b"], "b": ["c"], "c": ["a"]}, "a needs its own weights: a needs b needs c needs a; "),
    ],
)
def test_a_circle_is_named(after, said):
    with pytest.raises(InputError) as caught:
        levels(after)
    assert str(caught.value).startswith(said)
