"""What a plan finds trained already is counted from the output alone: nothing here trains."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from orchestrator import sweep
from orchestrator.data.build import build_store
from orchestrator.data.inputs import Inputs
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.teacher import TeacherConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.run.folder import STORES, RunDir
from orchestrator.run.journal import JOURNAL, Journal
from orchestrator.run.records import begin_trial
from orchestrator.search.record import Proposal, SearchRecord, record_name, search_key
from orchestrator.there import There, there_in
from orchestrator.training.network import build_network, export
from orchestrator.training.teachers import start_of
from sr_models.checkpoints.folder import CheckpointInfo

TEACHER = "7" * 64
CENTROIDS = TeacherConfig().centroids(TEACHER)
BASE: dict[str, Any] = {
    "name": "toy", "models": {"edsr_baseline": {"channels": 8, "blocks": 1}},
    "objectives": {"l1": {}, "eco": {"search": ["target.length"]}},
    "teacher": {"model": "edsr_baseline", "hyper": {"channels": 8, "blocks": 1}},
    "train": {"steps": 30, "patch": 8}, "search": {"trials": 3}, "seeds": 2,
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "out" / "toy-01234567")


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """Folders of one image each."""
    made = {}
    for k, split in enumerate(("train", "validation", "test")):
        (tmp_path / split).mkdir()
        pixels = np.random.Generator(np.random.Philox(k)).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / split / "a.png")
        made[split] = [{"hr": str(tmp_path / split)}] if split != "test" else {"toy": {"hr": str(tmp_path / split)}}
    return made


def planned(data: dict[str, Any], **changes: Any) -> Plan:
    return make_plan(SweepConfig.parse(BASE | {"data": data} | changes, "test"))


def trained(run: RunDir, trial: TrialConfig, status: str = "complete") -> None:
    folder = run.trial(trial.fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    Journal(folder / JOURNAL).end(status, 30)


def finals(plan: Plan, number: int, params: dict[str, Any], hashes: dict[int, str]) -> Iterator[TrialConfig]:
    one = plan.combinations[number]
    for seed in (1, 2):
        yield plan.trial(one, params, seed, hashes[one.scale], CENTROIDS)


def test_what_is_there_is_counted(run: RunDir, data: dict[str, Any]) -> None:
    plan = planned(data)
    assert there_in(plan, run) is None
    store = build_store(run.at(STORES), **Inputs(plan.config).sources, scale=2)
    hashes = {2: store.data_hash}
    assert there_in(plan, run) == There((0, 1), (0, 3), (0, 4))
    first, _ = finals(plan, 0, {}, hashes)
    trained(run, first)
    assert there_in(plan, run) == There((0, 1), (0, 3), (1, 4)), "l1 needs no teacher"

    teacher = plan.teacher_trial(2, store.data_hash)
    trained(run, teacher)
    info = {
        "model": "edsr_baseline", "scale": 2, "hyper": {}, "sigma": None, "ema": False,
        "fingerprint": teacher.fingerprint, "weights_sha256": TEACHER,
    }  # fmt: skip
    (run.trial(teacher.fingerprint) / "model").mkdir()
    (run.trial(teacher.fingerprint) / "model" / "model.json").write_text(json.dumps(info))
    eco = plan.combinations[1]
    key = search_key(plan.trial(eco, {}, 0, store.data_hash, CENTROIDS), eco, plan.config.search)
    proposals = [
        Proposal(fingerprint="f", params={"target.length": length}, values={30: value}, status=status)
        for length, value, status in ((1.0, 30.0, "complete"), (0.5, 31.0, "complete"), (0.25, 32.0, "stopped"))
    ]
    for count, full in ((2, 1), (3, 3)):
        SearchRecord(metric="psnr_y", combination=eco.id, proposals=tuple(proposals[:count])).write(
            run.at(record_name(key))
        )
        for trial in finals(plan, 1, {"target.length": 0.5}, hashes) if count == 3 else ():
            trained(run, trial)
        found = there_in(plan, run)
        assert found == There((1, 1), (count, 3), (full, 4))
    assert found.text == "already there: 7 of 8 trials (teachers 1 of 1, search 3 of 3, full runs 3 of 4)"

    more = planned(data, seeds=3, scales=[2, 3], search={"trials": 4})
    assert there_in(more, run) == There((1, 2), (3, 8), (1, 12)), "whose winner is not known yet is new"


def test_a_failed_run_is_not_there(run: RunDir, data: dict[str, Any]) -> None:
    plan = planned(data, objectives={"l1": {}})
    store = build_store(run.at(STORES), **Inputs(plan.config).sources, scale=2)
    for trial, status in zip(finals(plan, 0, {}, {2: store.data_hash}), ("failed", "stopped"), strict=True):
        trained(run, trial, status)
    assert there_in(plan, run) == There((0, 0), (0, 0), (0, 2))


def test_what_needs_another_row_is_known_once_that_is_there(run: RunDir, data: dict[str, Any]) -> None:
    models = {"edsr_baseline": {"channels": 8, "blocks": 1, "init": {4: {"from": "x2/edsr_baseline/l1"}}}}
    plan = planned(
        data, scales=[2, 4], models=models, objectives=["l1", "kd"], teacher={"from": "x{scale}/edsr_baseline/l1"}
    )
    stores = {s: build_store(run.at(STORES), **Inputs(plan.config).sources, scale=s) for s in (2, 4)}
    by_id = {one.id: one for one in plan.combinations}
    found = there_in(plan, run)
    assert found == There((0, 0), (0, 0), (0, 8), unknown=3)
    assert found.text.endswith("; those of 3 rows are known once what they need is trained")

    first = plan.trial(by_id["x2/edsr_baseline/l1"], {}, 1, stores[2].data_hash, None)
    trained(run, first)
    begin_trial(run.trial(first.fingerprint), first, run="toy", steered=False)
    export(run.trial(first.fingerprint), build_network(first), first, None, None)
    assert there_in(plan, run) == There((0, 0), (0, 0), (1, 8), unknown=1), "x4/kd needs x4/l1, which needs x2/l1"
    assert plan.config.teacher
    taught = CheckpointInfo.read(run.trial(first.fingerprint) / "model").weights_sha256
    name = plan.config.teacher.centroids(taught)
    trained(run, plan.trial(by_id["x2/edsr_baseline/kd"], {}, 1, stores[2].data_hash, name))
    start, _ = start_of(plan.config, "edsr_baseline", run.trial(first.fingerprint) / "model", 4)
    trained(run, plan.trial(by_id["x4/edsr_baseline/l1"], {}, 2, stores[4].data_hash, None, start))
    assert there_in(plan, run) == There((0, 0), (0, 0), (3, 8), unknown=1)
    named = planned(data, objectives=["kd"], teacher={"trial": first.fingerprint[:8]})
    assert there_in(named, run) == There((0, 0), (0, 0), (1, 2)), "the same teacher by its fingerprint"
    lost = planned(data, objectives=["kd"], teacher={"trial": "0" * 8})
    assert there_in(lost, run) == There((0, 0), (0, 0), (0, 2)), "it may lie on a storage"


def test_a_dry_run_says_it(
    run: RunDir, data: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(BASE | {"data": data}))
    command = [str(path), "--output", str(run.output), "--dry-run"]
    assert sweep.main(command) == 0 and "already there" not in capsys.readouterr().out
    build_store(run.at(STORES), **Inputs(planned(data).config).sources, scale=2)
    assert sweep.main(command) == 0
    assert (
        "  already there: 0 of 8 trials (teachers 0 of 1, search 0 of 3, full runs 0 of 4)" in capsys.readouterr().out
    )
