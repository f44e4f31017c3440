"""Diffusion networks on the board of the others, and what is said of how they were sampled."""

import pytest

from orchestrator.leaderboard.drawn import beside, mark, note


def row(objective: str, protocol: str, sampler: str | None, fingerprint: str = "", crops: str | None = None) -> dict:
    return {
        "combination": f"x4/sr3/{objective}", "model": "sr3", "objective": objective, "protocol": protocol,
        "sampler": sampler, "crops": crops, "fingerprint": fingerprint or objective,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "sampler", "how"),
    [
        ("classical-y-b4", None, ""),
        ("classical-y-b4+tile96o8", None, ""),
        ("classical-y-b4+ancestral", "ancestral", "+ancestral"),
        (
            "classical-y-b4-d5+truncated45t0.666667-0.333333+tile64o8+bf16",
            "truncated",
            "+truncated45t0.666667-0.333333",
        ),
    ],
)
def test_a_mark_is_what_the_protocols_id_says_of_sampling(protocol, sampler, how):
    assert mark(row("ddpm", protocol, sampler)) == how


@pytest.mark.parametrize(
    ("protocol", "crops", "how"),
    [
        ("classical-y-b4+ddim10+dream40o5+bf16", "dream40o5", "+ddim10+dream40o5"),
        (
            "classical-y-b4+ddim10ccsrlrtiles+ccsr128o64symmetric",
            "ccsr128o64",
            "+ddim10ccsrlrtiles+ccsr128o64symmetric",
        ),
        ("classical-y-b4+ddim10+ccsr128o64released", "ccsr128o64released", "+ddim10+ccsr128o64released"),
    ],
)
def test_a_papers_tiles_are_part_of_how_a_picture_was_drawn(protocol, crops, how):
    """Bicubic, which has none, stands on the same board."""
    given = row("ddpm", protocol, "ddim", crops=crops)
    assert mark(given) == how
    found = beside([given, row("-", protocol.replace(how, ""), None)])
    assert found[0]["protocol"] == found[1]["protocol"] and found[0]["drawn"] == how[1:]


def test_rows_share_a_protocol_and_the_board_says_how_each_was_drawn():
    rows = [
        row("-", "classical-y-b4", None),
        row("ddpm", "classical-y-b4+ddim10", "ddim"),
        row("dream", "classical-y-b4+ddim10", "ddim"),
        row("nutl", "classical-y-b4+truncated10t0.67-0.33", "truncated"),
    ]
    found = beside(rows)
    assert {one["protocol"] for one in found} == {"classical-y-b4"}
    assert [one["drawn"] for one in found] == ["", "ddim10", "ddim10", "truncated10t0.67-0.33"]
    assert note(found) == ["pictures drawn by ddim10: sr3 × ddpm, sr3 × dream; truncated10t0.67-0.33: sr3 × nutl"]
    assert note(beside(rows[:1])) == []


def test_weights_that_were_sampled_in_two_ways_keep_a_board_for_each():
    rows = [row("ddpm", f"classical-y-b4+ddim{steps}", "ddim", "ab") for steps in (10, 100)]
    assert [one["protocol"] for one in beside(rows)] == [one["protocol"] for one in rows]
