"""Plain YAML (https://yaml.org/spec/1.1) and JSON that a user wrote, read as it looks: no code, nothing without bounds.

A key that comes twice is refused, and so is a tag (`!!int`): what a value is, its looks say. `0120` and `2:30`, octal
and base 60 in YAML 1.1, and dates stay the text they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sr_models.errors import InputError
from sr_models.files import unreadable

MOST_BYTES = 2**20
MOST_VALUES = 100_000
"""Values in a text, those that its aliases stand for counted each time."""
MOST_LEVELS = 40
MOST_LETTERS = 4096
"""Of one value or key."""

_TOO_DEEP = f"more than {MOST_LEVELS} values inside each other"
_SHOWN_LETTERS = 200
_INT64 = 2**63
_NUMBERS = {  # YAML 1.1 without octal and base 60; what is left out stays text
    "tag:yaml.org,2002:int": r"[-+]?(?:0|[1-9][0-9_]*|0b[0-1_]+|0x[0-9a-fA-F_]+)",
    "tag:yaml.org,2002:float": r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
}
_LEFT_OUT = {*_NUMBERS, "tag:yaml.org,2002:timestamp"}


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but a key that comes twice or a tag is an error, and octal and base 60 numbers are text."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[tuple[str, str], Node] = {}
        for key in [key for key, _ in node.value if isinstance(key, ScalarNode) and key.value != "<<"]:
            first = seen.setdefault((key.tag, key.value), key)
            if first is not key:
                raise _problem(f"key {key.value!r} comes twice, first in line {first.start_mark.line + 1}", key)
        return super().construct_mapping(node, deep)

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        self._check_levels(self.flow_level)
        super().fetch_flow_collection_start(token_class)

    def add_indent(self, column: int) -> bool:
        self._check_levels(len(self.indents))
        return super().add_indent(column)

    def fetch_tag(self) -> NoReturn:
        problem = "tags (!, !!int, ...) are not read; a text that begins with '!' needs quotes"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())

    def _check_levels(self, levels: int) -> None:
        """Here, and not only afterwards: PyYAML needs minutes for a text of a million brackets."""
        if levels >= MOST_LEVELS:
            raise yaml.MarkedYAMLError(problem=_TOO_DEEP, problem_mark=self.get_mark())


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _LEFT_OUT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list("-+0123456789."))


def read(path: Path) -> Any:
    """What a file holds. Raises InputError as `read_text` and `parse`."""
    return parse(read_text(path), path.name)


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        InputError: it cannot be read, is no regular file, no UTF-8 text or over `MOST_BYTES`.
    """
    if fault := unreadable(path):
        raise InputError(f"{path}: {fault}")
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise InputError(f"{path}: {size:,} bytes, more than the allowed {MOST_BYTES:,}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None


def parse(text: str, where: str) -> Any:
    """What a text of YAML or JSON says, in mappings, lists, texts, numbers, truth values and nothing else.

    Raises:
        InputError: it is neither, or over a bound (see above); the message starts with `where` and names the line.
    """
    if len(text) > MOST_BYTES:
        raise InputError(f"{where}: {len(text):,} letters, more than the allowed {MOST_BYTES:,}")
    try:
        value = _json(text) if text.lstrip()[:1] == "{" else _yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = str(getattr(error, "problem", None) or "malformed")
        raise InputError(f"{where}{place}: not plain YAML: {problem[:_SHOWN_LETTERS]}") from None
    except ValueError:
        raise InputError(f"{where}: not plain YAML: a number of too many digits, or of none") from None
    except RecursionError:
        raise InputError(f"{where}: {_TOO_DEEP}") from None
    _check_values(value, where)
    return value


def _json(text: str) -> Any:
    """JSON, which YAML holds except for tabs; else YAML in braces."""

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise yaml.MarkedYAMLError(problem=f"key {name!r} comes twice")
            found[name] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=mapping)
    except json.JSONDecodeError:
        return _yaml(text)


def _yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_nodes(node: Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node stands for, and how many are inside each other; aliases are followed.

    Args:
        known: the same of nodes that were counted; (0, 0) of those that are being counted.

    Raises:
        yaml.MarkedYAMLError: too many, too deep, or a value inside itself.
    """
    if (found := known.get(id(node))) == (0, 0):
        raise _problem("a value contains itself", node)
    if found is not None:
        return found
    known[id(node)], size, levels = (0, 0), 1, 0
    if isinstance(node, SequenceNode | MappingNode):
        for inner in node.value:
            for one in inner if isinstance(inner, tuple) else (inner,):
                more, deep = _check_nodes(one, known)
                size, levels = size + more, max(levels, deep)
            if size > MOST_VALUES:
                raise _problem(f"more than {MOST_VALUES:,} values, aliases counted each time", node)
    if levels >= MOST_LEVELS:
        raise _problem(_TOO_DEEP, node)
    known[id(node)] = size, levels + 1
    return size, levels + 1


def _check_values(value: Any, where: str) -> None:
    """Hold that no text or number is absurd."""
    level = [value]
    while level:
        deeper: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                deeper += [*one, *one.values()]
            elif isinstance(one, list):
                deeper += one
            elif isinstance(one, str) and len(one) > MOST_LETTERS:
                raise InputError(f"{where}: a text of {len(one):,} letters, {one[:20]!r}...; at most {MOST_LETTERS:,}")
            elif isinstance(one, int) and not -_INT64 <= one < _INT64:
                raise InputError(f"{where}: the number {str(one)[:20]}... has more than 64 bits")
        level = deeper


def _problem(text: str, node: Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=node.start_mark)
