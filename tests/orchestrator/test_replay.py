"""One trial again from its record: with the same bits, or with what differs and why."""

import errno
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import replay
from orchestrator.data.shared import publish_store
from orchestrator.data.store import opened
from orchestrator.plan.resources import ResourceConfig
from orchestrator.replay import main
from orchestrator.run.folder import STORES, RunDir
from orchestrator.run.journal import JOURNAL, Journal, TrialResult
from orchestrator.run.machine import Machine
from orchestrator.run.records import TRIAL, TrialRecord
from orchestrator.run.winners import read_winners
from orchestrator.storage.uri import Storage
from sr_models.checkpoints.folder import CheckpointInfo

ROW = "x2/edsr_baseline/l1"


def run(*words: object) -> int:
    return main([*map(str, words)])


@pytest.fixture
def first(scored_run: RunDir) -> str:
    return read_winners(scored_run.winners)[ROW].fingerprints[0]


@pytest.mark.parametrize("row", [ROW, "x2/sr3/nutl"])
def test_a_trial_comes_out_with_the_same_bits(row, scored_run, tmp_path, capsys):
    name = read_winners(scored_run.winners)[row].fingerprints[0]
    into = tmp_path / "again"
    for _ in range(2):  # the second time it is there, and is compared
        assert run(name, "--output", scored_run.output, "--into", into) == 0
        sha = CheckpointInfo.read(scored_run.trial(name) / "model").weights_sha256
        said = capsys.readouterr()
        assert said.out == f"bit-equal: 6 steps, 2 validations, weights sha256 {sha[:12]}; it lies in {into}\n"
        assert f"trial {name[:16]}: " in said.err and "seed 1, 6 steps, on cpu with 1 thread" in said.err
    assert CheckpointInfo.read(into / "model").weights_sha256 == sha


