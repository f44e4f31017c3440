"""Declared hyperparameters: frozen, typed, ranged; the one description that YAML, `--help` and the search space read.

A component (a network, a target, a loss, an optimiser) declares its hyperparameters as fields of a `Params` subclass.
Unknown keys are refused with the nearest valid one, values are checked when the object is made, and a field that a
search may vary says so itself (`searchable`). No torch here: plans and `--help` must answer without importing it.
"""

from __future__ import annotations

import difflib
import functools
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

import pydantic
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from sr_models.errors import InputError

_SHOWN_LETTERS = 200
_MEANT = 3  # names that a message asks after


class Params(BaseModel):
    """Base of every declared set of hyperparameters: immutable, unknown keys refused, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _no_truth_values_as_numbers(cls, values: Any) -> Any:
        for name in cls.model_fields.keys() & (values if isinstance(values, Mapping) else ()):
            if _wants_numbers(cls, name) and _holds_truth(values[name]):
                given = {"field": name, "given": _shown(values[name])}
                raise PydanticCustomError("truth_value", "true and false are no numbers (got {given})", given)
        return values

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str) -> Self:
        """Build from plain data (YAML), turning the first problem into one line that starts with `where`.

        Raises:
            InputError: unknown key (nearest valid key suggested), wrong type, value out of range.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"{where}: expected a mapping of keys to values, got {type(values).__name__} {values!r}")
        try:
            return cls.model_validate(dict(values))
        except pydantic.ValidationError as error:
            raise InputError(explain(error, cls, where)) from None

    @classmethod
    def search_ranges(cls) -> dict[str, SearchRange]:
        """The fields that may be searched, with their declared ranges."""
        return {name: found for name, field in cls.model_fields.items() if (found := search_range(field)) is not None}


class SearchRange(Params):
    """Where a search may look for one hyperparameter: an interval (`low`, `high`) or a closed list (`choices`)."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None

    @pydantic.model_validator(mode="after")
    def _interval_or_choices(self) -> Self:
        interval = self.low is not None and self.high is not None
        if interval == (self.choices is not None):
            raise ValueError("give either low and high, or choices")
        if interval and not self.low < self.high:  # type: ignore[operator]
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.log and not (interval and self.low > 0):  # type: ignore[operator]
            raise ValueError("a log range needs low > 0")
        if self.choices is not None and not self.choices:
            raise ValueError("choices must not be empty")
        return self


def searchable(default: Any, search: SearchRange, description: str, **constraints: Any) -> Any:
    """A pydantic field that a search may vary over `search`; `constraints` (ge, le, ...) bound what a user may set."""
    return Field(
        default, description=description, json_schema_extra={"search": search.model_dump(mode="json")}, **constraints
    )


def search_range(field: FieldInfo) -> SearchRange | None:
    """The range a field declares for searching, or None if it may not be searched."""
    extra = field.json_schema_extra
    return SearchRange.model_validate(extra["search"]) if isinstance(extra, dict) and "search" in extra else None


def each_once(names: Sequence[str]) -> None:
    """Raises InputError: a name comes twice."""
    for i, name in enumerate(names):
        if name in names[:i]:
            raise InputError(f"{name!r} is named twice")


def one_as_list(given: Any) -> Any:
    """A list of one in the place of a single name or number, as in `scales=2`."""
    return [given] if isinstance(given, str | int | float) and not isinstance(given, bool) else given


def nearest(name: str, valid: Iterator[str] | list[str] | tuple[str, ...]) -> str:
    """`; did you mean 'x'? (valid: a, b, c)`: the tail of every unknown-name message.

    Meant are, the first that there are: the same name in other capitals, all names that go on where this one ends at a
    word (`lpips`: `lpips_alex` or `lpips_vgg`), the one that is most like it.
    """
    names = sorted(map(str, valid))
    low = {one: one.casefold() for one in names}
    given = str(name).casefold()
    close = [one for one in names if low[one] == given] or [
        one for one in names if given and re.match(rf"{re.escape(given)}[_.+-]", low[one])
    ]
    if not 0 < len(close) <= _MEANT:
        found = difflib.get_close_matches(given, low.values(), n=1, cutoff=0.6)
        close = [one for one in names if [low[one]] == found][:1]
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ";"
    return f"{hint} (valid: {', '.join(names)})"


def explain(error: pydantic.ValidationError, cls: type[BaseModel], where: str) -> str:
    """The first problem of a pydantic error as one line: dotted place, rule, value given, what is allowed."""
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    place = ".".join([where, *location])
    if first["type"] == "extra_forbidden":
        owner = _owner_of(cls, list(first["loc"])[:-1])
        known = list(owner.model_fields) if owner else []
        parent = ".".join([where, *location[:-1]])
        return f"{parent}: unknown key {location[-1]!r}{nearest(location[-1], known) if known else ''}"
    message = first["msg"].removeprefix("Value error, ").replace("\n", " ")
    if first["type"] == "truth_value":
        return f"{place}.{first['ctx']['field']}: {message}"
    if first["type"] == "missing":
        return f"{place}: required, and not given"
    if first["type"] == "value_error" and isinstance(first.get("input"), dict):
        return f"{place}: {message}"  # a rule over several fields names its own values
    return f"{place}: {message} (got {_shown(first.get('input'))})"


def _shown(value: Any) -> str:
    """A value as a message shows it: no longer than a line or two."""
    text = repr(value)
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."


@functools.cache
def _wants_numbers(cls: type[BaseModel], name: str) -> bool:
    """Whether a field holds numbers, and no truth values; pydantic would take true for 1."""
    kinds = _unwrap(cls.model_fields[name].annotation)
    return any(kind in (int, float) for kind in kinds) and not any(kind in (bool, Any) for kind in kinds)


def _holds_truth(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_truth, value))
    return any(map(_holds_truth, value.values())) if isinstance(value, Mapping) else isinstance(value, bool)


def _owner_of(cls: type[BaseModel], location: list[int | str]) -> type[BaseModel] | None:
    """The model class that sits at `location` below `cls`; union tags and list or dict keys are walked through."""
    candidates: list[Any] = [cls]
    for part in location:
        following: list[Any] = []
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                if part in candidate.model_fields:
                    following += _unwrap(candidate.model_fields[str(part)].annotation)
                else:  # the tag of a discriminated union
                    following += [candidate] if part in _tags(candidate) else []
            else:
                following.append(candidate)
        candidates = following or candidates
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _tags(cls: type[BaseModel]) -> set[Any]:
    return {
        tag
        for f in cls.model_fields.values()
        if typing.get_origin(f.annotation) is Literal
        for tag in typing.get_args(f.annotation)
    }


def _unwrap(annotation: Any) -> list[Any]:
    """The classes named inside Optional, Union, Annotated, list, tuple and dict annotations."""
    origin = typing.get_origin(annotation)
    if origin is None or origin is Literal:
        return [annotation]
    arguments = typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return [c for a in arguments for c in _unwrap(a)]
    return [c for a in [a for a in arguments if a is not Ellipsis][-1:] for c in _unwrap(a)]
