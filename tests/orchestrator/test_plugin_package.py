"""examples/plugin and the page's degradation, installed beside an environment, from a network to rows on the board."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cluster import ray_runtime
from sr_models.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]


def install(package: Path, target: Path) -> None:
    """By pip, without a network; by setuptools alone where it is one that makes no wheels."""
    wheels = find_spec("wheel") is not None or int(version("setuptools").partition(".")[0]) > 70
    target.mkdir()
    if wheels:
        given = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
        command = [sys.executable, *given, "--target", str(target), "."]
    else:
        setup = "import setuptools; setuptools.setup()"
        options = ["-q", "egg_info", "--egg-base", str(target), "build_py", "--build-lib", str(target)]
        command = [sys.executable, "-W", "ignore", "-c", setup, *options]
    subprocess.run(command, cwd=package, check=True, timeout=120)


def command(folder: Path, *words: str, site: Path | None) -> subprocess.CompletedProcess[str]:
    """A command of ours, as a user gives it in a folder; `site`: where a plug-in is installed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "PYTEST_"))}
    paths = os.pathsep.join(map(str, [ROOT, *([site] if site else [])]))
    environment = clean | {"PYTHONPATH": paths, "SR_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def test_the_example_goes_through_a_sweep_to_the_board(tmp_path, documented):
    package, site = shutil.copytree(ROOT / "examples/plugin", tmp_path / "package"), tmp_path / "site"
    (package / "degradation.py").write_text(documented)
    about = (package / "pyproject.toml").read_text().replace("py-modules = [", 'py-modules = ["degradation", ')
    entry = '[project.entry-points."sr_sweep.degradations"]\nbox = "degradation:Box"\n'
    (package / "pyproject.toml").write_text(f"{about}\n{entry}")
    install(package, site)
    random = np.random.Generator(np.random.Philox(7))
    for name, count in {"train": 2, "validation": 1, "test": 2}.items():
        (tmp_path / name).mkdir()
        for k in range(count):
            fine = np.kron(random.integers(40, 216, (12, 14, 3)), np.ones((8, 8, 1), np.int64)).astype(np.uint8)
            Image.fromarray(fine).save(tmp_path / name / f"{k}.png")
    config = {
        "name": "mine", "scales": [2], "models": {"tiny_net": {"channels": 4}, "edsr_baseline": {"blocks": 1}},
        "objectives": {"tiny_huber": {"search": ["loss.delta"]}},
        "data": {"train": [{"hr": "train"}], "validation": [{"hr": "validation"}], "test": {"own": {"hr": "test"}}},
        "train": {"steps": 6, "batch_size": 2, "patch": 8, "validate_every": 3, "degradation": "box"},
        "search": {"trials": 2}, "evaluation": {"metrics": ["psnr_y", "mean_error"]},
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))

    done = command(tmp_path, "orchestrator.sweep", "mine.yaml", site=site)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    said = " ".join(done.stdout.split())
    ours, own = "objective tiny_huber, degradation box (sr-sweep-example 0.1)", "model tiny_net, "
    assert f"tiny_net × tiny_huber: by plug-ins, {own}{ours}" in said
    assert f"edsr_baseline × tiny_huber: by plug-ins, {ours}" in said
    assert "by plug-ins, metric mean_error (sr-sweep-example 0.1)" in said
    [run] = (tmp_path / "runs").glob("mine-*")
    rows = list(csv.DictReader((run / "leaderboard.csv").open()))
    assert {row["model"]: row["plugins"] for row in rows} == {
        "bicubic": "", "tiny_net": own + ours, "edsr_baseline": ours,
    }  # fmt: skip
    assert all(float(row["mean_error"]) > 0 for row in rows)
    trials = [json.loads(path.read_text())["config"] for path in run.parent.glob("shared/trials/*/trial.json")]
    stamps = {"objective tiny_huber": "sr-sweep-example 0.1", "degradation box": "sr-sweep-example 0.1"}
    assert {len(config["plugins"]) for config in trials} == {2, 3} and len(trials) == 6
    assert all(stamps.items() <= config["plugins"].items() for config in trials)

    for words in (["orchestrator.leaderboard", str(run)], ["orchestrator.upscale", str(run), "test", "-o", "out"]):
        without = command(tmp_path, *words, site=None)
        assert without.returncode == 2 and "plug-in sr-sweep-example 0.1 (" in without.stderr, without.stderr
    [about] = [path for path in site.rglob("*") if path.name in ("METADATA", "PKG-INFO")]
    about.write_text(re.sub(r"(?m)^Version: 0.1$", "Version: 0.2", about.read_text()))
    newer = command(tmp_path, "orchestrator.sweep", "mine.yaml", site=site)
    assert newer.returncode == 2 and "plug-ins changed since mine-" in newer.stderr, newer.stderr
    assert command(tmp_path, "orchestrator.leaderboard", str(run), site=site).returncode == 0


def test_a_node_that_lacks_a_plugin_is_named():
    with ray_runtime.connect(None, cpus=1):
        ray_runtime.check_plugins({"model own": f"numpy {np.__version__}"})
        with pytest.raises(InputError, match=r"1 of the cluster's 1 nodes .*: plug-in sr-gone 1.0 \(model own\)"):
            ray_runtime.check_plugins({"model own": "sr-gone 1.0"})
