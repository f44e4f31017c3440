"""Where an unfinished run stands, from what its driver and its trials have written so far."""

import pytest

from orchestrator.leaderboard.__main__ import main
from orchestrator.leaderboard.scores import lacking
from orchestrator.leaderboard.standing import standing, text
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, Journal
from orchestrator.run.records import read_plan
from orchestrator.run.roles import RoleRecord
from sr_models.errors import InputError
from sr_models.files import read_json

A, B = "x2/edsr/l1", "x2/edsr/eco"


def add(run: RunDir, name: str, combination: str | None, role: str, values, *, number=None, end=None, seed=0) -> None:
    """A trial of the run: its role and its journal, whose validations are at every 10 of 30 steps."""
    record = RoleRecord(
        fingerprint=name * 64, combination=combination, role=role, number=number, seed=seed,
        params={} if number is None else {"target.length": 0.51234},
    )  # fmt: skip
    with run.roles.open("a", encoding="utf-8") as file:
        file.write(record.model_dump_json() + "\n")
    if values is None:
        return
    folder = run.trial(name * 64)
    folder.mkdir(parents=True)
    journal = Journal(folder / JOURNAL)
    for i, value in enumerate(values, 1):
        journal.step(10 * i, 30, {"psnr_y": value, "train.seconds": 5.0 * i})
    if end:
        journal.end(end, 10 * len(values), "its loss" if end == "failed" else None)
    (folder / "trial.json").touch()


@pytest.fixture
def cut(tmp_path, score, make) -> RunDir:
    """A run of two combinations with four proposals and two seeds each, cut in the middle."""
    rows = [score(name, 0.0) for name in (A, B)]
    run = RunDir(make(tmp_path / "cut", rows))
    for file in run.evaluation.iterdir():
        file.unlink()
    run.config.write_text("seeds: 2\ntrain: {steps: 30}\nevaluation: {metrics: [psnr_y]}\n")
    add(run, "a", None, "teacher", [20.0, 21.0, 22.0], end="complete")
    add(run, "b", A, "search", [30.0, 31.0, 32.0], number=0, end="complete")
    add(run, "c", A, "search", [35.0], number=1, end="stopped")
    add(run, "d", A, "search", [30.0, 31.0, 33.0], number=2, end="complete")
    add(run, "e", A, "search", [30.0, 31.0], number=3)
    add(run, "f", B, "search", [], number=0)
    add(run, "9", B, "search", None, number=1)
    return run


def test_a_cut_run_says_what_is_done_what_is_best_and_what_is_left(cut):
    found = standing(cut.path)
    assert (found.finished, [row.best and row.best.role.number for row in found.rows]) == (False, [None, 2])
    eco, l1 = found.rows
    assert (eco.id, eco.left, l1.left) == (B, 6 * 30, 6 * 30 - 30 - 30 - 30 - 20)
    assert found.seconds_left == pytest.approx((180 + 70) * 0.5 / 2), "half a second a step, two at a time"
    said = text(found)
    assert "run cut: search 3 of 8 (1 stopped, 2 under way); full runs 0 of 4; teachers 1 of 1" in said
    assert "about 62 s of training left, with 2 trials at a time and none stopped early" in said
    assert "x2/edsr/l1      3/4                    33.00    30/30        0/2  #2 target.length=0.512" in said
    assert said.endswith("under way: x2/edsr/eco#0 at 0 of ?, x2/edsr/l1#3 at 20 of 30")
    assert max(map(len, said.splitlines())) <= 120


def expecting(run: RunDir, **expected: tuple[int, float]) -> None:
    """Have its plan expect some steps of so many core-seconds each, by the name of the objective."""
    plan = read_plan(run.path)
    rows = []
    for row in plan.combinations:
        steps, seconds = expected[row.objective]
        rows.append(row.model_copy(update={"steps": steps, "step_seconds": seconds}))
    plan.model_copy(update={"combinations": tuple(rows)}).write(run.plan)


def test_rows_without_a_validation_take_what_the_plan_expects_at_the_pace_of_the_others(cut):
    """l1's half second a step was expected to be 0.2: eco's, expected to be 1, are 2.5, and as many as are planned."""
    expecting(cut, l1=(30, 0.2), eco=(7, 1.0))
    found = standing(cut.path)
    assert {row.id: (row.steps, row.left) for row in found.rows} == {A: (30, 70), B: (7, 6 * 7)}
    assert found.seconds_left == pytest.approx((70 * 0.5 + 42 * 2.5) / 2)
    add(cut, "0", B, "search", [30.0], number=2)
    again = standing(cut.path)
    [eco] = [row for row in again.rows if row.id == B]
    assert again.seconds_left == pytest.approx((70 * 0.5 + eco.left * 0.5) / 3), "three are under way; its own pace"