def test_a_run_on_a_storage_is_found_by_its_uri(scored_run, first, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    stored = Storage.parse(str(tmp_path / "stored"), "x")
    shutil.copytree(scored_run.output, tmp_path / "stored", ignore=shutil.ignore_patterns("store"))
    publish_store(opened(next(scored_run.at(STORES).glob("[!.]*"))), stored.child(STORES))
    assert run(first[:9], "--storage", f"file://{tmp_path / 'stored'}", "--into", tmp_path / "again") == 0
    assert capsys.readouterr().out.startswith("bit-equal: 6 steps")


def test_what_differs_is_said_with_what_may_explain_it(scored_run, first, tmp_path, monkeypatch, capsys):
    then_of = replay._then

    def elsewhere(access, name):
        then = then_of(access, name)
        steps = {step: metrics | {"psnr_y": metrics["psnr_y"] + 1e-6 * step} for step, metrics in then.steps.items()}
        machine = Machine(torch="1.0", processor=Machine.here().processor)
        return replace(then, steps=steps, record=then.record.model_copy(update={"machine": machine}))

    monkeypatch.setattr(replay, "_then", elsewhere)
    assert run(first, "--output", scored_run.output, "--into", tmp_path / "a", "--threads", 2) == 0
    out = capsys.readouterr().out
    assert "psnr_y: from step 3, " in out and "; at most 6e-06" in out
    assert "what differs between then and now: threads: 1 then, 2 now; torch: 1.0 then, " in out
    monkeypatch.setattr(Machine, "here", lambda: Machine(torch="1.0", processor=replay_processor(scored_run, first)))
    assert run(first, "--output", scored_run.output, "--into", tmp_path / "b") == 1
    assert "what differs between then and now: nothing that is known" in capsys.readouterr().out


def replay_processor(scored_run: RunDir, first: str) -> str:
    machine = TrialRecord.read(scored_run.trial(first) / TRIAL).machine
    assert machine is not None and machine.torch
    return machine.processor


def test_other_weights_are_measured(scored_run, first):
    other = read_winners(scored_run.winners)[ROW].fingerprints[1]
    a, b = (scored_run.trial(name) / "model" for name in (first, other))
    [line] = replay._weights_apart(a, b)
    assert line.startswith("model: sha256 ") and line.endswith(" of their norm apart")
    assert replay._weights_apart(a, a) == []


def compared(
    tmp_path: Path, before: dict[int, Any], after: dict[int, Any], **weights: bytes
) -> tuple[list[str], list[str]]:
    """What replay says of two records of a trial; weights: of which side `model` is there."""
    journal = Journal(tmp_path / "now" / JOURNAL)
    journal.path.parent.mkdir(parents=True)
    for step, metrics in after.items():
        journal.step(step, 6, metrics)
    journal.end("complete", 6)
    for side, sha256 in weights.items():
        (tmp_path / side / "model").mkdir(parents=True)
        about = {"model": "imdn", "scale": 2, "hyper": {}, "sigma": None, "ema": False, "fingerprint": None}
        (tmp_path / side / "model/model.json").write_text(json.dumps(about | {"weights_sha256": sha256.hex()}))
        (tmp_path / side / "model/model.safetensors").touch()
    end = TrialResult("complete", 6, {})
    record: Any = None
    return replay._compared(replay.Then(record, tmp_path / "then", end, before, ResourceConfig()), tmp_path / "now")


def test_what_one_of_both_lacks_is_said_and_two_nan_are_equal(tmp_path):
    nan, both = math.nan, {"loss": 1.0, "train.seconds": 3.0}
    assert compared(tmp_path / "0", {3: both}, {3: both | {"train.seconds": 9.0}}) == ([], [])
    assert compared(tmp_path / "1", {3: {"loss": nan}}, {3: {"loss": nan}}, then=b"a", now=b"a") == ([], [])
    other = compared(tmp_path / "2", {3: {"loss": nan}, 6: {"loss": 2.0}}, {3: {"loss": 1.0}, 6: {"loss": 2.5}})
    assert other == (["loss: from step 3, 1 and not nan; at most 0.5"], [])
    assert compared(tmp_path / "3", {3: both, 6: both}, {3: both, 9: both}, then=b"a") == (
        [],
        [
            "1 validation, from step 6: then alone",
            "1 validation, from step 9: now alone",
            "model: weights then alone",
        ],
    )
    lacking = compared(tmp_path / "4", {3: both, 6: both}, {3: {}, 6: both | {"psnr_y": 1.0}}, now=b"a")
    assert lacking == (
        [],
        ["loss: from step 3, then alone", "psnr_y: from step 6, now alone", "model: weights now alone"],
    )


def test_what_cannot_be_compared_is_never_bit_equal(scored_run, first, tmp_path, monkeypatch, capsys):
    then_of = replay._then
    monkeypatch.setattr(
        replay, "_then", lambda *given: replace(then_of(*given), steps={3: {"psnr_y": 1.0, "gone": 1.0}})
    )
    monkeypatch.setattr(Machine, "here", lambda: Machine(torch="1.0", processor="another"))
    assert run(first, "--output", scored_run.output, "--into", tmp_path / "a") == 1, "no machine explains it"
    out = capsys.readouterr().out
    assert "1 validation, from step 6: now alone\ngone: from step 3, then alone\n" in out.replace(
        "psnr_y:", "\npsnr_y:"
    )
    assert "bit-equal" not in out and "torch: " in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["LONGER", "--into", "x"], "ZZZZ'; the one of these first characters is "),
        (["0000", "--into", "x"], "has no trial '0000'"),
        (["", "--into", "x"], "'' is the beginning of 4 trials"),
        (["FIRST", "--into", "full"], "--into: full holds something else"),
        (["FIRST", "--device", "cuda:99"], "--device: 'cuda:99' cannot be used here ("),
        (["FIRST", "--device", "foo"], "--device: 'foo' cannot be used here ("),
        (["FIRST", "--into", "full/mine/x"], "--into: full/mine/x cannot be written (Not a directory)"),
        (["FIRST", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["FIRST", "--threads", "-1"], "--threads must be at least 1, got -1"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(words, said, scored_run, first, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/mine").touch()
    given = {"FIRST": first, "LONGER": f"{first[:16]}ZZZZ"}
    assert run(*(given.get(word, word) for word in words), "--output", scored_run.output) == 2
    assert said in capsys.readouterr().err


def test_a_full_disk_is_one_line(scored_run, first, tmp_path, refuse_writing, capsys):
    refuse_writing(tmp_path / "x", errno.ENOSPC)
    assert run(first, "--output", scored_run.output, "--into", tmp_path / "x") == 2
    assert capsys.readouterr().err.endswith(f"replay: the disk of {tmp_path} is full (or your quota)\n")


def test_a_trial_whose_run_is_gone_or_that_is_under_way_is_refused(scored_run, first, tmp_path, capsys):
    shutil.copytree(scored_run.output, tmp_path / "runs")
    copied = RunDir(tmp_path / "runs" / scored_run.name)
    journal = copied.trial(first) / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    assert run(first, "--output", copied.output, "--into", tmp_path / "x") == 2
    assert "has not come to its end; its record has 6 steps" in capsys.readouterr().err
    shutil.rmtree(copied.path)
    assert run(first, "--output", copied.output, "--into", tmp_path / "x") == 2
    assert f"the run that began it ({copied.name}) is gone" in capsys.readouterr().err
