"""What a run folder's JSON files look like to the byte, that they come back, and how a wrong one is refused."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.plan.trial import NOISY_NUMERICS_VERSION, SIGMA_NUMERICS_VERSION
from orchestrator.run import journal, records
from orchestrator.run.folder import RunDir
from orchestrator.run.journal import JOURNAL, Journal
from orchestrator.run.records import CombinationRecord, HomeRecord, MetricRecord, PlanRecord, TrialRecord, begin_trial
from orchestrator.run.winners import SearchCounts, WinnerRecord, read_winners, write_winners
from sr_models.errors import InputError

ROOT = Path(__file__).resolve().parents[3]

PLAN = PlanRecord(
    data_hash="d", benchmarks={"Set5 x2": "b"}, numerics_version=1, inits={}, teachers={"x2": "t"}, name="quick",
    run="quick-1a2b3c4d", config_hash="c", git_commit=None, metric=MetricRecord(name="psnr_y", higher_is_better=True),
    protocol="classical",
    combinations=(
        CombinationRecord(
            id="x2/edsr/eco", model="edsr", objective="eco", target="mixup", loss="l1", scale=2, trials=4,
            searched=("target.length",), parameters=12345, trained_parameters=23456, steps=1000, step_seconds=0.125,
        ),
    ),
    trials_at_a_time=2,
)  # fmt: skip
PLAN_TEXT = """{
 "data_hash": "d",
 "benchmarks": {
  "Set5 x2": "b"
 },
 "numerics_version": 1,
 "inits": {},
 "teachers": {
  "x2": "t"
 },
 "centroid_seconds": {},
 "name": "quick",
 "run": "quick-1a2b3c4d",
 "config_hash": "c",
 "git_commit": null,
 "metric": {
  "name": "psnr_y",
  "higher_is_better": true
 },
 "protocol": "classical",
 "combinations": [
  {
   "id": "x2/edsr/eco",
   "model": "edsr",
   "objective": "eco",
   "target": "mixup",
   "loss": "l1",
   "scale": 2,
   "trials": 4,
   "searched": [
    "target.length"
   ],
   "parameters": 12345,
   "trained_parameters": 23456,
   "steps": 1000,
   "step_seconds": 0.125
  }
 ],
 "trials_at_a_time": 2
}
"""

TRIAL = TrialRecord(
    fingerprint="f" * 64, trained_in="quick-1a2b3c4d", attempt=1, config={"model": "edsr", "train": {"ema": None}}
)
TRIAL_TEXT = f"""{{
 "fingerprint": "{"f" * 64}",
 "trained_in": "quick-1a2b3c4d",
 "attempt": 1,
 "config": {{
  "model": "edsr",
  "train": {{
   "ema": null
  }}
 }},
 "combination": null,
 "role": null,
 "number": null,
 "seed": null,
 "params": null
}}
"""
EARLIER_TRIAL = {
    "fingerprint": "e" * 64, "combination": None, "role": "teacher", "number": None, "seed": 3,
    "params": {"train.lr": 0.1}, "config": {"model": "edsr"},
}  # fmt: skip

WINNERS = {
    "x2/edsr/eco": WinnerRecord(
        number=3, params={"target.length": 0.5}, fingerprints=("a", "b"),
        search=SearchCounts(trials=4, pruned=1, failed=0), train_seconds=14.25, search_run="s",
    ),
    "x2/edsr/l1": WinnerRecord(
        number=None, params={}, fingerprints=("c", "d"), search=SearchCounts(trials=0, pruned=0, failed=0),
        train_seconds=12.5,
    ),
}  # fmt: skip
WINNERS_TEXT = """{
 "x2/edsr/eco": {
  "number": 3,
  "params": {
   "target.length": 0.5
  },
  "fingerprints": [
   "a",
   "b"
  ],
  "search": {
   "trials": 4,
   "pruned": 1,
   "failed": 0,
   "steps": null
  },
  "train_seconds": 14.25,
  "search_run": "s"
 },
 "x2/edsr/l1": {
  "number": null,
  "params": {},
  "fingerprints": [
   "c",
   "d"
  ],
  "search": {
   "trials": 0,
   "pruned": 0,
   "failed": 0,
   "steps": null
  },
  "train_seconds": 12.5,
  "search_run": null
 }
}
"""

READERS: dict[str, Callable[[Path], Any]] = {
    "plan.json": PlanRecord.read,
    "trial.json": TrialRecord.read,
    "winners.json": read_winners,
    "home.json": HomeRecord.read,
}


@pytest.mark.parametrize(
    ("name", "record", "text"),
    [
        ("plan.json", PLAN, PLAN_TEXT),
        ("trial.json", TRIAL, TRIAL_TEXT),
        ("winners.json", WINNERS, WINNERS_TEXT),
        ("home.json", HomeRecord(storage="s3://bucket/runs"), '"s3://bucket/runs"\n'),
        ("home.json", HomeRecord(storage=None), "null\n"),
    ],
)
def test_what_is_written_to_the_byte_and_comes_back(name: str, record: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if isinstance(record, dict):
        write_winners(path, record)
    else:
        record.write(path)
    assert path.read_text() == (sealed(text) if name != "home.json" else text)
    assert READERS[name](path) == record


def sealed(text: str) -> str:
    content = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    return text.removesuffix("\n}\n") + f',\n "sha256": "{hashlib.sha256(content.encode()).hexdigest()}"\n}}\n'


@pytest.mark.parametrize(("name", "record"), [("plan.json", PLAN), ("trial.json", TRIAL), ("winners.json", WINNERS)])
def test_no_bit_of_a_record_flips_unheard(name: str, record: Any, tmp_path: Path) -> None:
    path, heard = tmp_path / name, 0
    write_winners(path, record) if isinstance(record, dict) else record.write(path)
    whole = path.read_bytes()
    for at in range(0, 8 * len(whole), 5):
        path.write_bytes(whole[: at // 8] + bytes([whole[at // 8] ^ 1 << at % 8]) + whole[at // 8 + 1 :])
        try:
            assert READERS[name](path) == record, at  # white space
        except InputError as error:
            assert str(path) in str(error) and "delete it, and run the same sweep" in str(error)
            heard += 1
    assert heard > len(whole)


def test_plans_and_winners_of_earlier_versions_are_read(tmp_path: Path) -> None:
    old = PLAN_TEXT.replace(',\n   "trained_parameters": 23456', "").replace(',\n "trials_at_a_time": 2', "")
    old = old.replace(',\n   "steps": 1000,\n   "step_seconds": 0.125', "")
    old = old.replace(' "centroid_seconds": {},\n', "")
    (tmp_path / "plan.json").write_text(old)
    found = PlanRecord.read(tmp_path / "plan.json")
    [row] = found.combinations
    assert (found.trials_at_a_time, row.trained_parameters, row.steps, row.step_seconds) == (None,) * 4
    earlier = WINNERS_TEXT.replace(',\n  "search_run": "s"', "").replace(',\n   "steps": null', "")
    (tmp_path / "winners.json").write_text(earlier)
    eco = read_winners(tmp_path / "winners.json")["x2/edsr/eco"]
    assert eco.search_run is None and eco.search.steps is None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        *((name, text, "is not JSON") for name in READERS for text in ("", '{"name": ', "\x00")),
        *((name, "[]", "expected a mapping") for name in READERS if name != "home.json"),
        ("home.json", "3", "home.json.storage: Input should be a valid string (got 3)"),
        ("plan.json", PLAN_TEXT.replace(' "config_hash": "c",\n', ""), "plan.json.config_hash: required"),
        ("plan.json", PLAN_TEXT.replace("data_hash", "data hash"), "plan.json.data_hash: required"),
        ("plan.json", PLAN_TEXT.replace('"parameters": 12345', '"parameters": "many"'), "combinations.0.parameters"),
        ("trial.json", json.dumps(EARLIER_TRIAL | {"role": "pupil"}), "trial.json.role: "),
        ("trial.json", TRIAL_TEXT.replace('"attempt"', '"attempts"'), "trial.json"),
        ("winners.json", WINNERS_TEXT.replace("pruned", "stopped"), "winners.json: x2/edsr/eco.search"),
        ("winners.json", '{"x2/edsr/eco": 3}', "winners.json: x2/edsr/eco: expected a mapping"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_line_with_its_name(name: str, text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        READERS[name](path)
    message = str(caught.value)
    assert said in message and str(path) in message and "\n" not in message
    assert message.endswith("; delete it, and run the same sweep, which writes it again")


def test_a_file_that_is_not_text_is_one_line_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match=r"plan\.json is not JSON"):
        PlanRecord.read(path)


def test_winners_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    path = tmp_path / "winners.json"
    path.write_text(
        WINNERS_TEXT.replace(',\n  "search_run": "s"', "")
        .replace(',\n   "steps": null', "")
        .replace(',\n  "search_run": null', "")
    )
    assert "search_run" not in path.read_text()
    found = read_winners(path)
    assert found["x2/edsr/eco"] == WINNERS["x2/edsr/eco"].model_copy(update={"search_run": None})


def test_there_are_no_winners_before_there_is_a_file(tmp_path: Path) -> None:
    assert read_winners(tmp_path / "winners.json") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: quick\n", "evaluation is missing"),
        ("evaluation: 3\n", "evaluation: expected a mapping"),
        ("evaluation: {metric: [psnr_y]}\n", "unknown key 'metric'; did you mean 'metrics'?"),
        ("evaluation: {", "not plain YAML"),
    ],
)
def test_a_config_without_an_evaluation_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=r"config\.yaml") as caught:
        records.read_evaluation(tmp_path)
    assert said in str(caught.value)


def test_the_board_of_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: quick\n")
    assert records.read_board(tmp_path).baseline is None, "as in configs of earlier versions"
    (tmp_path / "config.yaml").write_text("board: {baseline: l1}\n")
    assert records.read_board(tmp_path).baseline == "l1"
    (tmp_path / "config.yaml").write_text("board: {base: l1}\n")
    with pytest.raises(InputError, match=r"config\.yaml: board: .*did you mean 'baseline'"):
        records.read_board(tmp_path)


def test_trained_parameters_hold_the_sigma_head(tmp_path: Path) -> None:
    """A head of 160 channels on a network of 16: most of what is trained is not deployed."""
    config = load(
        "quick", ["models={edsr_baseline: {channels: 16, blocks: 1}}", "objectives.expectation.sigma.width=160"]
    )
    plan = make_plan(config)
    made = {one.objective: records.CombinationRecord.of(plan, one) for one in plan.combinations}
    assert made["l1"].trained_parameters == made["l1"].parameters == made["expectation"].parameters
    assert made["expectation"].trained_parameters > 20 * made["expectation"].parameters


def test_a_plan_is_kept_unless_what_it_is_made_of_changes(tmp_path: Path) -> None:
    run, plan = RunDir(tmp_path), make_plan(load("quick"))
    given: dict[str, Any] = {
        "data_hash": {2: "d"}, "benchmarks": {("Set5", 2): "b"}, "inits": {("edsr_baseline", 2): "i"},
        "teachers": {2: "t"}, "trials_at_a_time": 2,
    }  # fmt: skip
    records.write_plan(run, plan, **given | {"teachers": {}})
    assert PlanRecord.read(run.plan).teachers == {}
    records.write_plan(run, plan, **given)
    kept = run.plan.read_bytes()
    records.write_plan(run, plan, **given | {"teachers": {}})
    assert run.plan.read_bytes() == kept, "a teacher that is not known yet does not undo the one that was written"
    records.write_plan(run, plan, **given | {"trials_at_a_time": 1})
    assert run.plan.read_bytes() == kept, "some shared the machine, whatever comes later"
    found = records.read_plan(tmp_path)
    assert (found.benchmarks, found.inits, found.teachers) == ({"Set5 x2": "b"}, {"edsr_baseline x2": "i"}, {"x2": "t"})
    assert (found.data_hash, found.data_text) == ({"x2": "d"}, "x2:d")
    assert [one.id for one in found.combinations] == [one.id for one in plan.combinations]
    for name, value in {
        "data_hash": {2: "e"}, "benchmarks": {("Set5", 2): "c"}, "inits": {("edsr_baseline", 2): "j"},
        "teachers": {2: "u"},
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=f"^{name.replace('_', ' ')} changed since"):
            records.write_plan(run, plan, **given | {name: value})
    assert run.plan.read_bytes() == kept


# ---- trials ----------------------------------------------------------------------------------------------------------


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return journal.steps(journal.read(folder / JOURNAL))


def test_a_trial_goes_on_as_it_was_begun(tmp_path: Path) -> None:
    trial = make_plan(load("quick")).teacher_trial(2, "d" * 64)
    begun = begin_trial(tmp_path, trial, run="first", steered=True)
    assert (begun.fingerprint, begun.trained_in, begun.attempt) == (trial.fingerprint, "first", 0)
    assert begun.trial_config() == trial and TrialRecord.read(tmp_path / "trial.json") == begun
    rarer = trial.model_copy(update={"train": trial.train.model_copy(update={"validate_every": 100})})
    assert begin_trial(tmp_path, rarer, run="second", steered=True) == begun, "its validations hold those"
    other = trial.model_copy(update={"metrics": ("lpips",), "protocol": "uncropped"})
    assert begin_trial(tmp_path, other, run="third", steered=False) == begun, "weights alone need none"
    older = {name: value for name, value in begun.config.items() if name != "protocol"}
    with pytest.raises(InputError, match=rf"^trial {trial.fingerprint[:16]}: config\.protocol: required"):
        begun.model_copy(update={"config": older}).trial_config()


def test_a_trial_whose_validations_lack_something_is_begun_anew(tmp_path: Path) -> None:
    trial = make_plan(load("quick")).teacher_trial(2, "d" * 64)
    begin_trial(tmp_path, trial, run="first", steered=True)
    Journal(tmp_path / JOURNAL).step(50, 200, {"psnr_y": 30.0})
    asked = trial.model_copy(
        update={"metrics": ("ssim_y",), "train": trial.train.model_copy(update={"validate_every": 40})}
    )
    anew = begin_trial(tmp_path, asked, run="second", steered=True)
    now = anew.trial_config()
    assert (anew.attempt, anew.trained_in, steps_of(tmp_path)) == (1, "first", [])
    assert now.train.validate_every == 10 and now.metrics == ("ssim_y", *trial.metrics)
    assert now.measures(asked) and now.measures(trial) and now.fingerprint == trial.fingerprint
    assert begin_trial(tmp_path, asked, run="second", steered=True) == anew, "once"


def test_the_commit_is_that_of_this_checkout() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (records.git_commit() or "").removesuffix("+changes") == head.strip()


def test_what_becomes_known_as_a_run_goes_on_is_added_to_its_plan(tmp_path: Path) -> None:
    run, plan = RunDir(tmp_path), make_plan(load("quick"))
    given: dict[str, Any] = {"data_hash": {2: "d"}, "benchmarks": {}, "teachers": {}, "trials_at_a_time": 1}
    records.write_plan(run, plan, **given, inits={("a", 2): "i"})
    assert "weights_from" not in json.loads(run.plan.read_text())
    later: dict[str, Any] = {"inits": {("a", 2): "i", ("a", 4): "j"}, "weights_from": {"a x4": "f" * 64}}
    records.write_plan(run, plan, **given, **later)
    kept = run.plan.read_bytes()
    records.write_plan(run, plan, **given, inits={("a", 2): "i"})
    assert run.plan.read_bytes() == kept, "the same command again knows it later"
    found = records.read_plan(tmp_path)
    assert (found.inits, found.weights_from) == ({"a x2": "i", "a x4": "j"}, {"a x4": "f" * 64})
    with pytest.raises(InputError, match=r"^weights from changed since"):
        records.write_plan(run, plan, **given, **later | {"weights_from": {"a x4": "e" * 64}})


def test_a_run_whose_noise_meant_another_is_not_gone_on_with(tmp_path: Path) -> None:
    run, plan = RunDir(tmp_path), make_plan(load("quick"))
    given: dict[str, Any] = {
        "data_hash": {2: "d"},
        "benchmarks": {},
        "inits": {},
        "teachers": {},
        "trials_at_a_time": 1,
    }
    records.write_plan(run, plan, **given)
    assert records.read_plan(tmp_path).numerics_version == NOISY_NUMERICS_VERSION
    records.read_plan(tmp_path).model_copy(update={"numerics_version": SIGMA_NUMERICS_VERSION}).write(run.plan)
    with pytest.raises(InputError, match="numerics version changed since"):
        records.write_plan(run, plan, **given)
