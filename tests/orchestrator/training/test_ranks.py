"""A trial over several workers computes what one worker computes: real processes that talk over gloo."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from objectives import resolve
from orchestrator.plan.train import TrainConfig
from orchestrator.plan.trial import Measured, TrialConfig
from orchestrator.run import checkpoint, journal
from orchestrator.run.checkpoint import CHECKPOINT
from orchestrator.run.journal import JOURNAL
from orchestrator.training.loop import run_trial
from orchestrator.training.ranks import Ranks
from sr_models.hyper.process import ProcessParams
from sr_models.hyper.sampling import Sampling

ROOT = Path(__file__).resolve().parents[3]
STEPS, BATCH = 30, 6
NARROW = {"expectation": {"recipe": "expectation", "sigma.width": 8}}  # as wide as the network, and not 20 times that
NARROW["dream+nutl"] = {"recipe": "dream+nutl", "timesteps.terminal": {"weight": "alpha_bar"}}

WORKER = """
import json, os, sys
from pathlib import Path
import torch
from orchestrator.plan.trial import TrialConfig
from orchestrator.data.store import PatchStore
from orchestrator.training.loop import run_trial

given = json.loads(sys.argv[1])
torch.set_num_threads(1)
store = PatchStore.open(Path(given["store"]), verify=False)
ids, batch = [], store.batch
def watched(**asked):
    made = batch(**asked)
    if asked["step"] < given["config"]["train"]["steps"]:  # later ones only measure what sigma is compared with
        ids.append(made.sample_ids.tolist())
    return made
store.batch = watched
torch.distributed.init_process_group("gloo", init_method=given["group"], rank=given["rank"], world_size=given["world"])
heard = []
def report(step, metrics):
    heard.append((step, metrics))
    if step == given["die_at"]:
        os._exit(9)
    return "continue"
result = run_trial(TrialConfig.model_validate(given["config"]), store, report, rank=given["rank"], world=given["world"],
                   out_dir=Path(given["out"]), micro_batch=given["micro_batch"])
