"""A finished run as its sweep would leave it, made by library calls: five small networks trained for a few steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.run.folder import RunDir

MakePictures = Callable[..., Path]
Train = Callable[[RunDir, Plan], None]

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


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory, photographs: MakePictures, train: Train) -> RunDir:
    """The run; tests leave it as it is, but for what probes add."""
    folder = tmp_path_factory.mktemp("probed")
    data = {
        "train": [{"hr": str(photographs(folder / "train", 3))}],
        "validation": [{"hr": str(photographs(folder / "validation", 1, 5))}],
        "test": {"toys": {"hr": str(photographs(folder / "test", 2, 9))}},
    }
    plan = make_plan(SweepConfig.parse({**CONFIG, "data": data}, "toy"))
    run = RunDir(folder / "runs" / "toy-1a2b3c4d")
    train(run, plan)
    return run


@pytest.fixture(scope="session")
def noise_run(tmp_path_factory: pytest.TempPathFactory, photographs: MakePictures, train: Train) -> RunDir:
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
    train(run, make_plan(SweepConfig.parse(config, "noise")))
    return run


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
