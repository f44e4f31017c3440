"""The only training loop: what is computed (golden curves), that a killed run goes on bit for bit, how a trial ends."""

import copy
import itertools
import json
import math
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from objectives import resolve
from orchestrator.data.build import build_store
from orchestrator.data.store import PatchStore
from orchestrator.plan.sources import ImageSource
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import TrialConfig
from orchestrator.run import checkpoint, journal
from orchestrator.run.checkpoint import BEFORE, CHECKPOINT
from orchestrator.run.folder import SNAPSHOTS
from orchestrator.run.journal import JOURNAL, Journal
from orchestrator.run.records import TRIAL, TrialRecord
from orchestrator.training import loop as trial
from orchestrator.training import network, validation
from orchestrator.training.loop import run_trial
from orchestrator.training.optimisers import lr_factor
from orchestrator.training.ranks import Ranks
from sr_models import MODELS
from sr_models.checkpoints.folder import load_checkpoint, save_checkpoint
from sr_models.errors import InputError
from sr_models.images.files import sha256_file
from sr_models.inference.bound import Bound
from sr_models.inference.super_resolve import Options

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "loss_curves.json"
TEACHER = "0123456789abcdef" * 4
OBJECTIVES = {
    "l1": "l1",
    "eco": {"recipe": "eco", "target.length": 0.5},
    "expectation": {"recipe": "expectation", "sigma.width": 8, "sigma.beta": 0.1},
}
SHOWN = {"noise_regression": "noise_regression"}
"""Objectives beside these."""
TRAIN = {
    "steps": 12, "batch_size": 4, "patch": 8, "lr": 1e-3, "warmup": 0.25, "clip_norm": 1.0, "ema": 0.9,
    "validate_every": 5, "checkpoint_every": 3,
}  # fmt: skip
CHECKPOINTS = (3, 5, 6, 9, 10, 12)  # where TRAIN saves: at checkpoint_every and at each validation


def smooth(seed: int, height: int, width: int) -> np.ndarray:
    """Random blocks of 4x4 under a 5x5 mean, in whole numbers: the same picture on every machine."""
    rng = np.random.Generator(np.random.Philox(seed))
    blocks = rng.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3))
    fine = np.kron(blocks, np.ones((4, 4, 1), np.int64))
    total = sum(fine[i : i + height, j : j + width] for i in range(5) for j in range(5))
    return (total // 25).astype(np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PatchStore:
    """Three training images and one validation image at x2, with centroids of a teacher that repeats pixels."""
    folder = tmp_path_factory.mktemp("trial")
    sources = {}
    for split, seeds in {"train": (1, 2, 3), "validation": (4,)}.items():
        (folder / split).mkdir()
        for seed in seeds:
            Image.fromarray(smooth(seed, 40, 44)).save(folder / split / f"{seed}.png")
        sources[split] = [ImageSource(hr=str(folder / split))]
    made = build_store(folder / "store", scale=2, **sources)
    made.add_centroids(TEACHER, made.centroids_by(lambda lr: nn.functional.interpolate(lr, scale_factor=2)))
    return made


@pytest.fixture
def plan(store):
    """Makes a trial's config: `plan("eco", lr=1.0)`."""

    def make(objective: str = "l1", *, model: str = "edsr_baseline", hyper=None, **train) -> TrialConfig:
        spec = resolve((OBJECTIVES | SHOWN)[objective])
        return TrialConfig(
            model=model, scale=2, hyper=hyper or {"channels": 8, "blocks": 1}, objective=spec,
            train=TrainConfig(**(TRAIN | train)), seed=5, protocol="classical", metrics=("psnr_y",),
            data_hash=store.data_hash, teacher=TEACHER if "mu" in spec.needs else None,
        )  # fmt: skip

    return make


def go_on(_step, _metrics) -> str:
    return "continue"


def entries(folder: Path) -> list[dict]:
    """A journal without what a clock wrote."""
    found = journal.read(folder / JOURNAL)
    for entry in found:
        del entry["time"]
        entry.get("metrics", {}).pop("train.seconds", None)
    return found


def assert_same(a, b, where: str = "checkpoint") -> None:
    """Equal bit for bit, in every tensor and number, training seconds aside."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a.keys() - {"seconds"}:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), where
    else:
        assert a == b, where


def assert_equal_runs(resumed: Path, unbroken: Path) -> None:
    assert entries(resumed) == entries(unbroken)
    assert_same(checkpoint.load(resumed / CHECKPOINT), checkpoint.load(unbroken / CHECKPOINT))
    for name in ("model", "model_ema"):
        files = [folder / name / "model.safetensors" for folder in (resumed, unbroken)]
        assert files[0].read_bytes() == files[1].read_bytes(), name


# ---- resume --------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from orchestrator.plan.trial import TrialConfig
from orchestrator.data.store import PatchStore
from orchestrator.training.loop import run_trial

torch.set_num_threads(1)
config, folder, out, at = sys.argv[1:]
store = PatchStore.open(folder)
draw = store.batch

def batch(**wanted):
    if wanted["step"] == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(**wanted)

store.batch = batch
run_trial(TrialConfig.model_validate_json(config), store, lambda step, metrics: "continue", out_dir=Path(out))
"""


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_killed_between_two_checkpoints_goes_on_bit_for_bit(objective, plan, store, tmp_path):
    config, killed_at = plan(objective), 8
    assert killed_at - 1 not in CHECKPOINTS and killed_at not in CHECKPOINTS
    out = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, config.model_dump_json(), str(store.folder), str(out), str(killed_at)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert checkpoint.load(out / CHECKPOINT)["step"] == 6
    assert [entry["step"] for entry in entries(out)] == [5]

    resumed = run_trial(config, store, go_on, out_dir=out)
    unbroken = run_trial(config, store, go_on, out_dir=tmp_path / "unbroken")
    assert (resumed.status, resumed.step) == (unbroken.status, unbroken.step) == ("complete", 12)
    assert resumed.metrics["psnr_y"] == unbroken.metrics["psnr_y"]
    assert [entry.get("step") for entry in entries(out)] == [5, 10, 12, 12]
    assert_equal_runs(out, tmp_path / "unbroken")


class Killed(BaseException):
    """Ends a run at once, as SIGKILL would: the trial catches nothing of this kind."""


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("before the first checkpoint", "batch"),
        ("after the checkpoint, before the journal", "step"),
        ("after the journal, before the report", "report"),
        ("while the weights are exported", "save_checkpoint"),
        ("after the last report, before the end is written", "end"),
    ],
)
def test_a_run_cut_at_any_place_goes_on_bit_for_bit(place, name, plan, store, tmp_path, monkeypatch):
    def killed(*_args, **_kwargs):
        raise Killed(place)

    out = tmp_path / "cut"
    owner = {"batch": PatchStore, "step": Journal, "end": Journal, "save_checkpoint": network}.get(name)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if owner:
            patch.setattr(owner, name, killed)
        run_trial(plan(), store, killed if name == "report" else go_on, out_dir=out)
    assert run_trial(plan(), store, go_on, out_dir=out).status == "complete"
    run_trial(plan(), store, go_on, out_dir=tmp_path / "unbroken")
    assert_equal_runs(out, tmp_path / "unbroken")


