"""A sweep's data, weights and pictures in MLflow: by hashes, without pickle, each once."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.pictures.crops import write_crops
from orchestrator.leaderboard.write import write
from orchestrator.run.folder import RunDir
from orchestrator.tracking.address import check, client
from orchestrator.tracking.deliver import Tracker
from sr_models.checkpoints.folder import load_checkpoint
from sr_models.files import read_json


@pytest.fixture
def run(scored_run: RunDir, tmp_path: Path) -> RunDir:
    shutil.copytree(scored_run.output, tmp_path / "runs", ignore=shutil.ignore_patterns("store"))
    made = RunDir(tmp_path / "runs" / scored_run.name)
    write(made.path)
    made.pictures.mkdir()
    grey = np.full((8, 8, 3), 128, np.uint8)
    labels = ("LR", "bicubic", "edsr_baseline × l1", "sr3 × nutl draw 0 of 2", "HR")
    panels = [(label, grey, "") for label in labels]
    write_crops(made.pictures / "crops_toys_x2.json", benchmark="toys", scale=2, panels=panels, box=(0, 0, 4, 4))
    return made


def test_data_weights_and_pictures_are_there_once(run, tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    check(uri)
    tracker, mlflow = Tracker(run.path, uri), client(uri)
    assert tracker.sync() > 0 and tracker.sync() == 0 and tracker.complete
    assert Tracker(run.path, uri).sync() == 0

    [sweep] = [r for r in runs(mlflow, "scored") if r.data.tags["role"] == "sweep"]
    used = {
        one.tags[0].value: (one.dataset.name, one.dataset.digest, one.dataset.source)
        for one in sweep.inputs.dataset_inputs
    }
    plan = read_json(run.plan)
    assert used["training"][:2] == ("scored train and validation x2", plan["data_hash"]["x2"][:32])
    assert used["testing"][:2] == ("toys x2", plan["benchmarks"]["toys x2"][:32])
    assert '"hr": ' in used["training"][2] and '"hr": ' in used["testing"][2]

    [version] = mlflow.search_model_versions("name = 'scored-x2'")
    assert (version.run_id, version.tags["row"]) == (sweep.info.run_id, "edsr_baseline × l1")
    assert sweep.data.tags["registered scored-x2"] == "version 1: edsr_baseline × l1"
    import mlflow as library

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    folder = Path(library.artifacts.download_artifacts("models:/scored-x2/1"))
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    net, info = load_checkpoint(folder)
    assert info.fingerprint == version.tags["fingerprint"] and info.weights_sha256 == version.tags["weights_sha256"]
    assert net(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 16, 16)
    assert 'download_artifacts("models:/scored-x2/1")' in version.description

    shown = {r.info.run_name: [f.path for f in mlflow.list_artifacts(r.info.run_id)] for r in board(mlflow)}
    assert shown == {name: ["crops_toys_x2.png"] for name in ("bicubic", "edsr_baseline × l1", "sr3 × nutl")}

    # a store that is asked again by a folder that has forgotten: the same version, and no second one
    run.tracking.unlink()
    Tracker(run.path, uri).sync()
    assert len(mlflow.search_model_versions("name = 'scored-x2'")) == 1

    # what is damaged is left out and said, and the rest arrives
    run.tracking.unlink()
    (run.at(version.tags["weights_folder"]) / "model.json").write_text("[]")
    tracker = Tracker(run.path, uri)
    tracker.sync()
    assert not tracker.complete and len(board(mlflow)) == 3


def runs(mlflow, experiment):
    found = mlflow.get_experiment_by_name(experiment)
    return mlflow.search_runs([found.experiment_id])


def board(mlflow):
    return runs(mlflow, "scored leaderboard")
