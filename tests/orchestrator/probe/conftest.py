"""A finished run as its sweep would leave it, made by library calls: five small networks trained for a few steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from orchestrator.data.build import build_store
from orchestrator.data.inputs import Inputs
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.run.folder import STORES, RunDir
from orchestrator.run.records import SearchCounts, WinnerRecord, write_plan, write_winners
from orchestrator.run.roles import Roles
from orchestrator.training.loop import run_trial
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.images.operators import to_uint8
from sr_models.inference.super_resolve import super_resolve

SMALL = {"channels": 8, "blocks": 1}
NUTL = {"timesteps.terminal": {"weight": "alpha_bar"}}
CONFIG: dict[str, Any] = {
    "name": "toy",
    "models": {"edsr_baseline": SMALL},
    "objectives": {"l1": {}, "eco": {}, "expectation": {"sigma.width": 8}},
    "teacher": {"model": "edsr_baseline", "hyper": SMALL},
    "train": {
        "steps": 12, "batch_size": 4, "patch": 12, "validate_every": 4, "checkpoint_every": 12, "lr": 2e-3,
        "snapshots": [0.34, 0.67],
    },
    "seeds": 2,
}  # fmt: skip


def photographs(folder: Path, count: int, first: int = 0) -> Path:
    """Smooth random pictures with a little noise, 64x80 px."""
    folder.mkdir(parents=True)
    for i in range(count):
        random = np.random.default_rng(first + i)
        coarse = torch.from_numpy(random.random((1, 3, 8, 10)))
        smooth = torch.nn.functional.interpolate(coarse, (64, 80), mode="bicubic", align_corners=False)
        noisy = smooth + 0.03 * torch.from_numpy(random.standard_normal((1, 3, 64, 80)))
        Image.fromarray(to_uint8(noisy.clamp(0, 1).float())[0]).save(folder / f"{first + i}.png")
    return folder


def train_run(run: RunDir, plan: Plan) -> None:
    """Do what a sweep does without a search: store, teacher, centroids, every combination's seeds, winners."""
    config, inputs = plan.config, Inputs(plan.config)
    run.make()
    run.config.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    [scale] = config.scales
    store = build_store(
        run.at(STORES), train=inputs.sources["train"], validation=inputs.sources["validation"], scale=scale
    )
    roles, teacher = Roles(run), None
    if plan.teacher_scales:
        assert config.teacher is not None
        trial = plan.teacher_trial(scale, store.data_hash)
        roles.add(trial, combination=None, role="teacher")
        out = run.trial(trial.fingerprint)
        run_trial(trial, store, lambda *_: "continue", out_dir=out, run=run.name, steered=False)
        net, info = load_checkpoint(out / "model")
        teacher = config.teacher.centroids(info.weights_sha256)
        store.add_centroids(teacher, store.centroids_by(lambda lr: super_resolve(net, lr).sr))
    winners = {}
    for combination in plan.combinations:
        fingerprints = []
        for seed in range(config.seed + 1, config.seed + 1 + config.seeds):
            trial = plan.trial(combination, {}, seed, store.data_hash, teacher)
            roles.add(trial, combination=combination.id, role="final")
            out = run.trial(trial.fingerprint)
            run_trial(trial, store, lambda *_: "continue", out_dir=out, run=run.name, steered=False)
            fingerprints.append(trial.fingerprint)
        winners[combination.id] = WinnerRecord(
            number=None, params={}, fingerprints=tuple(fingerprints),
            search=SearchCounts(trials=0, pruned=0, failed=0), train_seconds=1.0,
        )  # fmt: skip
    tests = {key: bench.hash for key, bench in inputs.benchmarks.items()}
    hashes = {scale: store.data_hash}
    teachers = {scale: teacher} if teacher else {}
    write_plan(run, plan, data_hash=hashes, benchmarks=tests, inits={}, teachers=teachers, trials_at_a_time=1)
    write_winners(run.winners, winners)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The run; tests leave it as it is, but for what probes add."""
    folder = tmp_path_factory.mktemp("probed")
    data = {
        "train": [{"hr": str(photographs(folder / "train", 3))}],
        "validation": [{"hr": str(photographs(folder / "validation", 1, 5))}],
        "test": {"toys": {"hr": str(photographs(folder / "test", 2, 9))}},
    }
    plan = make_plan(SweepConfig.parse({**CONFIG, "data": data}, "toy"))
    run = RunDir(folder / "runs" / "toy-1a2b3c4d")
    train_run(run, plan)
    return run


@pytest.fixture(scope="session")
def noise_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run of diffusion networks; tests leave it as it is, but for what probes add."""
    folder = tmp_path_factory.mktemp("denoisers")
    sr3 = {"channels": 8, "mults": [1], "attention": [], "blocks": 1, "dropout": 0.0, "groups": 4}
    config = {
        "name": "noise", "models": {"sr3": sr3}, "objectives": {"ddpm": {}, "dream": {}, "nutl": NUTL},
        "process": {"T": 40, "beta_end": 0.3}, "board": {"baseline": "ddpm"}, "seeds": 2,
        "train": {"steps": 12, "batch_size": 2, "patch": 8, "lr": 2e-3, "validate_every": 3, "checkpoint_every": 12},
        "validation": {"images": 1, "crop": 16, "steps": 8},
        "data": {
            "train": [{"hr": str(photographs(folder / "train", 2))}],
            "validation": [{"hr": str(photographs(folder / "validation", 1, 5))}],
            "test": {"toys": {"hr": str(photographs(folder / "test", 2, 9))}},
        },
    }  # fmt: skip
    run = RunDir(folder / "runs" / "noise-1a2b3c4d")
    train_run(run, make_plan(SweepConfig.parse(config, "noise")))
    return run


@pytest.fixture(scope="session")
def train() -> Callable[[RunDir, Plan], None]:
    """Does to an empty run folder what a sweep would."""
    return train_run


@pytest.fixture
def probe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, str]]:
    """Runs the command in this process; returns what it wrote to standard output and to errors."""
    from orchestrator.probe.__main__ import main

    monkeypatch.delenv("SR_STORAGE", raising=False)
    monkeypatch.delenv("SR_TRACKING_URI", raising=False)

    def run(*words: object, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        assert main([*map(str, words)]) == code
        out, err = capsys.readouterr()
        return out, err

    return run