def test_a_network_with_dropout_goes_on_bit_for_bit(plan, store, tmp_path, monkeypatch, killed_at):
    """What it leaves out follows from (seed, step), not from how often this process has drawn."""
    original, masks = trial.build_network, []

    def with_dropout(config: TrialConfig, parts: Mapping[str, Path]) -> nn.Module:
        net = original(config, parts)
        dropout = nn.Dropout(0.3)
        net.get_submodule("head").append(dropout)
        dropout.register_forward_hook(lambda layer, _, out: masks.append(out == 0) if layer.training else None)
        return net

    monkeypatch.setattr(trial, "build_network", with_dropout)
    with killed_at(8):
        run_trial(plan(), store, go_on, out_dir=tmp_path / "cut")
    run_trial(plan(), store, go_on, out_dir=tmp_path / "cut")
    cut = masks[:6] + masks[8:]  # steps 6 and 7 were drawn twice
    masks.clear()
    run_trial(plan(), store, go_on, out_dir=tmp_path / "unbroken")
    assert_equal_runs(tmp_path / "cut", tmp_path / "unbroken")
    assert len(cut) == len(masks) == 12 and all(torch.equal(a, b) for a, b in zip(cut, masks, strict=True))
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(masks, 2))


def test_a_lost_checkpoint_costs_time_but_changes_nothing(plan, store, tmp_path):
    out = tmp_path / "lost"
    run_trial(plan(), store, lambda step, _: "stop" if step == 10 else "continue", out_dir=out)
    for name in (CHECKPOINT, BEFORE):
        (out / name).unlink()
    heard = []
    run_trial(plan(), store, lambda step, _: heard.append(step) or "continue", out_dir=out)
    run_trial(plan(), store, go_on, out_dir=tmp_path / "unbroken")
    assert heard == [10, 12]
    assert [e["step"] for e in entries(out) if e["kind"] == "step"] == [5, 10, 12]
    assert journal.steps(entries(out)) == journal.steps(entries(tmp_path / "unbroken"))


