"""What rows cost is read from plan, winners and journals, and attributed to the rows that need it."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.leaderboard.compare import boards, rows
from orchestrator.leaderboard.cost import ranges, trainings
from orchestrator.leaderboard.text import text
from orchestrator.run.journal import JOURNAL
from orchestrator.run.records import PlanRecord, Role, TrialRecord, read_plan
from orchestrator.run.winners import FrontRecord, PointRecord, read_winners

ECO, L1 = "x2/edsr/eco", "x2/edsr/l1"


def trial(
    run: Path, name: str, combination: str | None, role: Role, steps: int, value: float, teacher: str | None = None
) -> None:
    """A trial of 16 patches a step and 0.1 s a step."""
    folder = run / "trials" / name[:16]
    config = {"scale": 2, "teacher": teacher, "train": {"batch_size": 16}}
    TrialRecord(
        fingerprint=name, combination=combination, role=role, number=0, seed=0, params={}, config=config
    ).write(folder / "trial.json")  # fmt: skip
    entries: list[dict[str, Any]] = [
        {"kind": "step", "step": k, "of": 100, "time": 0.0, "metrics": {"psnr_y": value, "train.seconds": k / 10}}
        for k in (steps // 2, steps)
    ]
    entries.append({"kind": "end", "status": "complete", "step": steps, "cause": None, "time": 0.0})
    (folder / JOURNAL).write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.fixture
def run(tmp_path, score, winner, make) -> Path:
    scored = [
        score(name, 31.0 + seed, seed=seed, fingerprint=f"{name[-2:]}{seed}" * 16)
        for name in (ECO, L1)
        for seed in (1, 2)
    ]
    winners = {name: winner(0, *(f"{name[-2:]}{seed}" * 16 for seed in (1, 2))) for name in (ECO, L1)}
    made = make(tmp_path / "run", [*scored, score("x2/bicubic/-", 30.0)], winners)
    for digit, steps in (("5", 100), ("6", 50)):
        trial(made, digit * 64, ECO, "search", steps, 33.25, teacher="t")
    for name in (ECO, L1):
        for seed in (1, 2):
            trial(made, f"{name[-2:]}{seed}" * 16, name, "final", 100, 30.0, teacher="t" if name == ECO else None)
    trial(made, "7" * 64, None, "teacher", 300, 35.0)
    plan = read_plan(made)
    plan.model_copy(update={"centroid_seconds": {"x2": 4.0}}).write(made / "plan.json")
    return made


def test_costs(run: Path) -> None:
    found = trainings(run, read_plan(run), read_winners(run / "winners.json"))
    eco, l1 = found[ECO], found[L1]
    assert (eco.run_images, eco.search_steps, eco.search_value) == (1600, 150, 33.25)
    assert (eco.teacher_images, eco.teacher_seconds, eco.centroid_seconds) == (4800, 30.0, 4.0)
    plan = read_plan(run).model_copy(update={"weights_from": {"teacher x2": "l11" * 16}})
    other = trainings(run, plan, read_winners(run / "winners.json"))[ECO]
    assert (other.teacher_images, other.teacher_seconds) == (1600, 10.0), "another row, or another run's trial"
    assert (l1.teacher_images, l1.teacher_seconds, l1.centroid_seconds) == (None,) * 3, "it needs no teacher"
    assert eco.seconds_per_step is None and eco.trained_parameters is None, "a plan of an earlier version"
    assert (eco.parameters, eco.trials, eco.pruned, eco.failed, eco.train_seconds) == (12345, 4, 1, 0, 14.2)


def test_rows_trained_over_scales_are_named_on_their_board(run: Path) -> None:
    winners = read_winners(run / "winners.json")
    assert ranges(run, winners) == {} and not any("is trained at" in note for note in boards(run)[0].notes)
    path = run / "trials" / winners[ECO].fingerprints[0][:16] / "trial.json"
    record = TrialRecord.read(path)
    train = record.config["train"] | {"scales": {"low": 1.0, "high": 2.5}}
    record.model_copy(update={"config": record.config | {"train": train}}).write(path)
    assert ranges(run, winners) == {ECO: "×1 to ×2.5"}
    assert f"{ECO} is trained at ×1 to ×2.5" in boards(run)[0].notes


def test_the_searchs_value_is_of_the_steps_that_it_chose_or_of_its_front(run: Path) -> None:
    """The folder of trials that differ in sampling steps alone holds the last of them."""
    plan, winners = read_plan(run), read_winners(run / "winners.json")
    path = run / "trials" / ("5" * 16) / "trial.json"
    record = TrialRecord.read(path)
    record.model_copy(update={"config": record.config | {"sampling": {"steps": 10}}}).write(path)

    def value(**changes: Any) -> float | None:
        return trainings(run, plan, winners | {ECO: winners[ECO].model_copy(update=changes)})[ECO].search_value

    assert [value(params={"sampling.steps": steps}) for steps in (10, 20)] == [33.25, None]
    point = PointRecord(number=0, params={}, values=(31.5, 0.1), on_front=True)
    front = FrontRecord(metrics=(), points=(point,), reference=(31.5, 0.1), chosen=0, hypervolume=0.0)
    assert value(params={"sampling.steps": 20}, front=front) == 31.5


@pytest.mark.parametrize(("at_a_time", "said"), [(1, " 0.1"), (2, "")])
def test_seconds_a_step_where_trials_ran_alone(at_a_time: int, said: str, run: Path) -> None:
    plan = PlanRecord.read(run / "plan.json")
    one = [c.model_copy(update={"trained_parameters": 764_000}) for c in plan.combinations]
    plan.model_copy(update={"trials_at_a_time": at_a_time, "combinations": tuple(one)}).write(run / "plan.json")
    table = text(boards(run), 120).split("\n\n")[-1]
    assert ("trials shared cores" in " ".join(table.split())) == (at_a_time == 2)
    lines = [" ".join(line.split()) for line in table.splitlines()]
    first = lines.index(next(line for line in lines if line.startswith("edsr × eco 12.3")))
    assert lines[first : first + 2] == [
        f"edsr × eco 12.3 k 764.0 k 1.6 k 4 (1, 0) 150 33.25 4.8 k, 30 s 4 s{said}",
        f"edsr × l1 12.3 k 764.0 k 1.6 k 4 (1, 0) 150 33.25 - -{said}",
    ]
    assert rows(run)[0]["seconds_per_step"] == (pytest.approx(0.1) if at_a_time == 1 else None)


def test_a_run_of_an_earlier_version_says_what_its_means_hold(run: Path) -> None:
    winners = json.loads((run / "winners.json").read_text())
    del winners["sha256"]
    for winner in winners.values():
        del winner["search_run"]
    (run / "winners.json").write_text(json.dumps(winners))
    [board] = boards(run)
    assert any("counts as the first seed" in note for note in board.notes)
