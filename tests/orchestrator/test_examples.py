"""The files of `examples/`: each config plans, and the script cuts what its docstring says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.plan.cost import forwards
from orchestrator.plan.plan import make_plan
from orchestrator.plan.read import load
from orchestrator.plan.text import plan_text

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_plans(path, monkeypatch):
    """Each names the folders that it needs as the variables that its first lines explain."""
    for name in ("SR_DATA", "SR_CROPS"):
        if f"${{{name}}}" in path.read_text(encoding="utf-8"):
            monkeypatch.setenv(name, "elsewhere")
    config = load(str(path))
    assert f"sweep {config.name}-" in plan_text(make_plan(config), 2)


def test_ccsrs_objectives_are_compared_at_equal_images_and_at_equal_cost(monkeypatch):
    for name in ("SR_DATA", "SR_CROPS"):
        monkeypatch.setenv(name, "elsewhere")
    plan = make_plan(load(str(EXAMPLES / "ccsr_world.yaml")))
    found = {c.objective: c for c in plan.combinations if c.label == "ccsr"}
    steps = {name: c.train.steps for name, c in found.items()}
    cost = {name: c.train.steps * forwards(c.spec) for name, c in found.items()}
    assert steps["ddpm"] == steps["nutl"] and cost["ddpm_3x"] == cost["nutl"] == 3 * cost["ddpm"]
    assert {c.spec.loss.norm for c in found.values()} == {"l2"}
    assert found["ddpm_3x"].spec == found["ddpm"].spec


def test_crops_are_where_bicubic_misses_most(tmp_path):
    """A chessboard's pixels are beyond ×4 LR, and its grey surroundings are not."""
    (tmp_path / "hr").mkdir()
    image = np.full((96, 96, 3), 128, np.uint8)
    image[48:, 48:] = 255 * (np.indices((48, 48)).sum(0) % 2)[..., None]
    Image.fromarray(image).save(tmp_path / "hr" / "a.png")
    Image.fromarray(image[:40]).save(tmp_path / "hr" / "too_small.png")
    command = [sys.executable, str(EXAMPLES / "cut_crops.py"), str(tmp_path / "hr"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    [crop] = (tmp_path / "out").iterdir()
    assert np.array_equal(np.asarray(Image.open(crop)), image[48:, 48:]) and "a: bicubic reaches 6.0" in done.stdout