def flip(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


def without(number: int, replacement: bytes = b""):
    """Puts something in the place of a journal's line."""

    def change(data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        return b"".join([*lines[:number], replacement, *lines[number + 1 :]])

    return change


HALF = {CHECKPOINT: lambda data: data[: len(data) // 2]}
STOPPED, WHOLE = 10, 99
DAMAGES = {  # stopped after which step; what is done to which file -> the step that is gone back to, and the notes
    "checkpoint, one bit": (STOPPED, {CHECKPOINT: flip}, 9, 1),
    "checkpoint cut in half": (STOPPED, HALF, 9, 1),
    "both checkpoints": (STOPPED, {CHECKPOINT: flip, BEFORE: flip}, 0, 2),
    "journal garbled": (STOPPED, {JOURNAL: without(0, b"\xff\n")}, 0, 3),
    "journal's last validation, one bit": (STOPPED, {JOURNAL: without(1, b'{"kind": "step"}\n')}, 10, 1),
    "journal emptied": (STOPPED, {JOURNAL: lambda _: b""}, 0, 2),
    "journal emptied, checkpoint cut in half": (STOPPED, {JOURNAL: lambda _: b""} | HALF, 0, 2),
    "journal of a finished trial, its last line": (WHOLE, {JOURNAL: without(3, b"{}\n")}, 12, 1),
    "journal of a finished trial, its end lost": (WHOLE, {JOURNAL: without(3)}, 12, 0),
    "journal of a finished trial, its second validation": (WHOLE, {JOURNAL: flip}, 10, 2),
    "journal of a finished trial, its first validation": (WHOLE, {JOURNAL: without(0)}, 0, 3),
    "journal of a finished trial, emptied": (WHOLE, {JOURNAL: lambda _: b""}, 0, 2),
    "journal of a finished trial, a bit, and its checkpoint": (WHOLE, {JOURNAL: without(3, b"{}\n")} | HALF, 10, 2),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_files_cost_steps_and_never_a_number(case, plan, store, tmp_path, monkeypatch, capsys):
    stop, damage, back_to, notes = DAMAGES[case]
    out = tmp_path / "damaged"
    run_trial(plan(), store, lambda step, _: "stop" if step == stop else "continue", out_dir=out)
    for name, change in damage.items():
        (out / name).write_bytes(change((out / name).read_bytes()))
    draw, drawn = PatchStore.batch, []
    with monkeypatch.context() as patch:
        patch.setattr(PatchStore, "batch", lambda self, **wanted: drawn.append(wanted["step"]) or draw(self, **wanted))
        capsys.readouterr()
        assert run_trial(plan(), store, go_on, out_dir=out).status == "complete"
    assert drawn == list(range(back_to, 12))
    found = journal.notes(entries(out))
    assert capsys.readouterr().err.splitlines() == found and len(found) == notes
    assert all(str(out / name) in "\n".join(found) for name in damage) or not found
    run_trial(plan(), store, go_on, out_dir=tmp_path / "unbroken")
    steps, whole = (journal.steps(entries(folder)) for folder in (out, tmp_path / "unbroken"))
    assert steps == whole and journal.end(entries(out)) == journal.end(entries(tmp_path / "unbroken"))
    assert_same(checkpoint.load(out / CHECKPOINT), checkpoint.load(tmp_path / "unbroken" / CHECKPOINT))
    for name in ("model", "model_ema"):
        files = [folder / name / "model.safetensors" for folder in (out, tmp_path / "unbroken")]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_a_damaged_checkpoint_never_takes_the_place_of_the_one_before_it(plan, store, tmp_path, killed_at):
    run_trial(plan(), store, lambda step, _: "stop" if step == 10 else "continue", out_dir=tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(flip((tmp_path / CHECKPOINT).read_bytes()))
    with killed_at(11):
        run_trial(plan(), store, go_on, out_dir=tmp_path)
    assert [checkpoint.load(tmp_path / name)["step"] for name in (BEFORE, CHECKPOINT)] == [9, 10]


def test_validations_are_computed_in_the_tiles_that_the_config_says(plan, store, tmp_path):
    tiled = plan().model_copy(update={"tile": 7, "tile_overlap": 0})
    whole, cut = (run_trial(c, store, go_on, out_dir=tmp_path / str(c.tile)).metrics for c in (plan(), tiled))
    assert whole["train.loss"] == cut["train.loss"] and whole["psnr_y"] != cut["psnr_y"]


def test_validation_images_that_take_too_much_are_computed_in_tiles_that_change_nothing(
    plan, store, tmp_path, monkeypatch
):
    seen, compute = [], validation.super_resolve

    def watched(net, lr_BCHW, options, **rest):
        seen.append(options.tile)
        return compute(net, lr_BCHW, options=options, **rest)

    monkeypatch.setattr(validation, "super_resolve", watched)
    config = plan(model="vdsr", hyper={"channels": 8, "blocks": 2})
    [(height, width)] = store.sizes("validation").values()
    takes = Bound.of(network.build_network(config), 1, tile_exact=True).takes(height, width, Options())
    ended = [
        run_trial(config, store, go_on, out_dir=tmp_path / str(most), max_bytes=most).metrics["psnr_y"]
        for most in (None, takes, takes - 1)
    ]
    assert seen[0] is None and 0 < seen[-1] < width
    assert ended[0] == ended[1] == pytest.approx(ended[2], abs=1e-4)


def test_weights_along_training_are_kept_and_move_nothing(plan, store, tmp_path, monkeypatch):
    with_them, at = plan("expectation", snapshots=(0.25, 0.5)), (3, 6)
    state = {}
    save = checkpoint.save

    def watched(path, saved):
        state.setdefault(saved["step"], {name: copy.deepcopy(saved[name]) for name in ("model", "ema")})
        save(path, saved)

    monkeypatch.setattr(checkpoint, "save", watched)
    run_trial(plan("expectation"), store, go_on, out_dir=tmp_path / "without")
    run_trial(with_them, store, go_on, out_dir=tmp_path / "with")
    assert_equal_runs(tmp_path / "with", tmp_path / "without")
    for step in at:
        for kind, name in (("model", "model"), ("model_ema", "ema")):
            net, info = load_checkpoint(tmp_path / "with" / SNAPSHOTS / str(step) / kind)
            assert_same(dict(net.state_dict()), dict(state[step][name]))
            assert info.ema is (name == "ema") and info.fingerprint == with_them.fingerprint
    assert not (tmp_path / "without" / SNAPSHOTS).exists()
    assert sorted(p.name for p in (tmp_path / "with" / SNAPSHOTS).iterdir()) == ["3", "6"]


def test_a_finished_trial_that_kept_none_is_trained_again_for_its_snapshots(plan, store, tmp_path):
    run_trial(plan(), store, go_on, out_dir=tmp_path, steered=False)
    before = sha256_file(tmp_path / "model" / "model.safetensors")
    asked = plan(snapshots=(0.5,))
    for _ in range(2):
        assert run_trial(asked, store, go_on, out_dir=tmp_path, steered=False).status == "complete"
    assert TrialRecord.read(tmp_path / TRIAL).attempt == 1, "once"
    assert sha256_file(tmp_path / "model" / "model.safetensors") == before
    assert (tmp_path / SNAPSHOTS / "6" / "model" / "model.safetensors").exists()
    assert run_trial(plan(), store, go_on, out_dir=tmp_path, steered=False).status == "complete"
    assert TrialRecord.read(tmp_path / TRIAL).attempt == 1, "who asks for none takes what is there"


def test_a_trial_killed_after_a_snapshot_leaves_the_same_ones(plan, store, tmp_path):
    config = plan(snapshots=(0.3, 0.6))  # steps 4 and 7, between checkpoints

    def killed(step, _metrics):
        if step == 5:
            raise KeyboardInterrupt
        return "continue"

    with pytest.raises(KeyboardInterrupt):
        run_trial(config, store, killed, out_dir=tmp_path / "cut")
    assert (tmp_path / "cut" / SNAPSHOTS / "4" / "model" / "model.json").exists()
    run_trial(config, store, go_on, out_dir=tmp_path / "cut")
    run_trial(config, store, go_on, out_dir=tmp_path / "unbroken")
    files = [path.relative_to(tmp_path / "cut") for path in (tmp_path / "cut" / SNAPSHOTS).rglob("*.safetensors")]
    assert len(files) == 4
    for file in files:
        assert sha256_file(tmp_path / "cut" / file) == sha256_file(tmp_path / "unbroken" / file)


def test_a_finished_trial_is_told_again_and_not_trained_again(plan, store, tmp_path, monkeypatch):
    first, again = [], []
    done = run_trial(plan(), store, lambda step, metrics: first.append((step, metrics)) or "continue", out_dir=tmp_path)
    assert [step for step, _ in first] == [5, 10, 12]
    before = (tmp_path / JOURNAL).read_bytes()
    monkeypatch.delattr(PatchStore, "batch")
    replayed = run_trial(plan(), store, lambda *heard: again.append(heard) or "stop", out_dir=tmp_path)
    assert replayed == done and again == first[-1:]
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_a_trial_that_is_begun_anew_for_its_validations_comes_out_the_same(plan, store, tmp_path):
    """Another run's search steers by what the first did not measure; weights and earlier values are what they were."""
    first = plan()
    run_trial(first, store, go_on, out_dir=tmp_path)
    before = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("model", "model_ema")}
    values = {entry["step"]: entry["metrics"]["psnr_y"] for entry in journal.steps(entries(tmp_path))}
    asked = plan(validate_every=4).model_copy(update={"metrics": ("ssim_y",)})
    told: list[int] = []
    result = run_trial(asked, store, lambda step, _: told.append(step) or "continue", steered=False, out_dir=tmp_path)
    assert (result.status, told) == ("complete", [12]), "weights alone are asked for, and they are there"
    result = run_trial(asked, store, lambda step, _: told.append(step) or "continue", out_dir=tmp_path)
    assert result.status == "complete" and set(told) >= {4, 8, 12}
    now = {entry["step"]: entry["metrics"] for entry in journal.steps(entries(tmp_path))}
    assert {step: now[step]["psnr_y"] for step in values} == values and all("ssim_y" in now[step] for step in now)
    assert {name: (tmp_path / name / "model.safetensors").read_bytes() for name in before} == before
    assert all("is of before the trial was begun anew" in note for note in journal.notes(entries(tmp_path)))


def test_another_machines_weights_take_the_place_of_the_first_ones_and_are_told(plan, store, tmp_path):
    run_trial(plan(), store, go_on, out_dir=tmp_path)
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    net, info = load_checkpoint(tmp_path / "elsewhere")
    with torch.no_grad():
        next(net.parameters()).add_(1e-7)
    save_checkpoint(
        tmp_path / "model", net, model=info.model, scale=2, hyper=info.hyper, sigma=None, ema=False,
        fingerprint=info.fingerprint,
    )  # fmt: skip
    result = run_trial(plan().model_copy(update={"metrics": ("ssim_y",)}), store, go_on, out_dir=tmp_path)
    assert result.status == "complete"
    *_, note = journal.notes(entries(tmp_path))
    assert "came out with other weights, which are scored anew" in note
    files = [tmp_path / name / "model.safetensors" for name in ("model", "elsewhere")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_stopped_trial_stays_stopped_until_it_is_told_to_go_on(plan, store, tmp_path):
    heard: list[int] = []

    def until(last: int):
        return lambda step, _: heard.append(step) or ("continue" if step < last else "stop")

    out = tmp_path / "stopped"
    for _ in range(2):
        stopped = run_trial(plan(), store, until(5), out_dir=out)
        assert (stopped.status, stopped.step) == ("stopped", 5)
    assert not (out / "model").exists()
    assert run_trial(plan(), store, until(99), out_dir=out).status == "complete"
    assert heard == [5, 5, 5, 10, 12]
    run_trial(plan(), store, go_on, out_dir=tmp_path / "unbroken")
    kinds = [(e["kind"], e["step"], e.get("status")) for e in entries(out)]
    assert kinds.pop(1) == ("end", 5, "stopped")
    assert kinds == [(e["kind"], e["step"], e.get("status")) for e in entries(tmp_path / "unbroken")]
    assert_same(checkpoint.load(out / CHECKPOINT), checkpoint.load(tmp_path / "unbroken" / CHECKPOINT))


def test_a_trial_at_its_full_budget_cannot_be_stopped(plan, store, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trial, "export", raising(Killed()))
        run_trial(plan(), store, go_on, out_dir=tmp_path)
    assert run_trial(plan(), store, lambda step, _: "stop", out_dir=tmp_path).status == "complete"


def test_a_checkpoint_from_before_an_objective_could_have_several_optimisers_goes_on(plan, store, tmp_path):
    out = tmp_path / "old"
    run_trial(plan(), store, lambda *_: "stop", out_dir=out)
    state = checkpoint.load(out / CHECKPOINT)
    (state["optimizer"],) = state["optimizer"].values()
    del state["objective"]
    checkpoint.save(out / CHECKPOINT, state)
    run_trial(plan(), store, go_on, out_dir=out)
    run_trial(plan(), store, go_on, out_dir=tmp_path / "unbroken")
    assert_same(checkpoint.load(out / CHECKPOINT), checkpoint.load(tmp_path / "unbroken" / CHECKPOINT))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"lr": 2e-3}, "belongs to another trial"), ({"steps": 13}, "belongs to another trial")],
)
def test_a_checkpoint_of_another_config_is_refused(change, said, plan, store, tmp_path):
    run_trial(plan(), store, lambda *_: "stop", out_dir=tmp_path)
    with pytest.raises(ValueError, match=said):
        run_trial(plan(**change), store, go_on, out_dir=tmp_path)


def test_other_data_and_unwanted_resumes_are_refused(plan, store, tmp_path):
    with pytest.raises(ValueError, match="the trial was planned for 000000000000"):
        run_trial(plan().model_copy(update={"data_hash": "0" * 64}), store, go_on, out_dir=tmp_path)
    run_trial(plan(), store, lambda *_: "stop", out_dir=tmp_path)
    with pytest.raises(ValueError, match="already holds a trial"):
        run_trial(plan(), store, go_on, resume=False, out_dir=tmp_path)


# ---- failures ------------------------------------------------------------------------------------------------------


def poison(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(p for p in net.parameters() if p.requires_grad)[0, 0, 0, 0] = math.nan
    return net


def raising(error: BaseException):
    def change(*_given) -> nn.Module:
        raise error

    return change


HOST = "[enforce fail at alloc_cpu.cpp:1] err == 0. DefaultCPUAllocator: can't allocate memory"
FAILURES = {
    "poisoned weight": (poison, "the loss is not finite (nan) within the 10 steps before step 10", 10),
    "host, in silence": (raising(MemoryError()), "out of memory on cpu: no more is known", 0),
    "host": (raising(MemoryError("Unable to allocate 7 TiB")), "out of memory on cpu: Unable to allocate 7 TiB", 0),
    "host, as torch says it": (raising(RuntimeError(f"{HOST}\nmore")), f"out of memory on cpu: {HOST}", 0),
    "GPU": (raising(torch.OutOfMemoryError("CUDA out of memory.")), "out of memory on cpu: CUDA out of memory.", 0),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failed_trial_is_a_result_with_its_cause_and_is_not_retried(case, plan, store, tmp_path, monkeypatch):
    change, cause, step = FAILURES[case]
    original = trial.build_network
    with monkeypatch.context() as patch:
        patch.setattr(trial, "build_network", lambda config, parts: change(original(config, parts)))
        failed = run_trial(plan(validate_every=12), store, go_on, out_dir=tmp_path)
    assert (failed.status, failed.step, failed.cause) == ("failed", step, cause)
    last = journal.read(tmp_path / JOURNAL)[-1]
    assert (last["kind"], last["status"], last["step"], last["cause"]) == ("end", "failed", step, cause)
    assert failed.why == last["why"] == ("numbers" if case == "poisoned weight" else "environment")
    assert run_trial(plan(validate_every=12), store, go_on, out_dir=tmp_path) == failed
    assert not (tmp_path / "model").exists()


def test_a_loss_that_is_not_finite_is_never_journalled(plan, store, tmp_path, monkeypatch):
    original = trial.build_network
    monkeypatch.setattr(trial, "build_network", lambda config, parts: poison(original(config, parts)))
    failed = run_trial(plan(validate_every=3), store, go_on, out_dir=tmp_path)
    assert failed.cause == "the loss is not finite (nan) within the 10 steps before step 3"
    assert [entry["kind"] for entry in journal.read(tmp_path / JOURNAL)] == ["end"]


def test_an_update_that_breaks_the_weights_under_a_finite_loss_fails_the_trial(plan, store, tmp_path, monkeypatch):
    update = trial._Trial._update
    monkeypatch.setattr(trial._Trial, "_update", lambda self, *given: (update(self, *given), poison(self.net)))
    failed = run_trial(plan(validate_every=1), store, go_on, out_dir=tmp_path)
    assert failed.cause == "SR of validation image validation/4.png is not finite at step 1"
    assert [entry["kind"] for entry in journal.read(tmp_path / JOURNAL)] == ["end"]


def test_a_learning_rate_of_a_million_ends_as_failed(plan, store, tmp_path):
    failed = run_trial(plan(lr=1e6, clip_norm=None, ema=None, validate_every=12), store, go_on, out_dir=tmp_path)
    assert (failed.status, failed.step) == ("failed", 10) and "the loss is not finite" in failed.cause


def test_no_memory_half_way_keeps_the_metrics_that_are_known(plan, store, tmp_path, monkeypatch):
    draw = PatchStore.batch

    def batch(self, **wanted):
        if wanted["step"] == 7:
            raise MemoryError("no room")
        return draw(self, **wanted)

    monkeypatch.setattr(PatchStore, "batch", batch)
    failed = run_trial(plan(), store, go_on, out_dir=tmp_path)
    assert (failed.status, failed.step, failed.cause) == ("failed", 7, "out of memory on cpu: no room")
    assert failed.metrics == journal.steps(journal.read(tmp_path / JOURNAL))[-1]["metrics"]


def test_a_trial_that_ran_out_of_memory_goes_on_bit_for_bit_once_it_is_reopened(plan, store, tmp_path, monkeypatch):
    draw, out = PatchStore.batch, tmp_path / "out"

    def batch(self, **wanted):
        if wanted["step"] == 7:
            raise MemoryError("no room")
        return draw(self, **wanted)

    with monkeypatch.context() as patch:
        patch.setattr(PatchStore, "batch", batch)
        run_trial(plan(), store, go_on, out_dir=out)
    journal.Journal(out / JOURNAL).reopen()
    assert run_trial(plan(), store, go_on, out_dir=out).status == "complete"
    run_trial(plan(), store, go_on, out_dir=tmp_path / "unbroken")
    ends = [entry["kind"] for entry in entries(out)]
    assert ends == ["step", "end", "again", "step", "step", "end"]
    assert journal.steps(entries(out)) == journal.steps(entries(tmp_path / "unbroken"))
    for name in ("model", "model_ema"):
        files = [folder / name / "model.safetensors" for folder in (out, tmp_path / "unbroken")]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_a_defect_is_raised_and_leaves_the_trial_open(plan, store, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "build_network", raising(RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
    with pytest.raises(RuntimeError, match="mat1"):
        run_trial(plan(), store, go_on, out_dir=tmp_path)
    assert journal.read(tmp_path / JOURNAL) == []


# ---- what is computed ----------------------------------------------------------------------------------------------


def test_golden_loss_curves(plan, store, tmp_path):
    """20 steps of three tiny trials. Where a change of numbers is meant, the new ones are in the failure's message."""
    found = {}
    for name in OBJECTIVES:
        config = plan(name, steps=20, validate_every=1, checkpoint_every=20, ema=None)
        run_trial(config, store, go_on, out_dir=tmp_path / name)
        found[name] = [e["metrics"]["train.loss"] for e in journal.steps(journal.read(tmp_path / name / JOURNAL))]
    pinned = json.loads(GOLDEN.read_text())
    for name, curve in found.items():
        assert curve == pytest.approx(pinned[name], abs=1e-5), json.dumps(found)
        assert sum(curve[-5:]) < 0.8 * sum(curve[:5]), name


def test_what_learns_noise_is_journalled_without_scores_and_is_no_sr(plan, store, tmp_path):
    config = plan("noise_regression", steps=40, lr=2e-3, ema=0.5, snapshots=[0.5])
    result = run_trial(config, store, go_on, out_dir=tmp_path)
    assert result.status == "complete"
    told = [entry["metrics"] for entry in journal.steps(entries(tmp_path))]
    assert all(set(metrics) == {"train.loss", "train.loss_zero", "train.lr"} for metrics in told)
    assert told[-1]["train.loss"] < 0.5 * told[0]["train.loss"], "the mean colour that EDSR adds is unlearned first"
    zeros = [metrics["train.loss_zero"] for metrics in told]
    assert max(zeros) < 2 * min(zeros), "what nothing misses is data's alone"
    for folder in (tmp_path / "model", tmp_path / "model_ema", tmp_path / SNAPSHOTS / "20" / "model"):
        with pytest.raises(InputError, match="gives noise, where sr is expected"):
            load_checkpoint(folder)
        assert load_checkpoint(folder, output="noise")[1].fingerprint == config.fingerprint


@pytest.mark.parametrize(("name", "rule"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_optimiser_is_the_configs(name, rule, plan, store, tmp_path):
    config = plan(optimizer=name, weight_decay=0.02, lr=3e-4)
    journal = Journal(tmp_path / JOURNAL)
    made = trial._Trial(config, 0, store, "cpu", Ranks(), tmp_path, None, {}, None, None, None, lambda: None, journal)
    (stepper,) = made.steppers
    assert type(stepper.optimizer) is rule
    (group,) = stepper.optimizer.param_groups
    trained = [p for p in made.net.parameters() if p.requires_grad]
    assert len(group["params"]) == len(trained) < len(list(made.net.parameters()))  # EDSR's mean shifts stay
    assert all(a is b for a, b in zip(group["params"], trained, strict=True))
    options = {key: group[key] for key in ("lr", "weight_decay", "betas", "eps", "amsgrad", "maximize")}
    assert options == {
        "lr": 3e-4, "weight_decay": 0.02, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False, "maximize": False,
    }  # fmt: skip


def test_each_update_has_its_learning_rate_and_a_bounded_gradient(plan, store, tmp_path, request):
    seen: list[tuple[float, torch.Tensor]] = []

    def look(optimizer, *_given) -> None:
        (group,) = optimizer.param_groups
        seen.append((group["lr"], torch.cat([p.grad.flatten() for p in group["params"]])))

    def updates(bound: float | None) -> tuple[tuple[float, ...], tuple[torch.Tensor, ...]]:
        seen.clear()
        run_trial(plan(clip_norm=bound), store, go_on, out_dir=tmp_path / str(bound))
        rates, gradients = zip(*seen, strict=True)
        return rates, gradients

    request.addfinalizer(register_optimizer_step_pre_hook(look).remove)
    rates, free = updates(None)
    assert rates == tuple(1e-3 * lr_factor(plan().train, step) for step in range(12))
    norms = [float(gradient.norm()) for gradient in free]
    bound = 0.5 * min(norms)
    _, clipped = updates(bound)
    assert [float(gradient.norm()) for gradient in clipped] == pytest.approx([bound] * 12, rel=1e-4)
    torch.testing.assert_close(clipped[0], free[0] * bound / norms[0], rtol=1e-4, atol=1e-8)  # its direction stays
    _, loose = updates(2 * max(norms))
    assert all(torch.equal(a, b) for a, b in zip(loose, free, strict=True))


def test_what_is_exported_is_what_was_trained(plan, store, tmp_path):
    config = plan("expectation")
    run_trial(config, store, go_on, out_dir=tmp_path)
    state = checkpoint.load(tmp_path / CHECKPOINT)
    for folder, key, ema in (("model", "model", False), ("model_ema", "ema", True)):
        net, info = load_checkpoint(tmp_path / folder)
        assert (info.fingerprint, info.ema, info.sigma["width"]) == (config.fingerprint, ema, 8)
        assert_same(dict(net.state_dict()), dict(state[key]), folder)


def test_the_average_follows_its_closed_form(plan, store, tmp_path):
    """ema_t = d ema_(t-1) + (1 - d) w_t from ema_0 = w_0; with decay near 0 it is the weights themselves."""
    seen = {}
    for decay in (0.5, 1e-9):
        config = plan(steps=2, validate_every=1, ema=decay, warmup=0.0)
        states = [{k: v.clone() for k, v in _initial(config).items()}]
        run_trial(
            config, store,
            lambda *_, d=decay, s=states: s.append(checkpoint.load(tmp_path / str(d) / CHECKPOINT)) or "continue",
            out_dir=tmp_path / str(decay),
        )  # fmt: skip
        seen[decay] = states
    first, one, two = seen[0.5]
    for name, value in two["ema"].items():
        expected = 0.25 * first[name] + 0.25 * one["model"][name] + 0.5 * two["model"][name]
        assert torch.allclose(value, expected, atol=1e-7), name
    for name, value in seen[1e-9][2]["ema"].items():
        assert torch.allclose(value, seen[1e-9][2]["model"][name], atol=1e-7), name


def _initial(config: TrialConfig) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return trial.build_network(config).state_dict()


def test_a_trial_leaves_the_callers_generator_alone(plan, store, tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    run_trial(plan(steps=2), store, go_on, out_dir=tmp_path)
    assert torch.equal(torch.rand(3), expected)


COSINE = {"schedule": "cosine"}
STEP = {"schedule": "step", "decay_at": (0.5, 0.75), "decay": 0.1}


@pytest.mark.parametrize(
    ("train", "step", "factor"),
    [
        ({"schedule": "constant"}, 0, 1.0),
        ({"schedule": "constant"}, 99, 1.0),
        (COSINE, 0, 1.0),
        (COSINE, 50, 0.5),
        (COSINE, 99, 0.5 * (1 + math.cos(math.pi * 0.99))),
        (COSINE | {"lr_floor": 0.2}, 50, 0.6),
        (COSINE | {"lr_floor": 1.0}, 73, 1.0),
        (STEP, 49, 1.0),
        (STEP, 50, 0.1),
        (STEP, 74, 0.1),
        (STEP, 75, 0.01),
        (COSINE | {"warmup": 0.1}, 0, 0.1),  # ten steps up, the first one above 0
        (COSINE | {"warmup": 0.1}, 9, 1.0),
        (COSINE | {"warmup": 0.1}, 10, 1.0),  # the cosine starts where the warm-up ends
        (COSINE | {"warmup": 0.1}, 55, 0.5),
        (STEP | {"warmup": 0.1}, 60, 0.1),
    ],
)
def test_learning_rate_is_a_closed_form_of_the_step(train, step, factor):
    assert lr_factor(TrainConfig(steps=100, **train), step) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize("warmup", [0.0, 0.013, 0.1, 0.33, 0.99])
@pytest.mark.parametrize("steps", [2, 30, 151])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_learning_rate_never_passes_its_peak(warmup, steps, schedule):
    train = TrainConfig(steps=steps, warmup=warmup, schedule=schedule)
    factors = [lr_factor(train, step) for step in range(steps)]
    assert min(factors) > 0 and max(factors) <= 1.0


SMALL = {
    name: {"channels": 16, "blocks": 1} for name, row in MODELS.items() if row.trainable and row.family == "regression"
}
SMALL["swinir"] = SMALL["swinir_light"] = {"channels": 12, "blocks": 1, "layers": 2, "heads": 2, "drop_path": 0.5}
SMALL["idn"] = {"channels": 16, "blocks": 1, "variant": "rgb_shuffle"}


@pytest.mark.parametrize("objective", ["l1", "expectation"])
@pytest.mark.parametrize("model", SMALL)
def test_every_network_resumes_bit_equal(plan, store, tmp_path, model, objective):
    """Drop-path and BatchNorm too: they draw from generators that are seeded by (seed, step, rank)."""
    config = plan(objective, model=model, hyper=SMALL[model], steps=4, patch=8, validate_every=2, checkpoint_every=1)
    run_trial(config, store, go_on, out_dir=tmp_path / "whole")
    assert run_trial(config, store, lambda step, _m: "stop", out_dir=tmp_path / "cut").step == 2
    run_trial(config, store, go_on, out_dir=tmp_path / "cut")
    whole, cut = ((tmp_path / folder / "model" / "model.safetensors").read_bytes() for folder in ("whole", "cut"))
    assert whole == cut


def test_a_trial_starts_from_given_weights_and_resumes_from_its_own(plan, store, tmp_path):
    net = trial.build_network(plan())
    first = tmp_path / "first.safetensors"
    safetensors.torch.save_file(net.state_dict(), first)
    config = plan(steps=4, lr=1e-9, warmup=0, ema=None, validate_every=2).model_copy(
        update={"init": sha256_file(first)}
    )
    assert config.fingerprint != plan(steps=4, lr=1e-9, warmup=0, ema=None, validate_every=2).fingerprint
    with pytest.raises(ValueError, match="planned with init"):
        run_trial(config, store, go_on, out_dir=tmp_path / "none")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(flip(first.read_bytes()))
    with pytest.raises(
        InputError, match=r"damaged\.safetensors is damaged \(its sha256 is not .*delete it and run again"
    ):
        run_trial(config, store, go_on, out_dir=tmp_path / "none", init=damaged)
    run_trial(config, store, lambda step, _m: "stop", out_dir=tmp_path / "cut", init=first)
    run_trial(config, store, go_on, out_dir=tmp_path / "cut", init=first)
    run_trial(config, store, go_on, out_dir=tmp_path / "whole", init=first)
    cut, whole = (load_checkpoint(tmp_path / folder / "model")[0].state_dict() for folder in ("cut", "whole"))
    assert all(torch.equal(cut[key], whole[key]) for key in whole)
    assert all(torch.allclose(whole[key], value, atol=1e-7) for key, value in net.state_dict().items())