def test_a_board_of_a_run_without_scores_is_its_standing_marked_so(cut, capsys):
    assert main([str(cut.path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "nothing is scored yet; this is where the search stands, and no board\nrun cut: search 3 of 8"
    )
    assert main([str(cut.path), "--step", "3"]) == 2


def test_a_run_that_has_just_begun_knows_no_time(tmp_path, score, make):
    run = RunDir(make(tmp_path / "new", [score(A, 0.0)]))
    found = standing(run.path)
    assert found.seconds_left is None or found.rows[0].steps == 0
    run.config.write_text("seeds: 1\ntrain: {steps: 30}\n")
    assert "time left: not known before a first validation" in text(standing(run.path))


def test_a_board_without_all_its_scores_says_so(tmp_path, score, winner, make, capsys):
    rows = [score(A, 30.0, fingerprint="a1"), score(B, 31.0, fingerprint="b1"), score("x2/bicubic/-", 29.0)]
    run = make(tmp_path / "part", rows, {A: winner(1, "a1", "a2"), B: winner(2, "b1"), "x2/vq/gan": winner(3, "c1")})
    assert main([str(run)]) == 0
    assert "unfinished" not in capsys.readouterr().out, "no plan of an earlier version says what is scored"
    plan = read_plan(run).model_copy(update={"scored": {"Set5 x2": (A, B)}})
    plan.write(run / "plan.json")
    said = (
        f"unfinished: 1 full run without all scores, such as 1 of the 2 of {A}; the command that began it goes on, or "
        "says what it refuses"
    )
    assert main([str(run), "-o", str(tmp_path / "out")]) == 0
    assert f"\n{said}; python -m orchestrator.status {run} says where it stands\n" in capsys.readouterr().out
    assert f"unfinished: {read_json(tmp_path / 'out' / 'leaderboard.json')['unfinished']}" == said
    assert not standing(run).finished and "; scored 2 of 3\n" in text(standing(run))
    plan.model_copy(update={"scored": {"Set5 x2": (A, B), "half x2.5": (B,)}}).write(run / "plan.json")
    assert lacking(run) == {A: ("a2",), B: ("b1",)}
    folder = RunDir(run).trial("b1") / "model_ema"
    folder.mkdir(parents=True)
    (folder / "model.json").touch()
    plan.write(run / "plan.json")
    assert lacking(run) == {A: ("a2",), B: ("b1",)}, "its averaged weights have no score"


def test_a_run_with_all_its_scores_is_finished(tmp_path, score, winner, make, capsys):
    half = score(A, 30.0, benchmark="half", scale=2.5, protocol="classical-y-b3")
    run = make(tmp_path / "whole", [score(A, 30.0), half], {A: winner(1, f"{A}#0")})
    read_plan(run).model_copy(update={"scored": {"Set5 x2": (A,), "half x2.5": (A,)}}).write(run / "plan.json")
    assert (lacking(run), standing(run).finished) == ({A: ()}, True)
    assert main([str(run), "-o", str(tmp_path / "out")]) == 0 and "unfinished" not in capsys.readouterr().out
    assert "unfinished" not in read_json(tmp_path / "out" / "leaderboard.json")
    (run / "evaluation" / "1.parquet").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"1\.parquet cannot be read \(.*\); delete it and run again"):
        lacking(run)


@pytest.mark.parametrize(
    ("over", "whole"),
    [
        ({"protocol": "classical-y-b2-noise10+ddim50+tile64o8", "noise_seed": 0}, True),
        ({"protocol": "uncropped-y-b0"}, False),
        ({"protocol": "classical-y-b2-n3"}, False),
        ({"protocol": "classical-y-b2+ddim50", "noise_seed": 7}, False),
    ],
)
def test_scores_of_another_protocol_or_noise_are_not_the_sweeps(over, whole, tmp_path, score, winner, make):
    run = make(tmp_path / "run", [score(A, 30.0) | over], {A: winner(1, f"{A}#0")})
    read_plan(run).model_copy(update={"scored": {"Set5 x2": (A,)}}).write(run / "plan.json")
    assert lacking(run) == {A: () if whole else (f"{A}#0",)}


def test_a_board_without_all_its_winners_says_so(tmp_path, score, winner, make, capsys):
    run = make(tmp_path / "a part", [score(A, 30.0), score(B, 31.0)], {A: winner(1, f"{A}#0")})
    assert main([str(run)]) == 0
    said = f"unfinished: 1 combination without a winner yet, such as {B}; python -m orchestrator.status '{run}' says"
    assert said in capsys.readouterr().out
    assert len(read_plan(run).combinations) == 2
