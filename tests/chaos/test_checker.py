"""The checker of chaos must be able to fail: each thing that can go wrong is named, and a sound sweep is passed."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from checker import Found, Tracked, Trial, check

A, B = "a" * 64, "b" * 64
TRIALS = {
    A: Trial("complete", (5, 10), {("psnr_y", 5): 30.0, ("psnr_y", 10): 31.0}, "1234"),
    B: Trial("stopped", (5,), {("psnr_y", 5): 29.0}, None),
}
TRACKED = {
    A: (Tracked("FINISHED", (("psnr_y", 5, 30.0), ("psnr_y", 10, 31.0))),),
    B: (Tracked("FINISHED", (("psnr_y", 5, 29.0),)),),
}
SOUND = Found(
    roles=(f"final {A}", f"search {B}"),
    told=(f"s/x2/m/l1 {B} PRUNED",),
    trials=TRIALS,
    rows=(f"x2/m/l1 {A} 1 0",),
    board=('{"model": "m", "mean": 31.5}',),
    tracked=TRACKED,
    running=(),
)


def without_b(found: Found) -> Found:
    return replace(found, trials={A: TRIALS[A]}, tracked={A: TRACKED[A]})


def with_trial(name: str, **changes: object) -> Callable[[Found], Found]:
    return lambda found: replace(found, trials=found.trials | {name: replace(found.trials[name], **changes)})  # type: ignore[operator]


def with_tracked(name: str, *runs: Tracked) -> Callable[[Found], Found]:
    return lambda found: replace(found, tracked=found.tracked | {name: runs})  # type: ignore[operator]


[ONE] = TRACKED[A]
WRONG: dict[str, tuple[Callable[[Found], Found], str, str]] = {  # what -> (how, kind, a part of the text)
    "no trial": (without_b, "lost", "trial bbbb"),
    "a step twice": (with_trial(A, steps=(5, 5, 10)), "duplicated", "trial aaaaaaaaaaaaaaaa step 5 too many"),
    "a step lost": (with_trial(A, steps=(10,)), "lost", "trial aaaaaaaaaaaaaaaa step 5"),
    "no end": (with_trial(A, status=None), "lost", "its end"),
    "another end": (with_trial(B, status="complete"), "different", "status complete instead of stopped"),
    "other weights": (with_trial(A, weights="9999"), "different", "weights 9999 instead of 1234"),
    "no weights": (with_trial(A, weights=None), "lost", "its weights"),
    "other numbers": (
        with_trial(B, metrics={("psnr_y", 5): 29.1}), "different", "metrics {('psnr_y', 5): 29.1} instead of"
    ),
    "no role": (lambda found: replace(found, roles=found.roles[:1]), "lost", "1 role search bbbb"),
    "told twice": (lambda found: replace(found, told=found.told * 2), "duplicated", "PRUNED too many"),
    "told in no study": (lambda found: replace(found, told=()), "lost", "told trial"),
    "scored twice": (lambda found: replace(found, rows=found.rows * 2), "duplicated", "scored image x2/m/l1"),
    "no board": (lambda found: replace(found, board=()), "lost", "the board has 0 of 1 rows"),
    "another board": (
        lambda found: replace(found, board=('{"model": "m", "mean": 31.4}',)), "different", "31.4"
    ),
    "a run in MLflow is open": (lambda found: replace(found, running=("m seed 1",)), "open", "'m seed 1' is RUNNING"),
    "two runs in MLflow": (with_tracked(A, ONE, ONE), "duplicated", "2 runs in MLflow"),
    "no run in MLflow": (with_tracked(A), "lost", "0 runs in MLflow"),
    "another end in MLflow": (with_tracked(A, replace(ONE, status="KILLED")), "different", "and KILLED in MLflow"),
    "a point twice": (
        with_tracked(A, replace(ONE, points=(*ONE.points, ONE.points[0]))), "duplicated", "('psnr_y', 5, 30.0) too many"
    ),
    "a point lost": (with_tracked(A, replace(ONE, points=ONE.points[:1])), "lost", "('psnr_y', 10, 31.0)"),
}  # fmt: skip


def test_a_sound_sweep_is_passed() -> None:
    assert check(SOUND, SOUND) == []


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named(what: str) -> None:
    change, kind, text = WRONG[what]
    findings = check(change(SOUND), SOUND)
    assert any(finding.kind == kind and text in finding.text for finding in findings), findings
