"""Sweeps from Python: a run is read without Ray, and what a command says in one line is raised."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator import api, sweep
from orchestrator.api import Budget, InputError, load_run, run_sweep
from orchestrator.leaderboard.write import write_files
from orchestrator.run.budget import BudgetReached

ROOT = Path(__file__).resolve().parents[2]

READ = """
import sys
from orchestrator.api import load_run
run = load_run(sys.argv[1])
assert len(run.board.to_dataframe()) == 3 and run.board.best.trained and "scored-1a2b3c4d" in run.status, run.board
print(sorted({"ray", "mlflow"} & sys.modules.keys()))
"""


def test_a_run_is_read_without_ray_and_mlflow(scored_run):
    done = subprocess.run(
        [sys.executable, "-c", READ, str(scored_run.path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n", done.stderr


def test_rows_are_typed_and_the_frame_is_the_csv(scored_run, tmp_path):
    pandas = pytest.importorskip("pandas")
    found = load_run(scored_run.path).board
    assert [row.id for row in found] == [entry.id for board in found.boards for entry in board.entries]
    best = found.best
    assert best.trained and best.weights_folder and (best.weights_folder / "model.json").exists()
    assert best.lead and best.scores["toys"]["psnr_y"].by_seed.keys() == best.lead.by_seed.keys() and best.seeds == 2
    write_files(found.boards, tmp_path, {"run": scored_run.name})
    frame, csv = found.to_dataframe(), pandas.read_csv(tmp_path / "leaderboard.csv")
    assert list(frame.columns) == list(csv.columns)
    assert np.allclose(frame["psnr_y"], csv["psnr_y"], rtol=1e-12) and list(frame["combination"]) == [*csv.combination]
    assert "python -m orchestrator.upscale" in str(found) == repr(found)


def test_a_run_on_a_storage_is_brought_here(scored_run, tmp_path, monkeypatch):
    monkeypatch.setenv("SR_CACHE", str(tmp_path / "cache"))
    shutil.copytree(scored_run.output, tmp_path / "stored", ignore=shutil.ignore_patterns("store", "home.json"))
    run = load_run(f"file://{tmp_path / 'stored'}/{scored_run.name}", output=tmp_path / "here")
    assert (run.folder, run.storage) == (tmp_path / "here" / scored_run.name, f"file://{tmp_path / 'stored'}")
    assert [row.id for row in run.board] == [row.id for row in load_run(scored_run.path).board]


def test_the_winner_in_use(scored_run, tmp_path):
    run = load_run(scored_run.path)
    Image.fromarray(np.zeros((9, 10, 3), np.uint8)).save(tmp_path / "a.png")
    assert run.upscale([tmp_path / "a.png"], tmp_path / "out", row="x2/edsr_baseline/l1")
    assert Image.open(tmp_path / "out" / "a.png").size == (20, 18)
    assert not run.upscale([tmp_path / "gone.png"], tmp_path / "out")
    assert run.network("x2/edsr_baseline/l1").scale == 2
    with pytest.raises(InputError, match="no row 'x2/edsr/l1'"):
        run.network("x2/edsr/l1")


def test_what_cannot_be_run_or_read_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        load_run(tmp_path)
    with pytest.raises(InputError, match="unknown preset 'quik'"):
        run_sweep("quik", output=tmp_path)
    gone = {"train": [{"hr": str(tmp_path / "gone")}], "validation": [{"hr": str(tmp_path / "gone")}]}
    gone["test"] = {"t": {"hr": str(tmp_path / "gone")}}
    config = {"name": "x", "models": ["imdn"], "objectives": ["l1"], "data": gone}
    with pytest.raises(InputError, match="gone"):
        run_sweep(config, output=tmp_path)
    with pytest.raises(InputError, match=r"seedz.*seeds"):
        run_sweep({**config, "seedz": 3}, output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_config_is_a_mapping_a_file_or_a_preset_and_failed_rows_are_told(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setenv("SR_TRACKING_URI", "sqlite:////elsewhere.db")

    def carry_out(plan, folder, services, again, budget):
        asked.append((plan.config, services))
        if budget.max_trials:
            raise BudgetReached(f"stopped by --max-trials; go on with: {again}")
        return ["r"]

    monkeypatch.setattr(sweep, "carry_out", carry_out)
    run = run_sweep("quick", ["seeds=2"], output=tmp_path)
    config, services = asked[0]
    assert (config.seeds, run.unscored, run.folder) == (2, ("r",), tmp_path / config.run_name)
    assert services.tracking_uri == "sqlite:////elsewhere.db" and services.address is None
    fields = config.model_dump(mode="json")
    assert run_sweep(fields, output=tmp_path).folder == run.folder == run_sweep(config, output=tmp_path).folder
    assert run_sweep(config, ["seeds=3"], output=tmp_path).folder != run.folder
    assert fields == config.model_dump(mode="json")
    cut = run_sweep(config, output=tmp_path, budget=Budget(max_trials=1))
    assert (cut.folder, cut.stopped) == (run.folder, "stopped by --max-trials; go on with: the same call")


def test_what_is_documented_is_there():
    assert {"run_sweep", "load_run", "InputError", "LostError"} <= set(api.__all__) <= set(vars(api))
