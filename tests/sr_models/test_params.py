"""Declared hyperparameters: every problem is one line that says where, what was given and what is allowed."""

from typing import Annotated, Literal

import pydantic
import pytest
from pydantic import Field

from sr_models.errors import InputError
from sr_models.params import Params, SearchRange, nearest, searchable


class Flat(Params):
    """A disc."""

    kind: Literal["flat"] = "flat"
    radius: float = searchable(1.0, SearchRange(low=0.1, high=10, log=True), "radius", gt=0, le=10)
    sides: int = Field(default=3, ge=3)


class Solid(Params):
    """A body."""

    kind: Literal["solid"] = "solid"
    edges: tuple[int, ...] = ()


class Box(Params):
    """Holds shapes."""

    shape: Annotated[Flat | Solid, Field(discriminator="kind")]
    spare: Flat | None = None
    many: dict[str, Flat] = Field(default={})
    row: tuple[Flat, ...] = ()


FLAT = {"kind": "flat"}


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (Flat, {"radios": 2}, "here: unknown key 'radios'; did you mean 'radius'? (valid: kind, radius, sides)"),
        (Flat, {"xyz": 2}, "here: unknown key 'xyz'; (valid: kind, radius, sides)"),
        (Flat, {"radius": 0}, "here.radius: Input should be greater than 0 (got 0)"),
        (Flat, {"radius": 11}, "here.radius: Input should be less than or equal to 10 (got 11)"),
        (Flat, {"radius": float("nan")}, "here.radius: Input should be a finite number (got nan)"),
        (Flat, {"radius": float("inf")}, "here.radius: Input should be a finite number (got inf)"),
        (Flat, {"radius": True}, "here.radius: true and false are no numbers (got True)"),
        (Solid, {"edges": [1, True]}, "here.edges: true and false are no numbers (got [1, True])"),
        (Box, {"shape": FLAT, "many": {"a": {"sides": False}}},
         "here.many.a.sides: true and false are no numbers (got False)"),
        (Box, {"shape": FLAT, "row": "x" * 1000}, f"here.row: Input should be a valid tuple (got '{'x' * 199}...)"),
        (Flat, {"sides": "x"},
         "here.sides: Input should be a valid integer, unable to parse string as an integer (got 'x')"),
        (Flat, {"kind": "round"}, "here.kind: Input should be 'flat' (got 'round')"),
        (Flat, [1, 2], "here: expected a mapping of keys to values, got list [1, 2]"),
        (Box, {}, "here.shape: required, and not given"),
        (Box, {"shape": {"kind": "solid", "edgse": []}},
         "here.shape.solid: unknown key 'edgse'; did you mean 'edges'? (valid: edges, kind)"),
        (Box, {"shape": FLAT, "spare": {"side": 4}},
         "here.spare: unknown key 'side'; did you mean 'sides'? (valid: kind, radius, sides)"),
        (Box, {"shape": FLAT, "many": {"a": {"side": 4}}},
         "here.many.a: unknown key 'side'; did you mean 'sides'? (valid: kind, radius, sides)"),
        (Box, {"shape": FLAT, "row": [{}, {"side": 4}]},
         "here.row.1: unknown key 'side'; did you mean 'sides'? (valid: kind, radius, sides)"),
        (Box, {"shape": FLAT, "row": [{}, {"sides": 2}]},
         "here.row.1.sides: Input should be greater than or equal to 3 (got 2)"),
        (SearchRange, {"low": 1}, "here: give either low and high, or choices"),
        (SearchRange, {"low": 1, "high": 2, "choices": [1]}, "here: give either low and high, or choices"),
        (SearchRange, {"low": 2, "high": 2}, "here: low must be below high, got 2.0 and 2.0"),
        (SearchRange, {"low": 0, "high": 2, "log": True}, "here: a log range needs low > 0"),
        (SearchRange, {"choices": [1], "log": True}, "here: a log range needs low > 0"),
        (SearchRange, {"choices": []}, "here: choices must not be empty"),
    ],
)  # fmt: skip
def test_a_problem_is_one_line(cls, values, message):
    with pytest.raises(InputError) as caught:
        cls.parse(values, "here")
    assert str(caught.value) == message


def test_what_is_made_cannot_change():
    made = Flat(radius=2)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        made.radius = 3
    assert made == Flat.parse(made.model_dump(), "here") and hash(made) == hash(Flat(radius=2))


def test_a_field_says_whether_and_where_it_may_be_searched():
    assert Flat.search_ranges() == {"radius": SearchRange(low=0.1, high=10, log=True)}
    assert Solid.search_ranges() == {}


@pytest.mark.parametrize(
    ("name", "tail"),
    [("edsr_basline", "; did you mean 'edsr_baseline'? (valid: edsr, edsr_baseline, imdn)"),
     ("IMDN", "; did you mean 'imdn'? (valid: edsr, edsr_baseline, imdn)"),
     ("zzz", "; (valid: edsr, edsr_baseline, imdn)")],
)  # fmt: skip
def test_nearest(name, tail):
    assert nearest(name, ["imdn", "edsr_baseline", "edsr"]) == tail


def test_a_name_that_goes_on_in_several_ways_asks_after_all():
    assert nearest("LPIPS", ["psnr", "lpips_vgg", "lpips_alex"]).startswith(
        "; did you mean 'lpips_alex' or 'lpips_vgg'?"
    )
