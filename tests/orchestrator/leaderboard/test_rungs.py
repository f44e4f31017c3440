"""How early one can tell: rank correlations of small curves, done by hand, and reasons where there is none."""

import json
from pathlib import Path

import pytest

from orchestrator.leaderboard.rungs import rung_correlation, rungs_text, spearman
from orchestrator.run.records import Role, TrialRecord


def trial(run: Path, name: str, values: list[float], status: str = "complete", role: Role = "search") -> None:
    folder = run / "trials" / name
    TrialRecord(fingerprint=name, combination="x2/a/l1", role=role, number=None, seed=0, params={}, config={}).write(
        folder / "trial.json"
    )
    lines = [
        {"kind": "step", "step": 50 * (i + 1), "of": 200, "time": 0.0, "metrics": {"psnr_y": v}}
        for i, v in enumerate(values)
    ]
    lines.append({"kind": "end", "status": status, "step": 0, "cause": None, "time": 0.0})
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "st')


def test_rung_correlation(tmp_path, score, make):
    run = make(tmp_path / "run", [score("x2/a/l1", 30.0)])
    for i, values in enumerate([[1, 10, 20, 30], [2, 9, 21, 31], [3, 8, 22, 32], [4, 7, 23, 29]]):
        trial(run, str(i), [float(v) for v in values])
    trial(run, "stopped", [99.0], status="stopped")
    trial(run, "other seed", [9.0, 1.0, 9.0, 1.0], role="final")
    found = rung_correlation(run)
    # ends rank 2, 3, 4, 1; first rungs 1, 2, 3, 4: rho = 1 - 6 * (1 + 1 + 1 + 9) / (4 * 15) = -0.2
    assert [(row["step"], row["n"]) for row in found] == [(50, 4), (100, 4), (150, 4)]
    assert [row["spearman"] for row in found] == pytest.approx([-0.2, 0.2, -0.2])


def test_rung_correlation_says_why_there_is_none(tmp_path, score, make):
    run = make(tmp_path / "run", [score("x2/a/l1", 30.0)])
    trial(run, "0", [1.0, 2.0])
    trial(run, "1", [1.0, 3.0])
    assert rung_correlation(run)[0] == {
        "combination": "x2/a/l1", "step": 50, "of": 100, "spearman": None, "n": 2,
        "reason": "needs 3 trials that ran in full, has 2",
    }  # fmt: skip
    trial(run, "2", [1.0, 4.0])
    assert rung_correlation(run)[0]["reason"] == "all values are equal"


def test_spearman_equals_scipy_with_equal_values() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    x, y = [1.0, 2.0, 2.0, 5.0, 3.0], [3.0, 1.0, 4.0, 4.0, 9.0]
    assert spearman(list(zip(x, y, strict=True)))[0] == pytest.approx(scipy_stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([], "needs 3 trials that ran in full, has 0"),
        ([(1.0, 2.0), (2.0, 3.0), (3.0, float("nan"))], "a value is not finite"),
        ([(1.0, 2.0), (float("inf"), 3.0), (3.0, 4.0)], "a value is not finite"),
        ([(1.0, 2.0), (1.0, 3.0), (1.0, 4.0)], "all values are equal"),
    ],
)
def test_where_there_is_no_correlation_there_is_a_reason(pairs: list[tuple[float, float]], said: str) -> None:
    assert spearman(pairs) == (None, said)


@pytest.mark.parametrize(("ends", "rho"), [([5.0, 6.0, 9.0], 1.0), ([9.0, 6.0, 5.0], -1.0)])
def test_the_same_order_is_one_and_the_opposite_minus_one(ends: list[float], rho: float) -> None:
    value, reason = spearman(list(zip([1.0, 2.0, 30.0], ends, strict=True)))
    assert value == pytest.approx(rho) and reason == ""


def test_where_nothing_was_searched_nothing_is_said(tmp_path, score, make):
    run = make(tmp_path / "run", [score("x2/a/l1", 30.0)])
    trial(run, "0", [1.0, 2.0], role="final")
    assert rungs_text(run) == ""


def test_rungs_in_words(tmp_path, score, make):
    run = make(tmp_path / "run", [score(f"x2/{name}/l1", 30.0) for name in "abc"])
    for i, values in enumerate([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]):
        trial(run, str(i), values)
    head, a = rungs_text(run).splitlines()
    assert head.startswith("rank correlation (Spearman)")
    assert a == "  x2/a/l1: step 50 +1.00 (n = 3)", "a combination without trials has no line"
    (run / "trials" / "2" / "journal.jsonl").unlink()
    _, a = rungs_text(run).splitlines()
    assert "not computed" in a and "needs 3 trials that ran in full, has 2" in a
