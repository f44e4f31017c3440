"""When a curve has come as far as its baseline does in the end, by hand."""

from typing import Any

import pytest

from orchestrator.probe.crossing import Crossing, crossings, reached


@pytest.mark.parametrize(
    ("values", "higher", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], True, 25.0),  # on the line between 20 and 30
        ([1.0, 3.0, 2.0, 3.0], True, 35.0),  # a lucky validation does not count
        ([3.0, 3.0, 4.0, 4.0], True, 10.0),  # there from the first validation on
        ([1.0, 2.0, 3.0, 2.5], True, 25.0),  # as good is enough
        ([1.0, 4.0, 4.0, 2.0], True, None),  # and lost again
        ([4.0, 3.0, 2.0, 1.0], False, 25.0),  # less is better
        ([], True, None),
    ],
)
def test_the_step_from_which_on_a_curve_is_never_worse(values: list[float], higher: bool, expected: float) -> None:
    assert reached([10, 20, 30, 40][: len(values)], values, 2.5, higher=higher) == expected


def curve(combination: str, seed: int, values: list[float], *, baseline: bool = False) -> list[dict[str, Any]]:
    same = {"run": "r", "scale": 4, "set": "validation", "metric": "psnr_y", "network": "sr3"}
    own = {
        "combination": combination,
        "label": combination,
        "fingerprint": f"{combination}{seed}",
        "is_baseline": baseline,
    }
    return [same | own | {"step": 10 * (i + 1), "value": value} for i, value in enumerate(values)]


def test_seeds_are_read_alone_against_the_mean_of_the_baselines() -> None:
    rows = [
        *curve("ddpm", 1, [0.0, 1.0, 2.0, 2.0], baseline=True), *curve("ddpm", 2, [0.0, 1.0, 2.0, 3.0], baseline=True),
        *curve("dream", 1, [2.0, 3.0, 3.0, 3.0]), *curve("dream", 2, [1.0, 2.0, 3.0, 3.0]),
        *curve("min_snr", 1, [0.0, 0.0, 3.0, 3.0]), *curve("min_snr", 2, [0.0] * 4), *curve("drm", 1, [0.0] * 4),
    ]  # fmt: skip
    found = {key[-1]: crossing for key, crossing in crossings(rows).items()}
    assert found["dream"] == Crossing(of="ddpm", value=2.5, until=40, at=[15.0, 25.0], seeds=2)
    assert found["dream"].text == ("20 (15 to 25)", "2.00 (1.60 to 2.67)")
    assert found["min_snr"].text == ("never in 1 of 2 seeds, else 28", "-") and found["drm"].text == ("never", "-")
    assert "ddpm" not in found and crossings([row for row in rows if not row["is_baseline"]]) == {}