Path(given["ids"]).write_text(json.dumps(ids))
print(json.dumps({"status": result.status, "cause": result.cause, "heard": heard}))
torch.distributed.destroy_process_group()
"""


@pytest.fixture
def plan(store):
    def make(objective: str = "l1", *, noise: dict | None = None, **train) -> TrialConfig:
        given = {"steps": STEPS, "batch_size": BATCH, "patch": 8, "lr": 2e-3, "ema": 0.9, "clip_norm": 1.0}
        return TrialConfig(
            **{"model": "edsr_baseline", "scale": 2, "hyper": {"channels": 8, "blocks": 1}} | (noise or {}),
            objective=resolve(NARROW.get(objective, objective)),
            train=TrainConfig(**given | {"validate_every": 5, "checkpoint_every": 4} | train), seed=5,
            protocol="classical", metrics=("psnr_y", "ssim_y"), data_hash=store.data_hash,
        )  # fmt: skip

    return make


def run(config, store, out: Path, world: int, *, micro_batch=None, die_at=None) -> list[dict]:
    """Every worker's result, in order of rank; an empty dict for one that died."""
    out.mkdir(exist_ok=True)
    (out / "group").unlink(missing_ok=True)
    common = {"config": config.model_dump(mode="json"), "store": str(store.folder), "world": world, "out": str(out),
              "micro_batch": micro_batch, "group": f"file://{out / 'group'}"}  # fmt: skip
    workers = []
    for rank in range(world):
        own = {"rank": rank, "ids": str(out / f"ids{rank}.json"), "die_at": die_at if rank == world - 1 else None}
        command = [sys.executable, "-c", WORKER, json.dumps(common | own)]
        workers.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    try:
        if die_at is not None:
            assert workers[-1].wait(100) == 9
            for worker in workers:  # what Ray Train does with the others
                worker.kill()
        said = [worker.communicate(timeout=100) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    if die_at is not None:
        return []
    assert all(worker.returncode == 0 for worker in workers), said
    return [json.loads(out) for out, _ in said]


def losses(folder: Path) -> np.ndarray:
    return np.array([e["metrics"]["train.loss"] for e in journal.steps(journal.read(folder / JOURNAL))])


def assert_same_training(one: Path, other: Path) -> None:
    """Loss curve, validation scores and every parameter, raw and averaged, within float order."""
    a, b = (journal.steps(journal.read(folder / JOURNAL)) for folder in (one, other))
    assert [e["step"] for e in a] == [e["step"] for e in b] == list(range(5, STEPS + 1, 5))
    for x, y in zip(a, b, strict=True):
        for name in x["metrics"].keys() - {"train.seconds"}:
            tolerance = 1e-3 if "psnr" in name else 1e-5
            assert x["metrics"][name] == pytest.approx(y["metrics"][name], abs=tolerance), (x["step"], name)
    first, second = (checkpoint.load(folder / CHECKPOINT) for folder in (one, other))
    for kind in ("model", "ema"):
        for name, value in first[kind].items():
            assert torch.allclose(value, second[kind][name], rtol=0, atol=1e-5), (kind, name)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("objective", "world", "micro_batch", "train"),
    [("l1", 2, None, {}), ("expectation", 3, 1, {}), ("image_mixup", 2, 2, {"lr_noise": 0.01}), ("l1", 4, None, {})],
)
def test_k_workers_equal_one(plan, store, tmp_path, objective, world, micro_batch, train):
    """Even and uneven slices, with and without accumulation; noise, partners and shares are drawn by sample."""
    config = plan(objective, **train)
    alone, shared = tmp_path / "one", tmp_path / "many"
    assert run_trial(config, store, lambda *_: "continue", out_dir=alone).status == "complete"
    results = run(config, store, shared, world, micro_batch=micro_batch)
    assert [r["status"] for r in results] == ["complete"] * world
    assert all([s for s, _ in r["heard"]] == [*range(5, STEPS, 5), STEPS] for r in results)

    curve = losses(alone)
    print(f"\n{objective}: step, loss on one worker, on {world}")
    for step, one, many in zip(range(5, STEPS + 1, 5), curve, losses(shared), strict=True):
        print(f"{step:3} {one:.8f} {many:.8f}")
    assert curve[-1] < 0.8 * curve[0], "a curve that does not move proves nothing"
    assert_same_training(alone, shared)
    slices = [json.loads((shared / f"ids{rank}.json").read_text()) for rank in range(world)]
    gathered = [[i for ids in step for i in ids] for step in zip(*slices, strict=True)]
    assert gathered == [list(range(step * BATCH, (step + 1) * BATCH)) for step in range(STEPS)]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("model", "objective", "train"),
    [
        ("sr3", "dream+nutl", {}),
        pytest.param("idm", "ddpm", {"scales": {"low": 1, "high": 4}}, marks=[pytest.mark.slow, pytest.mark.long]),
    ],
)
def test_two_workers_train_a_diffusion_network_in_all_its_updates_as_one(
    plan, store, tmp_path, model, objective, train
):
    """Steps, noise levels and noise are drawn by sample, scales by step, validations' noise by image; no dropout."""
    own = {"features": 8, "encoder_blocks": 1} if model == "idm" else {}
    noise = {
        "model": model, "process": ProcessParams(T=40, beta_end=0.3, prediction="v"),
        "sampling": Sampling(sampler="ddim", steps=3),
        "measured": Measured(images=2, crop=16),
        "hyper": {"channels": 8, "mults": (1,), "attention": (), "blocks": 1, "dropout": 0.0, "groups": 4} | own,
    }  # fmt: skip
    config = plan(objective, noise=noise, **train)
    assert run_trial(config, store, lambda *_: "continue", out_dir=tmp_path / "one").status == "complete"
    results = run(config, store, tmp_path / "two", 2)
    assert [r["status"] for r in results] == ["complete"] * 2
    assert_same_training(tmp_path / "one", tmp_path / "two")


def test_accumulation_equals_one_pass(plan, store, tmp_path):
    for micro_batch in (None, 4):
        run_trial(plan(), store, lambda *_: "continue", out_dir=tmp_path / str(micro_batch), micro_batch=micro_batch)
    assert_same_training(tmp_path / "None", tmp_path / "4")


@pytest.mark.timeout(240)
def test_a_lost_worker_costs_the_steps_since_the_last_checkpoint_and_fewer_workers_finish(plan, store, tmp_path):
    """Killed as 3, gone on as 2, against 1 that was never disturbed: each journalled step is there once."""
    config = plan()
    run_trial(config, store, lambda *_: "continue", out_dir=tmp_path / "one")
    run(config, store, tmp_path / "many", 3, die_at=10)
    assert checkpoint.load(tmp_path / "many" / CHECKPOINT)["step"] >= 10
    run(config, store, tmp_path / "many", 2)
    assert_same_training(tmp_path / "one", tmp_path / "many")


@pytest.mark.timeout(240)
def test_all_workers_give_up_together_on_a_loss_that_is_not_finite(plan, store, tmp_path):
    results = run(plan(lr=1e6, clip_norm=None, warmup=0.0), store, tmp_path, 2)
    assert {r["status"] for r in results} == {"failed"} and "not finite" in results[0]["cause"]
    assert journal.end(journal.read(tmp_path / JOURNAL))["status"] == "failed"


def test_a_worker_without_its_process_group_is_refused():
    with pytest.raises(ValueError, match="rank 1 of 2 was asked for, the process group says 0 of 1"):
        Ranks(1, 2)
