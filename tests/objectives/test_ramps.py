"""Alpha ramps: exact ends, known middles, monotone, and each shape's limits."""

import itertools

import pytest

from objectives.ramps import alpha
from objectives.spec import CentroidMixup, LossMixup, RampedTarget
from sr_models.errors import InputError

SHAPES = ("linear", "cosine", "polynomial", "sigmoid", "step")


@pytest.mark.parametrize(
    ("params", "progress", "expected"),
    [
        ({"shape": "linear"}, 0.25, 0.25),
        ({"shape": "cosine"}, 0.25, 0.1464466),  # (1 - cos 45°) / 2
        ({"shape": "polynomial", "power": 3}, 0.5, 0.125),
        ({"shape": "sigmoid", "steepness": 10}, 0.75, 0.9298963),  # (1 + tanh 1.25 / tanh 2.5) / 2
        ({"shape": "step"}, 0.49, 0.0),
        ({"shape": "step"}, 0.5, 1.0),
        ({"shape": "linear", "length": 0.5}, 0.25, 0.5),
        ({"shape": "linear", "length": 0.5, "warm_hold": 0.25}, 0.5, 0.5),
        ({"shape": "linear", "length": 1.0, "warm_hold": 0.5}, 0.75, 0.5),  # cut at the end of the run
        ({"shape": "linear", "length": 0.25}, 0.25, 1.0),
    ],
)
def test_known_values(params: dict, progress: float, expected: float) -> None:
    assert alpha(CentroidMixup(**params), progress) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_ends_and_monotone(shape: str) -> None:
    grid = [i / 997 for i in range(998)]
    for length, hold, steepness, power in itertools.product((1e-9, 0.1, 1.0), (0.0, 0.3, 0.9), (0.1, 1000), (0.3, 5)):
        params = CentroidMixup(shape=shape, length=length, warm_hold=hold, steepness=steepness, power=power)
        curve = [alpha(params, p) for p in grid]
        assert curve[0] == 0.0 and curve[-1] == 1.0
        assert all(a <= b for a, b in itertools.pairwise(curve))
        assert all(a == 0.0 for a, p in zip(curve, grid, strict=True) if p <= hold)
        assert all(a == 1.0 for a, p in zip(curve, grid, strict=True) if p >= hold + length)


@pytest.mark.parametrize("progress", [0.1, 0.3, 0.45, 0.55, 0.9])
def test_limits_and_symmetry(progress: float) -> None:
    def at(p: float, **params: object) -> float:
        return alpha(CentroidMixup(**params), p)

    linear = at(progress, shape="linear")
    assert at(progress, shape="polynomial", power=1) == linear
    assert at(progress, shape="sigmoid", steepness=0.1) == pytest.approx(linear, abs=1e-4)
    assert at(progress, shape="sigmoid", steepness=1000) == pytest.approx(at(progress, shape="step"), abs=1e-9)
    for shape in ("linear", "cosine", "sigmoid"):
        assert at(progress, shape=shape) + at(1 - progress, shape=shape) == pytest.approx(1)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0, 0), (1, 1)], [0, 0.25, 0.5, 0.75, 1]),
        ([(0, 0), (0.5, 0), (0.5, 1), (1, 1)], [0, 0, 1, 1, 1]),  # a jump: the later value holds at its place
        ([(0.25, 0.2), (0.75, 0.6)], [0.2, 0.2, 0.4, 0.6, 0.6]),  # the ends are held
        ([(0, 1), (0.5, 0), (1, 1)], [1, 0.5, 0, 0.5, 1]),
        ([(0, 0.3)], [0.3, 0.3, 0.3, 0.3, 0.3]),
        ([(0, 0), (0, 1)], [1, 1, 1, 1, 1]),
    ],
)
@pytest.mark.parametrize("target", [CentroidMixup, LossMixup])
def test_points_are_followed(target: type[RampedTarget], points: list, expected: list[float]) -> None:
    params = target(shape="points", points=points)
    assert [alpha(params, i / 4) for i in range(5)] == pytest.approx(expected, abs=1e-12)
    assert target.model_validate_json(params.model_dump_json()) == params


def test_flat_points_are_exact() -> None:
    params = LossMixup(shape="points", points=((0, 0), (0.3, 0), (0.3, 1), (1, 1)))
    assert {alpha(params, i / 997) for i in range(998)} == {0.0, 1.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shape": "points"}, "shape points and points go together"),
        ({"points": [(0, 0)]}, "shape points and points go together"),
        ({"shape": "points", "points": []}, "at least 1 item"),
        ({"shape": "points", "points": [(0.5, 0), (0.4, 1)]}, "their fractions never fall"),
        ({"shape": "points", "points": [(0, 1.5)]}, "less than or equal to 1"),
        ({"shape": "points", "points": [(0, True)]}, "true and false are no numbers"),
    ],
)
def test_points_that_are_no_schedule_are_refused(given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        LossMixup.parse(given, "target")
    assert "\n" not in str(caught.value)
