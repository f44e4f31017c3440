"""A hash of plain data: of its content, not of how it was written down."""

import hashlib

import pytest

from sr_models.hashing import digest


def test_the_hash_is_that_of_sorted_compact_json():
    """It names runs, trials and caches that exist: another one orphans them."""
    assert digest({"b": 1, "a": [0.1, None, "é"]}) == hashlib.sha256(b'{"a":[0.1,null,"\\u00e9"],"b":1}').hexdigest()


def test_order_of_keys_does_not_count_and_everything_else_does():
    assert digest({"b": 1, "a": {"d": 2, "c": 3}}) == digest({"a": {"c": 3, "d": 2}, "b": 1})
    values = [{}, [], None, "", 0, 1, 1.5, True, "1", {"a": 1}, {"a": "1"}, {"a": [1]}, [1, 2], [2, 1]]
    assert len({digest(value) for value in values}) == len(values)
    assert digest((1, 2)) == digest([1, 2])


def test_what_is_no_plain_data_is_refused():
    with pytest.raises(TypeError):
        digest({"a": {1, 2}})
