"""A sweep whose network and teacher are files of other projects: recognised, trained, taught by, scored."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import sr_models
from eval.__main__ import main as evaluate
from orchestrator.evaluate import chosen
from orchestrator.plan.config import SweepConfig
from orchestrator.plan.plan import make_plan
from orchestrator.sweep import main
from sr_models.checkpoints import published, zoo
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.errors import InputError

pytest.importorskip("spandrel")

DATA = {
    "train": [{"hr": "skimage:", "include": ["astronaut.png"]}],
    "validation": [{"hr": "skimage:", "include": ["chelsea.png"]}],
    "test": {"coffee": {"hr": "skimage:", "include": ["coffee.png"]}},
}


def files(folder):
    from spandrel.architectures.Compact import Compact
    from spandrel.architectures.HAT import HAT

    torch.manual_seed(0)
    hat = HAT(
        upscale=2, embed_dim=12, depths=[1], num_heads=[2], window_size=8, num_feat=8, squeeze_factor=4,
        overlap_ratio=0.5, upsampler="pixelshuffle",
    )  # fmt: skip
    torch.save({"params_ema": hat.state_dict()}, folder / "hat.pth")
    torch.save({"params": Compact(num_feat=8, num_conv=1, upscale=2).state_dict()}, folder / "mine.pth")
    return folder / "mine.pth", folder / "hat.pth"


def config(mine, hat):
    return {
        "name": "zoo",
        "scales": [2],
        "models": {"mine": {"weights": str(mine)}, "edsr_baseline": {"channels": 8, "blocks": 1}},
        "objectives": {"l1": {}, "kd": {}, "expectation": {}},
        "teacher": {"weights": str(hat)},
        "data": DATA,
        "train": {"steps": 4, "batch_size": 2, "patch": 16, "validate_every": 4},
        "search": {"trials": 1},
        "evaluation": {"metrics": ["psnr_y"]},
    }


def test_a_file_in_a_config_is_a_network_that_starts_from_it(tmp_path):
    mine, hat = files(tmp_path)
    read = SweepConfig.parse(config(mine, hat), "test")
    entry = read.models["mine"]
    assert (entry["model"], entry["architecture"], entry["init"]) == ("zoo", "Compact", str(mine))
    mine.unlink()  # what the run folder keeps needs the file no more
    assert SweepConfig.parse(read.model_dump(mode="json"), "again").hash == read.hash
    plan = make_plan(read)
    assert plan.skipped == (
        ("x2/mine/expectation", "objective: has a sigma branch, which reads features, and zoo exposes none"),
    )
    with pytest.raises(InputError, match="leave out model"):
        SweepConfig.parse({**config(hat, hat), "models": {"mine": {"weights": str(hat), "model": "edsr"}}}, "test")
    with pytest.raises(InputError, match=r"models.mine.weights: .*no such file"):
        SweepConfig.parse(config(mine, hat), "test")


def test_a_table_names_it_by_its_architecture_and_rows_keep_their_keys(tmp_path, capsys):
    mine, _ = files(tmp_path)
    hyper, _ = zoo.read(mine)
    net = published.load_weights(mine, model="zoo", scale=2, hyper=hyper.model_dump())
    folder = tmp_path / "net"
    save_checkpoint(
        folder, net, model="zoo", scale=2, hyper=hyper.model_dump(), sigma=None, ema=False, fingerprint=None
    )
    pictures = tmp_path / "hr"
    pictures.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)).save(pictures / "a.png")
    rows = tmp_path / "rows.parquet"
    for weights in (mine, folder):
        scored = ["--weights", str(weights), "--hr", str(pictures), "--metrics", "psnr_y", "--parquet", str(rows)]
        assert evaluate(scored) == 0
        assert capsys.readouterr().out.startswith("Compact (zoo) x2, protocol classical-y-b2, 1,700 parameters, ")
        assert pq.read_table(rows).column("model").to_pylist() == ["zoo"]
    assert chosen.of_checkpoint(folder, None, None).title == f"Compact (zoo), {folder}"
    assert sr_models.called("sr3", {}) == "sr3"


@pytest.mark.ray
@pytest.mark.long
def test_such_a_sweep_reaches_its_board(tmp_path, capsys):
    import json

    path = tmp_path / "zoo.yaml"
    path.write_text(json.dumps(config(*files(tmp_path))))
    assert main([str(path), "--output", str(tmp_path / "runs")]) == 0
    board = capsys.readouterr().out
    assert "mine × l1" in board and "mine × kd" in board and "edsr_baseline × expectation" in board
