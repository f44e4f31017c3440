"""YAML and JSON as users write them: read as they look, or refused in one line, in bounded time."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from sr_models.errors import InputError
from sr_models.yaml_text import MOST_BYTES, MOST_LETTERS, MOST_LEVELS, parse, read

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(3000))
TAGS = "tags (!, !!int, ...) are not read; a text that begins with '!' needs quotes"
TAGGED = (
    "!!bool x", '!!int ""', "!!timestamp x", "!!set {a}", "!!binary YQ==", "!!omap [a: 1]", "!!int 0120", "!!str 1",
    "! x", "!<tag:yaml.org,2002:int> 1", "&c !!float 1", "!png",
)  # fmt: skip
DEEP = f"more than {MOST_LEVELS} values inside each other"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 10", {"a": 10}),
        ("[0, -5, +3, 1_000, 0x1f, 0b11]", [0, -5, 3, 1000, 31, 3]),
        ("[1.5, -0.5, .5, 1.5e-3, 1., .inf, 1e-3]", [1.5, -0.5, 0.5, 0.0015, 1.0, float("inf"), "1e-3"]),
        ("[0120, 007, 00, 2:30, 1:30.5, 2024-01-01]", ["0120", "007", "00", "2:30", "1:30.5", "2024-01-01"]),
        ("[a!, '!!int 1', \"!png\", x ! y, '[!a]*']", ["a!", "!!int 1", "!png", "x ! y", "[!a]*"]),
        ("[true, no, null, ~, '']", [True, False, None, None, ""]),
        ("1: a\n'1': b", {1: "a", "1": "b"}),
        ("a: &x {p: 1, q: 3}\nb: {<<: *x, p: 2}", {"a": {"p": 1, "q": 3}, "b": {"p": 2, "q": 3}}),
        ("a: &x [1]\nb: *x\nc: *x", {"a": [1], "b": [1], "c": [1]}),
        ('{"a":\t[1e5, "b"]}', {"a": [1e5, "b"]}),
        ("{a: 1, b}", {"a": 1, "b": None}),
        ("", None),
        ("[" * MOST_LEVELS + "]" * MOST_LEVELS, json.loads("[" * MOST_LEVELS + "]" * MOST_LEVELS)),
    ],
)
def test_a_text_is_read_as_it_looks(text: str, value: Any) -> None:
    assert parse(text, "f") == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "f, line 3: not plain YAML: key 'a' comes twice, first in line 1"),
        ("x:\n  - {a: 1, a: 1}", "f, line 2: not plain YAML: key 'a' comes twice, first in line 2"),
        ('{"a": 1,\t"a": 2}', "f: not plain YAML: key 'a' comes twice"),
        (LAUGHS, "f, line 6: not plain YAML: more than 100,000 values, aliases counted each time"),
        (CHAIN, DEEP),
        ("a: &b [*b]", "f, line 1: not plain YAML: a value contains itself"),
        ("[" * 1_000_000, f"f, line 1: not plain YAML: {DEEP}"),
        ("- " * 30_000 + "x", f"f, line 1: not plain YAML: {DEEP}"),
        ('{"a":' * 100_000, DEEP),
        ("{a: [1," * 30_000, DEEP),
        ("x: 1" + "0" * 30, "f: the number 10000000000000000000... has more than 64 bits"),
        ("x: " + "1" * 5000, "f: not plain YAML: a number of too many digits, or of none"),
        ("x: 0b_", "a number of too many digits, or of none"),
        ("name: " + "x" * (MOST_LETTERS + 1), "f: a text of 4,097 letters, 'xxxxxxxxxxxxxxxxxxxx'...; at most 4,096"),
        ("? " + "x" * (MOST_LETTERS + 1), "a text of 4,097 letters"),
        ("'" * (MOST_BYTES + 1), f"f: 1,048,577 letters, more than the allowed {MOST_BYTES:,}"),
        ("!" * 100_000, "f, line 1: not plain YAML: tags (!, !!int, ...) are not read"),
        ("? [a]\n: 1", "found unhashable key"),
        ("- 1\n---\n- 2", "but found another document"),
        ("!!python/object/apply:os.getpid []", "line 1: not plain YAML: tags (!, !!int, ...) are not read"),
        *((f"a: 1\nb: {tagged}", f"f, line 2: not plain YAML: {TAGS}") for tagged in TAGGED),
        ('{"a": 1,\n b: [!!int 0120]}', f"f, line 2: not plain YAML: {TAGS}"),
        ("a: *b", "found undefined alias 'b'"),
        ("\ta: 1", "line 1: not plain YAML: found character '\\t'"),
    ],
)
def test_what_no_sweep_needs_is_one_line_soon(text: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        parse(text, "f")
    assert said in str(caught.value) and len(str(caught.value)) < 300 and "\n" not in str(caught.value)
    assert time.monotonic() - began < 10


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    assert read(path) == {"a": 1}
    os.mkfifo(tmp_path / "pipe")
    for odd in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(InputError, match=r"cannot be read: not a regular file$"):
            read(odd)
    path.write_text("#" * (MOST_BYTES + 1))
    with pytest.raises(InputError, match=r"a\.yaml: 1,048,577 bytes, more than the allowed 1,048,576"):
        read(path)
    path.write_bytes(b"name: \xff")
    with pytest.raises(InputError, match=r"a\.yaml: is not UTF-8 text"):
        read(path)
    for odd, why in (
        ("gone", "no such file"),
        ("x" * 300, "cannot be read: File name too long"),
        ("a\0b", "null byte"),
    ):
        with pytest.raises(InputError, match=why):
            read(tmp_path / odd)
