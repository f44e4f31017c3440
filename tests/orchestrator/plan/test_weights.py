"""What a config may say of weights, and what it then means at each scale."""

import re

import pytest

from orchestrator.plan.weights import FORMS, Weights, weights_at, weights_of

WINNER = Weights("from", "x2/a/l1")


@pytest.mark.parametrize(
    ("given", "at"),
    [
        (None, {2: None, 4: None}),
        ({}, {2: None, 4: None}),
        ("FILE_x{scale}.pth", {2: Weights("file", "FILE_x{scale}.pth"), 4: Weights("file", "FILE_x{scale}.pth")}),
        ({"trial": "3b7c3ecc"}, {2: Weights("trial", "3b7c3ecc"), 4: Weights("trial", "3b7c3ecc")}),
        ({"from": "x2/a/l1"}, {2: WINNER, 4: WINNER}),
        ({"from": "x{scale}/a/l1"}, {2: WINNER, 4: Weights("from", "x4/a/l1")}),
        ({4: {"from": "x2/a/l1"}}, {2: None, 4: WINNER}),
        ({"4": {"from": "x2/a/l1"}, 2: "FILE"}, {2: Weights("file", "FILE"), 4: WINNER}),
    ],
)
def test_each_scale_has_its_weights(given, at):
    assert {scale: weights_at(given, scale) for scale in at} == at


@pytest.mark.parametrize(
    "given", ["", 3, ["FILE"], {"from": 3}, {"from": ""}, {"from": "a", "trial": "3b7c3ecc"}, {"x2": "FILE"}, {2: None}]
)
def test_what_names_no_weights_is_refused_with_the_forms(given):
    with pytest.raises(ValueError, match=re.escape(f"expected {FORMS}, got ")):
        weights_of(given)


@pytest.mark.parametrize(("digits", "cure"), [("3b7c3ec", ""), ("3B7C3ECC", ""), (12345678, "; put it in quotes")])
def test_a_trial_is_named_by_its_fingerprint(digits, cure):
    with pytest.raises(ValueError, match=f"^trial: expected a fingerprint, or 8 or more .*, got {digits!r}{cure}$"):
        weights_of({"trial": digits})
